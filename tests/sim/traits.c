/*
 * What a seed is like: each has few of the many kinds of trouble, so that one
 * does not hide another.
 */
#include "sim.h"

#define PICK(w, ...) \
	((const uint64_t[]){__VA_ARGS__})[draw(w, \
	    sizeof((const uint64_t[]){__VA_ARGS__}) / sizeof(uint64_t))]

static void
draw_volume(struct world *w)
{
	struct traits *t = &w->traits;

	t->piece = (size_t)PICK(w, 0, 0, 0, 0, 1, 13, 300, 5000, 70000);
	t->cap = (size_t)PICK(w, 64, 1024, 16384, 65536, 65536, 262144, 262144);
	t->most = PICK(w, 300, 5000, 40000, 300000, 3 << 20);
	if (t->cap <= 1024 && t->most > 20000)
		t->most = 20000;
	if (t->piece != 0 && t->piece <= 300 && t->most > 64 * t->piece + 100)
		t->most = 64 * t->piece + 100;
	t->period = PICK(w, 100, 3 * MS, 50 * MS, 2 * SECOND);
	t->streams = (unsigned)PICK(w, 1, 2, 5, 20, 100);
}

void
traits_redraw(struct side *s)
{
	static const uint64_t window[] = {16384, 20000, 65536, 262144, 1 << 20,
	    32 << 20};
	struct session_config *c = &s->config;
	struct world *w = s->world;

	c->memory = w->traits.tight ? 150000 + draw_wide(w, 2 << 20) : 64 << 20;
	c->window_max = window[draw(w, 6)];
	c->heartbeat = PICK(w, 300 * MS, SECOND, 5 * SECOND);
	c->misses = (unsigned)PICK(w, 0, 1, 3, 5);
	c->resume_memory = PICK(w, 0, 65536, 200000, 1 << 20, 64 << 20);
	c->answer_delay = s->index == CLIENT ? PICK(w, 0, 1 * MS) : 0;
	if (s->resume_memory < c->resume_memory)
		s->resume_memory = c->resume_memory;
}

static void
draw_config(struct world *w)
{
	struct traits *t = &w->traits;
	struct side *s;

	t->tight = one_in(w, 4);
	for (s = w->side; s < w->side + 2; s++) {
		s->config = (struct session_config){
		    .dialect = INS_EXTENDED,
		    .id = 7,
		    .driver = &s->process->driver,
		    .process = &s->process->budget,
		    .all = &s->process->all,
		    .owner = s,
		};
		traits_redraw(s);
		budget_init(&s->process->budget,
		    t->tight ? 200000 + draw_wide(w, 4 << 20) : 1 << 30, 0);
	}
	w->side[0].config.resume = w->side[1].config.resume =
	    PICK(w, 2 * SECOND, 20 * SECOND, 60 * SECOND, 600 * SECOND);
}

static void
draw_starving(struct world *w)
{
	struct heap *h;
	unsigned i;

	w->traits.starve = one_in(w, 6);
	for (i = 0; i < 2 && w->traits.starve; i++) {
		h = &w->side[i].process->heap;
		h->mode = (enum heap_mode)draw(w, HEAP_BURST);
		h->n = 2 + draw_wide(w, 300);
	}
}

void
traits_draw(struct world *w)
{
	struct traits *t = &w->traits;

	*t = (struct traits){
	    .delay = PICK(w, 0, 100, 5 * MS, 100 * MS),
	    .rate = PICK(w, 0, 0, 300000, 20000000),
	    .open_every = PICK(w, 100, 5 * MS, 200 * MS, 3 * SECOND),
	    .fault_every = PICK(w, 2 * MS, 50 * MS, 500 * MS, 5 * SECOND),
	    .breaks = (unsigned)PICK(w, 4, 20, 1 << 30),
	    .patience = PICK(w, 100 * MS, SECOND, 5 * SECOND),
	    .faults = (uint32_t)draw(w, 1 << 14),
	};
	/* Cuts are what this is about. */
	if (one_in(w, 2))
		t->faults |= 2;
	if (!one_in(w, 4))
		t->faults &= ~(UINT32_C(7) << 11);
	draw_volume(w);
	draw_config(w);
	draw_starving(w);
}
