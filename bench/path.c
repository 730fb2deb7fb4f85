/*
 * path: a distant path on one machine.
 *
 *	path --listen ADDRESS:PORT --to ADDRESS:PORT --rtt MS --rate MBIT
 *	     [--queue MS]
 *
 * A relay of TCP connections that prints `ready PORT` (PORT 0 is the kernel's
 * choice).  In each direction there is one line, which all its connections
 * share: bytes that were read wait in one first-in first-out queue, leave it
 * at the rate, and arrive half the round trip later.  The queue holds so many
 * milliseconds of the rate (1000 unless told, as home routers do); while it is
 * full nothing is read, and its room goes to the connections in turns.
 *
 * The rate is that of TCP's payload.  What is not here: the round trip of the
 * SYN (a connection is accepted at once, and what is sent then is delayed like
 * all else; one that is refused is reset after it was accepted), losses, and
 * TCP's own windows over the distance.  A sender's TCP sees a near peer that
 * stops reading, so this shows what the program above TCP does with a delay
 * and a queue, and it does not show congestion control.
 */
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#include <errno.h>
#include <getopt.h>
#include <linux/sockios.h>
#include <malloc.h>
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
	EVENTS = 64,
	PACKET = 1448, /* payload of an Ethernet frame */
	PIECE_MAX = 65536, /* what one recv takes */
	BATCH = 64, /* pieces, before what is due is looked at again */
	RECEIVE_BUFFER = 65536,
	HELD = 4 << 20, /* arrived and not taken: then no more is read */
	MILLISECOND = 1000000,
	SECOND = 1000000000,
};

enum kind { DATA, END_OF_FILE, RESET };

/* One socket of a connection. */
struct end {
	int fd; /* -1: closed */
	struct connection *connection;
	struct end *peer;
	struct line *line; /* where the bytes that are read here go */
	bool connecting;
	bool ready; /* is in line->ready */
	bool paused; /* would be, but for the peer's backlog */
	bool ended; /* an end of file, or the reset, was read */
	bool broken; /* send() failed: the end that recv() sees is a reset */
	bool shut; /* the peer's end of file has arrived */
	struct end *next_ready;

	/* What has arrived and is not written yet. */
	struct piece *first, **last;
	size_t backlog;

	/* The peer's reset has arrived; it waits for what is before it. */
	uint64_t reset_by; /* 0: none has */
	struct end *next_reset;
};

struct connection {
	struct end near, far;
	unsigned refs; /* pieces under way, and places in lists */
	struct connection *next_dead;
};

struct piece {
	struct piece *next;
	struct end *to;
	uint64_t due;
	enum kind kind;
	size_t len, pos;
	uint8_t data[];
};

/* One direction of the path. */
struct line {
	struct piece *first, **last;
	uint64_t free_at; /* when all that was read has been sent */
	struct end *ready, **ready_last;
};

static struct {
	struct addrinfo *listen, *to;
	double rtt_ms, rate, queue_ms;
	double byte_ns;
	uint64_t delay, queue; /* ns; the queue less the piece that enters it */
	size_t piece; /* bytes */
} path = {.rtt_ms = -1, .queue_ms = 1000};

static struct line onward, back;
static struct end *resets;
static struct connection *dead;
static int poller;

_Noreturn static void
die(const char *what)
{
	fprintf(stderr, "path: %s: %s\n", what, strerror(errno));
	exit(2);
}

static uint64_t
now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * SECOND + (uint64_t)t.tv_nsec;
}

/* --- connections --------------------------------------------------------- */

static void
connection_hold(struct end *e)
{
	e->connection->refs++;
}

/*
 * The last one puts it aside for the end of the round: events of this round
 * may still name it.
 */
static void
connection_release(struct connection *c)
{
	if (--c->refs > 0)
		return;
	c->next_dead = dead;
	dead = c;
}

static void
bury(void)
{
	struct connection *c;

	while ((c = dead) != NULL) {
		dead = c->next_dead;
		free(c);
	}
}

static void
ready_put(struct end *e)
{
	if (e->ready || e->ended || e->fd < 0)
		return;
	e->ready = true;
	e->next_ready = NULL;
	*e->line->ready_last = e;
	e->line->ready_last = &e->next_ready;
	connection_hold(e);
}

static struct end *
ready_take(struct line *line)
{
	struct end *e = line->ready;

	line->ready = e->next_ready;
	if (line->ready == NULL)
		line->ready_last = &line->ready;
	e->ready = false;
	return e;
}

