/*
 * The remote-client: what its workers share, and the workers.
 *
 *	main ──► workers ──► dials (tunnels to the proxy-server) ──► sessions
 *	             └─────► applications ◄── streams ──────────────────┘
 *
 * Shared between threads: inboxes, the process's budget, the resolvers, and
 * the roll (one lock); all else belongs to one worker.
 */
#ifndef REMOTE_CLIENT_CLIENT_H
#define REMOTE_CLIENT_CLIENT_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "base/config.h"
#include "instruction.h"
#include "net/crew.h"
#include "net/loop.h"
#include "net/resolver.h"
#include "tunnel/budget.h"

struct client;
struct dial;

struct worker {
	struct client *client;
	unsigned index;
	struct crew_member member;
	struct loop loop;
	struct list sessions;		/* of tunnel/session.h */
};

/*
 * What every InsRegister has to tell of the other dials of this process:
 * PROTOCOL.md, "Handshake".  One entry for each dial.
 */
struct roll {
	pthread_mutex_t lock;
	uint64_t serial;		/* the last that was given out */
	unsigned up;			/* sessions */
	bool standby;			/* we were replaced */
	struct roll_entry {
		uint64_t unsettled;	/* a serial, or 0 */
		uint64_t session;	/* or 0 */
		uint8_t server[INS_INSTANCE_SIZE];
	} *entries;
	unsigned n;
};

struct client {
	const struct config *config;
	struct budget memory;
	struct resolver *names;		/* of targets, which the proxy-server
					 * chooses */
	struct resolver *servers;	/* so those cannot hold these up */
	struct crew crew;
	struct worker *workers;
	unsigned nworkers;
	struct dial *dials;
	unsigned ndials;
	struct roll roll;
	uint8_t instance[INS_INSTANCE_SIZE];
};

static inline struct driver *
worker_driver(struct worker *w)
{
	return &w->loop.driver;
}

#endif
