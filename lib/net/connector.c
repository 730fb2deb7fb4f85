#include "net/connector.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static struct timers *
timers_of(const struct connector *c)
{
	return &c->loop->driver.timers;
}

/* Stop watching; the descriptor is still there. */
static int
release(struct connector_attempt *a)
{
	timer_cancel(timers_of(a->connector), &a->deadline);
	loop_unwatch(a->connector->loop, &a->watch);
	a->address = NULL;
	return a->watch.fd;
}

static void
give_up(struct connector_attempt *a)
{
	timer_cancel(timers_of(a->connector), &a->deadline);
	loop_close_watched(a->connector->loop, &a->watch);
	a->address = NULL;
}

void
connector_cancel(struct connector *c)
{
	unsigned i;

	if (c->loop == NULL)
		return;
	if (c->lookup != NULL)
		lookup_cancel(c->lookup);
	work_cancel(&c->first);
	timer_cancel(timers_of(c), &c->pace);
	for (i = 0; i < CONNECTOR_ATTEMPTS; i++)
		if (c->attempts[i].address != NULL)
			give_up(&c->attempts[i]);
	c->lookup = NULL;
	c->loop = NULL;
}

/* c may be gone behind this. */
static void
finish(struct connector *c, int fd, const struct address *address,
    const char *why)
{
	struct address copy;

	/* What done does to c must not change what it was told. */
	if (address != NULL)
		copy = *address;
	connector_cancel(c);
	c->done(c->context, fd, address != NULL ? &copy : NULL, why);
}

/* How much an error says of the host. */
static unsigned
weight_of(int error)
{
	switch (error) {
	case 0:
		return 0;
	case EADDRNOTAVAIL:
	case EAFNOSUPPORT:
	case ENETUNREACH:
		/* This machine has no address of that family. */
		return 1;
	case ETIMEDOUT:
		return 2;
	default:
		return 3;
	}
}

static void
note_error(struct connector *c, const struct address *address, int error)
{
	if (weight_of(error) <= weight_of(c->error))
		return;
	c->error = error;
	c->failed = address;
}

/* The next one does not wait when it was the newest that failed. */
static void
attempt_failed(struct connector_attempt *a, int error)
{
	struct connector *c = a->connector;

	note_error(c, a->address, error);
	give_up(a);
	if (a == c->newest)
		c->due = 0;
}

static struct connector_attempt *
unused_attempt(struct connector *c)
{
	unsigned i;

	for (i = 0; i < CONNECTOR_ATTEMPTS; i++)
		if (c->attempts[i].address == NULL)
			return &c->attempts[i];
	return NULL;
}

/* 1: it is connected; 0: it connects; -1: it failed, with errno. */
static int
attempt_begin(struct connector_attempt *a, const struct address *address)
{
	struct connector *c = a->connector;
	int fd, saved;
	bool connected;

	fd = address_connect(address, &connected);
	if (fd < 0)
		return -1;
	if (!connected && loop_watch(c->loop, &a->watch, fd, EPOLLOUT) < 0) {
		saved = errno;
		close(fd);
		errno = saved;
		return -1;
	}
	a->watch.fd = fd;
	if (connected)
		return 1;
	a->address = address;
	timer_set(timers_of(c), &a->deadline, c->loop->driver.now + c->timeout);
	return 0;
}

/* Begin the next one.  True when that ended it all; c may be gone. */
static bool
begin_next(struct connector *c, struct connector_attempt *a)
{
	const struct address *address = &c->addresses[c->next++];
	int r = attempt_begin(a, address);

	if (r == 1) {
		finish(c, a->watch.fd, address, NULL);
		return true;
	}
	if (r < 0) {
		note_error(c, address, errno);
		return false;
	}
	c->newest = a;
	c->due = c->loop->driver.now + CONNECTOR_PACE_US;
	return false;
}

static bool
any_runs(const struct connector *c)
{
	unsigned i;

	for (i = 0; i < CONNECTOR_ATTEMPTS; i++)
		if (c->attempts[i].address != NULL)
			return true;
	return false;
}

