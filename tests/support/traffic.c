/*
 * traffic: load with every byte checked.
 *
 *	traffic serve [--greet] PORT|ADDRESS:PORT
 *	traffic run --connect ADDRESS:PORT [options]
 *
 * `serve` is the application.  It prints `listening PORT`.  A connection's
 * first 64 bytes are a line, filled up with spaces: MODE UP DOWN SEED
 *
 *	echo            send back what comes; end when the visitor has ended
 *	transfer-half   take UP bytes and then an end of file, and at the same
 *	                time send DOWN bytes; then answer `ok UP`, 32 bytes long,
 *	                and close
 *	transfer-count  the same, but UP bytes are the end
 *	reset           take UP bytes, send DOWN bytes, then reset
 *	stall           never read again, never write
 *
 * With --greet it talks first: 32 bytes.  What is wrong is said on stderr, and
 * the connection is reset.
 *
 * `run` is the visitors.  It prints one line of JSON, and exits with 1 when a
 * byte was wrong or a connection did not end as it should.
 *
 *	--mode MODE     echo, sink, source, both, reset (default echo)
 *	--bytes N       in each direction of a connection (65536)
 *	--streams N     connections at one time (1)
 *	--count N       connections in all (as many as streams)
 *	--finish half   a visitor's end of file ends a connection (default)
 *	--finish count  the number of bytes does: for what knows no half-close
 *	--chunk N       bytes for each send (262144)
 *	--turns         echo: wait for each chunk before the next; adds
 *	                round-trip times to the result
 *	--hold MS       echo: go on when all are open and MS have passed
 *	--greet         the application talks first
 *	--seed N        of the pattern (1)
 *	--timeout S     give up after S seconds without a byte (60)
 *
 * The pattern says at each 8 bytes where in the stream they belong, so bytes
 * that are lost, doubled, swapped or another stream's are seen.
 */
#include <sys/epoll.h>
#include <sys/socket.h>

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
	REQUEST = 64,
	ANSWER = 32, /* also the length of the greeting */
	SCRATCH = 262144,
	RESIDUE = 65536, /* what an echo may hold for one connection */
	EVENTS = 256,
	SAMPLES = 1 << 20,
	REPORTED = 5,
};

enum ending { RUNNING, DONE, BROKEN };

/* The same at both ends; what is not used stays 0. */
struct connection {
	int fd;
	bool connecting;
	uint32_t watched; /* what epoll is asked for */

	/* Outwards: `out` first, then pattern bytes up to tx_end, then tail. */
	char out[REQUEST];
	size_t out_pos, out_len;
	uint64_t tx_seed, tx_pos, tx_limit, tx_end;
	bool tx_shut; /* our end of file is sent */

	/* Inwards: `in` first, then pattern bytes, then the answer. */
	char in[REQUEST];
	size_t in_pos, in_len;
	uint64_t rx_seed, rx_pos, rx_end;
	char answer[ANSWER];
	size_t answer_pos, answer_len;
	bool rx_eof;

	/* serve only */
	enum { ASKED, ECHO, TRANSFER_HALF, TRANSFER_COUNT, RESET, STALL } mode;
	uint8_t *residue;
	size_t residue_pos, residue_len;

	/* run only */
	bool held;
	long index; /* in the table of --hold */
	uint64_t turn_ns;
};

static struct {
	enum { RUN_ECHO, RUN_SINK, RUN_SOURCE, RUN_BOTH, RUN_RESET } mode;
	const char *mode_name;
	uint64_t bytes, chunk, seed;
	long streams, count, hold_ms, timeout_s;
	bool half, turns, greet;
	struct addrinfo *to;
} run = {
    .mode_name = "echo",
    .bytes = 65536,
    .chunk = SCRATCH,
    .seed = 1,
    .streams = 1,
    .hold_ms = -1,
    .timeout_s = 60,
    .half = true,
};

static struct {
	struct connection **all;
	long started, open, finished, held;
	long wrong, reset, early, connect, other;
	uint64_t sent, received;
	uint32_t *samples;
	size_t sampled;
} result;

static bool serve_greets;
static int poller;
static uint8_t outgoing[SCRATCH], incoming[SCRATCH];

static void
die(const char *what)
{
	fprintf(stderr, "traffic: %s: %s\n", what, strerror(errno));
	exit(2);
}

