/*
 * What the two daemons do with a session and its carriers: proxy-server's
 * tunnel.c, remote-client's tunnel.c and tunnel_dial.c, without names, proofs
 * and logs.  Their messages go over the simulated connections.
 */
#include "sim.h"

#include <string.h>

#define BACKOFF_FIRST (200 * MS)
#define BACKOFF_MAX (2 * (uint64_t)SECOND)
#define TURN 20 /* us: more than one takes to begin */

enum word { WORD_RESUME = 'R', WORD_RESUMED = 'A', WORD_REFUSED = 'N' };

struct message {
	uint8_t word;
	uint64_t attempt; /* of WORD_REFUSED: enum ins_end_code */
	uint64_t offset;
};
#define MESSAGE_SIZE 17

_Static_assert(MESSAGE_SIZE <= TALK_MAX, "a message fits");

static void
say(struct link_end *e, enum word word, uint64_t attempt, uint64_t offset)
{
	uint8_t buf[MESSAGE_SIZE];

	buf[0] = (uint8_t)word;
	memcpy(buf + 1, &attempt, sizeof(attempt));
	memcpy(buf + 9, &offset, sizeof(offset));
	link_say(e, buf, sizeof(buf));
}

/* A whole message that landed. */
static bool
hear(struct link_end *e, struct message *m)
{
	e->ntalk += link_take(e, e->talk + e->ntalk, MESSAGE_SIZE - e->ntalk);
	if (e->ntalk < MESSAGE_SIZE)
		return false;
	m->word = e->talk[0];
	memcpy(&m->attempt, e->talk + 1, sizeof(m->attempt));
	memcpy(&m->offset, e->talk + 9, sizeof(m->offset));
	return true;
}

/* Bytes behind the handshake are sometimes read with its end. */
static void
pass_rest(struct side *s, struct link_end *e)
{
	uint8_t rest[2000];
	size_t n = 1 + draw(s->world, sizeof(rest));

	if (e->noticed || one_in(s->world, 2))
		return;
	n = link_take(e, rest, n);
	if (n > 0)
		session_input(s->session, rest, n);
}

static void
take_up(struct side *s, struct link_end *e, uint64_t peer_has)
{
	struct carrier *carrier = link_carry(e);

	s->parked = false;
	wire_resume(s, peer_has);
	session_resume(s->session, carrier, peer_has);
	pass_rest(s, e);
}

/* The remote-client. */

static void
dial_after(struct side *s, uint64_t us)
{
	world_after(s->world, &s->dial, us);
}

static void
failed(struct side *s)
{
	uint64_t most = BACKOFF_FIRST;
	unsigned i;

	if (s->asking != NULL)
		link_close(&s->asking->end[CLIENT]);
	s->asking = NULL;
	s->tries++;
	for (i = 1; i < s->tries && most < BACKOFF_MAX; i++)
		most *= 2;
	dial_after(s, 1 * MS + draw(s->world, most));
	session_hold_on(s->session, false);
}

static void
on_dial(struct timer *t)
{
	struct side *s = container_of(t, struct side, dial);
	struct world *w = s->world;
	struct link *l = w->now < w->down_until ? NULL : link_new(w);
	struct link_end *e;

	if (s->session == NULL)
		return;
	if (!session_is_parked(s->session)) {
		world_fail(w, "client: has a carrier and was told that not");
		return;
	}
	if (l == NULL) {
		failed(s);
		return;
	}
	s->attempt++;
	s->asked = session_offsets(s->session).received;
	s->asks[s->attempt % ASKS] = (struct ask){s->attempt, s->asked};
	s->asking = l;
	TRACE(w, "client: attempt %llu on link %llu from %llu",
	    (unsigned long long)s->attempt, (unsigned long long)l->number,
	    (unsigned long long)s->asked);
	session_hold_on(s->session, true);
	e = &l->end[CLIENT];
	say(e, WORD_RESUME, s->attempt, s->asked);
	world_after(w, &e->patience, w->traits.patience);
	world_after(w, &l->end[SERVER].patience, w->traits.patience);
}

/* Now and then an answer is somebody else's: no proof would hold. */
static bool
is_forged(struct side *s, const struct message *m)
{
	struct world *w = s->world;

	if (w->calm || (w->traits.faults & 1) == 0 || !one_in(w, 30))
		return false;
	if (session_resumable(s->session, m->offset + (UINT64_C(1) << 62)))
		world_fail(w, "client: would go on anywhere");
	return true;
}

