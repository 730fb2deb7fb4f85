#include "proxy-server/visitor.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "proxy-server/registry.h"

/* Sessions come and go while it is on its way; it does not chase them for ever. */
#define MOVES_MAX 8

static bool
is_http(const struct visitor *v)
{
	return v->listener->type == CONFIG_HTTP;
}

static void
gone(struct socket_endpoint *s)
{
	struct visitor *v = container_of(s, struct visitor, socket);
	struct listener *l = v->listener;

	if (is_http(v))
		http_visitor_free(v);
	else
		free(v);
	listener_release(l);
}

/* Before there is a stream. */

/* Nobody finds it on its worker any more. */
static void
withdraw(struct visitor *v)
{
	struct search *s = v->search;

	timer_cancel(&worker_driver(v->worker)->timers, &s->deadline);
	list_remove(&s->node);
	if (list_empty(&s->waiting))
		return;
	list_remove(&s->waiting);
	atomic_fetch_sub(&v->worker->server->waiting, 1);
}

void
visitor_leave(struct visitor *v)
{
	withdraw(v);
	free(v->search);
	v->search = NULL;
}

void
visitor_refuse(struct visitor *v, enum ins_outcome outcome)
{
	visitor_leave(v);
	if (is_http(v))
		http_visitor_refuse(v, outcome);
	else
		socket_endpoint_close(&v->socket, true);
}

static void
on_early(struct tcp *t)
{
	struct visitor *v = container_of(t, struct visitor, socket.tcp);

	if (t->failed) {
		visitor_leave(v);
		socket_endpoint_close(&v->socket, false);
	}
}

static void
refuse_absent(struct visitor *v, const char *reason)
{
	const char *name = v->listener->remote;
	char peer[ADDRESS_TEXT_MAX];

	if (registry_log_absent(v->worker->server, name,
		worker_driver(v->worker)->now))
		log_event(LOG_WARN, "remote-absent", "remote", name, "visitor",
		    address_format(&v->peer, peer, sizeof(peer)), "reason",
		    reason, NULL);
	visitor_refuse(v, INS_NO_RESOURCES);
}

/* All say the same, so that most of a crowd is held back by the log. */
static void
refuse_removed(struct visitor *v)
{
	log_event(LOG_WARN, "remote-absent", "remote", v->listener->remote,
	    "reason", "no longer in the configuration", NULL);
	visitor_refuse(v, INS_NO_RESOURCES);
}

static void
on_deadline(struct timer *t)
{
	struct search *s = container_of(t, struct search, deadline);

	refuse_absent(s->visitor, "not registered within wait_for_remote");
}

static void
wait_for_remote(struct visitor *v)
{
	struct server *server = v->worker->server;
	const struct config *c = v->worker->config;
	struct driver *d = worker_driver(v->worker);
	struct search *s = v->search;

	if (!registry_knows(server, v->listener->remote)) {
		refuse_removed(v);
		return;
	}
	if (c->wait_for_remote == 0 || atomic_load(&server->draining)) {
		refuse_absent(v, "not registered");
		return;
	}
	if (atomic_fetch_add(&server->waiting, 1) >= c->max_waiting) {
		atomic_fetch_sub(&server->waiting, 1);
		refuse_absent(v,
		    "not registered, and max_waiting visitors "
		    "wait already");
		return;
	}
	list_append(&v->worker->waiting, &s->waiting);
	s->deadline.expired = on_deadline;
	timer_set(&d->timers, &s->deadline, d->now + c->wait_for_remote * MS);
}

static void
log_refused(const struct visitor *v, const char *reason)
{
	char peer[ADDRESS_TEXT_MAX];

	log_event(LOG_WARN, "visitor-refused", "visitor",
	    address_format(&v->peer, peer, sizeof(peer)), "listener",
	    v->listener->bind, "remote", v->listener->remote, "reason", reason,
	    NULL);
}

static void
log_opening(const struct visitor *v)
{
	char peer[ADDRESS_TEXT_MAX];
	struct log_line l;

	if (!log_begin(&l, LOG_DEBUG, "opening"))
		return;
	log_number(&l, "session", v->key.session);
	log_number(&l, "identity", v->key.identity);
	log_text(&l, "visitor", address_format(&v->peer, peer, sizeof(peer)));
	log_text(&l, "remote", v->listener->remote);
	log_text(&l, "target", v->listener->target_text);
	log_end(&l);
}