static void
end_discard(struct end *e)
{
	struct piece *p;

	while ((p = e->first) != NULL) {
		e->first = p->next;
		connection_release(e->connection);
		free(p);
	}
	e->last = &e->first;
	e->backlog = 0;
	if (e->peer->paused) {
		e->peer->paused = false;
		ready_put(e->peer);
	}
}

static void
end_close(struct end *e, bool with_reset)
{
	struct linger linger = {.l_onoff = 1};

	if (e->fd < 0)
		return;
	if (with_reset)
		setsockopt(e->fd, SOL_SOCKET, SO_LINGER, &linger,
		    sizeof(linger));
	close(e->fd);
	e->fd = -1;
	end_discard(e);
	connection_release(e->connection);
}

/* --- lines --------------------------------------------------------------- */

static void
line_push(struct end *from, enum kind kind, const void *data, size_t len)
{
	struct line *line = from->line;
	struct piece *p = malloc(sizeof(*p) + len);
	uint64_t now = now_ns();

	if (p == NULL)
		die("malloc");
	if (line->free_at < now)
		line->free_at = now;
	line->free_at += (uint64_t)((double)len * path.byte_ns + 0.5);
	*p = (struct piece){.to = from->peer,
	    .due = line->free_at + path.delay,
	    .kind = kind,
	    .len = len};
	if (len > 0)
		memcpy(p->data, data, len);
	*line->last = p;
	line->last = &p->next;
	connection_hold(from);
}

/* When the line may read again. */
static uint64_t
line_has_room(const struct line *line)
{
	return line->free_at > path.queue ? line->free_at - path.queue : 0;
}

static void
end_read(struct end *e)
{
	static uint8_t scratch[PIECE_MAX];
	ssize_t n;

	if (e->fd < 0 || e->ended)
		return;
	if (e->peer->backlog > HELD) {
		e->paused = true;
		return;
	}
	n = recv(e->fd, scratch, path.piece, 0);
	if (n > 0) {
		line_push(e, DATA, scratch, (size_t)n);
		/* Until EAGAIN, as the poller reports only what is new. */
		ready_put(e);
		return;
	}
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	e->ended = true;
	if (n == 0 && !e->broken) {
		line_push(e, END_OF_FILE, NULL, 0);
		return;
	}
	line_push(e, RESET, NULL, 0);
	end_close(e, true);
}

/* Returns whether it stopped before the line was full or had read all. */
static bool
line_fill(struct line *line)
{
	for (int i = 0; i < BATCH; i++) {
		struct end *e;

		if (line->ready == NULL || line_has_room(line) > now_ns())
			return false;
		e = ready_take(line);
		end_read(e);
		connection_release(e->connection);
	}
	return true;
}

/* --- arrivals ------------------------------------------------------------ */

/* Writing is over.  Reading goes on: what was sent before counts. */
static void
end_break(struct end *e)
{
	e->broken = true;
	end_discard(e);
	if (e->ended) {
		line_push(e, RESET, NULL, 0);
		end_close(e, true);
	} else {
		e->paused = false;
		ready_put(e);
	}
}

static void
end_flush(struct end *e)
{
	struct piece *p;
	ssize_t n;

	if (e->connecting || e->fd < 0)
		return;
	while ((p = e->first) != NULL) {
		if (p->kind == END_OF_FILE) {
			shutdown(e->fd, SHUT_WR);
			e->shut = true;
		} else {
			n = send(e->fd, p->data + p->pos, p->len - p->pos,
			    MSG_NOSIGNAL);
			if (n < 0 && (errno == EAGAIN || errno == EINTR))
				break;
			if (n < 0) {
				end_break(e);
				return;
			}
			e->backlog -= (size_t)n;
			p->pos += (size_t)n;
			if (p->pos < p->len)
				continue;
		}
		e->first = p->next;
		if (e->first == NULL)
			e->last = &e->first;
		connection_release(e->connection);
		free(p);
	}
	if (e->peer->paused && e->backlog <= HELD) {
		e->peer->paused = false;
		ready_put(e->peer);
	}
	if (e->shut && e->peer->shut) {
		end_close(e, false);
		end_close(e->peer, false);
	}
}

static void
piece_arrive(struct piece *p)
{
	struct end *e = p->to;

	if (e->fd >= 0 && p->kind == RESET && e->reset_by == 0) {
		e->reset_by = now_ns() + SECOND;
		e->next_reset = resets;
		resets = e;
		connection_hold(e);
	}
	if (e->fd < 0 || e->broken || p->kind == RESET) {
		connection_release(e->connection);
		free(p);
		return;
	}
	p->next = NULL;
	*e->last = p;
	e->last = &p->next;
	e->backlog += p->len;
	end_flush(e);
}

