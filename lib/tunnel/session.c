/*
 * The life of a session: made, kept alive, ended.
 */
#include "tunnel/session_private.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"

#define SESSION_RESERVE 65536 /* PROTOCOL.md, "What a peer may cost" */
#define MISSES_DEFAULT 3

void
session_wake(struct session *s)
{
	driver_defer(s->driver, &s->run);
}

void
session_fail(struct session *s, enum ins_end_code code, const char *format, ...)
{
	va_list ap;

	if (s->end_code != 0)
		return;
	s->end_code = code;
	va_start(ap, format);
	vsnprintf(s->end_why, sizeof(s->end_why), format, ap);
	va_end(ap);
	if (!s->ended)
		session_wake(s);
}

void
session_lose(struct session *s, const char *format, ...)
{
	va_list ap;

	if (s->lost || s->end_code != 0)
		return;
	va_start(ap, format);
	vsnprintf(s->end_why, sizeof(s->end_why), format, ap);
	va_end(ap);
	if (s->config.resume > 0)
		s->lost = true;
	else
		s->end_code = INS_END_SILENT;
	session_wake(s);
}

void
session_end(struct session *s, enum ins_end_code code, const char *why)
{
	session_fail(s, code, "%s", why);
}

static void
cancel_all(struct session *s)
{
	struct timers *t = &s->driver->timers;

	timer_cancel(t, &s->ack);
	timer_cancel(t, &s->heartbeat);
	timer_cancel(t, &s->limit);
	timer_cancel(t, &s->stall);
	timer_cancel(t, &s->answer);
	timer_cancel(t, &s->resume);
	work_cancel(&s->run);
}

void
session_reap(struct session *s)
{
	if (!s->ended || s->closing || s->alive > 0)
		return;
	cancel_all(s);
	list_remove(&s->node);
	hash_close(&s->streams);
	allocator_free(s->driver->allocator, s);
}

static void
tear_down(struct session *s)
{
	struct hash_node *n;

	s->closing = s->ended = true;
	cancel_all(s);
	if (s->carrier != NULL) {
		if (session_extended(s) && !s->peer_ended)
			session_tx_end(s, s->end_code, s->end_why);
		s->carrier->ops->close(s->carrier);
	}
	s->carrier = NULL;
	while ((n = hash_any(&s->streams)) != NULL)
		stream_orphan(container_of(n, struct stream, node));
	session_tx_close(s);
	/* What streams asked for while they went is void. */
	cancel_all(s);
	s->config.events->ended(s, s->end_code, s->end_why);
	s->closing = false;
	session_reap(s);
}

/* Go on without a carrier, until there is another one or time is up. */
static void
park(struct session *s)
{
	struct timers *t = &s->driver->timers;

	timer_cancel(t, &s->ack);
	timer_cancel(t, &s->heartbeat);
	timer_cancel(t, &s->answer);
	if (s->carrier != NULL)
		s->carrier->ops->close(s->carrier);
	s->carrier = NULL;
	s->lost = false;
	session_tx_park(s);
	session_rx_park(s);
	timer_set(t, &s->resume, s->driver->now + s->config.resume);
}

bool
session_is_idle(const struct session *s)
{
	const struct send_queue *q = &s->tx.queue;

	return s->streams.count == 0 && q->queued == 0 && q->acked == q->sent;
}

/* All streams of one under go-away are over, and all of it has arrived. */
static bool
is_finished(const struct session *s)
{
	if (!s->going)
		return false;
	/* A classic peer cannot be told: the first moment without a stream. */
	if (!session_extended(s))
		return s->streams.count == 0 && s->tx.queue.queued == 0;
	return s->config.server && session_is_idle(s);
}

static void
on_run(struct work *w)
{
	struct session *s = container_of(w, struct session, run);

	if (s->ended)
		return;
	if (s->carrier != NULL && s->end_code == 0 && s->carrier->readable &&
	    list_empty(&s->blocked))
		session_receive(s);
	if (s->carrier != NULL && s->end_code == 0 && !s->lost)
		session_transmit(s);
	if (s->end_code == 0 && is_finished(s))
		session_fail(s, INS_END_FINISHED, "finished");
	if (s->end_code != 0)
		tear_down(s);
	else if (s->lost) {
		park(s);
		if (s->config.events->parked != NULL)
			s->config.events->parked(s, s->end_why);
	}
}