static uint64_t
now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* --- the pattern --------------------------------------------------------- */

#define STEP UINT64_C(0x9E3779B97F4A7C15)

/* Odd steps make the word of each position another one. */
static uint64_t
pattern_word(uint64_t seed, uint64_t pos)
{
	return (seed + pos / 8) * STEP;
}

static void
pattern_fill(uint8_t *buf, uint64_t seed, uint64_t pos, size_t len)
{
	size_t skip = pos % 8, done = 0;
	uint64_t word = pattern_word(seed, pos);

	if (skip != 0) {
		done = 8 - skip < len ? 8 - skip : len;
		memcpy(buf, (uint8_t *)&word + skip, done);
		word += STEP;
	}
	for (; done + 8 <= len; done += 8, word += STEP)
		memcpy(buf + done, &word, 8);
	memcpy(buf + done, &word, len - done);
}

/* The index of the first wrong byte, or len. */
static size_t
pattern_check(const uint8_t *buf, uint64_t seed, uint64_t pos, size_t len)
{
	uint64_t word = pattern_word(seed, pos), got;
	size_t i = 0;

	if (pos % 8 == 0)
		for (; i + 8 <= len; i += 8, word += STEP) {
			memcpy(&got, buf + i, 8);
			if (got != word)
				break;
		}
	for (; i < len; i++) {
		word = pattern_word(seed, pos + i);
		if (buf[i] != ((uint8_t *)&word)[(pos + i) % 8])
			break;
		/* Aligned again: the fast way. */
		if ((pos + i + 1) % 8 == 0)
			return i + 1 +
			    pattern_check(buf + i + 1, seed, pos + i + 1,
				len - i - 1);
	}
	return i;
}

/* --- both ends ----------------------------------------------------------- */

static void
complain(const struct connection *c, const char *what, uint64_t where)
{
	static int said;

	if (said++ < REPORTED)
		fprintf(stderr,
		    "traffic: %s (sent %" PRIu64 " of %" PRIu64
		    ", received %" PRIu64 " of %" PRIu64 ", at %" PRIu64 ")\n",
		    what, c->tx_pos, c->tx_end, c->rx_pos, c->rx_end, where);
}

static bool
try_again(void)
{
	return errno == EAGAIN || errno == EINTR;
}

static void
watch(struct connection *c, uint32_t events)
{
	struct epoll_event event = {.events = events, .data.ptr = c};

	if (events == c->watched)
		return;
	if (epoll_ctl(poller,
		c->watched == UINT32_MAX ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, c->fd,
		&event) < 0)
		die("epoll_ctl");
	c->watched = events;
}

static struct connection *
connection_new(int fd)
{
	struct connection *c = calloc(1, sizeof(*c));
	int on = 1;

	if (c == NULL)
		die("calloc");
	c->fd = fd;
	c->watched = UINT32_MAX;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	return c;
}

static void
connection_free(struct connection *c, bool with_reset)
{
	struct linger linger = {.l_onoff = 1};

	if (with_reset)
		setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &linger,
		    sizeof(linger));
	close(c->fd);
	free(c->residue);
	free(c);
}

/* Send what is allowed.  1: more is allowed; 0: not now; -1: broken. */
static int
send_more(struct connection *c)
{
	uint64_t left;
	ssize_t n;

	while (c->out_pos < c->out_len) {
		n = send(c->fd, c->out + c->out_pos, c->out_len - c->out_pos,
		    MSG_NOSIGNAL);
		if (n < 0)
			return try_again() ? 1 : -1;
		c->out_pos += (size_t)n;
	}
	for (size_t burst = 0; burst < 4; burst++) {
		left = c->tx_limit - c->tx_pos;
		if (left == 0)
			return 0;
		if (left > run.chunk)
			left = run.chunk;
		pattern_fill(outgoing, c->tx_seed, c->tx_pos, left);
		n = send(c->fd, outgoing, left, MSG_NOSIGNAL);
		if (n < 0)
			return try_again() ? 1 : -1;
		c->tx_pos += (uint64_t)n;
		result.sent += (uint64_t)n;
		if ((uint64_t)n < left)
			return 1;
	}
	return c->tx_pos < c->tx_limit;
}

