/*
 * All that the proxy-server listens on: each address with its sockets and with
 * the listener that its visitors come to.  Each worker has a socket of its own
 * for each address (SO_REUSEPORT), so that the kernel spreads connections.
 *
 * A change is prepared, then switched to on every worker and settled, or
 * abandoned.  Everything that can fail is in the first of these, and until the
 * switch nobody notices anything.  An address that stays keeps its sockets,
 * whatever else of it changes: nobody who connects is turned away.
 *
 * The main thread's, but for listeners_switch().
 */
#ifndef PROXY_SERVER_LISTENERS_H
#define PROXY_SERVER_LISTENERS_H

#include "proxy-server/binding.h"
#include "proxy-server/server.h"

#define LISTENER_ADDRESSES 8	/* of one name */

struct listeners {
	struct list bound;		/* of binding.h */
	struct list added;		/* those of a change */
	struct list inherited;		/* sockets of nobody yet: binding.h */
};

/* What a change was. */
struct listeners_change {
	unsigned added, changed, removed;
};

void
listeners_init(struct listeners *);

/* After the workers have stopped. */
void
listeners_close(struct listeners *);

/*
 * Hand in a listening socket, of the process before this one or of a service
 * manager, before the first change: the addresses that it asks for are not
 * bound where there are such sockets.  asked is what the configuration has
 * said when it was bound, with port 0; NULL: nothing that is not seen from the
 * socket.  Where several entries ask for any port of one host, they get such
 * addresses in the order in which they were handed in.
 *
 * l: what its visitors came to until now, of which a reference is kept; those
 * in its queue are served for it where the configuration does not want it.
 * NULL: then nobody is.  Takes fd on success; -1 with errno when it is no
 * listening TCP socket, or memory ran out.
 */
int
listeners_inherit(struct listeners *, const struct address *asked, int fd,
    struct listener *l);

/* Hand in those that a service manager holds for us: sd_listen_fds(3). */
void
listeners_activated(struct listeners *);

/*
 * All is ours now: listen on sockets that were bound beside inherited ones,
 * too, and take leave of the inherited ones that are not wanted.  After the
 * first change and before the workers run.
 */
void
listeners_listen(struct server *, struct listeners *);

/*
 * Get ready for all that the configuration has.  0, or -1 after it was logged
 * what cannot be had and why (as `cannot-listen` when nothing is bound yet,
 * `reload-failed` else); then nothing has changed.  The workers may run.
 */
int
listeners_prepare(struct server *, struct listeners *, const struct config *);

/* Switch one worker over.  Its thread, by crew_run(). */
void
listeners_switch(struct listeners *, struct worker *);

/* All have switched: let go of what is not used any more, and log it. */
struct listeners_change
listeners_settle(struct listeners *);

/* None has switched, and none will. */
void
listeners_abandon(struct server *, struct listeners *);

#endif
