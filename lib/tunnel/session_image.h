/*
 * Sessions and their streams as parts of an image, for an upgrade in place:
 * docs/upgrade.md.  What a session only borrows, its carrier and the
 * endpoints of its streams, is saved and loaded by its owner.
 *
 * The worker's thread, or one that holds it still.
 */
#ifndef TUNNEL_SESSION_IMAGE_H
#define TUNNEL_SESSION_IMAGE_H

#include "base/image.h"
#include "tunnel/session.h"

struct session_saver {
	void (*carrier)(struct image_writer *, const struct carrier *);
	/* user: of stream_attach(). */
	void (*endpoint)(struct image_writer *, const struct stream *,
	    const void *user);
};

struct session_loader {
	/* NULL: the image is not right, or memory ran out. */
	struct carrier *(*carrier)(struct image_reader *, void *context);
	/* stream_attach() the endpoint; false as above. */
	bool (*endpoint)(struct image_reader *, struct stream *,
	    void *context);
	void *context;
	/*
	 * What was loaded of one that fails is left where it is, since the
	 * process ends: its sockets are another process's too, and a reset or
	 * a shutdown would be that one's.
	 */
	bool forsake;
};

/* Changes nothing.  What failed is told by the writer. */
void
session_save(const struct session *, const struct session_saver *,
    struct image_writer *);

/*
 * A session as it was saved, with the dialect, id and resume that it had and
 * anything else of config; the driver's clock must be that of the one who
 * saved it.  It does nothing before its driver runs.  One that had ended, and
 * whose streams only deliver, needs no owner: it calls nothing but finished.
 * NULL when the image is not right, or memory ran out: then what was loaded of
 * it was given back, endpoints by a reset, or see forsake.
 */
struct session *
session_load(const struct session_config *, const struct session_loader *,
    struct image_reader *);

#endif