/* Take len bytes that came; false: one of them is wrong. */
static bool
take(struct connection *c, const uint8_t *data, size_t len)
{
	size_t n, right;

	n = c->in_len - c->in_pos < len ? c->in_len - c->in_pos : len;
	memcpy(c->in + c->in_pos, data, n);
	c->in_pos += n;
	data += n;
	len -= n;
	n = c->rx_end - c->rx_pos < len ? c->rx_end - c->rx_pos : len;
	right = pattern_check(data, c->rx_seed, c->rx_pos, n);
	c->rx_pos += right;
	result.received += right;
	if (right < n) {
		complain(c, "wrong byte", c->rx_pos);
		return false;
	}
	data += n;
	len -= n;
	n = c->answer_len - c->answer_pos;
	if (len > n) {
		complain(c, "more than was to come", len - n);
		return false;
	}
	memcpy(c->answer + c->answer_pos, data, len);
	c->answer_pos += len;
	return true;
}

static struct addrinfo *
resolve(const char *text, int flags)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
	    .ai_flags = flags | AI_NUMERICSERV};
	struct addrinfo *found;
	char host[256] = "127.0.0.1";
	const char *colon = strrchr(text, ':'), *port = text;

	if (colon != NULL) {
		bool square =
		    text[0] == '[' && colon > text + 1 && colon[-1] == ']';

		port = colon + 1;
		snprintf(host, sizeof(host), "%.*s",
		    (int)(colon - text) - 2 * square, text + square);
	}
	if (getaddrinfo(host[0] != '\0' ? host : NULL, port, &hints, &found) !=
	    0) {
		fprintf(stderr, "traffic: %s: not an address\n", text);
		exit(2);
	}
	return found;
}

/* --- serve --------------------------------------------------------------- */

static enum ending
serve_asked(struct connection *c)
{
	char mode[16];
	uint64_t up, down, seed;

	if (c->in_pos < REQUEST)
		return RUNNING;
	if (sscanf(c->in, "%15s %" SCNu64 " %" SCNu64 " %" SCNu64, mode, &up,
		&down, &seed) != 4)
		return BROKEN;
	if (strcmp(mode, "echo") == 0)
		c->mode = ECHO;
	else if (strcmp(mode, "transfer-half") == 0)
		c->mode = TRANSFER_HALF;
	else if (strcmp(mode, "transfer-count") == 0)
		c->mode = TRANSFER_COUNT;
	else if (strcmp(mode, "reset") == 0)
		c->mode = RESET;
	else if (strcmp(mode, "stall") == 0)
		c->mode = STALL;
	else
		return BROKEN;
	if (c->mode == ECHO || c->mode == STALL)
		return RUNNING;
	c->rx_seed = seed;
	c->rx_end = up;
	c->tx_seed = ~seed;
	c->tx_end = c->tx_limit = down;
	return RUNNING;
}

static enum ending
serve_flush(struct connection *c)
{
	ssize_t n;

	while (c->residue_pos < c->residue_len) {
		n = send(c->fd, c->residue + c->residue_pos,
		    c->residue_len - c->residue_pos, MSG_NOSIGNAL);
		if (n < 0)
			return try_again() ? RUNNING : BROKEN;
		c->residue_pos += (size_t)n;
	}
	free(c->residue);
	c->residue = NULL;
	c->residue_pos = c->residue_len = 0;
	return RUNNING;
}

static enum ending
serve_echo(struct connection *c)
{
	ssize_t n, sent;

	if (serve_flush(c) == BROKEN)
		return BROKEN;
	if (c->residue != NULL)
		return RUNNING;
	n = recv(c->fd, incoming, RESIDUE, 0);
	if (n == 0)
		return DONE;
	if (n < 0)
		return try_again() ? RUNNING : BROKEN;
	sent = send(c->fd, incoming, (size_t)n, MSG_NOSIGNAL);
	if (sent < 0 && !try_again())
		return BROKEN;
	if (sent < 0)
		sent = 0;
	if (sent == n)
		return RUNNING;
	c->residue_len = (size_t)(n - sent);
	c->residue = malloc(c->residue_len);
	if (c->residue == NULL)
		die("malloc");
	memcpy(c->residue, incoming + sent, c->residue_len);
	return RUNNING;
}

