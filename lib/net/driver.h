/*
 * What drives sessions and streams: clock, timers, work put off to the end of
 * the turn, memory and randomness.  An event loop embeds one (loop.h); a test
 * has one without a loop and moves the clock by hand.
 *
 * Not thread-safe: everything on a driver belongs to one worker.
 */
#ifndef NET_DRIVER_H
#define NET_DRIVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/allocator.h"
#include "base/list.h"
#include "base/pool.h"
#include "net/timer.h"

#define MS 1000		/* of the clock's microseconds */
#define SECOND 1000000

/* Something to run once at the end of a turn. */
struct work {
	struct list node;
	void (*run)(struct work *);
};

struct driver {
	uint64_t now;		/* us, monotonic; read once a turn */
	struct timers timers;
	struct list work;
	struct pool pool;
	const struct allocator *allocator;
	/* Fills buf with random bytes. */
	void (*random)(void *context, void *buf, size_t len);
	void *random_context;
	uint8_t *scratch;	/* DRIVER_SCRATCH bytes, for what reads a carrier
				 * and takes it apart; nothing called from
				 * there may use it */
};

#define DRIVER_SCRATCH	(260 * 1024)

/* 0, or -1 when memory ran out.  random NULL: the system's. */
int
driver_init(struct driver *, const struct allocator *);
void
driver_close(struct driver *);

void
work_init(struct work *, void (*run)(struct work *));

/* Put off to the end of this turn; once, however often it is asked. */
void
driver_defer(struct driver *, struct work *);

static inline void
work_cancel(struct work *w)
{
	list_remove(&w->node);
}

/*
 * Run what was put off until now; what is put off meanwhile waits for the
 * next turn, so that events are looked at in between.
 */
void
driver_run_work(struct driver *);

static inline bool
driver_has_work(const struct driver *d)
{
	return !list_empty(&d->work);
}

void
driver_random(struct driver *, void *buf, size_t len);

#endif
