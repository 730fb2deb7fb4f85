/*
 * The workers of a daemon: loops with a thread each, and one thread, the
 * caller's, that starts them, has things done on all of them, makes them
 * stand still, and stops them.  All calls are that thread's, one at a time;
 * but for crew_start() they cannot fail, since nothing is allocated.
 *
 * Members whose thread does not run (before crew_start(), after crew_stop(),
 * and those that crew_start() did not get to) stand still anyway, and what is
 * to be run on them is run by the caller.
 */
#ifndef NET_CREW_H
#define NET_CREW_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "net/loop.h"

struct crew;

/* A worker's part in it; embedded in what owns the loop. */
struct crew_member {
	struct crew *crew;
	struct crew_member *next;
	struct loop *loop;
	unsigned index;
	pthread_t thread;
	bool running;
	struct message call;		/* posted once for each round */
	struct work attend;
};

struct crew {
	struct crew_member *first, **tail;
	unsigned members;
	/* Of this round; written by the caller while nobody attends. */
	void (*call)(void *context, unsigned worker);
	void *context;

	pthread_mutex_t lock;
	pthread_cond_t attended, thawed;
	unsigned missing;		/* did not attend yet */
	uint64_t round;			/* each run and each freeze is one */
	uint64_t over;			/* up to here nobody is held */
};

void
crew_init(struct crew *);

/*
 * The next member, with its loop; both stay where they are until
 * crew_close().  Members are numbered in this order, from 0.
 */
void
crew_add(struct crew *, struct crew_member *, struct loop *);

/* Start the threads; 0, or an error number: then some may run. */
int
crew_start(struct crew *);

/*
 * Have call(context, number) run for every member, on its thread between two
 * turns of its loop; returns when all have.
 */
void
crew_run(struct crew *, void (*call)(void *context, unsigned worker),
    void *context);

/*
 * Returns when every member stands still between two turns.  Until
 * crew_thaw() the caller may touch whatever belongs to the members, and may
 * deliver what is in their inboxes (loop_drain()).
 */
void
crew_freeze(struct crew *);
void
crew_thaw(struct crew *);

/* End the loops that run, and wait for their threads; not while frozen. */
void
crew_stop(struct crew *);

/* After crew_stop(); the loops are the owners' to close. */
void
crew_close(struct crew *);

#endif