/* The request, or the bytes of a transfer. */
static enum ending
serve_receive(struct connection *c)
{
	size_t most = c->mode == ASKED ? REQUEST - c->in_pos : SCRATCH;
	ssize_t n = recv(c->fd, incoming, most, 0);

	if (n < 0)
		return try_again() ? RUNNING : BROKEN;
	if (n == 0) {
		if (c->in_pos == 0 && c->mode == ASKED)
			return DONE;
		if (c->mode == ASKED || c->rx_pos < c->rx_end) {
			complain(c, "the visitor ended early", c->rx_pos);
			return BROKEN;
		}
		c->rx_eof = true;
		return RUNNING;
	}
	if (!take(c, incoming, (size_t)n))
		return BROKEN;
	return c->mode == ASKED ? serve_asked(c) : RUNNING;
}

static enum ending
serve_transfer(struct connection *c, bool readable)
{
	bool all_in;

	if (readable && serve_receive(c) == BROKEN)
		return BROKEN;
	if (send_more(c) < 0)
		return BROKEN;
	all_in =
	    c->rx_pos == c->rx_end && (c->rx_eof || c->mode != TRANSFER_HALF);
	if (!all_in || c->tx_pos < c->tx_end || c->out_pos < c->out_len)
		return RUNNING;
	if (c->mode == RESET)
		return BROKEN;
	if (c->tx_shut)
		return DONE;
	/* The answer goes out as the last `out`. */
	c->tx_shut = true;
	c->out_pos = 0;
	c->out_len = ANSWER;
	memset(c->out, ' ', ANSWER);
	snprintf(c->out, ANSWER, "ok %" PRIu64, c->rx_pos);
	return serve_transfer(c, false);
}

static enum ending
serve_step(struct connection *c, uint32_t events)
{
	enum ending ending = RUNNING;
	bool readable = events & (EPOLLIN | EPOLLHUP | EPOLLERR);

	if (c->mode == ASKED) {
		if (send_more(c) < 0)
			return BROKEN;
		if (readable)
			ending = serve_receive(c);
		readable = false;
		if (ending != RUNNING || c->mode == ASKED)
			goto out;
	}
	if (c->mode == STALL)
		ending = events & (EPOLLHUP | EPOLLERR) ? DONE : RUNNING;
	else if (c->mode == ECHO)
		ending = serve_echo(c);
	else
		ending = serve_transfer(c, readable);
out:
	if (ending != RUNNING)
		return ending;
	if (c->mode == STALL)
		watch(c, 0);
	else if (c->mode == ECHO)
		watch(c, c->residue != NULL ? EPOLLOUT : EPOLLIN);
	else
		watch(c,
		    (c->rx_eof ? 0 : EPOLLIN) |
			(c->out_pos < c->out_len || c->tx_pos < c->tx_limit ?
				EPOLLOUT :
				0));
	return RUNNING;
}

