/*
 * An allocator that counts, and that runs out of memory when it is told to.
 */
#ifndef UNIT_MEMORY_H
#define UNIT_MEMORY_H

#include <stddef.h>

#include "base/allocator.h"

struct memory {
	struct allocator allocator;
	size_t held;		/* allocations that were not given back */
	size_t asked;		/* allocations ever asked for */
	size_t fail_from;	/* the first one that fails; 0: none */
	size_t fail_count;	/* how many in a row fail */
};

void
memory_init(struct memory *);

/* Let the n-th allocation from now on (from 1) and count - 1 more fail. */
void
memory_fail(struct memory *, size_t n, size_t count);

#endif
