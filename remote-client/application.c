#include "remote-client/application.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/image.h"
#include "base/log.h"
#include "remote-client/tunnel.h"
#include "tunnel/socket_endpoint.h"

/* What it needs only until it is connected. */
struct connecting {
	struct application *application;
	struct timer deadline;
	struct lookup *lookup; /* NULL: none runs */
	enum ins_outcome outcome; /* of the last that was tried */
	struct hostport target;
	size_t naddresses, next;
	struct address addresses[]; /* to try */
};

struct application {
	struct socket_endpoint socket;
	struct worker *worker;
	struct connecting *connecting; /* NULL once connected */
	uint64_t session; /* its id, for the log */
	struct ins_address source;
	char target[];
};

static void
stop_connecting(struct application *a)
{
	struct connecting *c = a->connecting;

	if (c == NULL)
		return;
	timer_cancel(&worker_driver(a->worker)->timers, &c->deadline);
	if (c->lookup != NULL)
		lookup_cancel(c->lookup);
	free(c);
	a->connecting = NULL;
}

/* Also while it connects, or its name is looked up. */
static void
gone(struct socket_endpoint *s)
{
	struct application *a = container_of(s, struct application, socket);

	stop_connecting(a);
	free(a);
}

static void
log_step(const struct application *a, const char *event, struct stream *st)
{
	struct log_line l;

	if (!log_begin(&l, LOG_DEBUG, event))
		return;
	log_number(&l, "session", a->session);
	log_number(&l, "identity", stream_identity(st));
	log_text(&l, "target", a->target);
	log_end(&l);
}

/* Connecting. */

static enum ins_outcome
outcome_of(int error)
{
	switch (error) {
	case ECONNREFUSED:
		return INS_REFUSED;
	case ETIMEDOUT:
		return INS_TIMED_OUT;
	case ENETUNREACH:
	case EHOSTUNREACH:
	case ENETDOWN:
	case EHOSTDOWN:
	case EACCES:
	case EPERM:
		return INS_UNREACHABLE;
	case EADDRNOTAVAIL:
	case EMFILE:
	case ENFILE:
	case ENOBUFS:
	case ENOMEM:
		return INS_NO_RESOURCES;
	default:
		return INS_FAILED;
	}
}

/*
 * What the visitor is told is of the address that says most: that this
 * machine has no address of a family says nothing of the target.
 */
static void
note_error(struct connecting *c, int error)
{
	const struct address *tried = &c->addresses[c->next - 1];

	/* To an IPv4 address it says that no port of ours is left. */
	if (error == EADDRNOTAVAIL && tried->sa.sa_family == AF_INET)
		c->outcome = outcome_of(error);
	else if (c->outcome == INS_NOT_ALLOWED ||
	    (c->outcome != INS_NO_RESOURCES && error != EADDRNOTAVAIL &&
		error != EAFNOSUPPORT && error != ENETUNREACH))
		c->outcome = outcome_of(error);
}

static void
fail(struct application *a, enum ins_outcome outcome, const char *reason)
{
	stream_answer(a->socket.endpoint.stream, outcome, reason);
	socket_endpoint_close(&a->socket, false);
}

static void
on_deadline(struct timer *t)
{
	fail(container_of(t, struct connecting, deadline)->application,
	    INS_TIMED_OUT, "no answer within connect_timeout");
}

static bool
allowed(const struct config *c, const struct address *address)
{
	struct in6_addr canonical;
	uint16_t port;
	size_t i;

	if (!cidr_canonical(&address->sa, &canonical, &port))
		return false;
	for (i = 0; i < c->nallow_targets; i++)
		if (cidr_match(&c->allow_targets[i], &canonical, port))
			return true;
	return false;
}

static void
try_next(struct application *a);

/* May free a. */
static void
on_connected(struct application *a)
{
	stop_connecting(a);
	a->socket.tcp.notify = socket_endpoint_ready;
	socket_endpoint_sync(&a->socket);
	log_step(a, "connected", a->socket.endpoint.stream);
	stream_answer(a->socket.endpoint.stream, INS_CONNECTED, NULL);
}

