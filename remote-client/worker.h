/*
 * The threads of the remote-client.
 */
#ifndef REMOTE_CLIENT_WORKER_H
#define REMOTE_CLIENT_WORKER_H

#include "remote-client/client.h"

/*
 * Make n workers that do not run yet: crew_start() of client->crew starts
 * them.  0, or -1 with errno.
 */
int
workers_init(struct client *, unsigned n);

/* Stop those that run, end everything on all of them, and free them. */
void
workers_stop(struct client *);

#endif
