/*
 * What holds at any time, and when nothing is left.
 */
#include "sim.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "tunnel/path.h"
#include "tunnel/session_private.h"

#define CONTROL_MOST 131072 /* bytes: opens and resets of all streams */

static void
require(bool ok, struct side *s, const char *what)
{
	if (!ok)
		world_fail(s->world, "%s: %s", side_name(s->index), what);
}

static void
check_offsets(struct side *s)
{
	struct side *other = &s->world->side[!s->index];
	struct session_offsets o = session_offsets(s->session), p;

	require(o.acknowledged <= o.sent, s, "acknowledged passes sent");
	require(o.sent <= s->wire.fixed + s->wire.part_len, s,
	    "sent passes what was said");
	require(o.acknowledged_to_peer <= o.received, s,
	    "acknowledges what it has not counted");
	require(o.received <= other->wire.fixed, s,
	    "counted what was not said");
	if (other->session == NULL)
		return;
	p = session_offsets(other->session);
	require(o.acknowledged <= p.received, s,
	    "takes as acknowledged what the other has not counted");
}

/* Of what is sent: with one frame more, and control instructions. */
static uint64_t
most_kept(const struct side *s)
{
	uint64_t most = s->resume_memory;

	if (most < PATH_LIMIT_FIRST)
		most = PATH_LIMIT_FIRST;
	return most + BUFFER_MAX + CONTROL_MOST;
}

static void
check_budgets(struct side *s)
{
	const struct budget *b = &s->process->budget;

	require(b->used <= b->limit, s, "its windows pass the budget");
	require(b->above <= b->limit / 2, s, "its windows pass their half");
	require(b->above <= b->used, s, "its budgets are at odds");
	require(b->kept >= s->others_kept, s, "it kept less than nothing");
	require(b->kept - s->others_kept <= most_kept(s), s,
	    "it keeps more than it may");
}

/* What has to happen at some time has a timer. */
static void
check_timers(struct side *s)
{
	const struct session *session = s->session;

	if (session->end_code != 0 || session->lost)
		return;
	require(session->heartbeat.set == (s->link != NULL), s,
	    "its heart does not beat, or does without a carrier");
	require(!session->resume.set || s->link == NULL, s,
	    "it has a carrier, and counts the time without");
	require(s->link != NULL || session->resume.set || session->held_on, s,
	    "it waits for a carrier for ever");
	require(list_empty(&session->active) || session->limit.set, s,
	    "grants are not watched");
	if (s->link == NULL)
		return;
	require(session->rx.counted == session->rx.acked || session->ack.set ||
		session->tx.ack_due || session->tx.local_len > 0 ||
		driver_has_work(session->driver),
	    s, "what it counted is never acknowledged");
	require(!session->carrier->writable || session->tx.queue.queued == 0 ||
		session->answer.set || driver_has_work(session->driver),
	    s, "what it could say waits for ever");
}

/* Answers are counted until they are acknowledged. */
static void
check_answers(struct side *s)
{
	const struct session *session = s->session;
	const struct send_queue *q = &session->tx.queue;
	uint64_t waiting = 0, acked = session->tx.answers_acked;
	const struct buffer *b;

	for (b = q->first; b != NULL; b = b->next)
		waiting += b->control;
	require(session->tx.answers == q->answers + waiting, s,
	    "answers are more or less than those that wait");
	require(acked <= q->answers, s, "answers are acknowledged too early");
	require(q->acked < q->fixed || acked == q->answers, s,
	    "answers are never acknowledged");
}

void
check_turn(struct side *s)
{
	require(!s->orphaned, s, "streams went with a session that did not");
	check_budgets(s);
	if (s->session == NULL)
		return;
	require(session_is_parked(s->session) == (s->link == NULL), s,
	    "parked and carrier are at odds");
	check_offsets(s);
	check_timers(s);
	check_answers(s);
}

/* A grant that is large is given back when it is not used. */
static void
check_watched(struct side *s, const struct stream *st)
{
	if (st->state == STREAM_OVER || st->state < STREAM_OPEN ||
	    st->local_done || st->tx_limit - st->tx_sent <= WINDOW_FIRST)
		return;
	require(!list_empty(&st->active), s, "a grant is not watched");
}

