/*
 * The upgrade in place as both daemons do it: docs/upgrade.md.  The steps are
 * those of handover.h; what is in the images is the daemon's matter.
 *
 * The main thread.
 */
#ifndef NET_UPGRADE_H
#define NET_UPGRADE_H

#include "base/image.h"
#include "net/crew.h"
#include "net/handover.h"

struct upgrade_ops {
	/* What the new process needs to get ready; the workers run. */
	void (*prepare)(void *context, struct image_writer *);
	/* Everything; the workers stand still. */
	void (*save)(void *context, struct image_writer *);
};

/*
 * SIGUSR2: hand everything over to the binary that is now on our path.
 * timeout: us, for it to get ready.  Returns only when that failed, after
 * logging why: then everything is as it was.
 */
void
upgrade_run(struct crew *, uint64_t timeout, const struct upgrade_ops *,
    void *context);

/*
 * In the new process: whether there is one before it, and what that gives it
 * to get ready.  When the image cannot be had the process ends.
 */
bool
upgrade_begin(struct handover *, struct image_reader *);
/*
 * We cannot: log it, tell the process before us, and end.  Nothing of our own
 * is tidied up: what it has given us is in use.
 */
void
upgrade_refuse(struct handover *, const char *step, const char *reason)
    __attribute__((noreturn));
/* We are ready: everything else.  No return when it cannot be had. */
void
upgrade_ready(struct handover *, struct image_reader *);
/* All is decoded (or, ok false, cannot be): returns when it is all ours. */
void
upgrade_taken(struct handover *, struct image_reader *, bool ok);

/* For the line that says so: how long nobody worked. */
struct log_line;
void
upgrade_log(struct log_line *, const struct handover *);

#endif