static void
on_resume(struct timer *t)
{
	struct session *s = container_of(t, struct session, resume);

	if (!s->held_on)
		session_fail(s, INS_END_SILENT,
		    "not resumed within resume_timeout");
}

bool
session_is_parked(const struct session *s)
{
	return s->carrier == NULL && !s->ended;
}

bool
session_is_going(const struct session *s)
{
	return s->going;
}

void
session_hold_on(struct session *s, bool on)
{
	s->held_on = on;
	if (!on && session_is_parked(s) && !s->resume.set)
		on_resume(&s->resume);
}

bool
session_resumable(const struct session *s, uint64_t offset)
{
	const struct send_queue *q = &s->tx.queue;

	return !s->ended && s->end_code == 0 && s->config.resume > 0 &&
	    offset >= q->acked && offset <= q->sent;
}

uint64_t
session_let_go(struct session *s)
{
	park(s);
	return s->rx.counted;
}

void
session_go_away(struct session *s, enum ins_end_code code, const char *why)
{
	uint8_t *p;

	if (s->going_said || s->end_code != 0 || s->ended)
		return;
	s->going = s->going_said = true;
	session_wake(s);
	if (!session_extended(s))
		return;
	/*
	 * Nobody would miss it: do not wait for a carrier to say so.  But a
	 * remote-client may have visitors that it does not know of yet.
	 */
	if (s->config.server && session_is_parked(s) && session_is_idle(s)) {
		session_fail(s, INS_END_FINISHED, "finished");
		return;
	}
	p = session_control(s, INS_ENCODE_MAX);
	if (p != NULL)
		session_control_done(s,
		    ins_go_away_encode(p, INS_ENCODE_MAX, (uint16_t)code, why));
}

void
session_told_to_go(struct session *s, const struct ins_end *end)
{
	char why[INS_TEXT_MAX + 1];

	s->going = true;
	memcpy(why, end->text.data, end->text.len);
	why[end->text.len] = '\0';
	if (s->config.events->going != NULL)
		s->config.events->going(s, end->code, why);
}

static void
on_carrier(void *owner)
{
	session_wake(owner);
}

static uint64_t
silence_allowed(const struct session *s)
{
	uint64_t us = (uint64_t)(s->config.misses != 0 ? s->config.misses :
							 MISSES_DEFAULT) *
	    s->config.heartbeat;

	if (!session_extended(s) && us < CLASSIC_SILENCE)
		return CLASSIC_SILENCE;
	return us;
}

/*
 * A classic proxy-server says nothing by itself, so its silence tells
 * nothing; nor does the silence of a peer that we do not read, or whose bytes
 * wait to be read.
 */
static bool
silence_tells(const struct session *s)
{
	return (session_extended(s) || s->config.server) &&
	    list_empty(&s->blocked) && !s->carrier->readable;
}

/* For who asks why it is slow. */
static void
log_path(const struct session *s)
{
	const struct path *p = &s->tx.path;
	struct log_line l;

	if (!session_extended(s) || !log_begin(&l, LOG_DEBUG, "path"))
		return;
	log_number(&l, "session", s->config.id);
	log_number(&l, "streams", s->streams.count);
	log_number(&l, "unacknowledged", s->tx.queue.sent - s->tx.queue.acked);
	log_number(&l, "limit", p->limit);
	log_number(&l, "bytes_per_second", p->rate);
	log_number(&l, "round_trip_us", p->rtt);
	log_number(&l, "smallest_us", p->rtt_min);
	log_number(&l, "frame", path_frame(p));
	log_end(&l);
}

