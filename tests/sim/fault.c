/*
 * What goes wrong, and when; and who comes.
 */
#include "sim.h"

#include <stdatomic.h>
#include <string.h>

#include "tunnel/session_private.h"

#define UNKNOWN 0x0300 /* a number that may be skipped */

enum fault {
	FAULT_FORGE, /* bit 0: the client gets wrong answers too */
	FAULT_CUT,
	FAULT_SILENT,
	FAULT_OUTAGE,
	FAULT_REPLAY,
	FAULT_ABORT,
	FAULT_BURST,
	FAULT_OTHERS,
	FAULT_REPLACE,
	FAULT_TRIM,
	FAULT_UNKNOWN,
	FAULT_GO_AWAY,
	FAULT_END, /* these three are rare: traits.c */
	FAULT_STOP,
	FAULTS,
};

/* How often each is, against the others. */
static const unsigned weights[FAULTS] = {
    [FAULT_FORGE] = 4,
    [FAULT_CUT] = 30,
    [FAULT_SILENT] = 10,
    [FAULT_OUTAGE] = 4,
    [FAULT_REPLAY] = 10,
    [FAULT_ABORT] = 6,
    [FAULT_BURST] = 8,
    [FAULT_OTHERS] = 6,
    [FAULT_REPLACE] = 10,
    [FAULT_TRIM] = 10,
    [FAULT_UNKNOWN] = 6,
    [FAULT_GO_AWAY] = 1,
    [FAULT_END] = 1,
    [FAULT_STOP] = 1,
};

static struct link *
some_link(struct world *w)
{
	unsigned first = (unsigned)draw(w, LINKS), i;
	struct link *l;

	/* That of a session, as a rule. */
	if (!one_in(w, 4) && w->side[i = (unsigned)draw(w, 2)].link != NULL)
		return w->side[i].link->link;
	for (i = 0; i < LINKS; i++) {
		l = &w->links[(first + i) % LINKS];
		if (l->used)
			return l;
	}
	return NULL;
}

static void
cut(struct world *w, bool silent)
{
	struct link *l = some_link(w);

	if (l != NULL && !l->cut)
		link_cut(l, silent);
}

/* The network is gone for a while, mostly shorter than resuming may take. */
static void
outage(struct world *w)
{
	uint64_t most = w->side[CLIENT].config.resume;
	struct link *l;

	if (!one_in(w, 10))
		most /= 2;
	w->down_until = w->now + draw_wide(w, most + most / 4);
	TRACE(w, "no network until %llu", (unsigned long long)w->down_until);
	for (l = w->links; l < w->links + LINKS; l++)
		if (l->used)
			link_cut(l, one_in(w, 2));
}

static void
abort_some(struct world *w)
{
	struct pair *p;

	if (w->npairs == 0)
		return;
	p = &w->pairs[draw(w, w->npairs)];
	end_abort(&p->end[draw(w, 2)]);
}

/* Other sessions of the process keep much, or nothing. */
static void
others(struct side *s)
{
	atomic_fetch_sub(&s->process->budget.kept, s->others_kept);
	s->others_kept = one_in(s->world, 2) ?
	    0 :
	    draw(s->world, 2 * s->process->budget.aside);
	atomic_fetch_add(&s->process->budget.kept, s->others_kept);
}

static void
go_away(struct side *s)
{
	if (s->session == NULL || s->ending)
		return;
	TRACE(s->world, "%s goes away", side_name(s->index));
	s->going = true;
	session_go_away(s->session, INS_END_SHUTDOWN, "going");
}

static void
end(struct side *s)
{
	if (s->session == NULL)
		return;
	TRACE(s->world, "%s ends it", side_name(s->index));
	s->ending = true;
	session_end(s->session, INS_END_SHUTDOWN, "stop");
}

/* Its process stops: nothing of it is left at once. */
static void
stop(struct side *s)
{
	bool left = false;
	struct end *e;
	unsigned i;

	TRACE(s->world, "%s stops", side_name(s->index));
	s->dropping = true;
	session_end_all(&s->process->all, INS_END_SHUTDOWN, "stop");
	for (i = 0; i < 2 * s->world->npairs; i++) {
		e = &s->world->pairs[i / 2].end[i % 2];
		left |= e->side == s->index && e->attached;
	}
	if (left || s->session != NULL || !list_empty(&s->process->all))
		world_fail(s->world, "%s: something is left when it stops",
		    side_name(s->index));
}

/* Free what the pool has, so that it asks again; and let that fail. */
static void
burst(struct side *s)
{
	if (!s->world->traits.starve)
		return;
	pool_trim(&s->process->driver.pool, s->world->now + 2 * POOL_IDLE_US);
	pool_trim(&s->process->driver.pool, s->world->now + 4 * POOL_IDLE_US);
	s->process->heap.mode = HEAP_BURST;
	s->process->heap.n = s->process->heap.asked + draw_wide(s->world, 30);
}

