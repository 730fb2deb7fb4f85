#include "remote-client/application.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "remote-client/dial.h"
#include "tunnel/socket_endpoint.h"

struct application {
	struct socket_endpoint socket;
	struct worker *worker;
	struct timer deadline; /* of connecting */
	struct lookup *lookup; /* NULL: none runs */
	struct address *addresses; /* to try; NULL once connected */
	size_t naddresses, next;
	enum ins_outcome outcome; /* of the last that was tried */
	struct ins_address source;
	char target[HOSTPORT_TEXT_MAX];
	uint64_t session; /* its id, for the log */
};

static void
stop_connecting(struct application *a)
{
	timer_cancel(&worker_driver(a->worker)->timers, &a->deadline);
	if (a->lookup != NULL)
		lookup_cancel(a->lookup);
	a->lookup = NULL;
	free(a->addresses);
	a->addresses = NULL;
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
note_error(struct application *a, int error)
{
	if (a->outcome == INS_NOT_ALLOWED ||
	    (error != EADDRNOTAVAIL && error != EAFNOSUPPORT &&
		error != ENETUNREACH))
		a->outcome = outcome_of(error);
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
	fail(container_of(t, struct application, deadline), INS_TIMED_OUT,
	    "no answer within connect_timeout");
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

static void
on_connecting(struct tcp *t)
{
	struct application *a = container_of(t, struct application, socket.tcp);
	int error;

	if (!t->writable && !t->failed)
		return;
	error = tcp_error(t);
	if (error == 0 && !t->failed) {
		stop_connecting(a);
		t->notify = socket_endpoint_ready;
		socket_endpoint_sync(&a->socket);
		log_step(a, "connected", a->socket.endpoint.stream);
		stream_answer(a->socket.endpoint.stream, INS_CONNECTED, NULL);
		return;
	}
	note_error(a, error);
	tcp_close(t, false);
	try_next(a);
}

static int
try_address(struct application *a, const struct address *address)
{
	int fd = address_connect(address);

	if (fd < 0)
		return -1;
	if (tcp_open(&a->socket.tcp, &a->worker->loop, fd, on_connecting) < 0) {
		int saved = errno;

		tcp_close(&a->socket.tcp, false);
		errno = saved;
		return -1;
	}
	return 0;
}

static void
try_next(struct application *a)
{
	const struct address *address;

	while (a->next < a->naddresses) {
		address = &a->addresses[a->next++];
		/* Each one by itself: a name may stand for many addresses. */
		if (!allowed(a->worker->client->config, address))
			continue;
		if (try_address(a, address) == 0)
			return;
		note_error(a, errno);
	}
	if (a->outcome == INS_NOT_ALLOWED)
		log_event(LOG_WARN, "target-denied", "target", a->target,
		    "reason", "allow_targets does not permit it", NULL);
	fail(a, a->outcome, NULL);
}

static void
on_resolved(void *context, const struct address *addresses, size_t n,
    const char *why)
{
	struct application *a = context;

	a->lookup = NULL;
	if (n == 0) {
		fail(a, INS_NAME_NOT_FOUND, why);
		return;
	}
	a->addresses = malloc(n * sizeof(*addresses));
	if (a->addresses == NULL) {
		fail(a, INS_NO_RESOURCES, NULL);
		return;
	}
	memcpy(a->addresses, addresses, n * sizeof(*addresses));
	a->naddresses = n;
	try_next(a);
}

/* The addresses of the target, where they need no looking up. */
static size_t
known_addresses(const struct ins_open *open, const char *host,
    struct address out[2])
{
	if (open->form == INS_FORM_PORT) {
		out[0] = address_loopback(AF_INET, open->port);
		out[1] = address_loopback(AF_INET6, open->port);
		return 2;
	}
	return address_numeric(host, open->port, &out[0]) ? 1 : 0;
}

static void
start(struct application *a, const struct ins_open *open)
{
	struct driver *d = worker_driver(a->worker);
	struct hostport target = {.port = open->port};
	struct address known[2];
	size_t n;

	if (open->form == INS_FORM_HOST)
		memcpy(target.host, open->host.data, open->host.len);
	if (target.host[0] == '\0')
		snprintf(a->target, sizeof(a->target), "127.0.0.1:%u",
		    open->port);
	else
		hostport_format(&target, a->target, sizeof(a->target));
	log_step(a, "opening", a->socket.endpoint.stream);
	a->deadline.expired = on_deadline;
	timer_set(&d->timers, &a->deadline,
	    d->now + a->worker->client->config->connect_timeout * MS);
	n = known_addresses(open, target.host, known);
	if (n > 0) {
		on_resolved(a, known, n, NULL);
		return;
	}
	a->lookup = resolver_start(a->worker->client->names, &a->worker->loop,
	    target.host, target.port, on_resolved, a);
	if (a->lookup == NULL)
		fail(a, INS_NO_RESOURCES, NULL);
}

void
application_open(struct session *s, struct stream *st,
    const struct ins_open *open)
{
	struct application *a = calloc(1, sizeof(*a));

	if (a == NULL) {
		stream_answer(st, INS_NO_RESOURCES, NULL);
		return;
	}
	a->socket.endpoint.ops = &socket_endpoint_ops;
	a->socket.gone = gone;
	a->worker = dial_worker(session_owner(s));
	a->socket.tcp.watch.fd = -1;
	a->outcome = INS_NOT_ALLOWED;
	a->source = open->source;
	a->session = session_id(s);
	stream_attach(st, &a->socket.endpoint, a);
	start(a, open);
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
