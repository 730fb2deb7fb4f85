/*
 * The whole proxy-server as an image, for an upgrade in place: docs/upgrade.md.
 * The main thread; what is of the workers while they stand still, or do not
 * run yet.
 */
#ifndef PROXY_SERVER_IMAGE_H
#define PROXY_SERVER_IMAGE_H

#include "base/image.h"
#include "proxy-server/listeners.h"
#include "proxy-server/server.h"

/* Who we are, and the sockets that we listen on. */
void
image_save_start(const struct server *, const struct listeners *,
    struct image_writer *);
/*
 * The same in a server that has nothing yet; the state directory of config is
 * taken over.  false with error.
 */
bool
image_load_start(struct server *, struct listeners *,
    const struct config *config, struct image_reader *, char *error,
    size_t size);

/* Everything that the workers have. */
void
image_save_all(struct server *, struct image_writer *);
bool
image_load_all(struct server *, struct image_reader *);

/* For tunnel.c: a session with its carrier and its visitors. */
struct session;
struct session_config;
void
image_save_session(const struct session *, struct image_writer *);
struct session *
image_load_session(struct worker *, const struct session_config *,
    struct image_reader *);

#endif