static struct ins_address
wire_address(const struct address *a)
{
	struct ins_address w = {.port = address_port(a)};

	if (a->sa.sa_family == AF_INET) {
		w.family = 4;
		memcpy(w.address, &a->in.sin_addr, 4);
	} else if (IN6_IS_ADDR_V4MAPPED(&a->in6.sin6_addr)) {
		w.family = 4;
		memcpy(w.address, &a->in6.sin6_addr.s6_addr[12], 4);
	} else {
		w.family = 6;
		memcpy(w.address, &a->in6.sin6_addr, 16);
	}
	return w;
}

/* Where it arrived. */
static struct ins_address
destination(const struct visitor *v)
{
	struct address local = {.len = sizeof(local.storage)};

	if (!address_is_any(&v->listener->address))
		return wire_address(&v->listener->address);
	if (getsockname(v->socket.tcp.watch.fd, &local.sa, &local.len) == 0)
		return wire_address(&local);
	return (struct ins_address){0};
}

/* Into the table of connections. */
static void
enter(struct visitor *v, uint64_t session, const struct stream *st)
{
	struct table *t = &v->worker->server->connections;
	struct hash *h;

	v->key.session = session;
	v->key.identity = stream_identity(st);
	v->connection.key = &v->key;
	v->connection.len = sizeof(v->key);
	h = table_lock(t, &v->key, sizeof(v->key));
	hash_insert(h, &v->connection);
	table_unlock(t, &v->key, sizeof(v->key));
}

static void
connect_to(struct visitor *v, struct session *session)
{
	const struct hostport *target = &v->listener->target;
	struct ins_open open = {
	    .class = (uint8_t)v->listener->class,
	    .weight = (uint8_t)v->listener->weight,
	    .form = target->host[0] == '\0' ? INS_FORM_PORT : INS_FORM_HOST,
	    .port = target->port,
	    .source = wire_address(&v->peer),
	    .destination = destination(v),
	};
	struct stream *st;

	open.host = (struct ins_bytes){(const uint8_t *)target->host,
	    strlen(target->host)};
	v->socket.endpoint.ops =
	    is_http(v) ? &http_visitor_ops : &socket_endpoint_ops;
	socket_endpoint_sync(&v->socket);
	if (is_http(v))
		v->socket.endpoint.readable = true;
	st = session_open(session, &open, &v->socket.endpoint, v);
	if (st == NULL && errno == ECONNRESET) {
		/* It is ending this very turn: wait for the next one. */
		if (list_empty(&v->search->waiting))
			wait_for_remote(v);
		return;
	}
	if (st == NULL) {
		log_refused(v,
		    errno == EPROTONOSUPPORT ?
			"a classic "
			"remote-client knows no targets on other hosts" :
			strerror(errno));
		visitor_refuse(v,
		    errno == EPROTONOSUPPORT ? INS_UNSUPPORTED :
					       INS_NO_RESOURCES);
		return;
	}
	visitor_leave(v);
	v->socket.tcp.notify =
	    is_http(v) ? http_visitor_ready : socket_endpoint_ready;
	enter(v, session_id(session), st);
	log_opening(v);
}

/* On the worker that it was moved to. */
static void
deliver_move(struct message *m)
{
	struct search *s = container_of(m, struct search, move);
	struct visitor *v = s->visitor;

	list_append(&v->worker->visitors, &s->node);
	v->socket.tcp.loop = &v->worker->loop;
	if (tcp_watch(&v->socket.tcp) < 0) {
		log_refused(v, strerror(errno));
		visitor_refuse(v, INS_NO_RESOURCES);
		return;
	}
	visitor_place(v);
}

static void
move_to(struct visitor *v, struct worker *w)
{
	struct search *s = v->search;

	withdraw(v);
	loop_unwatch(&v->worker->loop, &v->socket.tcp.watch);
	v->worker = w;
	s->moves++;
	s->move.deliver = deliver_move;
	loop_post(&w->loop, &s->move);
}

