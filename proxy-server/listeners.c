#include "proxy-server/listeners.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/daemon.h"
#include "base/log.h"

/* An address of the new configuration. */
struct wanted {
	struct address asked;
	struct listener *listener; /* NULL: it has its binding */
};

/* A change that is being prepared. */
struct plan {
	struct server *server;
	struct listeners *listeners;
	struct wanted *wanted;
	size_t n;
	atomic_bool failed;
};

static struct binding *
binding_of(struct list *node)
{
	return container_of(node, struct binding, node);
}

static int
fail(const struct plan *p, const char *bind, const char *reason)
{
	log_event(LOG_ERROR,
	    list_empty(&p->listeners->bound) ? "cannot-listen" :
					       "reload-failed",
	    "bind", bind, "reason", reason, NULL);
	return -1;
}

static int
fail_at(const struct plan *p, const struct address *a, const char *reason)
{
	char text[ADDRESS_TEXT_MAX];

	return fail(p, address_format(a, text, sizeof(text)), reason);
}

/* What is wanted. */

/* An entry for each address that bind stands for. */
static int
want(struct plan *p, const struct hostport *bind,
    const struct config_remote *remote, const struct config_listener *config)
{
	struct address addresses[LISTENER_ADDRESSES];
	const char *error = "no address";
	char text[HOSTPORT_TEXT_MAX];
	struct listener *l;
	int n, i;

	hostport_format(bind, text, sizeof(text));
	n = address_to_bind(bind, addresses, LISTENER_ADDRESSES, &error);
	if (n <= 0)
		return fail(p, text, error);
	for (i = 0; i < n; i++) {
		l = listener_new(remote, config);
		if (l == NULL)
			return fail(p, text, strerror(ENOMEM));
		p->wanted[p->n].asked = addresses[i];
		p->wanted[p->n].listener = l;
		p->n++;
	}
	return 0;
}

static int
want_all(struct plan *p, const struct config *c)
{
	size_t most = 1, i, j;

	for (i = 0; i < c->nremotes; i++)
		most += c->remotes[i].nlisteners;
	p->wanted = calloc(most * LISTENER_ADDRESSES, sizeof(*p->wanted));
	if (p->wanted == NULL)
		return fail(p, "everything", strerror(ENOMEM));
	if (want(p, &c->bind, NULL, NULL) < 0)
		return -1;
	for (i = 0; i < c->nremotes; i++)
		for (j = 0; j < c->remotes[i].nlisteners; j++)
			if (want(p, &c->remotes[i].listeners[j].bind,
				&c->remotes[i],
				&c->remotes[i].listeners[j]) < 0)
				return -1;
	return 0;
}

/*
 * Our own sockets would not keep each other from an address: SO_REUSEPORT.
 * Half of the visitors would get what the file has for the other half.
 */
static int
check_overlaps(const struct plan *p)
{
	char other[ADDRESS_TEXT_MAX], why[128];
	size_t i, j;

	for (i = 0; i < p->n; i++)
		for (j = 0; j < i; j++) {
			if (!address_overlap(&p->wanted[i].asked,
				&p->wanted[j].asked))
				continue;
			snprintf(why, sizeof(why),
			    "%s of the same file is in its way",
			    address_format(&p->wanted[j].asked, other,
				sizeof(other)));
			return fail_at(p, &p->wanted[i].asked, why);
		}
	return 0;
}

/* Which of the bindings that are there serve. */

static bool
is_the_same(const struct binding *b, const struct wanted *w)
{
	return address_equal(&b->asked, &w->asked) &&
	    listener_same(b->listener, w->listener);
}

static bool
is_asked(const struct binding *b, const struct wanted *w)
{
	return address_equal(&b->asked, &w->asked);
}

/* A port that the kernel chose, and that is in the file now. */
static bool
is_there(const struct binding *b, const struct wanted *w)
{
	return address_equal(&b->address, &w->asked);
}

