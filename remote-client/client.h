/*
 * The remote-client: what its workers share, and the workers.
 *
 *	main ──► workers ──► tunnels ──► dials (to the proxy-server)
 *	             │          └──────► sessions
 *	             └─────► applications ◄── streams
 *
 * Shared between threads: inboxes, the process's budget, the resolvers, and
 * the roll (one lock); all else belongs to one worker.
 */
#ifndef REMOTE_CLIENT_CLIENT_H
#define REMOTE_CLIENT_CLIENT_H

#include <stdbool.h>

#include "base/config.h"
#include "instruction.h"
#include "net/crew.h"
#include "net/loop.h"
#include "net/resolver.h"
#include "remote-client/roll.h"
#include "tunnel/budget.h"
#include "tunnel/session.h"

struct client;

struct worker {
	struct client *client;
	/*
	 * What holds now: changed by a reload, on this thread; nothing keeps
	 * a pointer into it for longer than a turn.
	 */
	const struct config *config;
	unsigned index;
	struct crew_member member;
	struct loop loop;
	struct list tunnels;		/* tunnel.h */
	struct list sessions;		/* of tunnel/session.h */
	bool draining;			/* SIGTERM came */
	struct session_totals totals;	/* report.c */
};

struct client {
	const struct config *config;	/* main's */
	struct {
		unsigned workers;
		uint64_t memory;
	} fixed;			/* as configured at the start */
	struct budget memory;
	struct resolver *names;		/* of targets, which the proxy-server
					 * chooses */
	struct resolver *servers;	/* so those cannot hold these up */
	struct crew crew;
	struct worker *workers;
	unsigned nworkers;
	struct roll roll;
	uint8_t instance[INS_INSTANCE_SIZE];
};

static inline struct driver *
worker_driver(struct worker *w)
{
	return &w->loop.driver;
}

#endif