/* Begin what is due, and see to it that the rest is.  c may be gone then. */
static void
go_on(struct connector *c)
{
	struct connector_attempt *a = NULL;

	timer_cancel(timers_of(c), &c->pace);
	while (c->next < c->naddresses && (a = unused_attempt(c)) != NULL &&
	    c->due <= c->loop->driver.now)
		if (begin_next(c, a))
			return;
	if (c->next == c->naddresses && !any_runs(c))
		finish(c, -1, c->failed,
		    c->error == ETIMEDOUT ? "no answer in time" :
					    strerror(c->error));
	else if (c->next < c->naddresses && a != NULL)
		timer_set(timers_of(c), &c->pace, c->due);
}

static void
on_pace(struct timer *t)
{
	go_on(container_of(t, struct connector, pace));
}

static void
on_first(struct work *w)
{
	go_on(container_of(w, struct connector, first));
}

static void
on_deadline(struct timer *t)
{
	struct connector_attempt *a =
	    container_of(t, struct connector_attempt, deadline);

	attempt_failed(a, ETIMEDOUT);
	go_on(a->connector);
}

static void
on_ready(struct watch *w, uint32_t events)
{
	struct connector_attempt *a =
	    container_of(w, struct connector_attempt, watch);
	struct connector *c = a->connector;
	const struct address *address = a->address;
	socklen_t len = sizeof(int);
	int error = 0;

	if (getsockopt(w->fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0)
		error = errno;
	/* Both directions are shut, and nobody says why. */
	if (error == 0 && (events & (EPOLLERR | EPOLLHUP)) != 0)
		error = ECONNRESET;
	if (error == 0) {
		finish(c, release(a), address, NULL);
		return;
	}
	attempt_failed(a, error);
	go_on(c);
}

/* The first one, then by turns one of the other family and one of its own. */
static void
take_addresses(struct connector *c, const struct address *from, size_t n)
{
	bool taken[RESOLVER_ADDRESSES] = {false};
	sa_family_t last = 0;
	size_t i, pick;

	if (n > RESOLVER_ADDRESSES)
		n = RESOLVER_ADDRESSES;
	while (c->naddresses < n) {
		pick = n;
		for (i = 0; i < n; i++) {
			if (taken[i])
				continue;
			if (pick == n)
				pick = i;
			if (from[i].sa.sa_family != last) {
				pick = i;
				break;
			}
		}
		taken[pick] = true;
		last = from[pick].sa.sa_family;
		c->addresses[c->naddresses++] = from[pick];
	}
}

static void
on_resolved(void *context, const struct address *addresses, size_t n,
    const char *why)
{
	struct connector *c = context;

	c->lookup = NULL;
	if (n == 0) {
		finish(c, -1, NULL, why);
		return;
	}
	take_addresses(c, addresses, n);
	go_on(c);
}

static void
prepare(struct connector *c, struct loop *loop, uint64_t timeout_us,
    connector_done *done, void *context)
{
	unsigned i;

	memset(c, 0, sizeof(*c));
	c->loop = loop;
	c->done = done;
	c->context = context;
	c->timeout = timeout_us;
	work_init(&c->first, on_first);
	c->pace.expired = on_pace;
	for (i = 0; i < CONNECTOR_ATTEMPTS; i++) {
		c->attempts[i].connector = c;
		c->attempts[i].watch.ready = on_ready;
		c->attempts[i].watch.slot = LOOP_NO_SLOT;
		c->attempts[i].deadline.expired = on_deadline;
	}
}

int
connector_start_addresses(struct connector *c, struct loop *loop,
    const struct address *addresses, size_t n, uint64_t timeout_us,
    connector_done *done, void *context)
{
	if (n == 0) {
		errno = EINVAL;
		return -1;
	}
	prepare(c, loop, timeout_us, done, context);
	take_addresses(c, addresses, n);
	driver_defer(&loop->driver, &c->first);
	return 0;
}

int
connector_start(struct connector *c, struct loop *loop,
    struct resolver *resolver, const struct hostport *host, uint64_t timeout_us,
    connector_done *done, void *context)
{
	struct address numeric;

	if (host->host[0] == '\0') {
		errno = EINVAL;
		return -1;
	}
	if (address_numeric(host->host, host->port, &numeric))
		return connector_start_addresses(c, loop, &numeric, 1,
		    timeout_us, done, context);
	prepare(c, loop, timeout_us, done, context);
	c->lookup = resolver_start(resolver, loop, host->host, host->port,
	    on_resolved, c);
	if (c->lookup != NULL)
		return 0;
	c->loop = NULL;
	errno = EAGAIN;
	return -1;
}
