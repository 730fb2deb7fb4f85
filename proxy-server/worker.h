/*
 * The threads of the proxy-server.
 */
#ifndef PROXY_SERVER_WORKER_H
#define PROXY_SERVER_WORKER_H

#include "proxy-server/server.h"

/*
 * Make n workers that do not run yet: crew_start() of server->crew starts
 * them.  0, or -1 with errno.
 */
int
workers_init(struct server *, unsigned n);

/* Stop those that run, end everything on all of them, and free them. */
void
workers_stop(struct server *);

#endif
