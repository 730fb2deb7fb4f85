/*
 * One seed, from its start until nothing is left.
 */
#include "sim.h"

#include <stdio.h>
#include <string.h>

#define EVENTS_MAX 200000 /* at one time of the clock: it does not end */
#define QUIET (200 * MS)
#define EVENTS_STEP 3 /* as many for a step: little is left to happen */

void
world_fail(struct world *w, const char *format, ...)
{
	va_list ap;

	if (w->failed)
		return;
	w->failed = true;
	va_start(ap, format);
	vsnprintf(w->what, sizeof(w->what), format, ap);
	va_end(ap);
	TRACE(w, "FAILED: %s", w->what);
}

void
world_trace(struct world *w, const char *format, ...)
{
	va_list ap;

	printf("%12.6f ", (double)w->now / SECOND);
	va_start(ap, format);
	vprintf(format, ap);
	va_end(ap);
	putchar('\n');
	fflush(stdout);
}

static void
random_bytes(void *context, void *buf, size_t len)
{
	struct world *w = context;
	uint8_t *p = buf;

	while (len-- > 0)
		*p++ = (uint8_t)draw(w, 256);
}

bool
world_process(struct world *w, struct process *p)
{
	if (driver_init(&p->driver, &p->heap.allocator) < 0)
		return false;
	p->driver.now = w->now;
	p->driver.random = random_bytes;
	p->driver.random_context = w;
	list_init(&p->all);
	return true;
}

static void
on_turn(struct timer *t)
{
	struct side *s = container_of(t, struct side, turn);

	world_count(s->world);
	s->heard_before = s->heard_at;
	driver_run_work(&s->process->driver);
	check_turn(s);
}

/* Each loop turns when it has something to do, a moment later. */
static void
see_to_turns(struct world *w)
{
	struct side *s;

	for (s = w->side; s < w->side + 2; s++)
		if (!s->turn.set && driver_has_work(&s->process->driver))
			world_after(w, &s->turn,
			    (w->now < s->back_at ? s->back_at - w->now : 0) +
				draw(w, 8));
}

static void
set_clock(struct world *w, uint64_t at)
{
	if (at > w->now) {
		w->events_here = 0;
		w->now = at;
		w->side[0].process->driver.now = at;
		w->side[1].process->driver.now = at;
	} else if (++w->events_here > EVENTS_MAX)
		world_fail(w, "the clock stands still");
}

/* The next thing that happens; false: nothing will, ever. */
static bool
step(struct world *w)
{
	uint64_t at = timers_next(&w->timers), next;
	struct driver *first = NULL, *d;
	struct timer *t;
	unsigned i;

	for (i = 0; i < 2; i++) {
		d = &w->side[i].process->driver;
		next = timers_next(&d->timers);
		if (next < w->side[i].back_at)
			next = w->side[i].back_at;
		if (next < at && d->timers.root != NULL) {
			at = next;
			first = d;
		}
	}
	if (at == NEVER)
		return false;
	set_clock(w, at);
	if (first != NULL) {
		world_count(w);
		timers_run(&first->timers, w->now);
	} else {
		t = w->timers.root;
		timer_cancel(&w->timers, t);
		t->expired(t);
	}
	see_to_turns(w);
	if (++w->events % 2048 == 0)
		check_deeply(w);
	return true;
}

static bool
is_over(const struct world *w)
{
	return w->side[0].session == NULL && w->side[1].session == NULL;
}

static void
init(struct world *w, uint64_t seed)
{
	struct side *s;
	unsigned i;

	/* What is large and allocated stays. */
	w->seed = w->random = seed;
	w->now = 1000 * (uint64_t)SECOND;
	w->timers.root = NULL;
	w->nlinks = 0;
	w->npairs = 0;
	memset(w->by_identity, 0, sizeof(w->by_identity));
	w->down_until = 0;
	w->calm = w->closing = w->failed = false;
	w->steps = w->events = w->events_here = 0;
	w->ports = 0;
	w->opens = w->faults = w->upgrades = (struct timer){0};
	w->nupgrades = 0;
	for (i = 0; i < LINKS; i++)
		w->links[i].used = false;
	for (s = w->side; s < w->side + 2; s++) {
		struct wire wire = s->wire;

		*s = (struct side){
		    .world = w,
		    .index = (unsigned)(s - w->side),
		    .turn.expired = on_turn,
		    .wire = wire,
		};
		wire_init(&s->wire);
		s->process = &s->processes[0];
		heap_init(&s->process->heap, w);
		world_process(w, s->process);
	}
}

/* Nothing of the streams is left but those that are kept. */
static bool
is_settled(const struct world *w)
{
	const struct pair *p;
	unsigned i;

	for (p = w->pairs; p < w->pairs + w->npairs; p++)
		for (i = 0; i < 2; i++)
			if (p->end[i].attached && (!p->keep || w->closing))
				return false;
	return true;
}

