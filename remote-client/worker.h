/*
 * The threads of the remote-client.
 */
#ifndef REMOTE_CLIENT_WORKER_H
#define REMOTE_CLIENT_WORKER_H

#include "remote-client/client.h"

/* Make n workers that do not run yet; 0, or -1 with errno. */
int
workers_init(struct client *, unsigned n);

/* Start their threads; 0, or an error number. */
int
workers_start(struct client *);

/* Stop those that run, end everything on all of them, and free them. */
void
workers_stop(struct client *);

#endif
