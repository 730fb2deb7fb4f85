/*
 * Buffers, kept for reuse by the worker that owns the pool.
 *
 * Sizes are powers of two from 4 to 256 KiB, each with BUFFER_HEADROOM bytes
 * more before them, so that a frame's head can be put in front of what was
 * read.  Buffers that nobody needed for POOL_IDLE_US go back to the system,
 * when the owner calls pool_trim() now and then.
 *
 * Those of BUFFER_MIN are cut out of slabs.  Each by itself would lie between
 * what lives longer, and what is given back there is of no use to the system:
 * a page is seldom whole.  A slab is mapped by itself (daemon_raise_limits()).
 *
 * Not thread-safe: one worker owns a pool and every buffer from it.
 */
#ifndef BASE_POOL_H
#define BASE_POOL_H

#include <stddef.h>
#include <stdint.h>

#include "base/allocator.h"
#include "base/list.h"

#define BUFFER_MIN	4096
#define BUFFER_MAX	262144
#define BUFFER_HEADROOM	64
#define POOL_CLASSES	7	/* those of BUFFER_MIN are the first */
#define POOL_IDLE_US	10000000

/* Buffers in a slab; one where each is watched for overruns. */
#ifdef __SANITIZE_ADDRESS__
#define POOL_SLAB	1
#else
#define POOL_SLAB	16
#endif

struct buffer {
	struct buffer *next;	/* the owner's, while it holds the buffer */
	struct slab *slab;	/* of BUFFER_MIN: where it is from */
	uint8_t *at;		/* first byte held */
	uint32_t len;		/* bytes held */
	uint32_t size;		/* room behind the headroom */
	uint32_t control;	/* of the bytes held: answers, see session */
};

struct pool {
	const struct allocator *allocator;
	struct buffer *free[POOL_CLASSES];
	struct list partial;		/* slabs of which some are free */
	struct list unused;		/* slabs of which all are free */
	size_t count[POOL_CLASSES];	/* free ones; unused slabs */
	size_t least[POOL_CLASSES];	/* the fewest since the last trim */
	uint64_t trimmed;		/* when, us */
	size_t held;			/* bytes given out */
};

void
pool_init(struct pool *, const struct allocator *);

/* Release what is free.  Every buffer must have been given back. */
void
pool_close(struct pool *);

/*
 * A buffer with room for at least want bytes (at most BUFFER_MAX of them),
 * empty, with at behind the headroom; NULL when memory ran out.
 */
struct buffer *
pool_get(struct pool *, size_t want);

/* pool_put(p, NULL) does nothing. */
void
pool_put(struct pool *, struct buffer *);

/* Bytes that may still be added behind what is held. */
static inline size_t
buffer_room(const struct buffer *b)
{
	const uint8_t *base = (const uint8_t *)(b + 1);

	return (size_t)(base + BUFFER_HEADROOM + b->size - (b->at + b->len));
}

/* Whether a trim at time now (us) could release anything, at some time. */
int
pool_idle(const struct pool *);

/* Release what was not needed since the last call, POOL_IDLE_US ago or more. */
void
pool_trim(struct pool *, uint64_t now);

#endif