static void
on_heartbeat(struct timer *t)
{
	struct session *s = container_of(t, struct session, heartbeat);
	uint64_t now = s->driver->now, idle = now - s->rx.last;
	uint64_t next = now + s->config.heartbeat;

	log_path(s);
	if (!silence_tells(s)) {
		s->rx.last = now;
		idle = 0;
	}
	if (idle >= silence_allowed(s)) {
		session_lose(s, "nothing came for %llu ms",
		    (unsigned long long)(idle / MS));
		return;
	}
	if (!session_extended(s) && !s->config.server) {
		s->tx.ping_due = true;
		next = now + CLASSIC_BEAT;
	} else if (idle < s->config.heartbeat)
		next = s->rx.last + s->config.heartbeat;
	else if (session_extended(s))
		s->tx.ping_due = true;
	if (next > s->rx.last + silence_allowed(s) && silence_tells(s))
		next = s->rx.last + silence_allowed(s);
	timer_set(&s->driver->timers, &s->heartbeat, next);
	if (s->tx.ping_due)
		session_wake(s);
}

static void
on_ack(struct timer *t)
{
	struct session *s = container_of(t, struct session, ack);

	s->tx.ack_due = true;
	session_wake(s);
}

static void
on_answer(struct timer *t)
{
	struct session *s = container_of(t, struct session, answer);

	s->tx.patient = 0;
	session_wake(s);
}

static void
limit_stream(struct session *s, struct stream *st)
{
	struct ins_limit l = {
	    st->identity,
	    st->tx_sent + WINDOW_FIRST,
	    st->tx_limit,
	};
	uint8_t *p;

	if (st->local_done || st->state < STREAM_OPEN || l.limit >= l.seen)
		return;
	p = session_control(s, INS_ENCODE_MAX);
	if (p == NULL)
		return;
	session_control_done(s, ins_limit_encode(p, INS_ENCODE_MAX, &l));
	st->tx_limit = l.limit;
}

/* Streams that sent nothing for a while give the rest of their grant back. */
static void
on_limit(struct timer *t)
{
	struct session *s = container_of(t, struct session, limit);
	struct list *i, *next;
	struct stream *st;

	for (i = s->active.next; i != &s->active; i = next) {
		next = i->next;
		st = container_of(i, struct stream, active);
		if (since_ms(s, st->sent_at) < LIMIT_AFTER / MS)
			continue;
		list_remove(&st->active);
		limit_stream(s, st);
	}
	if (!list_empty(&s->active))
		timer_set(&s->driver->timers, &s->limit,
		    s->driver->now + LIMIT_AFTER / 2);
	session_wake(s);
}

/* A local end that holds a classic carrier up for too long is closed. */
static void
on_stall(struct timer *t)
{
	struct session *s = container_of(t, struct session, stall);
	uint64_t now = s->driver->now, next = UINT64_MAX;
	struct list *i, *following;
	struct stream *st;

	for (i = s->blocked.next; i != &s->blocked; i = following) {
		following = i->next;
		st = container_of(i, struct stream, waiting);
		if (st->mark_at <= now) {
			if (st->rx_delivered - st->mark < CLASSIC_PROGRESS) {
				stream_abort(st, INS_RESET_STALLED,
				    "held the classic tunnel up");
				continue;
			}
			st->mark = st->rx_delivered;
			st->mark_at = now + s->config.stall;
		}
		if (st->mark_at < next)
			next = st->mark_at;
	}
	if (next != UINT64_MAX)
		timer_set(&s->driver->timers, &s->stall, next);
}

void
session_hook(struct session *s, struct carrier *carrier)
{
	s->carrier = carrier;
	carrier->notify = on_carrier;
	carrier->owner = s;
}

static void
take_carrier(struct session *s, struct carrier *carrier)
{
	uint64_t now = s->driver->now;

	s->rx.last = now;
	timer_set(&s->driver->timers, &s->heartbeat,
	    now +
		(session_extended(s) || s->config.server ? s->config.heartbeat :
							   CLASSIC_BEAT));
	session_hook(s, carrier);
	session_wake(s);
}

static void
init_members(struct session *s)
{
	list_init(&s->fresh);
	list_init(&s->express);
	list_init(&s->bulk);
	list_init(&s->credits);
	list_init(&s->active);
	list_init(&s->over);
	list_init(&s->blocked);
	work_init(&s->run, on_run);
	s->ack.expired = on_ack;
	s->heartbeat.expired = on_heartbeat;
	s->limit.expired = on_limit;
	s->stall.expired = on_stall;
	s->answer.expired = on_answer;
	s->resume.expired = on_resume;
}

