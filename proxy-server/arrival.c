#include "proxy-server/arrival.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "net/tcp.h"
#include "proxy-server/registry.h"
#include "proxy-server/tunnel.h"
#include "tunnel/handshake.h"

#define ARRIVAL_READ 16384

struct arrival {
	struct list node; /* worker->arrivals */
	struct worker *worker;
	struct tcp tcp;
	struct timer deadline;
	struct handshake handshake;
	struct message move; /* to the worker of its session */
	struct ins_resume resume; /* borrows from the handshake's bytes */
	uint8_t client_nonce[INS_NONCE_SIZE], server_nonce[INS_NONCE_SIZE];
	char peer[ADDRESS_TEXT_MAX];
};

static void
leave(struct arrival *a)
{
	list_remove(&a->node);
	timer_cancel(&worker_driver(a->worker)->timers, &a->deadline);
	handshake_close(&a->handshake);
}

static void
gone(struct tcp *t)
{
	free(container_of(t, struct arrival, tcp));
}

/* Tell the peer why, when it speaks the extended dialect; log it; close. */
static void
drop(struct arrival *a, enum ins_end_code code, const char *why)
{
	uint8_t buf[INS_ENCODE_MAX];
	size_t n;

	/* One that stands by asks again and again. */
	log_event(code == INS_END_NAME_IN_USE ? LOG_DEBUG : LOG_WARN,
	    "peer-dropped", "peer", a->peer, "reason", why, NULL);
	if (a->handshake.extended) {
		n = ins_end_encode(buf, sizeof(buf), (uint16_t)code, why);
		/* What does not fit is not said. */
		if (send(a->tcp.watch.fd, buf, n, MSG_NOSIGNAL) < 0)
			a->tcp.failed = true;
	}
	leave(a);
	tcp_finish(&a->tcp, gone);
}

static void
on_deadline(struct timer *t)
{
	struct arrival *a = container_of(t, struct arrival, deadline);

	drop(a, INS_END_TOO_SLOW,
	    a->handshake.answered ? "handshake not finished in time" :
				    "said nothing");
}

static bool
answer_hello(struct arrival *a, const struct ins_hello *theirs)
{
	struct server *server = a->worker->server;
	uint8_t buf[INS_ENCODE_MAX];
	struct ins_hello h = {
	    .version =
		theirs->version < INS_VERSION ? theirs->version : INS_VERSION,
	    .nonce = a->server_nonce,
	    .instance = server->instance,
	    .start = server->start,
	};
	size_t n;

	memcpy(a->client_nonce, theirs->nonce, INS_NONCE_SIZE);
	driver_random(worker_driver(a->worker), a->server_nonce,
	    INS_NONCE_SIZE);
	n = ins_hello_encode(buf, sizeof(buf), &h);
	if (send(a->tcp.watch.fd, buf, n, MSG_NOSIGNAL) == (ssize_t)n)
		return true;
	drop(a, INS_END_PROTOCOL, strerror(errno));
	return false;
}

/* Refused where it is: watched again, so that what it is told arrives. */
static void
refuse(struct arrival *a, unsigned code)
{
	if (tcp_watch(&a->tcp) < 0)
		a->tcp.failed = true;
	drop(a, code, ins_end_text(code));
}

static void
claim(struct arrival *a, const struct claim *c)
{
	const uint8_t *rest;
	struct tunnel *t;
	unsigned refused;
	size_t nrest;

	rest = handshake_rest(&a->handshake, &nrest);
	t = tunnel_new(a->worker->server, a->tcp.watch.fd, a->peer, rest,
	    nrest);
	if (t == NULL) {
		drop(a, INS_END_NO_RESOURCES, "out of memory");
		return;
	}
	driver_random(worker_driver(a->worker), t->secret, sizeof(t->secret));
	/* Its worker watches the socket from here on. */
	loop_unwatch(&a->worker->loop, &a->tcp.watch);
	refused = registry_claim(a->worker, c, t);
	if (refused == 0) {
		leave(a);
		free(a);
		return;
	}
	tunnel_free(t);
	refuse(a, refused);
}

/* On the worker of the session. */
static void
deliver_resume(struct message *m)
{
	struct arrival *a = container_of(m, struct arrival, move);
	struct tunnel *t = tunnel_find(a->worker, a->resume.session);
	struct comeback c = {
	    .resume = &a->resume,
	    .client_nonce = a->client_nonce,
	    .server_nonce = a->server_nonce,
	    .fd = a->tcp.watch.fd,
	    .peer = a->peer,
	};
	unsigned refused = INS_END_UNKNOWN_SESSION;

	list_append(&a->worker->arrivals, &a->node);
	a->tcp.loop = &a->worker->loop;
	c.rest = handshake_rest(&a->handshake, &c.nrest);
	if (t != NULL)
		refused = tunnel_resume(t, &c);
	if (refused != 0) {
		refuse(a, refused);
		return;
	}
	leave(a);
	free(a);
}

static void
resume(struct arrival *a, const struct ins_resume *m)
{
	struct worker *w = registry_locate(a->worker->server, m);

	if (w == NULL) {
		drop(a, INS_END_UNKNOWN_SESSION,
		    ins_end_text(INS_END_UNKNOWN_SESSION));
		return;
	}
	a->resume = *m;
	timer_cancel(&worker_driver(a->worker)->timers, &a->deadline);
	list_remove(&a->node);
	loop_unwatch(&a->worker->loop, &a->tcp.watch);
	a->worker = w;
	a->move.deliver = deliver_resume;
	loop_post(&w->loop, &a->move);
}

