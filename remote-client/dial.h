/*
 * A dial: one of the tunnels that the remote-client keeps up.  It resolves,
 * connects, shakes hands, holds the session, and begins anew when that ends.
 */
#ifndef REMOTE_CLIENT_DIAL_H
#define REMOTE_CLIENT_DIAL_H

#include "remote-client/client.h"

struct dial;

/* Make the client's dials, spread over its workers; 0, or -1. */
int
dials_init(struct client *, unsigned n);
void
dials_free(struct client *);

/*
 * Start the first; the others follow when it has a session.  Before the
 * workers run.
 */
void
dials_start(struct client *);

/* Give up what a worker's dials are doing; its thread, or nobody's. */
void
dials_stop(struct worker *);

struct worker *
dial_worker(struct dial *);

#endif