void
check_deeply(struct world *w)
{
	uint64_t windows[2] = {0, 0};
	size_t streams[2] = {0, 0};
	struct side *s;
	struct end *e;
	unsigned i;

	for (i = 0; i < 2 * w->npairs; i++) {
		e = &w->pairs[i / 2].end[i % 2];
		if (!e->attached || e->endpoint.stream == NULL)
			continue;
		check_watched(&w->side[e->side], e->endpoint.stream);
		windows[e->side] += stream_window(e->endpoint.stream);
		streams[e->side]++;
	}
	for (s = w->side; s < w->side + 2; s++) {
		require(windows[s->index] == s->process->budget.used, s,
		    "the budget is not what the windows are");
		if (s->session != NULL)
			require(session_streams(s->session) <=
				streams[s->index],
			    s, "there are more streams than endpoints");
	}
}

void
check_parked(struct side *s, const char *why)
{
	static const char silent[] = "nothing came for ";
	uint64_t since = s->world->now - s->heard_before;

	if (strncmp(why, silent, strlen(silent)) == 0)
		require(strtoull(why + strlen(silent), NULL, 10) * MS <= since,
		    s, "it calls silent what was not");
}

static void
check_time_out(struct side *s)
{
	uint64_t since = s->world->now - s->parked_at;

	s->world->totals->timed_out++;
	require(s->parked, s, "not resumed, and it has a carrier");
	require(s->asking == NULL, s, "it ended in an attempt to resume");
	require(since >= s->config.resume, s,
	    "it ended while there was time left to resume");
}

/* Streams that the client opened, and that are not over. */
static size_t
own_opens(const struct world *w)
{
	const struct pair *p;
	size_t n = 0;

	for (p = w->pairs; p < w->pairs + w->npairs; p++)
		n += p->end[0].side == CLIENT && p->end[0].attached;
	return n;
}

static void
check_finished(struct side *s)
{
	struct side *client = &s->world->side[CLIENT];
	struct session_offsets o = session_offsets(s->session);

	s->world->totals->finished++;
	require(s->going || client->going, s, "finished, and nobody said so");
	require(session_streams(s->session) == 0, s,
	    "finished with streams left");
	if (client->session == NULL)
		return;
	require(session_offsets(client->session).received == o.sent, s,
	    "finished before all had arrived");
	/* What that side opened itself may not have arrived. */
	require(session_streams(client->session) <= own_opens(s->world), client,
	    "finished with streams left at the other side");
}

void
check_end(struct side *s, unsigned code, const char *why)
{
	struct side *other = &s->world->side[!s->index];

	require(s->session != NULL, s, "ended twice");
	if (s->ending || s->dropping)
		return;
	if (strncmp(why, "peer: ", 6) == 0) {
		require(other->session == NULL && other->end_code == code, s,
		    "told of an end that was not");
		require(!s->wire.ended, s, "answers an end");
	} else if (code == INS_END_SILENT &&
	    strcmp(why, "not resumed within resume_timeout") == 0)
		check_time_out(s);
	else if (code == INS_END_FINISHED && s->index == SERVER)
		check_finished(s);
	else if (code != INS_END_NO_RESOURCES || s->process->heap.failed == 0)
		world_fail(s->world, "%s: ended (%u): %s", side_name(s->index),
		    code, why);
}

void
check_nothing_left(struct world *w)
{
	struct side *s;

	require(w->ports == 0, &w->side[0], "carriers are left");
	for (s = w->side; s < w->side + 2; s++) {
		require(list_empty(&s->process->all), s, "a session is left");
		require(s->process->driver.pool.held == 0, s,
		    "buffers are left");
		require(!driver_has_work(&s->process->driver), s,
		    "work is left");
		require(s->process->driver.timers.root == NULL, s,
		    "timers are left");
		require(s->process->budget.used == 0, s, "budget is left");
		require(s->process->budget.above == 0, s,
		    "budget above is left");
		require(s->process->budget.kept == s->others_kept, s,
		    "budget of what is kept is left");
		if (w->failed)
			return;
		driver_close(&s->process->driver);
		require(s->process->heap.held == 0, s, "allocations are left");
	}
}
