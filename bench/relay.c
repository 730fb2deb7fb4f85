/*
 * relay: what the project measures itself against.
 *
 *	relay ADDRESS:PORT TARGET-ADDRESS:PORT
 *
 * The simplest relay of TCP connections that is right and fast: one thread,
 * epoll, edge-triggered so that there is one epoll_ctl for a socket, at most
 * one buffer for each direction, and that only while it holds bytes.  An end
 * of file is passed on by itself; an error ends both sides with a reset.
 */
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { BUFFER = 262144, SPARES = 64, EVENTS = 256, BACKLOG = 16384 };

/*
 * One socket of a pair, and the direction that reads from it.  What epoll has
 * told holds until a call says EAGAIN.
 */
struct end {
	int fd;
	bool readable, writable;
	bool ending; /* a short read is not the last */
	bool eof; /* read, and passed on when shut */
	bool shut;
	uint8_t *buf; /* read here and not yet taken by the other end */
	size_t pos, len;
	struct end *other;
};

struct pair {
	struct end visitor, target;
	bool dead, queued;
	struct pair *next; /* queued: there is more to do */
	struct pair *next_dead; /* until the batch of events is over */
};

static int poller;
static struct sockaddr_in target;
static struct pair *queue, **queue_tail = &queue, *dead;
static uint8_t *spares[SPARES];
static int spare_count;

static void
die(const char *what)
{
	fprintf(stderr, "relay: %s: %s\n", what, strerror(errno));
	exit(1);
}

static uint8_t *
buffer_get(void)
{
	uint8_t *buf;

	if (spare_count > 0)
		return spares[--spare_count];
	buf = malloc(BUFFER);
	if (buf == NULL)
		die("malloc");
	return buf;
}

static void
buffer_put(uint8_t *buf)
{
	if (buf != NULL && spare_count < SPARES)
		spares[spare_count++] = buf;
	else
		free(buf);
}

static void
pair_end(struct pair *p, bool with_reset)
{
	struct linger linger = {.l_onoff = 1};
	struct end *ends[] = {&p->visitor, &p->target};

	if (p->dead)
		return;
	for (int i = 0; i < 2; i++) {
		if (with_reset)
			setsockopt(ends[i]->fd, SOL_SOCKET, SO_LINGER, &linger,
			    sizeof(linger));
		close(ends[i]->fd);
		buffer_put(ends[i]->buf);
	}
	p->dead = true;
	p->next_dead = dead;
	dead = p;
}

/* False: the connection is broken. */
static bool
flush(struct end *from)
{
	struct end *to = from->other;
	ssize_t n;

	while (from->pos < from->len && to->writable) {
		n = send(to->fd, from->buf + from->pos, from->len - from->pos,
		    MSG_NOSIGNAL);
		if (n < 0 && errno != EAGAIN)
			return false;
		if (n < 0) {
			to->writable = false;
			return true;
		}
		from->pos += (size_t)n;
	}
	if (from->pos == from->len && from->buf != NULL) {
		buffer_put(from->buf);
		from->buf = NULL;
		from->pos = from->len = 0;
	}
	return true;
}

/*
 * Carry one buffer of this direction.  False: broken.  *more: there may be
 * another, and the other connections come first.
 */
static bool
carry(struct end *from, bool *more)
{
	struct end *to = from->other;
	ssize_t n;

	if (from->buf != NULL && !flush(from))
		return false;
	if (from->buf == NULL && from->readable && !from->eof && to->writable) {
		from->buf = buffer_get();
		n = recv(from->fd, from->buf, BUFFER, 0);
		if (n < 0 && errno != EAGAIN)
			return false;
		/* After a short read the next bytes are another event. */
		from->readable = n == BUFFER || (n > 0 && from->ending);
		from->eof = n == 0;
		from->len = n > 0 ? (size_t)n : 0;
		if (!flush(from))
			return false;
		if (from->readable && to->writable)
			*more = true;
	}
	if (from->eof && from->buf == NULL && !from->shut && to->writable) {
		shutdown(to->fd, SHUT_WR);
		from->shut = true;
	}
	return true;
}