static void
line_deliver(struct line *line)
{
	struct piece *p;

	while ((p = line->first) != NULL && p->due <= now_ns()) {
		line->first = p->next;
		if (line->first == NULL)
			line->last = &line->first;
		piece_arrive(p);
	}
}

/*
 * A reset throws away what is in the socket, so it waits until that is taken;
 * but not for long, since a peer that does not read has to learn of it too.
 */
static void
resets_send(void)
{
	struct end **at = &resets, *e;
	uint64_t now = now_ns();
	int unsent;

	while ((e = *at) != NULL) {
		if (e->fd >= 0 && now < e->reset_by &&
		    (e->backlog > 0 || ioctl(e->fd, SIOCOUTQ, &unsent) < 0 ||
			unsent > 0)) {
			at = &e->next_reset;
			continue;
		}
		*at = e->next_reset;
		end_close(e, true);
		connection_release(e->connection);
	}
}

/* --- sockets ------------------------------------------------------------- */

static struct addrinfo *
resolve(const char *text, int flags)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
	    .ai_flags = flags | AI_NUMERICSERV};
	struct addrinfo *found = NULL;
	const char *colon = strrchr(text, ':');
	char host[256];
	int error;

	if (colon == NULL || (size_t)(colon - text) >= sizeof(host)) {
		fprintf(stderr, "path: %s: not ADDRESS:PORT\n", text);
		exit(2);
	}
	memcpy(host, text, (size_t)(colon - text));
	host[colon - text] = '\0';
	error = getaddrinfo(host, colon + 1, &hints, &found);
	if (error != 0 || found == NULL) {
		fprintf(stderr, "path: %s: %s\n", text, gai_strerror(error));
		exit(2);
	}
	return found;
}

/*
 * Before listen() and connect(), as these tell the peer.  The buffer is small,
 * because what waits in it is a queue beside the line's.  With the segments of
 * loopback, which are as large as that, a window would open in jerks.
 */
static int
path_socket(const struct addrinfo *at)
{
	int on = 1, size = RECEIVE_BUFFER, segment = PACKET, fd = -1;

	if (at != NULL)
		fd = socket(at->ai_family,
		    SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		die("socket");
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
	setsockopt(fd, IPPROTO_TCP, TCP_MAXSEG, &segment, sizeof(segment));
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	return fd;
}

static void
end_init(struct end *e, struct connection *c, int fd)
{
	struct epoll_event event = {
	    .events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
	    .data.ptr = e,
	};

	e->fd = fd;
	e->connection = c;
	e->peer = e == &c->near ? &c->far : &c->near;
	e->line = e == &c->near ? &onward : &back;
	e->last = &e->first;
	connection_hold(e);
	if (epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event) < 0)
		die("epoll_ctl");
}

