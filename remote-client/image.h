/*
 * The whole remote-client as an image, for an upgrade in place: docs/upgrade.md.
 * The main thread, while the workers stand still or do not run yet.
 */
#ifndef REMOTE_CLIENT_IMAGE_H
#define REMOTE_CLIENT_IMAGE_H

#include "base/image.h"
#include "remote-client/client.h"

/* Whose sessions they are. */
void
image_save_start(const struct client *, struct image_writer *);
/* Whether the configuration can go on with them: NULL, or why not. */
const char *
image_load_start(const struct client *, struct image_reader *);

void
image_save_all(struct client *, struct image_writer *);

/* Into a client that has no tunnels yet. */
bool
image_load_all(struct client *, struct image_reader *);

#endif