static void
pair_step(struct pair *p)
{
	bool more = false;

	if (p->dead)
		return;
	if (!carry(&p->visitor, &more) || !carry(&p->target, &more)) {
		pair_end(p, true);
		return;
	}
	if (p->visitor.shut && p->target.shut) {
		pair_end(p, false);
		return;
	}
	if (more && !p->queued) {
		p->queued = true;
		p->next = NULL;
		*queue_tail = p;
		queue_tail = &p->next;
	}
}

static struct pair *
pair_of(struct end *e)
{
	/* The visitor's end is the first member. */
	bool is_target = e->other < e;

	return (struct pair *)(void *)(is_target ? e->other : e);
}

static void
end_add(struct end *e, struct end *other, int fd)
{
	struct epoll_event event = {
	    .events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
	    .data.ptr = e,
	};
	int on = 1;

	e->fd = fd;
	e->other = other;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	if (epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event) < 0)
		die("epoll_ctl");
}

static void
accept_all(int listener)
{
	int fd, out;

	while ((fd = accept4(listener, NULL, NULL,
		    SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
		struct pair *p = calloc(1, sizeof(*p));

		out = socket(AF_INET,
		    SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
		if (p == NULL || out < 0)
			die("a new connection");
		end_add(&p->visitor, &p->target, fd);
		if (connect(out, (struct sockaddr *)&target, sizeof(target)) <
			0 &&
		    errno != EINPROGRESS)
			die("connect");
		end_add(&p->target, &p->visitor, out);
	}
	if (errno != EAGAIN && errno != ECONNABORTED)
		die("accept");
}

static void
on_event(struct end *e, uint32_t events)
{
	if (pair_of(e)->dead)
		return;
	if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
		e->readable = true;
	if (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR))
		e->ending = true;
	if (events & (EPOLLOUT | EPOLLERR))
		e->writable = true;
	pair_step(pair_of(e));
}

/* Those that had more to do get their turn again, once each. */
static void
run_queue(void)
{
	struct pair *p = queue, *next;

	queue = NULL;
	queue_tail = &queue;
	for (; p != NULL; p = next) {
		next = p->next;
		p->queued = false;
		pair_step(p);
	}
	/* None of the dead is queued now. */
	for (; dead != NULL; dead = p) {
		p = dead->next_dead;
		free(dead);
	}
}

static struct sockaddr_in
address(const char *text)
{
	struct sockaddr_in a = {.sin_family = AF_INET};
	const char *colon = strrchr(text, ':');
	char host[64] = "";

	if (colon != NULL && (size_t)(colon - text) < sizeof(host)) {
		memcpy(host, text, (size_t)(colon - text));
		a.sin_port = htons((uint16_t)strtoul(colon + 1, NULL, 10));
	}
	if (inet_pton(AF_INET, host, &a.sin_addr) != 1 || a.sin_port == 0) {
		fprintf(stderr, "relay: %s: not ADDRESS:PORT\n", text);
		exit(2);
	}
	return a;
}

static int
listen_on(const char *text)
{
	struct sockaddr_in at = address(text);
	struct epoll_event event = {.events = EPOLLIN};
	int fd, on = 1;

	fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (fd < 0 || bind(fd, (struct sockaddr *)&at, sizeof(at)) < 0 ||
	    listen(fd, BACKLOG) < 0 ||
	    epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event) < 0)
		die(text);
	return fd;
}

int
main(int argc, char **argv)
{
	struct rlimit files = {65536, 65536};
	struct epoll_event events[EVENTS];
	int listener, n;

	if (argc != 3) {
		fputs("usage: relay ADDRESS:PORT TARGET:PORT\n", stderr);
		return 2;
	}
	if (setrlimit(RLIMIT_NOFILE, &files) < 0 &&
	    getrlimit(RLIMIT_NOFILE, &files) == 0) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
	signal(SIGPIPE, SIG_IGN);
	poller = epoll_create1(EPOLL_CLOEXEC);
	target = address(argv[2]);
	listener = listen_on(argv[1]);
	for (;;) {
		n = epoll_wait(poller, events, EVENTS, queue == NULL ? -1 : 0);
		for (int i = 0; i < n; i++) {
			if (events[i].data.ptr == NULL)
				accept_all(listener);
			else
				on_event(events[i].data.ptr, events[i].events);
		}
		run_queue();
	}
}
