/*
 * Timers: a pairing heap with its nodes inside what they time, so that
 * setting one never fails.  Times are microseconds of the owner's clock.
 * Not thread-safe.
 */
#ifndef NET_TIMER_H
#define NET_TIMER_H

#include <stdbool.h>
#include <stdint.h>

struct timer {
	uint64_t at;
	/* Called once, when the timer is no longer set. */
	void (*expired)(struct timer *);
	struct timer *child, *sibling;
	struct timer *back;	/* left sibling, or parent of a first child */
	bool set;
};

struct timers {
	struct timer *root;
};

/* Set or move the timer to time at; expired must be there. */
void
timer_set(struct timers *, struct timer *, uint64_t at);

/* A timer that is not set is left alone. */
void
timer_cancel(struct timers *, struct timer *);

/* Run those that are due; ones set meanwhile for now or before run too. */
void
timers_run(struct timers *, uint64_t now);

/* When the first is due; UINT64_MAX: none is set. */
uint64_t
timers_next(const struct timers *);

#endif
