/*
 * Where memory comes from, so that a test can make it run out.
 */
#ifndef BASE_ALLOCATOR_H
#define BASE_ALLOCATOR_H

#include <stddef.h>

struct allocator {
	/* size bytes, not cleared, or NULL. */
	void *(*alloc)(void *context, size_t size);
	/* What alloc gave; never NULL. */
	void (*release)(void *context, void *memory);
	void *context;
};

/* malloc() and free(). */
extern const struct allocator allocator_system;

/* Cleared memory, or NULL. */
void *
allocator_new(const struct allocator *, size_t size);

/* allocator_free(a, NULL) does nothing. */
void
allocator_free(const struct allocator *, void *memory);

#endif
