/*
 * Listeners, and the tunnel port: where connections are accepted.  Each
 * worker has a socket of its own for each (SO_REUSEPORT), so that the kernel
 * spreads connections over them.
 */
#ifndef PROXY_SERVER_LISTENER_H
#define PROXY_SERVER_LISTENER_H

#include "proxy-server/server.h"

#define LISTENER_ADDRESSES 8	/* of one name */

struct listeners {
	struct listener *all;
	size_t n;
};

/*
 * Bind everything of the configuration, on every worker, before they run.
 * 0, or -1 after the error was logged; then nothing stays bound that
 * listeners_close() does not close.
 */
int
listeners_open(struct server *, struct listeners *);
void
listeners_close(struct listeners *);

/* Stop accepting on one worker; its thread, or nobody's. */
void
listeners_stop(struct worker *);

#endif