static void
serve_accept(int listener)
{
	struct connection *c;
	int fd;

	while ((fd = accept4(listener, NULL, NULL,
		    SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
		c = connection_new(fd);
		c->in_len = REQUEST;
		if (serve_greets) {
			c->out_len = ANSWER;
			memset(c->out, ' ', ANSWER);
			memcpy(c->out, "welcome", 7);
		}
		if (send_more(c) < 0)
			connection_free(c, true);
		else
			watch(c, EPOLLIN);
	}
}

static _Noreturn void
serve(const char *where)
{
	struct addrinfo *at = resolve(where, AI_PASSIVE);
	struct epoll_event events[EVENTS], event = {.events = EPOLLIN};
	struct sockaddr_storage local;
	socklen_t len = sizeof(local);
	int listener = socket(at->ai_family,
		SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0),
	    on = 1;

	if (listener < 0)
		die("socket");
	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (bind(listener, at->ai_addr, at->ai_addrlen) < 0 ||
	    listen(listener, SOMAXCONN) < 0 ||
	    getsockname(listener, (struct sockaddr *)&local, &len) < 0 ||
	    epoll_ctl(poller, EPOLL_CTL_ADD, listener, &event) < 0)
		die(where);
	/* sin_port and sin6_port are at one place. */
	printf("listening %u\n",
	    ntohs(((struct sockaddr_in *)&local)->sin_port));
	fflush(stdout);
	for (;;) {
		int n = epoll_wait(poller, events, EVENTS, -1);

		for (int i = 0; i < n; i++) {
			struct connection *c = events[i].data.ptr;
			enum ending ending;

			if (c == NULL) {
				serve_accept(listener);
				continue;
			}
			ending = serve_step(c, events[i].events);
			if (ending != RUNNING)
				connection_free(c, ending == BROKEN);
		}
	}
}

/* --- run ----------------------------------------------------------------- */

static void
run_request(struct connection *c)
{
	static const char *const named[] = {
	    [RUN_ECHO] = "echo",
	    [RUN_RESET] = "reset",
	};
	uint64_t seed = (run.seed << 40) + ((uint64_t)result.started << 20);
	const char *mode = named[run.mode];
	bool up = run.mode != RUN_SOURCE && run.mode != RUN_RESET;
	bool down = run.mode != RUN_SINK;

	seed *= STEP; /* far from each other's positions */
	if (mode == NULL)
		mode = run.half ? "transfer-half" : "transfer-count";
	c->tx_seed = seed;
	c->tx_end = up ? run.bytes : 0;
	c->tx_limit = c->tx_end;
	c->rx_seed = run.mode == RUN_ECHO ? seed : ~seed;
	c->rx_end = down ? run.bytes : 0;
	if (run.mode != RUN_ECHO && run.mode != RUN_RESET)
		c->answer_len = ANSWER;
	memset(c->out, ' ', REQUEST);
	snprintf(c->out, REQUEST, "%s %" PRIu64 " %" PRIu64 " %" PRIu64, mode,
	    c->tx_end, c->rx_end, seed);
	c->out[REQUEST - 1] = '\n';
	c->out_len = REQUEST;
	c->in_len = run.greet ? ANSWER : 0;
}

static void
run_finish(struct connection *c, bool with_reset)
{
	result.all[c->index] = NULL;
	result.held -= c->held;
	result.open--;
	result.finished++;
	connection_free(c, with_reset);
}

static void
run_start(void)
{
	struct connection *c;
	int fd = socket(run.to->ai_family,
	    SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0)
		die("socket");
	c = connection_new(fd);
	run_request(c);
	c->connecting = true;
	c->index = result.started++;
	result.all[c->index] = c;
	result.open++;
	if (connect(fd, run.to->ai_addr, run.to->ai_addrlen) < 0 &&
	    errno != EINPROGRESS) {
		complain(c, strerror(errno), 0);
		result.connect++;
		run_finish(c, false);
		return;
	}
	watch(c, EPOLLOUT);
}

/* How far a visitor may send now: --turns and --hold keep it back. */
static void
run_allow(struct connection *c)
{
	uint64_t next;

	if (c->in_pos < c->in_len) {
		c->tx_limit = 0;
		return;
	}
	c->tx_limit = c->tx_end;
	if (run.hold_ms >= 0 && !c->held && c->tx_end > 8)
		c->tx_limit = 8;
	if (!run.turns)
		return;
	if (c->rx_pos < c->tx_pos) {
		c->tx_limit = c->tx_pos;
		return;
	}
	next = c->rx_pos + run.chunk;
	if (next < c->tx_limit)
		c->tx_limit = next;
	if (c->turn_ns != 0 && result.sampled < SAMPLES)
		result.samples[result.sampled++] =
		    (uint32_t)((now_ns() - c->turn_ns) / 1000);
	c->turn_ns = now_ns();
}

static enum ending
run_failed(struct connection *c, long *counter, const char *what)
{
	if (run.mode == RUN_RESET && counter == &result.reset)
		return DONE;
	complain(c, what, c->rx_pos);
	++*counter;
	return BROKEN;
}

static enum ending
run_ended(struct connection *c)
{
	char right[ANSWER + 1];

	if (c->rx_pos < c->rx_end || c->answer_pos < c->answer_len ||
	    c->tx_pos < c->tx_end || c->in_pos < c->in_len)
		return run_failed(c, &result.early, "early end of file");
	if (run.mode == RUN_RESET)
		return run_failed(c, &result.early, "not a reset");
	snprintf(right, sizeof(right), "ok %" PRIu64, c->tx_end);
	if (c->answer_len > 0 && strcmp(c->answer, right) != 0)
		return run_failed(c, &result.wrong, "the answer is not ok");
	return DONE;
}

static enum ending
run_receive(struct connection *c)
{
	for (int burst = 0; burst < 4; burst++) {
		ssize_t n = recv(c->fd, incoming, SCRATCH, 0);

		if (n == 0)
			return run_ended(c);
		if (n < 0 && try_again())
			return RUNNING;
		if (n < 0 && errno == ECONNRESET)
			return run_failed(c, &result.reset, "reset");
		if (n < 0)
			return run_failed(c, &result.other, strerror(errno));
		if (!take(c, incoming, (size_t)n)) {
			result.wrong++;
			return BROKEN;
		}
		if (run.mode == RUN_ECHO && !run.half && c->rx_pos == c->rx_end)
			return DONE;
		if (n < SCRATCH / 2)
			return RUNNING;
	}
	return RUNNING;
}

static enum ending
run_send(struct connection *c)
{
	run_allow(c);
	if (send_more(c) < 0) {
		if (errno == EPIPE || errno == ECONNRESET)
			return run_failed(c, &result.reset, "reset");
		return run_failed(c, &result.other, strerror(errno));
	}
	if (run.half && !c->tx_shut && run.mode != RUN_RESET &&
	    c->out_pos == c->out_len && c->in_pos == c->in_len &&
	    c->tx_pos == c->tx_end) {
		c->tx_shut = true;
		/* ENOTCONN: the other end is ahead; the next recv tells. */
		shutdown(c->fd, SHUT_WR);
	}
	return RUNNING;
}

static enum ending
run_step(struct connection *c, uint32_t events)
{
	enum ending ending = RUNNING;
	int error = 0;
	socklen_t len = sizeof(error);

	if (c->connecting) {
		getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &len);
		if (error != 0)
			return run_failed(c, &result.connect, strerror(error));
		c->connecting = false;
	}
	if (events & (EPOLLIN | EPOLLHUP | EPOLLERR))
		ending = run_receive(c);
	if (ending == RUNNING)
		ending = run_send(c);
	if (ending != RUNNING)
		return ending;
	if (run.hold_ms >= 0 && !c->held && c->rx_pos >= 8) {
		c->held = true;
		result.held++;
		watch(c, EPOLLIN);
		return RUNNING;
	}
	watch(c,
	    EPOLLIN |
		(c->out_pos < c->out_len || c->tx_pos < c->tx_limit ? EPOLLOUT :
								      0));
	return RUNNING;
}

/*
 * When all are open, wait and then wake every one: epoll reports a socket that
 * can be written, and the step raises the limit.
 */
static void
run_release(void)
{
	if (run.hold_ms < 0 || result.held + result.finished < run.count)
		return;
	usleep((useconds_t)run.hold_ms * 1000);
	run.hold_ms = -1;
	for (long i = 0; i < run.count; i++)
		if (result.all[i] != NULL)
			watch(result.all[i], EPOLLIN | EPOLLOUT);
}

static int
by_value(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

static int
run_report(double seconds, bool timed_out)
{
	bool good = !timed_out && result.finished == run.count &&
	    result.wrong + result.reset + result.early + result.connect +
		    result.other ==
		0;
	size_t n = result.sampled;

	printf("{\"ok\": %s, \"mode\": \"%s\", \"streams\": %ld, "
	       "\"connections\": %ld, \"sent\": %" PRIu64
	       ", \"received\": %" PRIu64
	       ", \"seconds\": %.3f, \"gbit_per_second\": %.3f, "
	       "\"per_second\": %.0f, \"wrong\": %ld, \"reset\": %ld, "
	       "\"early_end\": %ld, \"connect_failed\": %ld, \"other\": %ld, "
	       "\"unfinished\": %ld",
	    good ? "true" : "false", run.mode_name, run.streams,
	    result.finished, result.sent, result.received, seconds,
	    (double)(result.sent + result.received) * 8e-9 / seconds,
	    (double)result.finished / seconds, result.wrong, result.reset,
	    result.early, result.connect, result.other,
	    run.count - result.finished);
	if (n > 0) {
		qsort(result.samples, n, sizeof(*result.samples), by_value);
		printf(", \"turns\": %zu, \"p50_us\": %u, \"p99_us\": %u, "
		       "\"max_us\": %u",
		    n, result.samples[n / 2], result.samples[n - 1 - n / 100],
		    result.samples[n - 1]);
	}
	puts("}");
	return good ? 0 : 1;
}

static int
run_visitors(void)
{
	struct epoll_event events[EVENTS];
	uint64_t since = now_ns();
	bool timed_out = false;
	int n;

	result.all = calloc((size_t)run.count, sizeof(*result.all));
	result.samples = malloc(SAMPLES * sizeof(*result.samples));
	if (result.all == NULL || result.samples == NULL)
		die("malloc");
	while (!timed_out) {
		while (result.open < run.streams && result.started < run.count)
			run_start();
		if (result.finished == run.count)
			break;
		n = epoll_wait(poller, events, EVENTS,
		    (int)run.timeout_s * 1000);
		timed_out = n == 0 && result.open > 0;
		for (int i = 0; i < n; i++) {
			struct connection *c = events[i].data.ptr;
			enum ending ending = run_step(c, events[i].events);

			if (ending != RUNNING)
				run_finish(c, ending == BROKEN);
		}
		run_release();
	}
	if (timed_out)
		fprintf(stderr, "traffic: nothing for %ld s, %ld open\n",
		    run.timeout_s, result.open);
	return run_report((double)(now_ns() - since) * 1e-9, timed_out);
}

/* --- arguments ----------------------------------------------------------- */

static uint64_t
number(const char *text)
{
	char *end;
	uint64_t value;

	errno = 0;
	value = strtoull(text, &end, 10);
	if (errno != 0 || end == text || *end != '\0') {
		fprintf(stderr, "traffic: %s: not a number\n", text);
		exit(2);
	}
	return value;
}

static void
run_mode(const char *name)
{
	static const char *const names[] = {
	    [RUN_ECHO] = "echo",
	    [RUN_SINK] = "sink",
	    [RUN_SOURCE] = "source",
	    [RUN_BOTH] = "both",
	    [RUN_RESET] = "reset",
	};

	run.mode_name = name;
	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
		if (strcmp(names[i], name) == 0) {
			run.mode = i;
			return;
		}
	fprintf(stderr, "traffic: %s: not a mode\n", name);
	exit(2);
}

static void
run_option(int option, const char *value)
{
	switch (option) {
	case 'a':
		run.to = resolve(value, 0);
		break;
	case 'm':
		run_mode(value);
		break;
	case 'b':
		run.bytes = number(value);
		break;
	case 's':
		run.streams = (long)number(value);
		break;
	case 'n':
		run.count = (long)number(value);
		break;
	case 'f':
		run.half = strcmp(value, "count") != 0;
		break;
	case 'c':
		run.chunk = number(value);
		break;
	case 't':
		run.turns = true;
		break;
	case 'h':
		run.hold_ms = (long)number(value);
		break;
	case 'g':
		run.greet = serve_greets = true;
		break;
	case 'e':
		run.seed = number(value);
		break;
	case 'o':
		run.timeout_s = (long)number(value);
		break;
	default:
		exit(2);
	}
}

int
main(int argc, char **argv)
{
	static const struct option options[] = {
	    {"connect", required_argument, NULL, 'a'},
	    {"mode", required_argument, NULL, 'm'},
	    {"bytes", required_argument, NULL, 'b'},
	    {"streams", required_argument, NULL, 's'},
	    {"count", required_argument, NULL, 'n'},
	    {"finish", required_argument, NULL, 'f'},
	    {"chunk", required_argument, NULL, 'c'},
	    {"turns", no_argument, NULL, 't'},
	    {"hold", required_argument, NULL, 'h'},
	    {"greet", no_argument, NULL, 'g'},
	    {"seed", required_argument, NULL, 'e'},
	    {"timeout", required_argument, NULL, 'o'},
	    {NULL, 0, NULL, 0},
	};
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1)
		run_option(option, optarg);
	signal(SIGPIPE, SIG_IGN);
	poller = epoll_create1(EPOLL_CLOEXEC);
	if (poller < 0)
		die("epoll_create1");
	if (optind == argc - 2 && strcmp(argv[optind], "serve") == 0)
		serve(argv[optind + 1]);
	if (optind != argc - 1 || strcmp(argv[optind], "run") != 0 ||
	    run.to == NULL || run.chunk == 0 || run.chunk > SCRATCH ||
	    run.streams < 1 || (run.hold_ms >= 0 && run.mode != RUN_ECHO)) {
		fputs("usage: traffic serve [--greet] PORT|ADDRESS:PORT\n"
		      "       traffic run --connect ADDRESS:PORT [--mode MODE] "
		      "[--bytes N] [--streams N] [--count N] ...\n",
		    stderr);
		return 2;
	}
	if (run.count == 0 || run.hold_ms >= 0)
		run.count = run.streams;
	return run_visitors();
}
