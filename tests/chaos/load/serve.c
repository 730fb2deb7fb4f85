/*
 * The application.  One line of JSON for each command:
 *
 *	since	now is what `status` counts from
 *	status	connections that are to receive and have not since
 *	mark	what happened since the last mark
 */
#include "tests/chaos/load/serve.h"
#include "tests/chaos/load/stream.h"

#include <sys/socket.h>

#include <errno.h>
#include <inttypes.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { ECHO_LEAD = 1 << 18 };

struct connection {
	struct stream s;
	char request[REQUEST + 1];
	size_t request_len;
	enum { ASKED, ECHO, BULK } mode;
	bool upwards; /* the visitor has sent bulk */
	struct connection *next, **back;
};

static int listener;
static uint32_t listener_watched = UINT32_MAX;
static struct connection *all;
static struct connection *dead; /* until no event can name them */
static uint64_t since_ns;
static struct {
	uint64_t bytes, ended, broken, wrong;
} marked;
static uint64_t closed_bytes, marked_bytes;

static uint64_t
bytes_received(void)
{
	uint64_t sum = closed_bytes;

	for (struct connection *c = all; c != NULL; c = c->next)
		sum += c->s.rx_pos;
	return sum;
}

static void
connection_free(struct connection *c, bool reset)
{
	closed_bytes += c->s.rx_pos;
	stream_close(&c->s, reset);
	*c->back = c->next;
	if (c->next != NULL)
		c->next->back = c->back;
	c->next = dead;
	dead = c;
}

static void
free_dead(void)
{
	while (dead != NULL) {
		struct connection *c = dead;

		dead = c->next;
		free(c);
	}
}

static void
tell(const struct connection *c, const char *event, const char *why)
{
	base_say("{\"event\": \"%s\", \"why\": \"%s\", \"seed\": %" PRIu64
		 ", \"received\": %" PRIu64 ", \"sent\": %" PRIu64 "}",
	    event, why, c->s.rx_seed, c->s.rx_pos, c->s.tx_pos);
}

static void
accept_all(void)
{
	struct connection *c;
	int fd, on = 1;

	while ((fd = accept4(listener, NULL, NULL,
		    SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
		c = calloc(1, sizeof(*c));
		if (c == NULL)
			base_die("calloc");
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
		stream_init(&c->s, fd);
		c->next = all;
		c->back = &all;
		if (all != NULL)
			all->back = &c->next;
		all = c;
		stream_watch(&c->s, true, c);
	}
}

/* 1: the request is there; 0: not yet; -1: the visitor is gone. */
static int
read_request(struct connection *c)
{
	uint64_t seed, rate = 0;
	char word[8];
	ssize_t n = recv(c->s.fd, c->request + c->request_len,
	    REQUEST - c->request_len, 0);

	if (n <= 0)
		return n < 0 && (errno == EAGAIN || errno == EINTR) ? 0 : -1;
	c->request_len += (size_t)n;
	if (c->request_len < REQUEST)
		return 0;
	if (sscanf(c->request, "%7s %" SCNu64 " %" SCNu64, word, &seed, &rate) <
	    2)
		return -1;
	c->mode = strcmp(word, "echo") == 0 ? ECHO : BULK;
	c->s.rx_seed = seed;
	c->s.tx_seed = c->mode == ECHO ? seed : ~seed;
	c->s.trailed = c->mode == BULK;
	c->s.rate = rate;
	if (c->mode == BULK)
		c->s.tx_limit = FIRST;
	return 1;
}

/* What an echo may send is what came. */
static void
connection_step(struct connection *c, enum stream_status status)
{
	if (status == STREAM_GOES_ON || status == STREAM_ENDED) {
		if (c->mode == ECHO)
			c->s.tx_limit = c->s.rx_pos;
		if (c->s.rx_pos > 0 && c->mode == BULK)
			c->upwards = true;
		if (status == STREAM_ENDED)
			stream_end(&c->s, c->mode == BULK);
		status = stream_send(&c->s);
	}
	if (status == STREAM_WRONG) {
		marked.wrong++;
		tell(c, "wrong", "a byte at the application");
		connection_free(c, true);
	} else if (status == STREAM_BROKEN || status == STREAM_CUT) {
		marked.broken++;
		tell(c, "broken",
		    status == STREAM_CUT ? "end of file" : strerror(errno));
		connection_free(c, true);
	} else if (c->s.shut) {
		marked.ended++;
		connection_free(c, false);
	} else {
		stream_watch(&c->s,
		    c->s.tx_limit < c->s.tx_pos + ECHO_LEAD || c->mode == BULK,
		    c);
	}
}

static void
ready(void *what)
{
	struct connection *c = what;
	enum stream_status status = STREAM_GOES_ON;

	if (what == &listener) {
		accept_all();
		return;
	}
	if (c->s.fd < 0)
		return;
	if (c->mode == ASKED) {
		int got = read_request(c);

		if (got < 0) {
			marked.broken++;
			tell(c, "broken", "before its request");
			connection_free(c, true);
			return;
		}
		if (got == 0)
			return;
	} else if (!c->s.eof) {
		status = stream_receive(&c->s);
	}
	connection_step(c, status);
}

static void
tick(uint64_t now)
{
	struct connection *next;

	for (struct connection *c = all; c != NULL; c = next) {
		next = c->next;
		if (c->mode != BULK || c->s.rate == 0)
			continue;
		stream_allow(&c->s, now);
		if (!c->s.blocked)
			connection_step(c, STREAM_GOES_ON);
	}
}

static void
status(void)
{
	unsigned open = 0, behind = 0;

	for (struct connection *c = all; c != NULL; c = c->next) {
		open++;
		behind += c->upwards && c->s.rx_ns < since_ns;
	}
	base_say("{\"answer\": \"status\", \"open\": %u, \"behind\": %u}", open,
	    behind);
}

static void
mark(void)
{
	uint64_t gap, longest = 0, now = base_now(), bytes = bytes_received();

	for (struct connection *c = all; c != NULL; c = c->next) {
		gap = stream_gap(&c->s, now);
		if (c->upwards && gap > longest)
			longest = gap;
	}
	base_say("{\"answer\": \"mark\", \"bytes\": %" PRIu64
		 ", \"ended\": %" PRIu64 ", \"broken\": %" PRIu64
		 ", \"wrong\": %" PRIu64 ", \"bulk_gap_ms\": %.1f}",
	    bytes - marked_bytes, marked.ended, marked.broken, marked.wrong,
	    (double)longest / MILLISECOND);
	memset(&marked, 0, sizeof(marked));
	marked_bytes = bytes;
}

static void
command(const char *line)
{
	if (strcmp(line, "since") == 0) {
		since_ns = base_now();
		base_say("{\"answer\": \"since\"}");
	} else if (strcmp(line, "status") == 0) {
		status();
	} else if (strcmp(line, "mark") == 0) {
		mark();
	} else {
		base_say("{\"answer\": \"unknown\"}");
	}
}

_Noreturn void
serve_run(const char *address)
{
	static const struct loop_calls calls = {tick, command, ready,
	    free_dead};
	struct sockaddr_in at = base_address(address);

	listener = base_listen(&at);
	base_watch(listener, &listener_watched, 1, &listener);
	base_say("{\"answer\": \"ready\"}");
	base_loop(&calls);
}
