#include "proxy-server/listener.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "proxy-server/arrival.h"
#include "proxy-server/visitor.h"

#define ACCEPT_BATCH 64 /* a turn: others want their share */
#define ACCEPT_AGAIN_US (SECOND / 10)

/* A listening socket of one worker. */
struct acceptor {
	struct list node; /* worker->acceptors */
	struct watch watch;
	struct worker *worker;
	const struct listener *listener;
};

/*
 * Out of descriptors or memory: look again soon.  Connections wait in the
 * kernel's queue meanwhile.
 */
static void
pause_accepting(struct worker *w, const char *reason)
{
	struct list *i;

	log_event(LOG_ERROR, "accept-paused", "reason", reason, NULL);
	for (i = w->acceptors.next; i != &w->acceptors; i = i->next)
		loop_change(&w->loop,
		    &container_of(i, struct acceptor, node)->watch, 0);
	w->accept_paused = true;
	timer_set(&worker_driver(w)->timers, &w->accept_again,
	    worker_driver(w)->now + ACCEPT_AGAIN_US);
}

static void
on_accept_again(struct timer *t)
{
	struct worker *w = container_of(t, struct worker, accept_again);
	struct list *i;

	w->accept_paused = false;
	for (i = w->acceptors.next; i != &w->acceptors; i = i->next)
		loop_change(&w->loop,
		    &container_of(i, struct acceptor, node)->watch, EPOLLIN);
}

static bool
is_scarcity(int error)
{
	return error == EMFILE || error == ENFILE || error == ENOBUFS ||
	    error == ENOMEM;
}

static void
on_acceptable(struct watch *watch, uint32_t events)
{
	struct acceptor *a = container_of(watch, struct acceptor, watch);
	struct address peer;
	int fd, i;

	(void)events;
	for (i = 0; i < ACCEPT_BATCH && !a->worker->accept_paused; i++) {
		memset(&peer, 0, sizeof(peer));
		peer.len = sizeof(peer.storage);
		fd = accept4(watch->fd, &peer.sa, &peer.len,
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
	}
}

static int
add_acceptor(struct worker *w, const struct listener *l)
{
	struct acceptor *a = calloc(1, sizeof(*a));
	int fd, saved;

	if (a == NULL)
		goto err0;
	fd = address_listen(&l->address, true);
	if (fd < 0)
		goto err1;
	a->worker = w;
	a->listener = l;
	a->watch.ready = on_acceptable;
	if (loop_watch(&w->loop, &a->watch, fd, EPOLLIN) < 0)
		goto err2;
	list_append(&w->acceptors, &a->node);
	return 0;

err2:
	saved = errno;
	close(fd);
	errno = saved;
err1:
	saved = errno;
	free(a);
	errno = saved;
err0:
	return -1;
}

/*
 * Bind once without SO_REUSEPORT, to see that nobody else has the address: a
 * second daemon would silently take half of the visitors.  Finds the port out
 * when the kernel chooses it.
 */
static int
probe(struct address *a)
{
	struct address bound = {.len = sizeof(bound.storage)};
	int fd = address_listen(a, false);

	if (fd < 0)
		return -1;
	if (address_port(a) == 0 && getsockname(fd, &bound.sa, &bound.len) == 0)
		address_set_port(a, address_port(&bound));
	close(fd);
	return 0;
}

static void
log_listening(const struct listener *l)
{
	if (l->config == NULL)
		log_event(LOG_INFO, "listening", "for", "tunnel", "bind",
		    l->bind, NULL);
	else
		log_event(LOG_INFO, "listening", "for", "visitors", "remote",
		    l->remote->name, "type",
		    l->config->type == CONFIG_HTTP ? "http" : "tcp", "bind",
		    l->bind, "target", l->target, NULL);
}

static int
open_one(struct server *server, struct listener *l)
{
	unsigned i;

	if (probe(&l->address) < 0)
		goto fail;
	address_format(&l->address, l->bind, sizeof(l->bind));
	for (i = 0; i < server->nworkers; i++)
		if (add_acceptor(&server->workers[i], l) < 0)
			goto fail;
	log_listening(l);
	return 0;

fail:
	address_format(&l->address, l->bind, sizeof(l->bind));
	log_event(LOG_ERROR, "cannot-listen", "bind", l->bind, "reason",
	    errno == EADDRINUSE ?
		"another program listens there; is a proxy-server running?" :
		strerror(errno),
	    NULL);
	return -1;
}

/* A listener for each address that bind stands for. */
static int
open_bind(struct server *server, struct listeners *ls,
    const struct hostport *bind, const struct config_remote *remote,
    const struct config_listener *config)
{
	struct address addresses[LISTENER_ADDRESSES];
	const char *error = "no address";
	struct listener *l;
	int n, i;

	n = address_to_bind(bind, addresses, LISTENER_ADDRESSES, &error);
	if (n <= 0) {
		log_event(LOG_ERROR, "cannot-listen", "bind", bind->host,
		    "reason", error, NULL);
		return -1;
	}
	for (i = 0; i < n; i++) {
		l = &ls->all[ls->n++];
		l->address = addresses[i];
		l->remote = remote;
		l->config = config;
		if (config != NULL && config->target.host[0] == '\0')
			snprintf(l->target, sizeof(l->target), "127.0.0.1:%u",
			    config->target.port);
		else if (config != NULL)
			hostport_format(&config->target, l->target,
			    sizeof(l->target));
		if (open_one(server, l) < 0)
			return -1;
	}
	return 0;
}

int
listeners_open(struct server *server, struct listeners *ls)
{
	const struct config *c = server->config;
	size_t most = 1, i, j;

	for (i = 0; i < server->nworkers; i++)
		server->workers[i].accept_again.expired = on_accept_again;
	for (i = 0; i < c->nremotes; i++)
		most += c->remotes[i].nlisteners;
	ls->n = 0;
	ls->all = calloc(most * LISTENER_ADDRESSES, sizeof(*ls->all));
	if (ls->all == NULL)
		return -1;
	if (open_bind(server, ls, &c->bind, NULL, NULL) < 0)
		return -1;
	for (i = 0; i < c->nremotes; i++)
		for (j = 0; j < c->remotes[i].nlisteners; j++)
			if (open_bind(server, ls,
				&c->remotes[i].listeners[j].bind,
				&c->remotes[i],
				&c->remotes[i].listeners[j]) < 0)
				return -1;
	return 0;
}

void
listeners_close(struct listeners *ls)
{
	free(ls->all);
	ls->all = NULL;
}

void
listeners_stop(struct worker *w)
{
	struct acceptor *a;

	timer_cancel(&worker_driver(w)->timers, &w->accept_again);
	while (!list_empty(&w->acceptors)) {
		a = container_of(w->acceptors.next, struct acceptor, node);
		list_remove(&a->node);
		loop_unwatch(&w->loop, &a->watch);
		close(a->watch.fd);
		free(a);
	}
}
