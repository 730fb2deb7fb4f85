/*
 * A binding: an address with its sockets, bound here or inherited from another
 * process, and the listener that its visitors come to.  The main thread's, but
 * for the acceptors inside.
 */
#ifndef PROXY_SERVER_BINDING_H
#define PROXY_SERVER_BINDING_H

#include "proxy-server/acceptor.h"
#include "proxy-server/listener.h"

/*
 * Its sockets are its acceptors' watch.fd, and stay the same for as long as
 * there is the binding: one at least for each worker, where they could be had;
 * more of them when more were inherited.
 */
struct binding {
	struct list node;		/* listeners->bound or ->added */
	struct address asked;		/* the port may be 0: any */
	struct address address;
	struct listener *listener;	/* one reference; NULL: added */
	struct listener *next;		/* one; of a change: NULL: removed */
	struct acceptor *acceptors;
	size_t nacceptors;
};

/*
 * One without sockets that is to have l.  Takes the reference to l on success;
 * NULL when memory ran out.
 */
struct binding *
binding_new(const struct address *asked, struct listener *l);

/* Closes what is open; its worker watches it no more. */
void
binding_free(struct binding *);

/*
 * Give a new one its sockets: those of its address among the inherited, and
 * the missing ones are bound.  Unless it is held, that is when we have a socket
 * that overlaps it, the first is bound only if nobody else listens there.  0,
 * or -1 with errno; what it has then goes with it.
 */
int
binding_open(struct binding *, struct server *, struct list *inherited,
    bool held);

/* As listeners_inherit(). */
int
inherited_add(struct list *inherited, const struct address *asked, int fd,
    struct listener *l);

/* Whether one of them overlaps a. */
bool
inherited_overlap(const struct list *inherited, const struct address *a);

/*
 * Let go of those that nobody took.  Who is in their queues is accepted first,
 * where it is known what they came to; the workers do not run yet.
 */
void
inherited_end(struct list *inherited, struct server *);

/* Only close them. */
void
inherited_close(struct list *inherited);

#endif
