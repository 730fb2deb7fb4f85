/* The application: echo, source and sink, by each connection's request. */
#include "bench/load/serve.h"

#include <sys/epoll.h>
#include <sys/socket.h>

#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench/load/base.h"

enum { EVENTS = 64, ECHO_READ = 65536, BACKLOG = 16384, TICK_MS = 20 };

struct connection {
	int fd;
	uint32_t watched;
	struct request request;
	size_t have; /* bytes of the request */
	uint64_t pos;
	/* A sink's reports. */
	uint64_t reported_ns;
	struct connection *next, **link;
	/* An echo that the visitor did not take yet. */
	uint8_t *rest;
	size_t rest_len;
};

static int poller;
static struct connection *sinks;
static uint64_t now;

static void
watch(struct connection *c, uint32_t events)
{
	struct epoll_event event = {.events = events, .data.ptr = c};

	if (c->watched == events)
		return;
	if (epoll_ctl(poller, c->watched == 0 ? EPOLL_CTL_ADD : EPOLL_CTL_MOD,
		c->fd, &event) < 0)
		base_die("epoll_ctl: %s", strerror(errno));
	c->watched = events;
}

static void
connection_end(struct connection *c)
{
	if (c->link != NULL) {
		*c->link = c->next;
		if (c->next != NULL)
			c->next->link = c->link;
	}
	close(c->fd);
	free(c->rest);
	free(c);
}

/* Each returns false when the connection is over. */

static bool
echo_flush(struct connection *c)
{
	ssize_t n = send(c->fd, c->rest, c->rest_len, MSG_NOSIGNAL);

	if (n < 0)
		return errno == EAGAIN;
	c->rest_len -= (size_t)n;
	memmove(c->rest, c->rest + n, c->rest_len);
	if (c->rest_len > 0)
		return true;
	free(c->rest);
	c->rest = NULL;
	watch(c, EPOLLIN);
	return true;
}

static bool
echo_bytes(struct connection *c, const uint8_t *bytes, size_t len)
{
	ssize_t n = send(c->fd, bytes, len, MSG_NOSIGNAL);

	if (n < 0 && errno != EAGAIN)
		return false;
	if (n < 0)
		n = 0;
	if ((size_t)n == len)
		return true;
	c->rest_len = len - (size_t)n;
	c->rest = malloc(c->rest_len);
	if (c->rest == NULL)
		base_die("no memory");
	memcpy(c->rest, bytes + n, c->rest_len);
	watch(c, EPOLLOUT);
	return true;
}

/*
 * A visitor that ends wants no more, and some tunnels make an end of file of
 * its reset: an endless source would go on for ever behind those.
 */
static bool
source_stopped(struct connection *c)
{
	struct linger linger = {.l_onoff = 1};

	setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
	return false;
}

static bool
source_step(struct connection *c, uint32_t events)
{
	uint64_t left =
	    c->request.amount == 0 ? UINT64_MAX : c->request.amount - c->pos;

	/* All is sent: only the visitor's end is waited for. */
	if (left == 0)
		return false;
	if (events & EPOLLRDHUP)
		return source_stopped(c);
	if (base_give(c->fd, &c->pos, left) < 0)
		return errno == EAGAIN;
	if (c->pos != c->request.amount)
		return true;
	shutdown(c->fd, SHUT_WR);
	watch(c, EPOLLIN);
	return true;
}

/* A visitor that does not read its reports loses some of them. */
static bool
sink_report(struct connection *c)
{
	struct report report = {.bytes = c->pos, .ns = base_now()};
	ssize_t n = send(c->fd, &report, sizeof(report), MSG_NOSIGNAL);

	c->reported_ns = now;
	return n == sizeof(report) || (n < 0 && errno == EAGAIN);
}

static bool
sink_due(const struct connection *c)
{
	return c->request.amount != 0 &&
	    now - c->reported_ns >= c->request.amount * 1000;
}

static bool
sink_step(struct connection *c)
{
	ssize_t n = base_take(c->fd, &c->pos);

	if (n < 0)
		return errno == EAGAIN;
	if (n == 0) {
		sink_report(c);
		return false;
	}
	return !sink_due(c) || sink_report(c);
}

