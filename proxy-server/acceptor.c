#include "proxy-server/acceptor.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "proxy-server/arrival.h"
#include "proxy-server/visitor.h"

#define ACCEPT_BATCH 64 /* a turn: others want their share */
#define ACCEPT_AGAIN_US (SECOND / 10)

static void
on_accept_again(struct timer *);

static void
change_all(struct worker *w, uint32_t events)
{
	struct list *i;

	for (i = w->acceptors.next; i != &w->acceptors; i = i->next)
		loop_change(&w->loop,
		    &container_of(i, struct acceptor, node)->watch, events);
}

/*
 * Out of descriptors or memory: look again soon.  Connections wait in the
 * kernel's queue meanwhile.
 */
static void
pause_accepting(struct worker *w, const char *reason)
{
	if (!w->accept_scarce)
		log_event(LOG_ERROR, "accept-paused", "reason", reason, NULL);
	change_all(w, 0);
	w->accept_scarce = true;
	w->accept_paused = true;
	w->accept_again.expired = on_accept_again;
	timer_set(&worker_driver(w)->timers, &w->accept_again,
	    worker_driver(w)->now + ACCEPT_AGAIN_US);
}

static bool
is_scarcity(int error)
{
	return error == EMFILE || error == ENFILE || error == ENOBUFS ||
	    error == ENOMEM;
}

static void
accept_some(struct acceptor *a, int most)
{
	struct address peer;
	int fd, i;

	for (i = 0; i < most && !a->worker->accept_paused; i++) {
		memset(&peer, 0, sizeof(peer));
		peer.len = sizeof(peer.storage);
		fd = accept4(a->watch.fd, &peer.sa, &peer.len,
		    SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd >= 0) {
			if (a->listener->remote != NULL)
				visitor_accept(a->worker, a->listener, fd,
				    &peer);
			else
				arrival_accept(a->worker, fd, &peer);
		} else if (is_scarcity(errno))
			pause_accepting(a->worker, strerror(errno));
		else if (errno == EAGAIN)
			return;
		else if (errno == EINVAL || errno == EBADF) {
			/* It does not listen: it would be ready for ever. */
			log_event(LOG_ERROR, "cannot-listen", "bind",
			    a->listener->bind, "reason", strerror(errno), NULL);
			loop_unwatch(&a->worker->loop, &a->watch);
			return;
		}
	}
}

/*
 * It is over when all could be asked: the kernel looks for a descriptor first,
 * so that a socket nobody waits at tells as well.
 */
static void
on_accept_again(struct timer *t)
{
	struct worker *w = container_of(t, struct worker, accept_again);
	struct list *i;

	w->accept_paused = false;
	for (i = w->acceptors.next; i != &w->acceptors; i = i->next)
		accept_some(container_of(i, struct acceptor, node),
		    ACCEPT_BATCH);
	if (w->accept_paused)
		return;
	w->accept_scarce = false;
	log_event(LOG_INFO, "accept-resumed", NULL);
	change_all(w, EPOLLIN);
}

static void
on_acceptable(struct watch *watch, uint32_t events)
{
	(void)events;
	accept_some(container_of(watch, struct acceptor, watch), ACCEPT_BATCH);
}

void
acceptor_init(struct acceptor *a, struct worker *w, int fd)
{
	list_init(&a->node);
	a->watch.ready = on_acceptable;
	a->watch.fd = fd;
	a->watch.slot = LOOP_NO_SLOT;
	a->worker = w;
	a->listener = NULL;
}

int
acceptor_watch(struct acceptor *a)
{
	return loop_watch(&a->worker->loop, &a->watch, a->watch.fd, 0);
}

void
acceptor_begin(struct acceptor *a, struct listener *l)
{
	a->listener = l;
	list_append(&a->worker->acceptors, &a->node);
	if (!a->worker->accept_paused)
		loop_change(&a->worker->loop, &a->watch, EPOLLIN);
}

void
acceptor_close(struct acceptor *a)
{
	list_remove(&a->node);
	if (a->watch.fd < 0)
		return;
	/* Not left to close(): another process may have the socket too. */
	loop_unwatch(&a->worker->loop, &a->watch);
	close(a->watch.fd);
	a->watch.fd = -1;
}

void
acceptor_end(struct acceptor *a)
{
	accept_some(a, SOMAXCONN);
	acceptor_close(a);
}

void
acceptors_end_visitors(struct worker *w)
{
	struct list *i, *next;
	struct acceptor *a;

	for (i = w->acceptors.next; i != &w->acceptors; i = next) {
		next = i->next;
		a = container_of(i, struct acceptor, node);
		if (a->listener->remote != NULL)
			acceptor_end(a);
	}
}

void
acceptors_stop(struct worker *w)
{
	timer_cancel(&worker_driver(w)->timers, &w->accept_again);
	while (!list_empty(&w->acceptors))
		acceptor_close(
		    container_of(w->acceptors.next, struct acceptor, node));
}
