#include "remote-client/dial.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define DIAL_READ 16384

/* Let go of with tcp_finish(), so by itself; tcp_carrier_take() frees it. */
struct attempt {
	struct tcp tcp; /* first */
	struct dial *dial;
};

static struct driver *
driver_of(struct dial *d)
{
	return worker_driver(d->worker);
}

static void
tcp_gone(struct tcp *t)
{
	free(t);
}

void
dial_stop(struct dial *d)
{
	timer_cancel(&driver_of(d)->timers, &d->deadline);
	connector_cancel(&d->connector);
	if (d->tcp != NULL)
		tcp_finish(d->tcp, tcp_gone);
	d->tcp = NULL;
	handshake_close(&d->handshake);
	d->failure = NULL;
}

static void
fail(struct dial *d, const char *reason, enum dial_failure how)
{
	char text[512];

	/* The reason may lie in what is let go. */
	snprintf(text, sizeof(text), "%s", reason);
	dial_stop(d);
	d->events->failed(d, text, how);
}

/* Tell a failure at the end of this turn: the caller is in its midst. */
static void
fail_soon(struct dial *d, const char *reason)
{
	d->failure = reason;
	timer_set(&driver_of(d)->timers, &d->deadline, driver_of(d)->now);
}

void
dial_say(struct dial *d, const uint8_t *data, size_t len)
{
	ssize_t n = send(d->tcp->watch.fd, data, len, MSG_NOSIGNAL);

	/* On a fresh socket it fits. */
	if (n != (ssize_t)len)
		fail_soon(d,
		    n < 0 ? strerror(errno) : "the connection takes nothing");
}

/* The server broke the protocol; it is told so when it would understand. */
static void
broken(struct dial *d, const struct handshake_event *e)
{
	uint8_t buf[INS_ENCODE_MAX];
	size_t n;

	if (d->handshake.extended) {
		n = ins_end_encode(buf, sizeof(buf), (uint16_t)e->code, e->why);
		if (send(d->tcp->watch.fd, buf, n, MSG_NOSIGNAL) < 0)
			d->tcp->failed = true;
	}
	fail(d, e->why, DIAL_BROKEN);
}

/* What came of the handshake; false: nothing more is read. */
static bool
step(struct dial *d)
{
	struct handshake_event e;
	unsigned code;

	for (;;)
		switch (handshake_step(&d->handshake, &e)) {
		case HANDSHAKE_MORE:
			return true;
		case HANDSHAKE_HELLO:
			if (!d->events->hello(d, &e.hello))
				return false;
			break;
		case HANDSHAKE_REGISTERED:
			d->events->registered(d, &e.registered);
			return false;
		case HANDSHAKE_RESUMED:
			d->events->resumed(d, &e.resumed);
			return false;
		case HANDSHAKE_END:
			code = e.end.code;
			dial_stop(d);
			d->events->refused(d, code);
			return false;
		case HANDSHAKE_CLASSIC:
		case HANDSHAKE_REGISTER:
		case HANDSHAKE_RESUME:
		case HANDSHAKE_BAD:
			broken(d, &e);
			return false;
		}
}

static const char *
closed_reason(const struct dial *d)
{
	return d->handshake.answered ?
	    "closed in the handshake" :
	    "closed without an answer; if it is a classic proxy-server set "
	    "`dialect: classic`, else check `server`";
}

static void
on_tcp(struct tcp *t)
{
	struct dial *d = container_of(t, struct attempt, tcp)->dial;
	uint8_t *buf = driver_of(d)->scratch;
	ssize_t n;

	while (t->readable) {
		n = tcp_read(t, buf, DIAL_READ);
		if (n < 0 && errno == EAGAIN)
			return;
		if (n <= 0) {
			fail(d,
			    n == 0 || errno == ECONNRESET ? closed_reason(d) :
							    strerror(errno),
			    n == 0 && d->handshake.answered ? DIAL_CUT :
							      DIAL_FAILED);
			return;
		}
		if (handshake_add(&d->handshake, buf, (size_t)n) < 0) {
			fail(d, "out of memory", DIAL_FAILED);
			return;
		}
		if (!step(d))
			return;
	}
}

static void
on_deadline(struct timer *t)
{
	struct dial *d = container_of(t, struct dial, deadline);

	fail(d,
	    d->failure != NULL ?
		d->failure :
		d->handshake.answered ?
		"handshake not finished in time" :
		"no answer; if it is a classic proxy-server set "
		"`dialect: classic`, else check `server`",
	    DIAL_FAILED);
}

static struct tcp *
attempt_new(struct dial *d, int fd)
{
	struct attempt *a = calloc(1, sizeof(*a));
	int saved;

	if (a == NULL)
		return NULL;
	a->dial = d;
	if (tcp_open(&a->tcp, &d->worker->loop, fd, on_tcp) < 0) {
		saved = errno;
		free(a);
		errno = saved;
		return NULL;
	}
	return &a->tcp;
}

static void
on_connected(void *context, int fd, const struct address *address,
    const char *why)
{
	struct dial *d = context;

	(void)address;
	if (fd < 0) {
		fail(d, why, DIAL_FAILED);
		return;
	}
	d->tcp = attempt_new(d, fd);
	if (d->tcp == NULL) {
		why = strerror(errno);
		close(fd);
		fail(d, why, DIAL_FAILED);
		return;
	}
	handshake_init(&d->handshake, false, driver_of(d)->allocator);
	timer_set(&driver_of(d)->timers, &d->deadline,
	    driver_of(d)->now + d->worker->config->handshake_timeout * MS);
	d->events->connected(d);
}

void
dial_init(struct dial *d, struct worker *w, const struct dial_events *events)
{
	*d = (struct dial){.worker = w, .events = events};
	d->deadline.expired = on_deadline;
	handshake_init(&d->handshake, false, worker_driver(w)->allocator);
}

void
dial_start(struct dial *d, const struct hostport *server, uint64_t connect)
{
	hostport_format(server, d->text, sizeof(d->text));
	if (connector_start(&d->connector, &d->worker->loop,
		d->worker->client->servers, server, connect, on_connected,
		d) == 0)
		return;
	fail_soon(d, "too many names are being looked up");
}

struct carrier *
dial_take(struct dial *d)
{
	struct tcp *t = d->tcp;

	d->tcp = NULL;
	return tcp_carrier_take(t);
}

const uint8_t *
dial_rest(const struct dial *d, size_t *len)
{
	return handshake_rest(&d->handshake, len);
}
