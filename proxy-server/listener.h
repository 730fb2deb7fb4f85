/*
 * A listener, as its visitors know it: where they arrive, and what they get.
 * It does not change and borrows nothing, so visitors of any worker keep what
 * they came to, whatever becomes of the configuration and of the sockets
 * (listeners.h).  It is counted; the last one who lets go frees it.
 */
#ifndef PROXY_SERVER_LISTENER_H
#define PROXY_SERVER_LISTENER_H

#include "base/config.h"
#include "base/image.h"
#include "net/address.h"

struct listener {
	_Atomic unsigned references;
	char *remote;			/* its name; NULL: the tunnel port */
	enum config_type type;
	enum config_class class;
	unsigned weight;
	struct hostport target;
	struct address address;		/* as bound */
	char bind[ADDRESS_TEXT_MAX];
	char target_text[HOSTPORT_TEXT_MAX];
};

/*
 * One with copies of what these say, and one reference; both NULL: the tunnel
 * port.  NULL when memory ran out.
 */
struct listener *
listener_new(const struct config_remote *, const struct config_listener *);

/* Say where it is bound; before anybody else has it. */
void
listener_set_address(struct listener *, const struct address *);

/* Any thread.  Returns its argument. */
struct listener *
listener_hold(struct listener *);

/* Any thread.  listener_release(NULL) does nothing. */
void
listener_release(struct listener *);

/* Whether visitors get the same of both, wherever they are bound. */
bool
listener_same(const struct listener *, const struct listener *);

/* A line of the log, level info. */
void
listener_log(const char *event, const struct listener *);

/*
 * For an upgrade in place; not the tunnel port.  NULL: the image is not right,
 * or memory ran out.
 */
void
listener_save(const struct listener *, struct image_writer *);
struct listener *
listener_load(struct image_reader *);

#endif
