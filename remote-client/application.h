/*
 * An application: the connection that a stream's visitor gets, made beside
 * the remote-client.  Connects without blocking, only to what allow_targets
 * permits; then it is the endpoint of its stream.
 */
#ifndef REMOTE_CLIENT_APPLICATION_H
#define REMOTE_CLIENT_APPLICATION_H

#include "remote-client/client.h"
#include "tunnel/session.h"

/* session_events.open; the session's owner is a struct tunnel. */
void
application_open(struct session *, struct stream *, const struct ins_open *);

/* session_events.finished. */
void
application_finished(struct session *, const struct stream_report *);

/*
 * For an upgrade in place: the user of a stream.  One that is not connected
 * yet begins anew, as if it had just come.  false: the image is not
 * right, or memory ran out; then the process ends.
 */
struct image_reader;
struct image_writer;
struct application;
void
application_save(const struct application *, struct image_writer *);
bool
application_load(struct worker *, struct stream *, struct image_reader *);

#endif