static bool
begin(struct connection *c)
{
	switch (c->request.mode) {
	case MODE_ECHO:
		return true;
	case MODE_SOURCE:
		watch(c, EPOLLOUT | EPOLLRDHUP);
		return true;
	case MODE_SINK:
		c->reported_ns = now;
		c->next = sinks;
		c->link = &sinks;
		if (sinks != NULL)
			sinks->link = &c->next;
		sinks = c;
		return true;
	default:
		base_die("a request of unknown mode %u", c->request.mode);
	}
}

static bool
read_request(struct connection *c)
{
	ssize_t n = recv(c->fd, (char *)&c->request + c->have,
	    sizeof(c->request) - c->have, 0);

	if (n < 0)
		return errno == EAGAIN;
	c->have += (size_t)n;
	if (n == 0 || c->have < sizeof(c->request))
		return n != 0;
	return begin(c);
}

/* An echo's request comes together with what it is to echo. */
static bool
echo_step(struct connection *c)
{
	static uint8_t buf[ECHO_READ];
	ssize_t n;

	if (c->rest != NULL)
		return echo_flush(c);
	n = recv(c->fd, buf, sizeof(buf), 0);
	if (n <= 0)
		return n < 0 && errno == EAGAIN;
	return echo_bytes(c, buf, (size_t)n);
}

static bool
step(struct connection *c, uint32_t events)
{
	if (c->have < sizeof(c->request)) {
		if (!read_request(c))
			return false;
		/* What is there besides is reported again. */
		if (c->have < sizeof(c->request) ||
		    c->request.mode == MODE_SOURCE)
			return true;
	}
	switch (c->request.mode) {
	case MODE_SOURCE:
		return source_step(c, events);
	case MODE_SINK:
		return sink_step(c);
	default:
		return echo_step(c);
	}
}

static void
accept_all(int listener)
{
	int on = 1, fd;

	while ((fd = accept4(listener, NULL, NULL,
		    SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
		struct connection *c = calloc(1, sizeof(*c));

		if (c == NULL)
			base_die("no memory");
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
		c->fd = fd;
		watch(c, EPOLLIN);
	}
	if (errno != EAGAIN && errno != ECONNABORTED)
		base_die("accept: %s", strerror(errno));
}

/* Sinks that nothing came for have to report as well. */
static void
tick(void)
{
	static uint64_t last;
	struct connection *c, *next;

	if (now - last < TICK_MS * 1000000u)
		return;
	last = now;
	for (c = sinks; c != NULL; c = next) {
		next = c->next;
		if (sink_due(c) && !sink_report(c))
			connection_end(c);
	}
}

static int
listen_on(const char *port)
{
	struct sockaddr_in at = {.sin_family = AF_INET,
	    .sin_port = htons((uint16_t)atoi(port))};
	struct epoll_event event = {.events = EPOLLIN};
	socklen_t len = sizeof(at);
	int on = 1, fd;

	fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		base_die("socket: %s", strerror(errno));
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (bind(fd, (struct sockaddr *)&at, sizeof(at)) < 0 ||
	    listen(fd, BACKLOG) < 0 ||
	    getsockname(fd, (struct sockaddr *)&at, &len) < 0 ||
	    epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event) < 0)
		base_die("port %s: %s", port, strerror(errno));
	printf("ready %u\n", ntohs(at.sin_port));
	fflush(stdout);
	return fd;
}

_Noreturn void
serve_run(const char *port)
{
	struct epoll_event events[EVENTS];
	int listener, n;

	poller = epoll_create1(EPOLL_CLOEXEC);
	listener = listen_on(port);
	for (;;) {
		n = epoll_wait(poller, events, EVENTS,
		    sinks != NULL ? TICK_MS : -1);
		now = base_now();
		for (int i = 0; i < n; i++) {
			struct connection *c = events[i].data.ptr;

			if (c == NULL)
				accept_all(listener);
			else if (!step(c, events[i].events))
				connection_end(c);
		}
		tick();
	}
}
