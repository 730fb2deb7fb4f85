/*
 * A listening socket of one worker, and the accepting from it.  Its worker's
 * thread, or the main thread while that one does not run or stands still.
 */
#ifndef PROXY_SERVER_ACCEPTOR_H
#define PROXY_SERVER_ACCEPTOR_H

#include "proxy-server/listener.h"
#include "proxy-server/server.h"

struct acceptor {
	struct list node;		/* worker->acceptors */
	struct watch watch;		/* fd -1: closed */
	struct worker *worker;
	struct listener *listener;	/* borrowed from its binding */
};

/* Takes fd over. */
void
acceptor_init(struct acceptor *, struct worker *, int fd);

/* All that may fail of what is to come; 0, or -1 with errno. */
int
acceptor_watch(struct acceptor *);

/* From here on who connects is a visitor of l, or an arrival. */
void
acceptor_begin(struct acceptor *, struct listener *l);

/*
 * Accept who is in its queue, whom closing it would reset, and close it: one
 * that was begun.
 */
void
acceptor_end(struct acceptor *);

/* Close it as it is. */
void
acceptor_close(struct acceptor *);

/* acceptor_end() all of a worker but those of the tunnel port. */
void
acceptors_end_visitors(struct worker *);

/* Close all that accept on a worker, as they are. */
void
acceptors_stop(struct worker *);

#endif