/* A later version says what this one does not know. */
static void
say_unknown(struct side *s)
{
	uint32_t len = (uint32_t)draw_wide(s->world, 1000);
	bool local = one_in(s->world, 3);
	uint8_t *p;

	/* Without a carrier they would pile up. */
	if (s->session == NULL || s->ending ||
	    s->process->budget.kept - s->others_kept > PATH_LIMIT_FIRST)
		return;
	if (local && (s->link == NULL || s->session->tx.local_len > 0))
		return;
	if (local)
		len %= LOCAL_MAX / 2;
	p = local ? s->session->tx.local : session_control(s->session, len + 6);
	if (p == NULL)
		return;
	memset(p, 0, len + 6);
	p[0] = (UNKNOWN | (local ? INS_CARRIER_LOCAL : 0)) >> 8;
	p[4] = (uint8_t)(len >> 8);
	p[5] = (uint8_t)len;
	if (local)
		s->session->tx.local_len = len + 6;
	else
		session_control_done(s->session, len + 6);
	session_wake(s->session);
}

static enum fault
draw_fault(struct world *w)
{
	unsigned sum = 0, i, at;

	for (i = 0; i < FAULTS; i++)
		if (w->traits.faults >> i & 1)
			sum += weights[i];
	if (sum == 0)
		return FAULTS;
	at = (unsigned)draw(w, sum);
	for (i = 0; i < FAULTS; i++) {
		if ((w->traits.faults >> i & 1) == 0)
			continue;
		if (at < weights[i])
			break;
		at -= weights[i];
	}
	return (enum fault)i;
}

static void
happen(struct world *w, enum fault fault)
{
	struct side *s = &w->side[draw(w, 2)];

	switch (fault) {
	case FAULT_FORGE:
		daemon_forge(w);
		break;
	case FAULT_CUT:
	case FAULT_SILENT:
		cut(w, fault == FAULT_SILENT);
		break;
	case FAULT_OUTAGE:
		outage(w);
		break;
	case FAULT_REPLAY:
		daemon_replay(w);
		break;
	case FAULT_ABORT:
		abort_some(w);
		break;
	case FAULT_BURST:
		burst(s);
		break;
	case FAULT_OTHERS:
		others(s);
		break;
	case FAULT_REPLACE:
		replace_some(w);
		break;
	case FAULT_TRIM:
		pool_trim(&s->process->driver.pool, w->now);
		break;
	case FAULT_UNKNOWN:
		say_unknown(s);
		break;
	case FAULT_GO_AWAY:
		go_away(s);
		break;
	case FAULT_END:
		end(s);
		break;
	case FAULT_STOP:
		stop(s);
		break;
	case FAULTS:
		break;
	}
}

static void
on_fault(struct timer *t)
{
	struct world *w = container_of(t, struct world, faults);

	if (w->calm)
		return;
	world_after(w, t, 1 + draw_wide(w, 2 * w->traits.fault_every));
	happen(w, draw_fault(w));
}

static void
on_open(struct timer *t)
{
	struct world *w = container_of(t, struct world, opens);
	struct session *s = w->side[SERVER].session;
	unsigned n = 1 + (one_in(w, 4) ? (unsigned)draw(w, 6) : 0);

	if (w->calm || s == NULL || w->npairs == PAIRS)
		return;
	world_after(w, t, 1 + draw_wide(w, 2 * w->traits.open_every));
	while (n-- > 0 && !session_is_going(s) &&
	    session_streams(s) < w->traits.streams)
		end_open(w, SERVER);
	/* Those of a remote-client are all refused. */
	s = w->side[CLIENT].session;
	if (s != NULL && !session_is_going(s) && one_in(w, 40))
		end_open(w, CLIENT);
}

void
fault_start(struct world *w)
{
	w->faults.expired = on_fault;
	w->opens.expired = on_open;
	world_after(w, &w->faults, draw_wide(w, w->traits.fault_every));
	world_after(w, &w->opens, 0);
}

/* Some more, where there are any: when all is calm, and of what has ended. */
void
fault_upgrade(struct world *w)
{
	if (w->traits.faults >> FAULT_REPLACE & 1)
		replace_more(w);
}

/* The last thing that happens: one of the ways in which a session ends. */
void
fault_finish(struct world *w)
{
	struct side *s = &w->side[draw(w, 2)];

	switch (draw(w, 4)) {
	case 0:
		end(s);
		break;
	case 1:
		go_away(s);
		break;
	case 2:
		outage(w);
		w->down_until = NEVER;
		link_lose_all(w);
		break;
	default:
		for (s = w->side; s < w->side + 2; s++)
			stop(s);
	}
}