void
visitor_place(struct visitor *v)
{
	struct session *session;
	struct worker *other;

	registry_pick(v->worker, v->listener->remote, &session, &other);
	if (session != NULL)
		connect_to(v, session);
	else if (other != NULL && v->search->moves < MOVES_MAX)
		move_to(v, other);
	else if (list_empty(&v->search->waiting))
		wait_for_remote(v);
}

static struct visitor *
tcp_visitor_new(struct listener *l, const struct address *peer)
{
	struct visitor *v = calloc(1, sizeof(*v));

	if (v == NULL)
		return NULL;
	v->listener = l;
	v->peer = *peer;
	return v;
}

static struct search *
search_new(struct visitor *v)
{
	struct search *s = calloc(1, sizeof(*s));

	if (s == NULL)
		return NULL;
	s->visitor = v;
	list_init(&s->waiting);
	list_append(&v->worker->visitors, &s->node);
	return s;
}

static void
begin(struct visitor *v)
{
	if (is_http(v)) {
		http_visitor_expect(v);
		return;
	}
	/* What it has sent already goes with the open: try. */
	v->socket.tcp.readable = true;
	visitor_place(v);
}

void
visitor_accept(struct worker *w, struct listener *l, int fd,
    const struct address *peer)
{
	bool http = l->type == CONFIG_HTTP;
	struct visitor *v;
	int saved;

	v = http ? http_visitor_new(l, peer) : tcp_visitor_new(l, peer);
	if (v == NULL)
		goto err0;
	listener_hold(l);
	v->worker = w;
	v->socket.gone = gone;
	v->search = search_new(v);
	if (v->search == NULL)
		goto err1;
	if (tcp_open(&v->socket.tcp, &w->loop, fd,
		http ? http_visitor_early : on_early) < 0)
		goto err2;
	begin(v);
	return;

err2:
	saved = errno;
	visitor_leave(v);
	errno = saved;
err1:
	saved = errno;
	gone(&v->socket);
	errno = saved;
err0:
	log_event(LOG_WARN, "visitor-refused", "listener", l->bind, "reason",
	    strerror(errno), NULL);
	close(fd);
}

struct up_message {
	struct message message;
	struct worker *worker;
	char name[]; /* the remote itself may be gone by then */
};

static void
deliver_up(struct message *m)
{
	struct up_message *up = container_of(m, struct up_message, message);
	struct list ready, *i, *next;
	struct search *s;

	list_init(&ready);
	for (i = up->worker->waiting.next; i != &up->worker->waiting;
	     i = next) {
		next = i->next;
		s = container_of(i, struct search, waiting);
		if (strcmp(s->visitor->listener->remote, up->name) != 0)
			continue;
		/* Placed in the order of their arrival, each once. */
		s->moves = 0;
		list_remove(i);
		list_append(&ready, i);
	}
	while (!list_empty(&ready)) {
		i = ready.next;
		list_remove(i);
		list_append(&up->worker->waiting, i);
		visitor_place(container_of(i, struct search, waiting)->visitor);
	}
	free(up);
}

void
visitor_remote_up(struct server *server, const char *name)
{
	size_t size = strlen(name) + 1;
	struct up_message *up;
	unsigned i;

	for (i = 0; i < server->nworkers; i++) {
		/* Without a message its visitors wait for their deadline. */
		up = malloc(sizeof(*up) + size);
		if (up == NULL)
			continue;
		up->message.deliver = deliver_up;
		up->worker = &server->workers[i];
		memcpy(up->name, name, size);
		loop_post(&server->workers[i].loop, &up->message);
	}
}

void
visitor_refuse_unknown(struct worker *w)
{
	struct list *i, *next;
	struct visitor *v;

	for (i = w->waiting.next; i != &w->waiting; i = next) {
		next = i->next;
		v = container_of(i, struct search, waiting)->visitor;
		if (!registry_knows(w->server, v->listener->remote))
			refuse_removed(v);
	}
}

void
visitor_refuse_waiting(struct worker *w)
{
	while (!list_empty(&w->waiting))
		visitor_refuse(container_of(w->waiting.next, struct search,
				   waiting)
				   ->visitor,
		    INS_NO_RESOURCES);
}

