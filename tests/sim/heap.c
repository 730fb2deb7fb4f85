/*
 * An allocator that counts, fails as it is told, and fills what is not in use,
 * so that a read of it shows without a sanitizer too.
 */
#include "sim.h"

#include <malloc.h>
#include <stdlib.h>
#include <string.h>

#define FILL_MAX 4096 /* bytes: a session with all that is in it */

static void
fill(void *p, int value)
{
	size_t n = malloc_usable_size(p);

	memset(p, value, n < FILL_MAX ? n : FILL_MAX);
}

static bool
fails(struct heap *h)
{
	switch (h->mode) {
	case HEAP_EACH:
		return h->asked % h->n == 0;
	case HEAP_RANDOM:
		return one_in(h->world, h->n);
	case HEAP_BURST:
		return h->asked < h->n;
	default:
		return false;
	}
}

static void *
heap_alloc(void *context, size_t size)
{
	struct heap *h = context;
	void *p;

	h->asked++;
	if (h->mode != HEAP_FINE && fails(h)) {
		h->failed++;
		h->world->totals->starved++;
		TRACE(h->world, "allocation of %zu fails", size);
		return NULL;
	}
	p = malloc(size);
	if (p == NULL)
		abort();
	fill(p, 0xa5);
	h->held++;
	return p;
}

static void
heap_release(void *context, void *p)
{
	struct heap *h = context;

	if (h->held == 0)
		world_fail(h->world, "freed more than was allocated");
	h->held--;
	fill(p, 0xdd);
	free(p);
}

void
heap_init(struct heap *h, struct world *w)
{
	*h = (struct heap){
	    .allocator = {heap_alloc, heap_release, h},
	    .world = w,
	};
}
