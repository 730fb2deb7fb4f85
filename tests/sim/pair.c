/*
 * What became of streams, and whether it was right.
 */
#include "sim.h"

#include <string.h>

static void
wrong(struct end *e, const struct stream_report *r, const char *what)
{
	world_fail(e->pair->world, "%s: stream %llu ended (%s): %s",
	    side_name(e->side), (unsigned long long)e->pair->identity, r->why,
	    what);
}

/* Whether an allocation failed where the reason may be one. */
static bool
starved(const struct world *w)
{
	return w->side[0].process->heap.failed > 0 ||
	    w->side[1].process->heap.failed > 0;
}

static void
check_report(struct side *s, struct end *e, const struct stream_report *r)
{
	const struct pair *p = e->pair;

	if (e->finished)
		wrong(e, r, "reported twice");
	if (r->from_local != e->sent || r->to_local != e->got)
		wrong(e, r, "the report has other bytes");
	if (r->ended_by == PARTY_SESSION &&
	    strcmp(r->why, "the session ended") == 0)
		s->orphaned = true;
	else if (strcmp(r->why, "reset") == 0 ||
	    strcmp(r->why, "timed out") == 0 || strcmp(r->why, "failed") == 0) {
		/* Two of these are reasons to refuse an open as well. */
		if (!p->hurt && (!p->answered || p->answer < ANSWER_NO))
			wrong(e, r, "neither endpoint failed");
	} else if (strcmp(r->why, "out of memory") == 0) {
		if (s->process->heap.failed == 0)
			wrong(e, r, "no allocation failed");
	}
}

void
end_on_finished(struct session *session, const struct stream_report *r)
{
	struct end *e = r->user;
	struct side *s;

	(void)session;
	/* Refused before it had an endpoint. */
	if (e == NULL)
		return;
	s = &e->pair->world->side[e->side];
	TRACE(s->world, "%s: stream %llu is over: %s", side_name(e->side),
	    (unsigned long long)r->identity, r->why);
	check_report(s, e, r);
	if (strcmp(r->why, "out of memory") == 0)
		e->pair->hurt = true;
	e->finished = true;
	s->world->totals->bytes += r->from_local;
}

static void
check_lived(struct pair *p, struct end *e)
{
	struct world *w = p->world;
	struct end *other = &p->end[e == &p->end[0]];
	const char *what = NULL;

	if (e->over == END_OPEN)
		what = "is not over";
	else if (p->hurt || starved(w))
		return;
	else if (e->over == END_RESET)
		what = "was reset";
	else if (e->over == END_CLOSED && e->got != other->sent)
		what = "lost bytes";
	if (what != NULL)
		world_fail(w,
		    "%s: stream %llu %s: sent %llu, got %llu of %llu%s%s",
		    side_name(e->side), (unsigned long long)p->identity, what,
		    (unsigned long long)e->sent, (unsigned long long)e->got,
		    (unsigned long long)other->sent, e->shut ? ", shut" : "",
		    e->eof_read ? ", said all" : "");
}

void
pair_check(struct pair *p, bool session_lived)
{
	unsigned i;

	for (i = 0; i < 2; i++) {
		if (p->end[i].attached)
			world_fail(p->world, "%s: stream %llu was not let go",
			    side_name(i), (unsigned long long)p->identity);
		/* The server may be done before it is asked for one. */
		if (session_lived && p->end[0].side == SERVER &&
		    (i == 0 || p->arrived))
			check_lived(p, &p->end[i]);
	}
}
