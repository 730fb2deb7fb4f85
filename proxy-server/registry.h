/*
 * The remote table: names, and the tunnels that hold them.  Any thread; each
 * call takes the lock of one shard.
 *
 * Rules for two remote-clients with one name: PROTOCOL.md, "One name".
 */
#ifndef PROXY_SERVER_REGISTRY_H
#define PROXY_SERVER_REGISTRY_H

#include "base/image.h"
#include "proxy-server/server.h"
#include "tunnel/session.h"

#define REGISTRY_REPLACED 16	/* instances remembered for each name */
#define REGISTRY_TUNNELS 1024	/* of a name, those without a carrier too:
				 * INS_HELD_MAX */

struct tunnel;

/* Who registers. */
struct claim {
	struct ins_bytes name;
	bool classic;
	const struct ins_register *registration;	/* extended */
};

/*
 * A name.  There is one for each entry of `proxy:`; one that is in the file no
 * more is removed, and freed when its last tunnel is gone.
 */
struct remote {
	struct hash_node node;
	char *name;
	bool removed;			/* nobody finds or registers it */
	bool kept;			/* a configuration is prepared that
					 * names it: not to be freed */
	uint64_t admitted;		/* the last time: server->admitted */
	size_t references;		/* tunnels, those that were expelled
					 * too */
	struct list tunnels;		/* struct tunnel, in_remote */
	uint8_t replaced[REGISTRY_REPLACED][INS_INSTANCE_SIZE];
	size_t nreplaced;		/* ever; the newest are kept */
	uint64_t absent_logged;		/* us */
	bool absent_was_logged;
};

/*
 * The names of a configuration, in three steps by the main thread.  Prepare:
 * each has its entry; those that are new stay removed.  0, or -1 when memory
 * ran out.  Admit: all of them may be registered.  Dismiss, with the
 * configuration before or one that was prepared only: those that the last
 * admitted one has not are removed, and their tunnels told to go; true when
 * there were any.
 */
int
registry_prepare(struct server *, const struct config *);
void
registry_admit(struct server *, const struct config *);
bool
registry_dismiss(struct server *, const struct config *);

void
registry_close(struct server *);

/*
 * Take the name for t, choose its worker, and post t to it; then t is no
 * longer the caller's.  INS_END_UNKNOWN_NAME or INS_END_NAME_IN_USE when it
 * is refused; 0 when taken.
 */
unsigned
registry_claim(struct worker *, const struct claim *, struct tunnel *t);

/*
 * The worker that has the session of that id and name, for a resume; NULL:
 * there is none.
 */
struct worker *
registry_locate(struct server *, const struct ins_resume *);

/* After a resume: its serial, and the end of what its instance has given up. */
void
registry_settle(struct server *, struct tunnel *,
    const struct ins_register *);

/* Visitors are for other tunnels now.  Its worker's thread, all three. */
void
registry_set_parked(struct server *, struct tunnel *, bool parked);
void
registry_set_going(struct server *, struct tunnel *);

/* The tunnel is over: its name is free of it.  Its worker's thread. */
void
registry_release(struct server *, struct tunnel *);

/* Whether the name is in the configuration. */
bool
registry_knows(struct server *, const char *name);

/*
 * Find a session for a visitor: one on this worker (then *session), else
 * another worker that has one (then *other).  false: there is none.
 */
bool
registry_pick(struct worker *, const char *name, struct session **session,
    struct worker **other);

/* Whether to log now that this remote is absent: once a minute. */
bool
registry_log_absent(struct server *, const char *name, uint64_t now);

/*
 * For an upgrade in place: what is known of names, and a tunnel, with its
 * worker set, in the hold of one.  While no worker runs.  false: the image is
 * not right, or memory ran out.
 */
void
registry_save(struct server *, struct image_writer *);
bool
registry_load(struct server *, struct image_reader *);
bool
registry_adopt(struct server *, struct tunnel *, const char *name);

#endif
