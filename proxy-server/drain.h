/*
 * SIGTERM: nobody new, and time for those who are there.  The main thread.
 */
#ifndef PROXY_SERVER_DRAIN_H
#define PROXY_SERVER_DRAIN_H

#include "proxy-server/server.h"

/*
 * Close the listeners, but for the tunnel port, where sessions may still be
 * resumed; say go-away on every session; return when the last stream is over,
 * after drain_timeout, or when another SIGTERM comes.
 */
void
drain(struct server *);

#endif