/* What came of the handshake; false: the arrival is gone. */
static bool
step(struct arrival *a)
{
	struct handshake_event e;
	struct claim c = {0};

	for (;;)
		switch (handshake_step(&a->handshake, &e)) {
		case HANDSHAKE_MORE:
			return true;
		case HANDSHAKE_HELLO:
			if (!answer_hello(a, &e.hello))
				return false;
			break;
		case HANDSHAKE_CLASSIC:
			c.name = e.name;
			c.classic = true;
			claim(a, &c);
			return false;
		case HANDSHAKE_REGISTER:
			c.name = e.registration.name;
			c.registration = &e.registration;
			claim(a, &c);
			return false;
		case HANDSHAKE_RESUME:
			resume(a, &e.resume);
			return false;
		case HANDSHAKE_END:
			drop(a, INS_END_PROTOCOL, "the peer gave up");
			return false;
		case HANDSHAKE_REGISTERED:
		case HANDSHAKE_RESUMED:
		case HANDSHAKE_BAD:
			drop(a, e.code, e.why);
			return false;
		}
}

static void
on_tcp(struct tcp *t)
{
	struct arrival *a = container_of(t, struct arrival, tcp);
	uint8_t *buf = worker_driver(a->worker)->scratch;
	ssize_t n;

	while (t->readable) {
		n = tcp_read(t, buf, ARRIVAL_READ);
		if (n < 0 && errno == EAGAIN)
			return;
		if (n <= 0) {
			drop(a, INS_END_PROTOCOL,
			    n == 0 ? "closed in the handshake" :
				     strerror(errno));
			return;
		}
		if (handshake_add(&a->handshake, buf, (size_t)n) < 0) {
			drop(a, INS_END_NO_RESOURCES, "out of memory");
			return;
		}
		if (!step(a))
			return;
	}
}

void
arrival_accept(struct worker *w, int fd, const struct address *peer)
{
	struct arrival *a = calloc(1, sizeof(*a));

	if (a == NULL)
		goto err0;
	if (tcp_open(&a->tcp, &w->loop, fd, on_tcp) < 0)
		goto err1;
	a->worker = w;
	address_format(peer, a->peer, sizeof(a->peer));
	handshake_init(&a->handshake, true, worker_driver(w)->allocator);
	a->deadline.expired = on_deadline;
	timer_set(&worker_driver(w)->timers, &a->deadline,
	    worker_driver(w)->now + w->config->handshake_timeout * MS);
	list_append(&w->arrivals, &a->node);
	return;

err1:
	free(a);
err0:
	log_event(LOG_WARN, "peer-dropped", "reason", strerror(errno), NULL);
	close(fd);
}

void
arrival_end_all(struct worker *w)
{
	struct arrival *a;

	while (!list_empty(&w->arrivals)) {
		a = container_of(w->arrivals.next, struct arrival, node);
		leave(a);
		tcp_close(&a->tcp, false);
		free(a);
	}
}

void
arrival_save_all(const struct worker *w, struct image_writer *image)
{
	const struct arrival *a;
	const struct list *i;

	for (i = w->arrivals.next; i != &w->arrivals; i = i->next) {
		a = container_of(i, struct arrival, node);
		image_put(image, 1);
		image_put(image, a->deadline.at);
		image_put_text(image, a->peer);
		image_put_bytes(image, a->client_nonce, INS_NONCE_SIZE);
		image_put_bytes(image, a->server_nonce, INS_NONCE_SIZE);
		handshake_save(&a->handshake, image);
		image_put_fd(image, a->tcp.watch.fd);
	}
	image_put(image, 0);
}

static bool
load_fields(struct arrival *a, struct image_reader *r)
{
	image_take_text(r, a->peer, sizeof(a->peer));
	image_take_exact(r, a->client_nonce, INS_NONCE_SIZE);
	image_take_exact(r, a->server_nonce, INS_NONCE_SIZE);
	return handshake_load(&a->handshake, r);
}

static bool
load_one(struct worker *w, struct image_reader *r)
{
	uint64_t deadline = image_take(r, UINT64_MAX >> 2);
	struct arrival *a = calloc(1, sizeof(*a));
	int fd;

	if (a == NULL)
		return false;
	handshake_init(&a->handshake, true, worker_driver(w)->allocator);
	if (!load_fields(a, r))
		goto fail;
	fd = image_take_fd(r);
	if (fd < 0 || tcp_open(&a->tcp, &w->loop, fd, on_tcp) < 0)
		goto fail;
	a->worker = w;
	a->deadline.expired = on_deadline;
	timer_set(&worker_driver(w)->timers, &a->deadline, deadline);
	list_append(&w->arrivals, &a->node);
	return true;

fail:
	handshake_close(&a->handshake);
	free(a);
	return false;
}

bool
arrival_load_all(struct worker *w, struct image_reader *r)
{
	while (image_take_bool(r))
		if (!load_one(w, r))
			return false;
	return !r->failed;
}