static void
client_heard(struct side *s, struct link_end *e)
{
	struct world *w = s->world;
	struct message m;

	if (!hear(e, &m)) {
		if (e->link->pipe[SERVER].fin_landed)
			failed(s);
		return;
	}
	if (m.word != WORD_RESUMED || s->ending || is_forged(s, &m)) {
		failed(s);
		return;
	}
	if (!session_resumable(s->session, m.offset))
		world_fail(w, "client: cannot go on where the server is");
	if (session_offsets(s->session).received != s->asked)
		world_fail(w, "client: counts without a carrier");
	TRACE(w, "client: resumed, the server has %llu",
	    (unsigned long long)m.offset);
	s->asking = NULL;
	w->totals->resumed++;
	take_up(s, e, m.offset);
}

/* The proxy-server. */

struct view {
	struct session_offsets offsets;
	size_t streams;
	bool parked;
	struct link_end *link;
};

static struct view
view_of(const struct side *s)
{
	/* All of it, for memcmp(). */
	struct view v;

	memset(&v, 0, sizeof(v));
	if (s->session == NULL)
		return v;
	v.offsets = session_offsets(s->session);
	v.streams = session_streams(s->session);
	v.parked = session_is_parked(s->session);
	v.link = s->link;
	return v;
}

static void
refuse(struct side *s, struct link_end *e, enum ins_end_code code,
    const struct view *before)
{
	struct view after = view_of(s);

	if (memcmp(before, &after, sizeof(after)) != 0)
		world_fail(s->world, "server: a refused resume changed it");
	TRACE(s->world, "server: refuses a resume (%u)", code);
	s->world->totals->refused++;
	say(e, WORD_REFUSED, code, 0);
	link_close(e);
}

/* Whether what is asked can be right, by what the simulator knows. */
static void
check_ask(struct side *s, const struct message *m)
{
	struct side *client = &s->world->side[CLIENT];
	uint64_t has;

	if (client->session == NULL)
		return;
	has = session_offsets(client->session).received;
	if (m->offset != has)
		world_fail(s->world,
		    "server: resumes at %llu, the client has %llu",
		    (unsigned long long)m->offset, (unsigned long long)has);
}

static void
server_heard(struct side *s, struct link_end *e)
{
	struct view before = view_of(s);
	struct world *w = s->world;
	struct message m;
	uint64_t own;

	if (!hear(e, &m)) {
		if (e->link->pipe[CLIENT].fin_landed)
			link_close(e);
		return;
	}
	if (s->session == NULL) {
		refuse(s, e, INS_END_UNKNOWN_SESSION, &before);
		return;
	}
	if (m.attempt <= s->attempt ||
	    !session_resumable(s->session, m.offset)) {
		refuse(s, e, INS_END_NOT_RESUMED, &before);
		return;
	}
	if (!w->calm && one_in(w, 50)) {
		refuse(s, e, INS_END_NO_RESOURCES, &before);
		return;
	}
	check_ask(s, &m);
	s->attempt = m.attempt;
	own = session_let_go(s->session);
	s->parked = true;
	s->parked_at = w->now;
	if (!session_is_parked(s->session) || s->link != NULL)
		world_fail(w, "server: did not let go");
	if (!w->calm && one_in(w, 50)) {
		/* It could not tell: it stays parked. */
		link_close(e);
		return;
	}
	TRACE(w, "server: takes attempt %llu on link %llu, has %llu",
	    (unsigned long long)m.attempt, (unsigned long long)e->link->number,
	    (unsigned long long)own);
	say(e, WORD_RESUMED, m.attempt, own);
	take_up(s, e, m.offset);
}

void
daemon_heard(struct link_end *e)
{
	struct side *s = &e->link->world->side[e->side];

	if (e->side == SERVER)
		server_heard(s, e);
	else
		client_heard(s, e);
}

void
daemon_lost(struct link_end *e)
{
	struct side *s = &e->link->world->side[e->side];

	if (e->side == SERVER)
		link_close(e);
	else
		failed(s);
}

/* Whether it waits to be accepted, and goes on to wait. */
static bool
is_waiting(struct link_end *e)
{
	return e->link->pipe[!e->side].landed == 0 && one_in(e->link->world, 2);
}

