/*
 * An allocator that counts, fails as it is told, and fills what is not in use,
 * so that a read of it shows without a sanitizer too.
 */
#include "sim.h"

#include <malloc.h>
#include <stdlib.h>
#include <string.h>

#define FILL_MAX 4096 /* bytes: a session with all that is in it */

/* Before what is given out: it is found when a process goes. */
struct block {
	_Alignas(max_align_t) struct list node;
};

static void
fill(struct block *b, int value)
{
	size_t n = malloc_usable_size(b) - sizeof(*b);
	void *p = b + 1;

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
	struct block *b;

	h->asked++;
	if (h->mode != HEAP_FINE && fails(h)) {
		h->failed++;
		h->world->totals->starved++;
		TRACE(h->world, "allocation of %zu fails", size);
		return NULL;
	}
	b = malloc(sizeof(*b) + size);
	if (b == NULL)
		abort();
	fill(b, 0xa5);
	list_append(&h->blocks, &b->node);
	h->held++;
	return b + 1;
}

static void
give_back(struct heap *h, struct block *b)
{
	list_remove(&b->node);
	h->held--;
	fill(b, 0xdd);
	free(b);
}

static void
heap_release(void *context, void *p)
{
	struct heap *h = context;

	if (h->held == 0)
		world_fail(h->world, "freed more than was allocated");
	give_back(h, (struct block *)p - 1);
}

void
heap_init(struct heap *h, struct world *w)
{
	*h = (struct heap){
	    .allocator = {heap_alloc, heap_release, h},
	    .world = w,
	};
	list_init(&h->blocks);
}

void
heap_forget(struct heap *h)
{
	while (!list_empty(&h->blocks))
		give_back(h, container_of(h->blocks.next, struct block, node));
}
