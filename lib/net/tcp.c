#include "net/tcp.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/address.h"

/* What only a socket needs that is finished and not yet closed. */
struct lingering {
	struct tcp *tcp;
	struct timer timer;
	uint64_t until; /* us */
	size_t discarded;
	struct work abandon; /* when the loop closes meanwhile */
	void (*gone)(struct tcp *);
};

static void
discard(struct tcp *t);

static void
on_ready(struct watch *w, uint32_t events)
{
	struct tcp *t = container_of(w, struct tcp, watch);

	if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
		t->readable = true;
	if (events & (EPOLLOUT | EPOLLHUP | EPOLLERR))
		t->writable = true;
	if (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR))
		t->hung_up = true;
	if (events & EPOLLPRI)
		t->urgent = true;
	if (events & EPOLLERR)
		t->failed = true;
	if (t->finished)
		discard(t);
	else
		t->notify(t);
}

int
tcp_open(struct tcp *t, struct loop *loop, int fd, void (*notify)(struct tcp *))
{
	*t = (struct tcp){.loop = loop, .notify = notify};
	t->watch.ready = on_ready;
	t->watch.fd = fd;
	return tcp_watch(t);
}

int
tcp_watch(struct tcp *t)
{
	return loop_watch(t->loop, &t->watch, t->watch.fd,
	    EPOLLIN | EPOLLOUT | EPOLLPRI | EPOLLRDHUP | EPOLLET);
}

ssize_t
tcp_read(struct tcp *t, void *buf, size_t len)
{
	ssize_t n;

	do
		n = recv(t->watch.fd, buf, len, 0);
	while (n < 0 && errno == EINTR);
	/*
	 * Fewer bytes than asked for: the socket is empty, and the next event
	 * tells of more (epoll(7)); unless an end is in sight, for which there
	 * may be no further event, or urgent data cut the read short.
	 */
	if (n < 0 || ((size_t)n < len && !t->hung_up && !t->urgent))
		t->readable = false;
	if (n < 0)
		t->urgent = false;
	if (n == 0)
		t->ended = true;
	return n;
}