struct session *
session_bare(const struct session_config *config)
{
	struct driver *d = config->driver;
	struct session *s;
	uint64_t seed;

	s = allocator_new(d->allocator, sizeof(*s));
	if (s == NULL)
		return NULL;
	s->config = *config;
	s->driver = d;
	budget_init(&s->budget, config->memory, SESSION_RESERVE);
	if (session_tx_init(s) < 0) {
		allocator_free(d->allocator, s);
		return NULL;
	}
	driver_random(d, &seed, sizeof(seed));
	hash_init(&s->streams, d->allocator, seed);
	init_members(s);
	list_append(config->all, &s->node);
	return s;
}

struct session *
session_new(const struct session_config *config, struct carrier *carrier)
{
	struct session *s = session_bare(config);

	if (s == NULL)
		return NULL;
	/* How far the peer is, before its own bytes are in the way. */
	s->tx.ping_due = session_extended(s);
	take_carrier(s, carrier);
	return s;
}

/* Its streams too; nobody is told. */
void
session_discard(struct session *s)
{
	struct hash_node *n;

	s->closing = true;
	s->end_code = INS_END_NO_RESOURCES;
	if (s->carrier != NULL)
		s->carrier->ops->close(s->carrier);
	s->carrier = NULL;
	while ((n = hash_any(&s->streams)) != NULL)
		stream_over(container_of(n, struct stream, node));
	while (!list_empty(&s->over))
		stream_discard(
		    container_of(s->over.next, struct stream, active));
	if (!s->ended)
		session_tx_close(s);
	s->ended = true;
	s->closing = false;
	session_reap(s);
}

void
session_resume(struct session *s, struct carrier *carrier, uint64_t offset)
{
	timer_cancel(&s->driver->timers, &s->resume);
	s->held_on = false;
	session_tx_resume(s, offset);
	/* What we have counted is what the peer was told. */
	s->rx.acked = s->rx.counted;
	s->rx.acked_at = s->driver->now;
	take_carrier(s, carrier);
}

void
session_end_all(struct list *all, enum ins_end_code code, const char *why)
{
	struct list *i, *next;
	struct session *s;
	struct list rest;

	list_init(&rest);
	for (i = all->next; i != all; i = next) {
		next = i->next;
		s = container_of(i, struct session, node);
		if (s->ended)
			continue;
		session_fail(s, code, "%s", why);
		tear_down(s);
	}
	/* Those left have streams that deliver what they got. */
	list_take(&rest, all);
	while (!list_empty(&rest)) {
		s = container_of(rest.next, struct session, node);
		s->closing = true;
		while (!list_empty(&s->over))
			stream_drop(
			    container_of(s->over.next, struct stream, active));
		s->closing = false;
		session_reap(s);
	}
}

void
session_count(const struct list *all, struct session_totals *t)
{
	const struct session *s;
	const struct list *i;

	t->sessions = t->parked = t->streams = 0;
	for (i = all->next; i != all; i = i->next) {
		s = container_of(i, struct session, node);
		t->sessions += !s->ended;
		t->parked += session_is_parked(s);
		t->streams += s->alive;
	}
}

struct session *
session_of_list(struct list *node)
{
	return container_of(node, struct session, node);
}

bool
session_has_ended(const struct session *s)
{
	return s->ended;
}

void *
session_owner(const struct session *s)
{
	return s->config.owner;
}

uint64_t
session_id(const struct session *s)
{
	return s->config.id;
}

enum ins_dialect
session_dialect(const struct session *s)
{
	return s->config.dialect;
}

size_t
session_streams(const struct session *s)
{
	return s->streams.count;
}

struct session_offsets
session_offsets(const struct session *s)
{
	return (struct session_offsets){
	    s->tx.queue.sent,
	    s->tx.queue.acked,
	    s->rx.counted,
	    s->rx.acked,
	};
}
