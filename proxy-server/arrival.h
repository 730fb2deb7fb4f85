/*
 * An arrival: a connection on the tunnel port whose handshake is not over.
 * It has handshake_timeout to get there; then it is a tunnel.
 */
#ifndef PROXY_SERVER_ARRIVAL_H
#define PROXY_SERVER_ARRIVAL_H

#include "base/image.h"
#include "proxy-server/server.h"

/* Takes fd over in any case. */
void
arrival_accept(struct worker *, int fd, const struct address *peer);

/* End all of a worker's. */
void
arrival_end_all(struct worker *);

/*
 * For an upgrade in place, at any place of the handshake.  false: the image is
 * not right, or memory ran out.
 */
void
arrival_save_all(const struct worker *, struct image_writer *);
bool
arrival_load_all(struct worker *, struct image_reader *);

#endif