/* All that was sent is acknowledged, both ways. */
static bool
is_quiet(const struct world *w)
{
	struct session_offsets o[2];
	unsigned i;

	for (i = 0; i < 2; i++) {
		if (session_is_parked(w->side[i].session) ||
		    w->now < w->side[i].back_at)
			return false;
		o[i] = session_offsets(w->side[i].session);
	}
	return o[0].sent == o[1].received && o[1].sent == o[0].received &&
	    o[0].acknowledged == o[0].sent && o[1].acknowledged == o[1].sent;
}

/* Nothing to do for so long that what is held back would have left. */
static bool
is_done(struct world *w)
{
	/* One alone may wait for the other as long as resuming may take. */
	if (w->side[0].session == NULL || w->side[1].session == NULL)
		return true;
	if (!is_settled(w) || !is_quiet(w)) {
		w->quiet_since = 0;
		return false;
	}
	if (w->quiet_since == 0)
		w->quiet_since = w->now;
	return w->now - w->quiet_since >= QUIET;
}

static void
be_calm(struct world *w)
{
	struct link *l;
	unsigned i;

	TRACE(w, "all is calm after %llu steps", (unsigned long long)w->steps);
	w->calm = true;
	w->traits.piece = 0;
	w->down_until = 0;
	for (i = 0; i < 2; i++)
		w->side[i].process->heap.mode = HEAP_FINE;
	for (l = w->links; l < w->links + LINKS; l++)
		if (l->used)
			link_calm(l);
	for (i = 0; i < 2 * w->npairs; i++)
		end_calm(&w->pairs[i / 2].end[i % 2]);
	fault_upgrade(w);
}

/* How long it may take to notice what is lost, to resume, and to finish. */
static uint64_t
patience(const struct world *w)
{
	uint64_t most = 60 * (uint64_t)SECOND;
	unsigned i;

	for (i = 0; i < 2; i++)
		most += 2 * (w->side[i].config.misses + 3) *
		    w->side[i].config.heartbeat;
	return most;
}

/* Until all has settled, or what there was is over. */
static void
settle(struct world *w, const char *what)
{
	uint64_t until = w->now + patience(w);

	w->quiet_since = 0;
	while (!w->failed && !is_over(w) && !is_done(w)) {
		if (w->now > until)
			world_fail(w, "%s", what);
		if (!step(w))
			break;
	}
}

static void
compare_sets(struct world *w)
{
	size_t kept = 0;
	struct pair *p;

	if (w->failed || w->side[0].session == NULL ||
	    w->side[1].session == NULL)
		return;
	for (p = w->pairs; p < w->pairs + w->npairs; p++) {
		if (p->end[0].attached != p->end[1].attached && !p->hurt)
			world_fail(w, "stream %llu is at one side only",
			    (unsigned long long)p->identity);
		kept += p->end[0].attached;
	}
	if (session_streams(w->side[0].session) !=
		session_streams(w->side[1].session) ||
	    session_streams(w->side[0].session) > kept)
		world_fail(w,
		    "the sides have %zu and %zu streams, %zu are open",
		    session_streams(w->side[0].session),
		    session_streams(w->side[1].session), kept);
}

static void
let_end(struct world *w)
{
	uint64_t until = w->now + patience(w);
	unsigned i;

	for (i = 0; i < 2; i++)
		until += w->side[i].config.resume;
	while (!w->failed && !is_over(w) && step(w))
		if (w->now > until)
			world_fail(w, "a session does not end");
	if (!w->failed && !is_over(w))
		world_fail(w, "a session never ends");
	/* Those that still deliver. */
	until = w->now + patience(w);
	w->closing = true;
	for (i = 0; i < 2 * w->npairs; i++)
		end_calm(&w->pairs[i / 2].end[i % 2]);
	while (!w->failed && !is_settled(w) && w->now < until && step(w))
		continue;
}

/* Whether it ended only because nothing was left to be done. */
static bool
has_finished(const struct world *w)
{
	const struct side *a = &w->side[SERVER], *b = &w->side[CLIENT];

	return a->end_code == INS_END_FINISHED && !a->dropping && !b->ending &&
	    !b->dropping;
}

static void
finish(struct world *w)
{
	bool lived;
	unsigned i;

	settle(w, "streams do not finish");
	compare_sets(w);
	w->closing = true;
	for (i = 0; i < 2 * w->npairs; i++)
		end_calm(&w->pairs[i / 2].end[i % 2]);
	settle(w, "the last streams do not finish");
	lived = w->side[0].session != NULL && w->side[1].session != NULL;
	if (!w->failed && !is_over(w))
		fault_finish(w);
	let_end(w);
	for (i = 0; i < w->npairs && !w->failed; i++)
		pair_check(&w->pairs[i], lived || has_finished(w));
	links_free(w);
	if (!w->failed)
		check_nothing_left(w);
}

bool
world_run(struct world *w, uint64_t seed, uint64_t steps, struct totals *totals)
{
	w->totals = totals;
	init(w, seed);
	traits_draw(w);
	daemon_start(w);
	fault_start(w);
	/* A few are long. */
	if (one_in(w, 50))
		steps *= 10;
	while (w->steps < steps && w->events < EVENTS_STEP * steps &&
	    !w->failed && !is_over(w))
		if (!step(w))
			break;
	be_calm(w);
	finish(w);
	totals->steps += w->steps;
	return !w->failed;
}
