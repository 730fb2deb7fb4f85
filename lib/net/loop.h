/*
 * An event loop on epoll, one for each worker; with its driver.
 *
 * The event data of epoll is slot and generation, so that an event of a file
 * descriptor that was let go in the same batch is told apart and ignored.
 *
 * Only the loop's thread may call these, but for loop_post() and loop_stop().
 */
#ifndef NET_LOOP_H
#define NET_LOOP_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>

#include "net/driver.h"

/* A file descriptor that is watched; embedded in what owns it. */
struct watch {
	void (*ready)(struct watch *, uint32_t events);	/* EPOLL* */
	int fd;
	uint32_t slot;		/* LOOP_NO_SLOT: not watched */
};

#define LOOP_NO_SLOT UINT32_MAX

/* Something to run on a loop's thread, posted by any thread. */
struct message {
	struct message *next;
	/* Owns the message from here on; may free it. */
	void (*deliver)(struct message *);
};

struct loop {
	struct driver driver;
	int epoll;
	struct loop_slot *slots;
	uint32_t nslots, free_slot;
	struct timer trim, log;
	struct list at_close;
	struct work *between;

	/* The inbox. */
	pthread_mutex_t lock;
	struct message *head, **tail;
	struct watch wake;	/* an eventfd */
	bool stopped;
};

/* 0, or -1 with errno. */
int
loop_init(struct loop *, const struct allocator *);

/*
 * Deliver what was posted until now; its thread, or nobody's any more.
 * Whether there was anything.
 */
bool
loop_drain(struct loop *);

/* Messages that were not delivered are delivered first. */
void
loop_close(struct loop *);

/*
 * Watch fd for events (EPOLLIN, EPOLLOUT, EPOLLET, ...).  The loop does not
 * own fd.  0, or -1 with errno.
 */
int
loop_watch(struct loop *, struct watch *, int fd, uint32_t events);
int
loop_change(struct loop *, struct watch *, uint32_t events);

/* Stop watching; before fd is closed.  Harmless when not watched. */
void
loop_unwatch(struct loop *, struct watch *);

/* The same for a descriptor that is closed by this: one system call less. */
void
loop_close_watched(struct loop *, struct watch *);

/* Have w run by loop_close(), unless work_cancel() comes before. */
void
loop_at_close(struct loop *, struct work *w);

/*
 * Run w once, when this turn is over and before the next: no event, message
 * or work is held by the loop then that could not be found from outside it.
 * One at a time.
 */
void
loop_between(struct loop *l, struct work *w);

/* How many there are. */
size_t
loop_count_at_close(const struct loop *);

/* Run until loop_stop(). */
void
loop_run(struct loop *);

/* Any thread; takes the message.  Wakes the owner on empty -> non-empty. */
void
loop_post(struct loop *, struct message *);

/* From the loop's own thread (post a message to get there). */
void
loop_stop(struct loop *);

/* Microseconds of CLOCK_MONOTONIC. */
uint64_t
loop_clock(void);

#endif