ssize_t
tcp_write(struct tcp *t, const struct iovec *iov, int count)
{
	struct msghdr m = {
	    .msg_iov = (struct iovec *)iov,
	    .msg_iovlen = (size_t)count,
	};
	ssize_t n;

	do
		n = sendmsg(t->watch.fd, &m, MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	if (n < 0 && errno == EAGAIN)
		t->writable = false;
	return n;
}

void
tcp_shut(struct tcp *t)
{
	shutdown(t->watch.fd, SHUT_WR);
}

int
tcp_error(struct tcp *t)
{
	socklen_t len = sizeof(int);
	int error = 0;

	if (getsockopt(t->watch.fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0)
		return errno;
	return error;
}

static void
linger_end(struct tcp *t)
{
	struct driver *d = &t->loop->driver;
	struct lingering *l = t->lingering;
	void (*gone)(struct tcp *) = l->gone;

	timer_cancel(&d->timers, &l->timer);
	work_cancel(&l->abandon);
	allocator_free(d->allocator, l);
	tcp_close(t, false);
	gone(t);
}

static bool
more_to_discard(const struct tcp *t)
{
	return t->readable && t->lingering->discarded < TCP_LINGER_BYTES;
}

static void
discard(struct tcp *t)
{
	struct driver *d = &t->loop->driver;
	uint8_t sink[16384]; /* not d->scratch: a session may be in it */
	ssize_t n;
	int i;

	/*
	 * A sender at line rate must not keep the worker here; nor, in all,
	 * for what nobody wants: behind TCP_LINGER_BYTES it waits in vain for
	 * room.
	 */
	for (i = 0; i < 16 && more_to_discard(t); i++) {
		n = recv(t->watch.fd, sink, sizeof(sink), 0);
		if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
			linger_end(t);
			return;
		}
		if (n > 0)
			t->lingering->discarded += (size_t)n;
		else if (errno == EAGAIN)
			t->readable = false;
	}
	timer_set(&d->timers, &t->lingering->timer,
	    more_to_discard(t) ? d->now + 1 : t->lingering->until);
}

static void
on_linger_timer(struct timer *timer)
{
	struct lingering *l = container_of(timer, struct lingering, timer);

	if (l->tcp->loop->driver.now >= l->until)
		linger_end(l->tcp);
	else
		discard(l->tcp);
}

static void
on_abandon(struct work *w)
{
	linger_end(container_of(w, struct lingering, abandon)->tcp);
}

static bool
linger(struct tcp *t, uint64_t until, void (*gone)(struct tcp *))
{
	struct lingering *l;

	l = allocator_new(t->loop->driver.allocator, sizeof(*l));
	if (l == NULL)
		return false;
	l->tcp = t;
	l->timer.expired = on_linger_timer;
	l->until = until;
	l->gone = gone;
	work_init(&l->abandon, on_abandon);
	loop_at_close(t->loop, &l->abandon);
	t->finished = true;
	t->lingering = l;
	return true;
}

void
tcp_finish(struct tcp *t, void (*gone)(struct tcp *))
{
	uint64_t until = t->loop->driver.now + TCP_LINGER_US;

	if (t->ended || t->failed || !linger(t, until, gone)) {
		tcp_close(t, false);
		gone(t);
		return;
	}
	tcp_shut(t);
	discard(t);
}

void
tcp_save_finished(const struct loop *loop, struct image_writer *w)
{
	const struct lingering *l;
	const struct work *work;
	const struct list *i;

	for (i = loop->at_close.next; i != &loop->at_close; i = i->next) {
		work = container_of(i, struct work, node);
		if (work->run != on_abandon)
			continue;
		l = container_of(work, struct lingering, abandon);
		image_put(w, 1);
		image_put(w, l->until);
		image_put(w, l->discarded);
		image_put_fd(w, l->tcp->watch.fd);
	}
	image_put(w, 0);
}

static void
loaded_gone(struct tcp *t)
{
	free(t);
}

static bool
load_one(struct loop *loop, struct image_reader *r)
{
	uint64_t until = image_take(r, UINT64_MAX >> 2);
	size_t discarded = image_take(r, UINT32_MAX);
	int fd = image_take_fd(r);
	struct tcp *t;

	if (fd < 0)
		return false;
	t = calloc(1, sizeof(*t));
	if (t == NULL || tcp_open(t, loop, fd, NULL) < 0 ||
	    !linger(t, until, loaded_gone))
		return false;
	t->lingering->discarded = discarded;
	timer_set(&loop->driver.timers, &t->lingering->timer, until);
	return true;
}

bool
tcp_load_finished(struct loop *loop, struct image_reader *r)
{
	while (image_take_bool(r))
		if (!load_one(loop, r))
			return false;
	return !r->failed;
}

void
tcp_close(struct tcp *t, bool reset)
{
	struct linger l = {.l_onoff = 1, .l_linger = 0};

	if (reset)
		setsockopt(t->watch.fd, SOL_SOCKET, SO_LINGER, &l, sizeof(l));
	loop_close_watched(t->loop, &t->watch);
}

int
tcp_release(struct tcp *t)
{
	int fd = t->watch.fd;

	loop_unwatch(t->loop, &t->watch);
	t->watch.fd = -1;
	return fd;
}

/* The carrier. */
struct tcp_carrier {
	struct carrier carrier;
	struct tcp tcp;
};

static void
carrier_sync(struct tcp_carrier *c)
{
	c->carrier.readable = c->tcp.readable;
	c->carrier.writable = c->tcp.writable;
}

static void
carrier_notify(struct tcp *t)
{
	struct tcp_carrier *c = container_of(t, struct tcp_carrier, tcp);

	carrier_sync(c);
	if (c->carrier.notify != NULL)
		c->carrier.notify(c->carrier.owner);
}

static ssize_t
carrier_read(struct carrier *base, void *buf, size_t len)
{
	struct tcp_carrier *c = container_of(base, struct tcp_carrier, carrier);
	ssize_t n = tcp_read(&c->tcp, buf, len);

	carrier_sync(c);
	return n;
}

static ssize_t
carrier_write(struct carrier *base, const struct iovec *iov, int count)
{
	struct tcp_carrier *c = container_of(base, struct tcp_carrier, carrier);
	ssize_t n = tcp_write(&c->tcp, iov, count);

	carrier_sync(c);
	return n;
}

static void
carrier_gone(struct tcp *t)
{
	struct tcp_carrier *c = container_of(t, struct tcp_carrier, tcp);

	allocator_free(t->loop->driver.allocator, c);
}

static void
carrier_close(struct carrier *base)
{
	struct tcp_carrier *c = container_of(base, struct tcp_carrier, carrier);

	tcp_finish(&c->tcp, carrier_gone);
}

int
tcp_carrier_fd(const struct carrier *base)
{
	return container_of(base, struct tcp_carrier, carrier)->tcp.watch.fd;
}

static const struct carrier_ops tcp_ops = {
    carrier_read,
    carrier_write,
    carrier_close,
};

struct carrier *
tcp_carrier_new(struct loop *loop, int fd)
{
	struct tcp_carrier *c;
	int saved;

	c = allocator_new(loop->driver.allocator, sizeof(*c));
	if (c == NULL) {
		errno = ENOMEM;
		return NULL;
	}
	if (tcp_open(&c->tcp, loop, fd, carrier_notify) < 0) {
		saved = errno;
		allocator_free(loop->driver.allocator, c);
		errno = saved;
		return NULL;
	}
	address_tune_carrier(fd);
	c->carrier.ops = &tcp_ops;
	/* A connected socket takes bytes, and may have some: try. */
	c->tcp.readable = c->tcp.writable = true;
	carrier_sync(c);
	return &c->carrier;
}

struct carrier *
tcp_carrier_take(struct tcp *t)
{
	struct loop *loop = t->loop;
	struct carrier *c;
	int fd, saved;

	fd = tcp_release(t);
	free(t);
	c = tcp_carrier_new(loop, fd);
	if (c == NULL) {
		saved = errno;
		close(fd);
		errno = saved;
	}
	return c;
}