/* What has not changed stays as it is; else the binding gets a new listener. */
static void
serve_with(struct binding *b, struct wanted *w)
{
	b->asked = w->asked;
	b->next = w->listener;
	w->listener = NULL;
	if (listener_same(b->listener, b->next)) {
		listener_release(b->next);
		b->next = listener_hold(b->listener);
	} else
		listener_set_address(b->next, &b->address);
}

static void
match(struct plan *p,
    bool (*fits)(const struct binding *, const struct wanted *))
{
	struct list *bound = &p->listeners->bound, *i;
	struct binding *b;
	size_t k;

	for (k = 0; k < p->n; k++) {
		if (p->wanted[k].listener == NULL)
			continue;
		for (i = bound->next; i != bound; i = i->next) {
			b = binding_of(i);
			if (b->next != NULL || !fits(b, &p->wanted[k]))
				continue;
			serve_with(b, &p->wanted[k]);
			break;
		}
	}
}

static int
add_bindings(struct plan *p)
{
	struct binding *b;
	size_t k;

	for (k = 0; k < p->n; k++) {
		if (p->wanted[k].listener == NULL)
			continue;
		b = binding_new(&p->wanted[k].asked, p->wanted[k].listener);
		if (b == NULL)
			return fail_at(p, &p->wanted[k].asked,
			    strerror(ENOMEM));
		p->wanted[k].listener = NULL;
		list_append(&p->listeners->added, &b->node);
	}
	return 0;
}

/* Sockets. */

/* Then nobody else can have it, and looking would find ourselves. */
static bool
is_held(const struct listeners *ls, const struct address *a)
{
	const struct list *i;

	for (i = ls->bound.next; i != &ls->bound; i = i->next)
		if (address_overlap(&container_of(i, struct binding, node)
					 ->address,
			a))
			return true;
	return inherited_overlap(&ls->inherited, a);
}

static int
open_one(const struct plan *p, struct binding *b)
{
	struct listeners *ls = p->listeners;

	if (binding_open(b, p->server, &ls->inherited,
		is_held(ls, &b->address)) == 0)
		return 0;
	return fail_at(p, &b->address,
	    errno == EADDRINUSE ?
		"another program listens there; is a proxy-server running?" :
		strerror(errno));
}

/* Ports that we choose first, or the kernel might choose one of them. */
static int
open_added(const struct plan *p)
{
	struct list *added = &p->listeners->added, *i;
	int any;

	for (any = 0; any <= 1; any++)
		for (i = added->next; i != added; i = i->next)
			if ((address_port(&binding_of(i)->asked) == 0) == any &&
			    open_one(p, binding_of(i)) < 0)
				return -1;
	return 0;
}

/* On every worker. */

static void
watch_added(void *context, unsigned worker)
{
	struct plan *p = context;
	struct list *added = &p->listeners->added, *i;
	struct binding *b;
	size_t k;

	for (i = added->next; i != added; i = i->next) {
		b = binding_of(i);
		for (k = 0; k < b->nacceptors; k++)
			if (b->acceptors[k].worker->index == worker &&
			    acceptor_watch(&b->acceptors[k]) < 0)
				atomic_store(&p->failed, true);
	}
}

static void
close_added(void *context, unsigned worker)
{
	struct listeners *ls = context;
	struct binding *b;
	struct list *i;
	size_t k;

	for (i = ls->added.next; i != &ls->added; i = i->next) {
		b = binding_of(i);
		for (k = 0; k < b->nacceptors; k++)
			if (b->acceptors[k].worker->index == worker)
				acceptor_close(&b->acceptors[k]);
	}
}

static void
switch_acceptor(const struct binding *b, struct acceptor *a)
{
	if (b->next == NULL)
		acceptor_end(a);
	else if (b->listener == NULL)
		acceptor_begin(a, b->next);
	else
		a->listener = b->next;
}

static void
switch_list(struct list *list, const struct worker *w)
{
	struct binding *b;
	struct list *i;
	size_t k;

	for (i = list->next; i != list; i = i->next) {
		b = binding_of(i);
		for (k = 0; k < b->nacceptors; k++)
			if (b->acceptors[k].worker == w)
				switch_acceptor(b, &b->acceptors[k]);
	}
}

