/*
 * An arrival: a connection on the tunnel port whose handshake is not over.
 * It has handshake_timeout to get there; then it is a tunnel.
 */
#ifndef PROXY_SERVER_ARRIVAL_H
#define PROXY_SERVER_ARRIVAL_H

#include "proxy-server/server.h"

/* Takes fd over in any case. */
void
arrival_accept(struct worker *, int fd, const struct address *peer);

/* End all of a worker's. */
void
arrival_end_all(struct worker *);

#endif