static const char *
party_text(enum stream_party p)
{
	static const char *const t[] = {
	    [PARTY_NONE] = "nobody",
	    [PARTY_LOCAL] = "visitor",
	    [PARTY_PEER] = "application",
	    [PARTY_SESSION] = "session",
	};

	return t[p];
}

void
visitor_finished(const struct stream_report *r)
{
	struct visitor *v = r->user;
	struct table *t = &v->worker->server->connections;
	char peer[ADDRESS_TEXT_MAX];
	struct log_line l;

	hash_remove(table_lock(t, &v->key, sizeof(v->key)), &v->connection);
	table_unlock(t, &v->key, sizeof(v->key));
	if (!log_begin(&l, LOG_INFO, "stream"))
		return;
	log_text(&l, "visitor", address_format(&v->peer, peer, sizeof(peer)));
	log_text(&l, "listener", v->listener->bind);
	log_text(&l, "remote", v->listener->remote);
	log_text(&l, "target", v->listener->target_text);
	log_number(&l, "to_application", r->from_local);
	log_number(&l, "to_visitor", r->to_local);
	log_number(&l, "ms", r->duration / MS);
	log_text(&l, "ended_by", party_text(r->ended_by));
	log_text(&l, "why", r->why);
	log_end(&l);
}

void
visitor_end_all(struct worker *w)
{
	struct visitor *v;

	while (!list_empty(&w->visitors)) {
		v = container_of(w->visitors.next, struct search, node)
			->visitor;
		visitor_leave(v);
		socket_endpoint_close(&v->socket, true);
	}
}

/* For an upgrade in place. */

void
visitor_save(const struct visitor *v, struct image_writer *w)
{
	image_put_tag(w, "vist");
	image_put_bytes(w, &v->peer, sizeof(v->peer));
	image_put(w, v->socket.tcp.ended);
	image_put_fd(w, v->socket.tcp.watch.fd);
	if (is_http(v))
		http_visitor_save(v, w);
	image_put(w, v->search != NULL);
	if (v->search == NULL)
		return;
	image_put(w, !list_empty(&v->search->waiting));
	image_put(w, v->search->deadline.set ? v->search->deadline.at : 0);
}

static bool
load_search(struct visitor *v, struct image_reader *r)
{
	bool waiting = image_take_bool(r);
	uint64_t deadline = image_take(r, UINT64_MAX >> 2);
	struct timer *timer;

	v->search = search_new(v);
	if (v->search == NULL)
		return false;
	if (waiting) {
		list_append(&v->worker->waiting, &v->search->waiting);
		atomic_fetch_add(&v->worker->server->waiting, 1);
	} else if (is_http(v))
		http_visitor_expect(v);
	timer = &v->search->deadline;
	if (waiting)
		timer->expired = on_deadline;
	if (deadline != 0)
		timer_set(&worker_driver(v->worker)->timers, timer, deadline);
	v->socket.tcp.notify = is_http(v) ? http_visitor_early : on_early;
	return !r->failed;
}

struct visitor *
visitor_load(struct worker *worker, struct listener *l, struct image_reader *r)
{
	struct address peer;
	struct visitor *v;
	bool ended;
	int fd;

	image_take_tag(r, "vist");
	image_take_exact(r, &peer, sizeof(peer));
	ended = image_take_bool(r);
	fd = image_take_fd(r);
	if (r->failed)
		return NULL;
	v = l->type == CONFIG_HTTP ? http_visitor_load(l, &peer, r) :
				     tcp_visitor_new(l, &peer);
	if (v == NULL)
		return NULL;
	v->listener = listener_hold(l);
	v->worker = worker;
	v->socket.gone = gone;
	if (tcp_open(&v->socket.tcp, &worker->loop, fd, on_early) < 0)
		return NULL;
	v->socket.tcp.ended = ended;
	if (image_take_bool(r) && !load_search(v, r))
		return NULL;
	return v;
}

void
visitor_take_up(struct visitor *v, uint64_t session, struct stream *st)
{
	v->socket.endpoint.ops =
	    is_http(v) ? &http_visitor_ops : &socket_endpoint_ops;
	v->socket.tcp.notify =
	    is_http(v) ? http_visitor_ready : socket_endpoint_ready;
	stream_attach(st, &v->socket.endpoint, v);
	enter(v, session, st);
	if (is_http(v))
		http_visitor_revive(v);
}