void
daemon_replaced(struct side *s)
{
	struct world *w = s->world;
	struct link_end *e;
	unsigned i;

	for (i = 0; i < LINKS; i++) {
		e = &w->links[i].end[s->index];
		if (w->links[i].used && e->state == LINK_TALKS &&
		    (s->index == CLIENT || !is_waiting(e)))
			link_close(e);
	}
	if (s->index == SERVER)
		return;
	/* A dial that was under way is made again, and counts for nothing. */
	s->asking = NULL;
	s->tries = 0;
	if (s->session == NULL || !session_is_parked(s->session))
		return;
	/* It may be over with the attempt that was dropped: in a turn. */
	dial_after(s, s->back_at - w->now + TURN + draw_wide(w, 100 * MS));
	session_hold_on(s->session, false);
}

static void
ask_alone(struct world *w, uint64_t attempt, uint64_t offset)
{
	struct link *l = link_new(w);

	if (l == NULL)
		return;
	TRACE(w, "somebody asks for attempt %llu from %llu on link %llu",
	    (unsigned long long)attempt, (unsigned long long)offset,
	    (unsigned long long)l->number);
	say(&l->end[CLIENT], WORD_RESUME, attempt, offset);
	l->end[CLIENT].state = LINK_NOBODY;
	world_after(w, &l->end[SERVER].patience, w->traits.patience);
}

void
daemon_replay(struct world *w)
{
	struct side *s = &w->side[CLIENT];
	uint64_t back = draw(w, ASKS);

	if (s->attempt > back)
		ask_alone(w, s->attempt - back,
		    s->asks[(s->attempt - back) % ASKS].offset);
}

void
daemon_forge(struct world *w)
{
	struct side *s = &w->side[SERVER];
	struct session_offsets o;

	if (s->session == NULL)
		return;
	o = session_offsets(s->session);
	/* It may rise until it arrives: far away. */
	if (o.acknowledged > 0 && one_in(w, 2))
		ask_alone(w, s->attempt + 1 + draw(w, 9),
		    draw(w, o.acknowledged));
	else
		ask_alone(w, s->attempt + 1 + draw(w, 9),
		    s->wire.fixed + (1 << 30) + draw(w, 1 << 30));
}

/* Both. */

static void
on_parked(struct session *session, const char *why)
{
	struct side *s = session_owner(session);
	struct world *w = s->world;

	TRACE(w, "%s: parked: %s", side_name(s->index), why);
	w->totals->parked++;
	s->parked = true;
	s->parked_at = w->now;
	if (s->link != NULL || s->ending)
		world_fail(w, "%s: parked with a carrier, or at its end",
		    side_name(s->index));
	check_parked(s, why);
	if (s->index == SERVER)
		return;
	s->tries = 0;
	dial_after(s, one_in(w, 2) ? 0 : draw_wide(w, 200 * MS));
}

static void
on_going(struct session *session, unsigned code, const char *why)
{
	struct side *s = session_owner(session);

	(void)why;
	TRACE(s->world, "%s: told to go", side_name(s->index));
	if (!s->world->side[!s->index].going || code != INS_END_SHUTDOWN)
		world_fail(s->world, "%s: told to go, and nobody did",
		    side_name(s->index));
}

static void
on_ended(struct session *session, unsigned code, const char *why)
{
	struct side *s = session_owner(session);

	TRACE(s->world, "%s: ended (%u): %s", side_name(s->index), code, why);
	check_end(s, code, why);
	s->world->totals->ended++;
	s->end_code = code;
	s->session = NULL;
	s->orphaned = false;
	/* Some of it may still deliver. */
	fault_upgrade(s->world);
	if (s->index == SERVER)
		return;
	timer_cancel(&s->world->timers, &s->dial);
	if (s->asking != NULL)
		link_close(&s->asking->end[CLIENT]);
	s->asking = NULL;
}

static const struct session_events server_events = {
    .finished = end_on_finished,
    .parked = on_parked,
    .going = on_going,
    .ended = on_ended,
};
static const struct session_events client_events = {
    .open = end_on_open,
    .finished = end_on_finished,
    .parked = on_parked,
    .going = on_going,
    .ended = on_ended,
};

void
daemon_start(struct world *w)
{
	struct link *l = link_new(w);
	enum heap_mode mode;
	struct side *s;

	for (s = w->side; s < w->side + 2; s++) {
		s->config.server = s->index == SERVER;
		s->config.events =
		    s->index == SERVER ? &server_events : &client_events;
		s->dial.expired = on_dial;
		wire_resume(s, 0);
		mode = s->process->heap.mode;
		s->process->heap.mode = HEAP_FINE;
		s->session =
		    session_new(&s->config, link_carry(&l->end[s->index]));
		s->process->heap.mode = mode;
	}
}