static void
on_connecting(struct tcp *t)
{
	struct application *a = container_of(t, struct application, socket.tcp);
	int error;

	if (!t->writable && !t->failed)
		return;
	error = tcp_error(t);
	if (error == 0 && !t->failed) {
		on_connected(a);
		return;
	}
	note_error(a->connecting, error);
	tcp_close(t, false);
	try_next(a);
}

/* 0: it connects, or is connected, and a may be gone. */
static int
try_address(struct application *a, const struct address *address)
{
	bool connected;
	int fd = address_connect(address, &connected);

	if (fd < 0)
		return -1;
	if (tcp_open(&a->socket.tcp, &a->worker->loop, fd, on_connecting) < 0) {
		int saved = errno;

		tcp_close(&a->socket.tcp, false);
		errno = saved;
		return -1;
	}
	if (connected) {
		a->socket.tcp.writable = true;
		on_connected(a);
	}
	return 0;
}

static void
try_next(struct application *a)
{
	struct connecting *c = a->connecting;
	const struct address *address;

	while (c->next < c->naddresses) {
		address = &c->addresses[c->next++];
		/* Each one by itself: a name may stand for many addresses. */
		if (!allowed(a->worker->config, address))
			continue;
		if (try_address(a, address) == 0)
			return;
		note_error(c, errno);
	}
	if (c->outcome == INS_NOT_ALLOWED)
		log_event(LOG_WARN, "target-denied", "target", a->target,
		    "reason", "allow_targets does not permit it", NULL);
	fail(a, c->outcome, NULL);
}

static void
on_resolved(void *context, const struct address *addresses, size_t n,
    const char *why)
{
	struct application *a = context;
	struct connecting *c = a->connecting;

	c->lookup = NULL;
	if (n == 0) {
		fail(a, INS_NAME_NOT_FOUND, why);
		return;
	}
	memcpy(c->addresses, addresses, n * sizeof(*addresses));
	c->naddresses = n;
	try_next(a);
}

/* The addresses of the target, where they need no looking up. */
static size_t
known_addresses(const struct hostport *target, struct address out[2])
{
	if (target->host[0] == '\0') {
		out[0] = address_loopback(AF_INET, target->port);
		out[1] = address_loopback(AF_INET6, target->port);
		return 2;
	}
	return address_numeric(target->host, target->port, &out[0]) ? 1 : 0;
}

static void
start(struct application *a, const struct hostport *target)
{
	struct driver *d = worker_driver(a->worker);
	struct address known[2];
	struct connecting *c;
	size_t n;

	n = known_addresses(target, known);
	c = calloc(1,
	    sizeof(*c) +
		(n > 0 ? n : RESOLVER_ADDRESSES) * sizeof(c->addresses[0]));
	if (c == NULL) {
		fail(a, INS_NO_RESOURCES, NULL);
		return;
	}
	a->connecting = c;
	c->application = a;
	c->outcome = INS_NOT_ALLOWED;
	c->target = *target;
	c->deadline.expired = on_deadline;
	timer_set(&d->timers, &c->deadline,
	    d->now + a->worker->config->connect_timeout * MS);
	if (n > 0) {
		on_resolved(a, known, n, NULL);
		return;
	}
	c->lookup = resolver_start(a->worker->client->names, &a->worker->loop,
	    target->host, target->port, on_resolved, a);
	if (c->lookup == NULL)
		fail(a, INS_NO_RESOURCES, NULL);
}

static struct application *
bare(struct worker *w, const char *target)
{
	struct application *a = calloc(1, sizeof(*a) + strlen(target) + 1);

	if (a == NULL)
		return NULL;
	a->socket.endpoint.ops = &socket_endpoint_ops;
	a->socket.gone = gone;
	a->socket.tcp.watch.fd = -1;
	a->worker = w;
	strcpy(a->target, target);
	return a;
}

static struct application *
application_new(struct session *s, const struct ins_open *open,
    const struct hostport *target)
{
	char text[HOSTPORT_TEXT_MAX];
	struct application *a;

	if (target->host[0] == '\0')
		snprintf(text, sizeof(text), "127.0.0.1:%u", target->port);
	else
		hostport_format(target, text, sizeof(text));
	a = bare(tunnel_worker(session_owner(s)), text);
	if (a == NULL)
		return NULL;
	a->session = session_id(s);
	a->source = open->source;
	return a;
}