void
listeners_switch(struct listeners *ls, struct worker *w)
{
	switch_list(&ls->bound, w);
	switch_list(&ls->added, w);
}

/* The whole. */

static int
prepare(struct plan *p, const struct config *config)
{
	if (want_all(p, config) < 0 || check_overlaps(p) < 0)
		return -1;
	/* Many may have asked for any port: those that stay come first. */
	match(p, is_the_same);
	match(p, is_asked);
	match(p, is_there);
	if (add_bindings(p) < 0 || open_added(p) < 0)
		return -1;
	crew_run(&p->server->crew, watch_added, p);
	if (atomic_load(&p->failed))
		return fail(p, "everything", strerror(ENOMEM));
	return 0;
}

int
listeners_prepare(struct server *server, struct listeners *ls,
    const struct config *config)
{
	struct plan p = {.server = server, .listeners = ls};
	int result;
	size_t i;

	result = prepare(&p, config);
	for (i = 0; i < p.n; i++)
		listener_release(p.wanted[i].listener);
	free(p.wanted);
	if (result < 0)
		listeners_abandon(server, ls);
	return result;
}

static void
settle_bound(struct binding *b, struct listeners_change *change)
{
	if (b->next == NULL) {
		change->removed++;
		listener_log("listener-removed", b->listener);
		binding_free(b);
		return;
	}
	if (b->next != b->listener) {
		change->changed++;
		listener_log("listener-changed", b->next);
	}
	listener_release(b->listener);
	b->listener = b->next;
	b->next = NULL;
}

struct listeners_change
listeners_settle(struct listeners *ls)
{
	struct listeners_change change = {0};
	struct list *i, *next;
	struct binding *b;

	for (i = ls->bound.next; i != &ls->bound; i = next) {
		next = i->next;
		settle_bound(binding_of(i), &change);
	}
	for (i = ls->added.next; i != &ls->added; i = i->next) {
		b = binding_of(i);
		b->listener = b->next;
		b->next = NULL;
		change.added++;
		listener_log("listening", b->listener);
	}
	list_take(&ls->bound, &ls->added);
	return change;
}

void
listeners_abandon(struct server *server, struct listeners *ls)
{
	struct list *i;

	crew_run(&server->crew, close_added, ls);
	while (!list_empty(&ls->added))
		binding_free(binding_of(ls->added.next));
	for (i = ls->bound.next; i != &ls->bound; i = i->next) {
		listener_release(binding_of(i)->next);
		binding_of(i)->next = NULL;
	}
}

void
listeners_init(struct listeners *ls)
{
	list_init(&ls->bound);
	list_init(&ls->added);
	list_init(&ls->inherited);
}

void
listeners_close(struct listeners *ls)
{
	while (!list_empty(&ls->bound))
		binding_free(binding_of(ls->bound.next));
	inherited_close(&ls->inherited);
}

int
listeners_inherit(struct listeners *ls, const struct address *asked, int fd,
    struct listener *l)
{
	return inherited_add(&ls->inherited, asked, fd, l);
}

void
listeners_activated(struct listeners *ls)
{
	int first, n = daemon_activated(&first), fd;

	for (fd = first; fd < first + n; fd++) {
		fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
		if (listeners_inherit(ls, NULL, fd, NULL) == 0)
			continue;
		log_event(LOG_WARN, "socket-ignored", "reason", strerror(errno),
		    NULL);
		close(fd);
	}
}

void
listeners_listen(struct server *server, struct listeners *ls)
{
	const struct binding *b;
	const struct list *i;
	size_t k;

	for (i = ls->bound.next; i != &ls->bound; i = i->next) {
		b = container_of(i, struct binding, node);
		for (k = 0; k < b->nacceptors; k++)
			if (listen(b->acceptors[k].watch.fd, SOMAXCONN) < 0)
				log_event(LOG_ERROR, "cannot-listen", "bind",
				    b->listener->bind, "reason",
				    strerror(errno), NULL);
	}
	inherited_end(&ls->inherited, server);
}