static void
path_accept(int listener)
{
	struct connection *c;
	int fd, onto, on = 1;

	while ((fd = accept4(listener, NULL, NULL,
		    SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
		onto = path_socket(path.to);
		if (connect(onto, path.to->ai_addr, path.to->ai_addrlen) < 0 &&
		    errno != EINPROGRESS && errno != ECONNREFUSED)
			die("connect");
		c = calloc(1, sizeof(*c));
		if (c == NULL)
			die("calloc");
		c->far.connecting = true;
		end_init(&c->near, c, fd);
		end_init(&c->far, c, onto);
	}
}

static int
path_listen(void)
{
	struct epoll_event event = {.events = EPOLLIN};
	struct sockaddr_storage local;
	socklen_t len = sizeof(local);
	int listener = path_socket(path.listen);

	if (bind(listener, path.listen->ai_addr, path.listen->ai_addrlen) < 0 ||
	    listen(listener, SOMAXCONN) < 0 ||
	    getsockname(listener, (struct sockaddr *)&local, &len) < 0 ||
	    epoll_ctl(poller, EPOLL_CTL_ADD, listener, &event) < 0)
		die("--listen");
	/* sin_port and sin6_port are at one place. */
	printf("ready %u\n", ntohs(((struct sockaddr_in *)&local)->sin_port));
	fflush(stdout);
	return listener;
}

/* --- rounds -------------------------------------------------------------- */

static uint64_t
line_next(const struct line *line)
{
	uint64_t next = line->first != NULL ? line->first->due : UINT64_MAX;

	if (line->ready != NULL && line_has_room(line) < next)
		next = line_has_room(line);
	return next;
}

/* The time until something is due; NULL: until something happens. */
static struct timespec *
path_patience(bool more, struct timespec *t)
{
	uint64_t now = now_ns(), next = line_next(&onward), left;

	if (line_next(&back) < next)
		next = line_next(&back);
	if (resets != NULL && next > now + MILLISECOND)
		next = now + MILLISECOND;
	if (next == UINT64_MAX && !more)
		return NULL;
	left = more || next <= now ? 0 : next - now;
	t->tv_sec = (time_t)(left / SECOND);
	t->tv_nsec = (long)(left % SECOND);
	return t;
}

static void
end_event(struct end *e, uint32_t events)
{
	if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
		if (!e->paused)
			ready_put(e);
	if (events & EPOLLOUT && !(events & EPOLLERR))
		e->connecting = false;
	if (events & EPOLLOUT)
		end_flush(e);
}

static _Noreturn void
path_run(void)
{
	struct epoll_event events[EVENTS];
	int listener = path_listen();
	struct timespec patience;
	bool more = false;

	for (;;) {
		int n = epoll_pwait2(poller, events, EVENTS,
		    path_patience(more, &patience), NULL);

		if (n < 0 && errno != EINTR)
			die("epoll_pwait2");
		for (int i = 0; i < n; i++) {
			if (events[i].data.ptr == NULL)
				path_accept(listener);
			else
				end_event(events[i].data.ptr, events[i].events);
		}
		line_deliver(&onward);
		line_deliver(&back);
		more = line_fill(&onward);
		more = line_fill(&back) || more;
		resets_send();
		bury();
	}
}

/* --- arguments ----------------------------------------------------------- */

static double
number(const char *text)
{
	char *end;
	double value = strtod(text, &end);

	if (end == text || *end != '\0' || !(value >= 0 && value <= 1e6)) {
		fprintf(stderr, "path: %s: not a number from 0 to 1000000\n",
		    text);
		exit(2);
	}
	return value;
}

/*
 * A quarter of a millisecond of the rate is read, sent and delivered at once,
 * or a packet, whichever is larger.
 */
static void
path_scale(void)
{
	double piece = path.rate * 1e6 / 8 / 4000, queue;

	path.byte_ns = 8e3 / path.rate;
	path.delay = (uint64_t)(path.rtt_ms * 1e6 / 2);
	path.piece = piece < PACKET ? PACKET :
	    piece > PIECE_MAX       ? PIECE_MAX :
				      (size_t)piece;
	queue = path.queue_ms * 1e6 - (double)path.piece * path.byte_ns;
	path.queue = queue > 0 ? (uint64_t)queue : 0;
	onward.last = &onward.first;
	onward.ready_last = &onward.ready;
	back.last = &back.first;
	back.ready_last = &back.ready;
}

static bool
path_options(int argc, char **argv)
{
	static const struct option options[] = {
	    {"listen", required_argument, NULL, 'l'},
	    {"to", required_argument, NULL, 't'},
	    {"rtt", required_argument, NULL, 'd'},
	    {"rate", required_argument, NULL, 'r'},
	    {"queue", required_argument, NULL, 'q'},
	    {NULL, 0, NULL, 0},
	};
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (option == 'l')
			path.listen = resolve(optarg, AI_PASSIVE);
		else if (option == 't')
			path.to = resolve(optarg, 0);
		else if (option == 'd')
			path.rtt_ms = number(optarg);
		else if (option == 'r')
			path.rate = number(optarg);
		else if (option == 'q')
			path.queue_ms = number(optarg);
		else
			return false;
	}
	return optind == argc && path.listen != NULL && path.to != NULL &&
	    path.rtt_ms >= 0 && path.rate > 0;
}

int
main(int argc, char **argv)
{
	if (!path_options(argc, argv)) {
		fputs("usage: path --listen ADDRESS:PORT --to ADDRESS:PORT "
		      "--rtt MS --rate MBIT [--queue MS]\n",
		    stderr);
		return 2;
	}
	signal(SIGPIPE, SIG_IGN);
	/* Timers to the microsecond, where 50 of them are usual. */
	prctl(PR_SET_TIMERSLACK, 1000, 0, 0, 0);
	/* The queue comes and goes; giving it back each time costs faults. */
	mallopt(M_TRIM_THRESHOLD, 256 << 20);
	mallopt(M_MMAP_THRESHOLD, 1 << 20);
	poller = epoll_create1(EPOLL_CLOEXEC);
	if (poller < 0)
		die("epoll_create1");
	path_scale();
	path_run();
}