void
application_open(struct session *s, struct stream *st,
    const struct ins_open *open)
{
	struct hostport target = {.port = open->port};
	struct application *a;

	if (open->form == INS_FORM_HOST)
		memcpy(target.host, open->host.data, open->host.len);
	a = application_new(s, open, &target);
	if (a == NULL) {
		stream_answer(st, INS_NO_RESOURCES, NULL);
		return;
	}
	stream_attach(st, &a->socket.endpoint, a);
	log_step(a, "opening", st);
	start(a, &target);
}

static const char *
source_text(const struct ins_address *source, char *buf, size_t size)
{
	struct address a;

	if (source->family == 0)
		return "unknown";
	a = address_loopback(source->family == 4 ? AF_INET : AF_INET6,
	    source->port);
	if (source->family == 4)
		memcpy(&a.in.sin_addr, source->address, 4);
	else
		memcpy(&a.in6.sin6_addr, source->address, 16);
	return address_format(&a, buf, size);
}

static const char *
party_text(enum stream_party p)
{
	static const char *const t[] = {
	    [PARTY_NONE] = "nobody",
	    [PARTY_LOCAL] = "application",
	    [PARTY_PEER] = "visitor",
	    [PARTY_SESSION] = "session",
	};

	return t[p];
}

void
application_finished(struct session *s, const struct stream_report *r)
{
	struct application *a = r->user;
	char from[ADDRESS_TEXT_MAX];
	struct log_line l;

	(void)s;
	if (a == NULL || !log_begin(&l, LOG_INFO, "stream"))
		return;
	log_text(&l, "target", a->target);
	log_text(&l, "from", source_text(&a->source, from, sizeof(from)));
	log_number(&l, "to_application", r->to_local);
	log_number(&l, "to_visitor", r->from_local);
	log_number(&l, "ms", r->duration / MS);
	log_text(&l, "ended_by", party_text(r->ended_by));
	log_text(&l, "why", r->why);
	log_end(&l);
}

/* For an upgrade in place. */

void
application_save(const struct application *a, struct image_writer *w)
{
	const struct connecting *c = a->connecting;

	image_put_tag(w, "appl");
	image_put_text(w, a->target);
	image_put(w, a->session);
	image_put_bytes(w, &a->source, sizeof(a->source));
	image_put(w, c != NULL);
	if (c != NULL) {
		image_put_text(w, c->target.host);
		image_put(w, c->target.port);
		return;
	}
	image_put(w, a->socket.tcp.ended);
	image_put_fd(w, a->socket.tcp.watch.fd);
}

/* As soon as the loop runs. */
static void
on_restart(struct timer *t)
{
	struct connecting *c = container_of(t, struct connecting, deadline);
	struct application *a = c->application;
	struct hostport target = c->target;

	stop_connecting(a);
	start(a, &target);
}

static bool
load_connecting(struct application *a, struct image_reader *r)
{
	struct connecting *c = calloc(1, sizeof(*c));

	if (c == NULL)
		return false;
	a->connecting = c;
	c->application = a;
	image_take_text(r, c->target.host, sizeof(c->target.host));
	c->target.port = (uint16_t)image_take(r, UINT16_MAX);
	c->deadline.expired = on_restart;
	timer_set(&worker_driver(a->worker)->timers, &c->deadline,
	    worker_driver(a->worker)->now);
	return !r->failed;
}

static bool
load_connected(struct application *a, struct image_reader *r)
{
	bool ended = image_take_bool(r);
	int fd = image_take_fd(r);

	if (fd < 0 ||
	    tcp_open(&a->socket.tcp, &a->worker->loop, fd,
		socket_endpoint_ready) < 0)
		return false;
	a->socket.tcp.ended = ended;
	return true;
}

bool
application_load(struct worker *w, struct stream *st, struct image_reader *r)
{
	char target[HOSTPORT_TEXT_MAX];
	struct application *a;

	image_take_tag(r, "appl");
	image_take_text(r, target, sizeof(target));
	a = r->failed ? NULL : bare(w, target);
	if (a == NULL)
		return false;
	a->session = image_take(r, UINT64_MAX);
	image_take_exact(r, &a->source, sizeof(a->source));
	if (image_take_bool(r) ? !load_connecting(a, r) : !load_connected(a, r))
		return false;
	stream_attach(st, &a->socket.endpoint, a);
	return true;
}
