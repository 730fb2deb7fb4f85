/*
 * Names to addresses without blocking a worker: getaddrinfo() on a few
 * threads of its own, since only it knows all that the system is configured
 * to ask (files, DNS, mDNS, directories).
 */
#ifndef NET_RESOLVER_H
#define NET_RESOLVER_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

#include "net/address.h"
#include "net/loop.h"

#define RESOLVER_THREADS 4	/* a slow name holds up no more than one */
#define RESOLVER_QUEUE	 1024	/* lookups that may wait */
#define RESOLVER_ADDRESSES 16	/* of one name; more are left out */

struct lookup;

/* Lives until the process ends: its threads may be inside getaddrinfo(). */
struct resolver {
	pthread_mutex_t lock;
	pthread_cond_t wanted;
	struct lookup *head, **tail;
	size_t waiting;
	unsigned threads, idle;
	bool closed;
};

void
resolver_init(struct resolver *);

/*
 * No lookup ends after this; before the loops are closed, and after the
 * lookups were cancelled: an answer that was posted already is delivered, one
 * that was not is gone.  Any thread.
 */
void
resolver_close(struct resolver *);

/*
 * Look host up for TCP on port.  done is called once on the loop's thread,
 * with n addresses (each once, in the system's order of preference), or n 0
 * and why.  NULL when memory ran out or too many wait.
 */
typedef void lookup_done(void *context, const struct address *addresses,
    size_t n, const char *why);

struct lookup *
resolver_start(struct resolver *, struct loop *, const char *host,
    uint16_t port, lookup_done *done, void *context);

/* From the loop's thread, before done was called: it will not be. */
void
lookup_cancel(struct lookup *);

#endif
