/*
 * The proxy-server: what its workers share, and the workers.
 *
 *	main ──► workers ──► listeners ──► visitors ──┐
 *	             │                                ▼
 *	             └─────► arrivals ──► tunnels (sessions)
 *	                        └──── registry ────┘
 *
 * Shared between threads: the registry and the table of connections (locked),
 * inboxes, the process's budget and the counters (atomic), and what is counted
 * and does not change: listener.h.  All else belongs to one worker.  Lock order:
 * a shard of the registry, then an inbox.
 */
#ifndef PROXY_SERVER_SERVER_H
#define PROXY_SERVER_SERVER_H

#include <stdatomic.h>
#include <stdbool.h>

#include "base/config.h"
#include "base/state_dir.h"
#include "base/table.h"
#include "instruction.h"
#include "net/address.h"
#include "net/crew.h"
#include "net/loop.h"
#include "tunnel/budget.h"
#include "tunnel/session.h"

struct server;

/* A worker: one thread, one loop, and everything that lives on it. */
struct worker {
	struct server *server;
	unsigned index;
	struct crew_member member;
	struct loop loop;
	const struct config *config;	/* changes between two turns */
	struct list acceptors;	/* listening sockets: acceptor.h */
	struct list arrivals;	/* handshakes: arrival.h */
	struct list visitors;	/* without a stream yet: visitor.h */
	struct list waiting;	/* those of them that wait for a remote */
	struct list sessions;	/* of tunnel/session.h */
	struct hash tunnels;	/* by session id: tunnel.h */
	struct timer accept_again;
	bool accept_paused;
	bool accept_scarce;	/* paused, and not known to be over */
	struct session_totals totals;	/* report.c */
};

struct server {
	struct config *config;		/* the main thread's; NULL at first */
	struct {
		unsigned workers;
		uint64_t memory;
	} fixed;			/* as configured at the start */
	struct table remotes;		/* by name: registry.h */
	struct table connections;	/* by session and identity */
	struct budget memory;
	struct crew crew;
	struct worker *workers;
	unsigned nworkers;
	struct state_dir state;		/* the main thread's */
	uint64_t admitted;		/* registry.h; the main thread's */
	uint8_t instance[INS_INSTANCE_SIZE];
	uint64_t start;
	_Atomic uint64_t next_session;
	_Atomic uint64_t waiting;	/* visitors, all workers */
	_Atomic unsigned undrained;	/* drain.c: workers that have sessions */
	atomic_bool draining;		/* nobody new */
};

static inline struct driver *
worker_driver(struct worker *w)
{
	return &w->loop.driver;
}

#endif
