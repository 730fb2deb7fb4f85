/*
 * A tunnel: one of those that the remote-client keeps up.  It dials, holds
 * the session, brings it back when its carrier is lost, and begins anew when
 * it ends.
 *
 * Each has a slot, 0 to `tunnels` - 1, on worker slot % workers.  One whose
 * session only runs out (after a go-away, or while it may still be resumed
 * elsewhere) is a stray: its slot has another tunnel already, on the same
 * worker.
 */
#ifndef REMOTE_CLIENT_TUNNEL_H
#define REMOTE_CLIENT_TUNNEL_H

#include "base/image.h"
#include "remote-client/client.h"

struct tunnel;

/* How many a configuration asks for. */
unsigned
tunnels_wanted(const struct config *, unsigned workers);

/*
 * Make worker->config's tunnels what they shall be, from nothing or from what
 * there is.  The first begins at once, the others when it has a session.  Its
 * thread, or nobody's; -1 when memory ran out, then some may be missing.
 */
int
tunnels_update(struct worker *);

/* Say go-away on every session, and make no new ones. */
void
tunnels_drain(struct worker *);

/* Give up what a worker's tunnels are doing; its thread, or nobody's. */
void
tunnels_stop(struct worker *);

/* After the sessions have ended. */
void
tunnels_free(struct worker *);

struct worker *
tunnel_worker(struct tunnel *);

/*
 * For an upgrade in place: all tunnels of a worker with their sessions, and
 * one session that has ended and only delivers.  false: the image is not
 * right, or memory ran out; then the process ends.  After the load
 * tunnels_update() makes the tunnels those of the configuration.
 */
struct session;
void
tunnels_save(struct worker *, struct image_writer *);
bool
tunnels_load(struct worker *, struct image_reader *);
void
tunnel_save_ended(const struct session *, struct image_writer *);
bool
tunnel_load_ended(struct worker *, struct image_reader *);

#endif
