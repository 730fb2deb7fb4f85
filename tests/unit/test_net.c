/*
 * Timers, the driver, the event loop, the resolver and addresses.
 */
#include <errno.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "memory.h"
#include "net/address.h"
#include "net/loop.h"
#include "net/resolver.h"
#include "net/tcp.h"
#include "unit.h"

#define TIMERS 300

struct timed {
	struct timer timer;
	bool set, ran;
	uint64_t at;
};

static uint64_t last_ran;
static unsigned runs;

static void
on_timer(struct timer *t)
{
	struct timed *d = container_of(t, struct timed, timer);

	CU_ASSERT_FALSE(t->set);
	CU_ASSERT_TRUE(d->set);
	CU_ASSERT_EQUAL(t->at, d->at);
	CU_ASSERT(t->at >= last_ran);
	last_ran = t->at;
	d->set = false;
	d->ran = true;
	runs++;
}

/* The first of the model. */
static uint64_t
first_of(const struct timed *d)
{
	uint64_t first = UINT64_MAX;
	unsigned i;

	for (i = 0; i < TIMERS; i++)
		if (d[i].set && d[i].at < first)
			first = d[i].at;
	return first;
}

static void
test_timers(void)
{
	static struct timed d[TIMERS];
	struct timers timers = {0};
	uint64_t now = 0;
	unsigned i, k, n;

	srand(3);
	for (i = 0; i < TIMERS; i++)
		d[i].timer.expired = on_timer;
	for (i = 0; i < 100000; i++) {
		k = (unsigned)rand() % TIMERS;
		n = (unsigned)rand() % 10;
		if (n < 7) {
			d[k].at = now + (unsigned)rand() % 1000;
			d[k].set = true;
			timer_set(&timers, &d[k].timer, d[k].at);
		} else if (n < 9) {
			d[k].set = false;
			timer_cancel(&timers, &d[k].timer);
		} else {
			now += (unsigned)rand() % 20;
			last_ran = 0;
			timers_run(&timers, now);
			CU_ASSERT(first_of(d) > now);
		}
		CU_ASSERT_EQUAL_FATAL(d[k].timer.set, d[k].set);
		if (i % 16 == 0)
			CU_ASSERT_EQUAL_FATAL(timers_next(&timers),
			    first_of(d));
	}
	CU_ASSERT(runs > 1000);
	last_ran = 0;
	timers_run(&timers, UINT64_MAX - 1);
	CU_ASSERT_EQUAL(timers_next(&timers), UINT64_MAX);
}

static struct driver driver;
static struct work works[3];
static char order[16];

static void
on_work(struct work *w)
{
	size_t n = strlen(order), i = (size_t)(w - works);

	order[n] = (char)('a' + i);
	order[n + 1] = '\0';
	if (i == 0 && n < 4) {
		driver_defer(&driver, &works[2]);
		driver_defer(&driver, &works[0]);
	}
}

static void
test_work(void)
{
	struct memory m;
	int i;

	memory_init(&m);
	CU_ASSERT_EQUAL_FATAL(driver_init(&driver, &m.allocator), 0);
	for (i = 0; i < 3; i++)
		work_init(&works[i], on_work);
	driver_defer(&driver, &works[1]);
	driver_defer(&driver, &works[0]);
	driver_defer(&driver, &works[1]);
	driver_run_work(&driver);
	/* What was put off meanwhile waits. */
	CU_ASSERT_STRING_EQUAL(order, "ba");
	CU_ASSERT_TRUE(driver_has_work(&driver));
	driver_run_work(&driver);
	CU_ASSERT_STRING_EQUAL(order, "baca");
	driver_run_work(&driver);
	driver_run_work(&driver);
	CU_ASSERT_STRING_EQUAL(order, "bacaca");
	CU_ASSERT_FALSE(driver_has_work(&driver));
	driver_defer(&driver, &works[1]);
	work_cancel(&works[1]);
	work_cancel(&works[1]);
	driver_run_work(&driver);
	CU_ASSERT_STRING_EQUAL(order, "bacaca");
	driver_close(&driver);
	CU_ASSERT_EQUAL(m.held, 0);
}

#define POSTERS 4
#define POSTS 2000

struct note {
	struct message message;
	struct loop *loop;
	unsigned from, n;
};

static unsigned next_of[POSTERS], delivered;

static void
on_note(struct message *m)
{
	struct note *n = container_of(m, struct note, message);

	CU_ASSERT_EQUAL(n->n, next_of[n->from]);
	next_of[n->from]++;
	if (++delivered == POSTERS * POSTS)
		loop_stop(n->loop);
	free(n);
}

struct poster {
	pthread_t thread;
	struct loop *loop;
	unsigned from;
};

static void *
post(void *argument)
{
	struct poster *p = argument;
	struct note *n;
	unsigned i;

	for (i = 0; i < POSTS; i++) {
		n = calloc(1, sizeof(*n));
		n->message.deliver = on_note;
		n->loop = p->loop;
		n->from = p->from;
		n->n = i;
		loop_post(p->loop, &n->message);
	}
	return NULL;
}

static void
test_messages(void)
{
	struct poster p[POSTERS];
	struct loop l;
	unsigned i;

	CU_ASSERT_EQUAL_FATAL(loop_init(&l, &allocator_system), 0);
	for (i = 0; i < POSTERS; i++) {
		p[i].loop = &l;
		p[i].from = i;
		if (pthread_create(&p[i].thread, NULL, post, &p[i]) != 0)
			abort();
	}
	loop_run(&l);
	CU_ASSERT_EQUAL(delivered, POSTERS * POSTS);
	for (i = 0; i < POSTERS; i++)
		pthread_join(p[i].thread, NULL);
	/* One that is left is delivered at the close. */
	delivered = 0;
	next_of[0] = 0;
	p[0].from = 0;
	{
		struct note *n = calloc(1, sizeof(*n));

		n->message.deliver = on_note;
		n->loop = &l;
		loop_post(&l, &n->message);
	}
	loop_close(&l);
	CU_ASSERT_EQUAL(delivered, 1);
}

/* Two are ready at once; the first takes the second away. */
struct pair_watch {
	struct watch watch;
	struct pair_watch *other;
	struct loop *loop;
	unsigned events;
	bool replace;
};

static struct pair_watch third;

static void
on_pair(struct watch *w, uint32_t events)
{
	struct pair_watch *p = container_of(w, struct pair_watch, watch);
	int fd;

	(void)events;
	p->events++;
	if (p->other != NULL) {
		fd = p->other->watch.fd;
		loop_unwatch(p->loop, &p->other->watch);
		loop_unwatch(p->loop, &p->other->watch);
		/* Its slot, and its number, are given to another at once. */
		if (p->replace) {
			third.watch.ready = on_pair;
			third.loop = p->loop;
			CU_ASSERT_EQUAL(loop_watch(p->loop, &third.watch, fd,
					    EPOLLOUT | EPOLLET),
			    0);
		}
	}
	if (!p->replace || p == &third)
		loop_stop(p->loop);
}

static void
test_stale_events(void)
{
	struct pair_watch a, b;
	struct loop l;
	unsigned i;
	int fd[2];

	for (i = 0; i < 2; i++) {
		CU_ASSERT_EQUAL_FATAL(loop_init(&l, &allocator_system), 0);
		third = (struct pair_watch){.events = 0};
		a = (struct pair_watch){
		    .watch.ready = on_pair,
		    .other = &b,
		    .loop = &l,
		    .replace = i,
		};
		b = a;
		b.other = &a;
		fd[0] = eventfd(1, EFD_NONBLOCK);
		fd[1] = eventfd(1, EFD_NONBLOCK);
		loop_watch(&l, &a.watch, fd[0], EPOLLIN | EPOLLET);
		loop_watch(&l, &b.watch, fd[1], EPOLLIN | EPOLLET);
		loop_run(&l);
		CU_ASSERT_EQUAL(a.events + b.events, 1);
		CU_ASSERT_EQUAL(third.events, i);
		loop_unwatch(&l, &a.watch);
		loop_unwatch(&l, &b.watch);
		if (i == 1)
			loop_unwatch(&l, &third.watch);
		close(fd[0]);
		close(fd[1]);
		loop_close(&l);
	}
}

struct stopper {
	struct timer timer;
	struct loop *loop;
};

static void
on_stop(struct timer *t)
{
	loop_stop(container_of(t, struct stopper, timer)->loop);
}

/* Many watches: the slots grow; and a timer ends it. */
static void
test_many_watches(void)
{
	static struct pair_watch w[300];
	struct stopper stop = {.timer.expired = on_stop};
	struct memory m;
	struct loop l;
	unsigned i;

	memory_init(&m);
	CU_ASSERT_EQUAL_FATAL(loop_init(&l, &m.allocator), 0);
	for (i = 0; i < 300; i++) {
		w[i].loop = &l;
		w[i].watch.ready = on_pair;
		CU_ASSERT_EQUAL(loop_watch(&l, &w[i].watch,
				    eventfd(0, EFD_NONBLOCK), EPOLLIN),
		    0);
	}
	CU_ASSERT_EQUAL(loop_watch(&l, &third.watch, -1, EPOLLIN), -1);
	CU_ASSERT_EQUAL(third.watch.slot, LOOP_NO_SLOT);
	stop.loop = &l;
	timer_set(&l.driver.timers, &stop.timer, l.driver.now + 2 * MS);
	loop_run(&l);
	CU_ASSERT(loop_clock() >= l.driver.now);
	for (i = 0; i < 300; i++) {
		CU_ASSERT_EQUAL(w[i].events, 0);
		loop_unwatch(&l, &w[i].watch);
		close(w[i].watch.fd);
	}
	loop_close(&l);
	CU_ASSERT_EQUAL(m.held, 0);
}

struct answer {
	struct loop *loop;
	unsigned calls;
	size_t n;
	bool why;
	struct address first;
};

static void
on_answer(void *context, const struct address *a, size_t n, const char *why)
{
	struct answer *r = context;

	r->calls++;
	r->n = n;
	r->why = why != NULL;
	if (n > 0)
		r->first = a[0];
	loop_stop(r->loop);
}

static void
test_resolver(void)
{
	/* Its threads outlive the test: STYLE.md, "until the process ends". */
	static struct resolver r, closed;
	static struct answer a, none, cancelled, late;
	char text[ADDRESS_TEXT_MAX], host[HOSTPORT_HOST_MAX + 2];
	struct lookup *lookup;
	struct loop l;

	resolver_init(&r);
	CU_ASSERT_EQUAL_FATAL(loop_init(&l, &allocator_system), 0);
	a.loop = none.loop = cancelled.loop = late.loop = &l;
	CU_ASSERT_PTR_NOT_NULL(
	    resolver_start(&r, &l, "localhost", 81, on_answer, &a));
	loop_run(&l);
	CU_ASSERT_EQUAL(a.calls, 1);
	CU_ASSERT(a.n >= 1 && a.n <= RESOLVER_ADDRESSES);
	CU_ASSERT_EQUAL(address_port(&a.first), 81);
	address_format_host(&a.first, text, sizeof(text));
	CU_ASSERT(strcmp(text, "127.0.0.1") == 0 || strcmp(text, "::1") == 0);

	/* Cancelled; the other one that is started behind it comes. */
	lookup = resolver_start(&r, &l, "127.0.0.1", 1, on_answer, &cancelled);
	CU_ASSERT_PTR_NOT_NULL_FATAL(lookup);
	lookup_cancel(lookup);
	l.stopped = false;
	resolver_start(&r, &l, "does-not-exist.invalid", 1, on_answer, &none);
	loop_run(&l);
	CU_ASSERT_EQUAL(cancelled.calls, 0);
	CU_ASSERT_EQUAL(none.calls, 1);
	CU_ASSERT_EQUAL(none.n, 0);
	CU_ASSERT_TRUE(none.why);

	memset(host, 'h', sizeof(host));
	host[sizeof(host) - 1] = '\0';
	CU_ASSERT_PTR_NULL(resolver_start(&r, &l, host, 1, on_answer, &late));
	resolver_close(&r);
	CU_ASSERT_PTR_NULL(
	    resolver_start(&r, &l, "localhost", 1, on_answer, &late));
	loop_close(&l);

	/* Closed while some run and some wait. */
	resolver_init(&closed);
	CU_ASSERT_EQUAL_FATAL(loop_init(&l, &allocator_system), 0);
	for (a.calls = 0; a.calls < 50; a.calls++) {
		lookup = resolver_start(&closed, &l, "localhost", 1, on_answer,
		    &late);
		if (lookup != NULL)
			lookup_cancel(lookup);
	}
	resolver_close(&closed);
	loop_close(&l);
	CU_ASSERT_EQUAL(late.calls, 0);
}

static void
test_addresses(void)
{
	static const struct {
		const char *host, *text;
		bool numeric;
	} rows[] = {
	    {"127.0.0.1", "127.0.0.1:80", true},
	    {"::1", "[::1]:80", true},
	    {"::", "[::]:80", true},
	    {"::ffff:1.2.3.4", "1.2.3.4:80", true},
	    {"2001:db8::1", "[2001:db8::1]:80", true},
	    {"1", NULL, false},
	    {"127.1", NULL, false},
	    {"0x7f.0.0.1", NULL, false},
	    {"localhost", NULL, false},
	    {"1.2.3.4.5", NULL, false},
	    {"256.1.1.1", NULL, false},
	    {"", NULL, false},
	    {"[::1]", NULL, false},
	    {"1:2", NULL, false},
	    {" 127.0.0.1", NULL, false},
	};
	char text[ADDRESS_TEXT_MAX];
	struct address a, b;
	size_t i;

	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		CU_ASSERT_EQUAL(address_numeric(rows[i].host, 80, &a),
		    rows[i].numeric);
		if (!rows[i].numeric)
			continue;
		CU_ASSERT_STRING_EQUAL(address_format(&a, text, sizeof(text)),
		    rows[i].text);
		CU_ASSERT_EQUAL(address_port(&a), 80);
		b = a;
		CU_ASSERT_TRUE(address_equal(&a, &b));
		address_set_port(&b, 65535);
		CU_ASSERT_FALSE(address_equal(&a, &b));
		CU_ASSERT_EQUAL(address_port(&b), 65535);
	}
	a = address_loopback(AF_INET6, 7);
	CU_ASSERT_STRING_EQUAL(address_format(&a, text, sizeof(text)),
	    "[::1]:7");
	a = address_loopback(AF_INET, 7);
	CU_ASSERT_STRING_EQUAL(address_format_host(&a, text, sizeof(text)),
	    "127.0.0.1");
}

/* Without reuseport a second listener fails; with it both share. */
static void
test_listen(void)
{
	struct address a = address_loopback(AF_INET, 0), b;
	struct hostport h = {.port = 0};
	const char *error = NULL;
	int one, two, three;
	bool connected;

	one = address_listen(&a, false);
	CU_ASSERT_FATAL(one >= 0);
	b = a;
	CU_ASSERT_EQUAL(getsockname(one, &b.sa, &b.len), 0);
	CU_ASSERT_EQUAL(address_listen(&b, false), -1);
	CU_ASSERT_EQUAL(errno, EADDRINUSE);
	CU_ASSERT_EQUAL(address_listen(&b, true), -1);
	two = address_connect(&b, &connected);
	CU_ASSERT(two >= 0);
	address_tune(two);
	close(two);
	close(one);
	/* Closed: free again, though there was a connection. */
	one = address_listen(&b, true);
	two = address_listen(&b, true);
	CU_ASSERT(one >= 0 && two >= 0);
	three = address_listen(&b, false);
	CU_ASSERT_EQUAL(three, -1);
	close(one);
	close(two);
	CU_ASSERT_EQUAL(address_to_bind(&h, &a, 1, &error), 1);
	strcpy(h.host, "127.0.0.1");
	CU_ASSERT_EQUAL(address_to_bind(&h, &a, 1, &error), 1);
	strcpy(h.host, "localhost");
	CU_ASSERT_EQUAL(address_to_bind(&h, &a, 1, &error), 1);
	CU_ASSERT_PTR_NULL(error);
}

static int
option(int fd, int level, int name)
{
	socklen_t len = sizeof(int);
	int value = -1;

	CU_ASSERT_EQUAL(getsockopt(fd, level, name, &value, &len), 0);
	return value;
}

/* What listens is tuned, and what it accepts has that from it. */
static void
test_tuned(void)
{
	struct address a = address_loopback(AF_INET, 0);
	int listener = address_listen(&a, false), other, fd;
	struct carrier *c;
	struct memory m;
	struct loop loop;
	bool connected;

	memory_init(&m);
	CU_ASSERT_EQUAL_FATAL(loop_init(&loop, &m.allocator), 0);
	CU_ASSERT_EQUAL(getsockname(listener, &a.sa, &a.len), 0);
	other = address_connect(&a, &connected);
	CU_ASSERT_FATAL(other >= 0);
	CU_ASSERT_TRUE(connected);
	CU_ASSERT(option(other, IPPROTO_TCP, TCP_NODELAY) != 0);
	fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
	CU_ASSERT_FATAL(fd >= 0);
	CU_ASSERT(option(fd, IPPROTO_TCP, TCP_NODELAY) != 0);
	CU_ASSERT(option(fd, SOL_SOCKET, SO_KEEPALIVE) != 0);
	CU_ASSERT(option(fd, IPPROTO_TCP, TCP_KEEPIDLE) <= 60);
	CU_ASSERT(option(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT) != CARRIER_UNSENT);
	c = tcp_carrier_new(&loop, fd);
	CU_ASSERT_PTR_NOT_NULL_FATAL(c);
	CU_ASSERT_EQUAL(option(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT),
	    CARRIER_UNSENT);
	CU_ASSERT(option(fd, IPPROTO_TCP, TCP_NODELAY) != 0);
	close(other);
	c->ops->close(c);
	loop_close(&loop);
	CU_ASSERT_EQUAL(m.held, 0);
	close(listener);
}

/* Of no other family than two, and never more than there is room for. */
static void
test_address_take(void)
{
	struct sockaddr_storage from;
	struct address a, b = address_loopback(AF_INET6, 9);

	memset(&from, 0xff, sizeof(from));
	memcpy(&from, &b.in6, sizeof(b.in6));
	CU_ASSERT_TRUE(
	    address_take((struct sockaddr *)&from, sizeof(from), &a));
	CU_ASSERT_TRUE(address_equal(&a, &b));
	CU_ASSERT_FALSE(address_take((struct sockaddr *)&from,
	    sizeof(struct sockaddr_in6) - 1, &a));
	CU_ASSERT_FALSE(address_take((struct sockaddr *)&from, 0, &a));
	from.ss_family = AF_INET;
	CU_ASSERT_FALSE(address_take((struct sockaddr *)&from,
	    sizeof(struct sockaddr_in) - 1, &a));
	CU_ASSERT_TRUE(
	    address_take((struct sockaddr *)&from, sizeof(from), &a));
	CU_ASSERT_EQUAL(a.len, sizeof(struct sockaddr_in));
	from.ss_family = AF_UNIX;
	CU_ASSERT_FALSE(
	    address_take((struct sockaddr *)&from, sizeof(from), &a));
	CU_ASSERT_TRUE(address_numeric("0.0.0.0", 1, &a) && address_is_any(&a));
	CU_ASSERT_TRUE(address_numeric("::", 1, &a) && address_is_any(&a));
	CU_ASSERT_FALSE(address_is_any(&b));
}

/* A socket with bytes that nobody read, and the other end of it. */
struct finishing {
	struct timer look; /* at what waits to be read */
	int unread, same;
	struct tcp tcp;
	struct loop loop;
	struct memory memory;
	int other;
	unsigned gone;
};

static void
on_notify(struct tcp *t)
{
	(void)t;
}

static void
on_gone(struct tcp *t)
{
	struct finishing *f = container_of(t, struct finishing, tcp);

	CU_ASSERT_EQUAL(t->watch.fd, -1);
	f->gone++;
	loop_stop(&f->loop);
}

static int
unread(const struct finishing *f)
{
	int n = -1;

	CU_ASSERT_EQUAL(ioctl(f->tcp.watch.fd, FIONREAD, &n), 0);
	return n;
}

/* Stop when there are bytes that nobody has read for ten looks. */
static void
on_look(struct timer *t)
{
	struct finishing *f = container_of(t, struct finishing, look);
	int n = unread(f);

	f->same = n > 0 && n == f->unread ? f->same + 1 : 0;
	f->unread = n;
	if (f->same == 10)
		loop_stop(&f->loop);
	else
		timer_set(&f->loop.driver.timers, t, loop_clock() + 20 * MS);
}

static void
finishing_init(struct finishing *f)
{
	static const char text[] = "unread";
	struct iovec iov = {(void *)text, sizeof(text)};
	struct address a = address_loopback(AF_INET, 0);
	int listener = address_listen(&a, false), fd;

	*f = (struct finishing){.gone = 0};
	memory_init(&f->memory);
	CU_ASSERT_EQUAL_FATAL(loop_init(&f->loop, &f->memory.allocator), 0);
	CU_ASSERT_EQUAL(getsockname(listener, &a.sa, &a.len), 0);
	f->other = socket(AF_INET, SOCK_STREAM, 0);
	CU_ASSERT_EQUAL(connect(f->other, &a.sa, a.len), 0);
	fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
	CU_ASSERT_EQUAL_FATAL(tcp_open(&f->tcp, &f->loop, fd, on_notify), 0);
	close(listener);
	CU_ASSERT_EQUAL(send(f->other, text, sizeof(text), 0), sizeof(text));
	CU_ASSERT_EQUAL(tcp_write(&f->tcp, &iov, 1), sizeof(text));
}

static void
finishing_close(struct finishing *f)
{
	loop_close(&f->loop);
	CU_ASSERT_EQUAL(f->gone, 1);
	CU_ASSERT_EQUAL(f->memory.held, 0);
	close(f->other);
}

static void
test_finish(void)
{
	struct finishing f;
	char buf[64];

	/* It lingers until the other end has read all and closes. */
	finishing_init(&f);
	f.tcp.readable = true;
	tcp_finish(&f.tcp, on_gone);
	CU_ASSERT_EQUAL(f.gone, 0);
	CU_ASSERT_EQUAL(recv(f.other, buf, sizeof(buf), 0), 7);
	CU_ASSERT_EQUAL(recv(f.other, buf, sizeof(buf), 0), 0);
	shutdown(f.other, SHUT_WR);
	loop_run(&f.loop);
	finishing_close(&f);
	/* The loop is closed meanwhile. */
	finishing_init(&f);
	tcp_finish(&f.tcp, on_gone);
	CU_ASSERT_EQUAL(f.gone, 0);
	finishing_close(&f);
	/* Without memory it closes at once. */
	finishing_init(&f);
	memory_fail(&f.memory, 1, SIZE_MAX);
	tcp_finish(&f.tcp, on_gone);
	CU_ASSERT_EQUAL(f.gone, 1);
	finishing_close(&f);
	/* And so it does when the other end is done. */
	finishing_init(&f);
	f.tcp.ended = true;
	tcp_finish(&f.tcp, on_gone);
	CU_ASSERT_EQUAL(f.gone, 1);
	finishing_close(&f);
}

/* Sends without end and without waiting; until it is refused. */
static void *
send_on(void *argument)
{
	static const char text[16384] = "";
	const struct finishing *f = argument;
	size_t sent = 0;
	ssize_t n;

	while ((n = send(f->other, text, sizeof(text), MSG_NOSIGNAL)) > 0)
		sent += (size_t)n;
	return (void *)sent;
}

/*
 * Of a sender without end so much is discarded, then it waits for room that
 * does not come.
 */
static void
test_finish_has_a_bound(void)
{
	int size = 65536;
	struct finishing f;
	pthread_t thread;
	void *sent;

	finishing_init(&f);
	/* What the kernel holds is no more than this, both ways. */
	setsockopt(f.other, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	setsockopt(f.tcp.watch.fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
	f.tcp.readable = true;
	tcp_finish(&f.tcp, on_gone);
	CU_ASSERT_EQUAL_FATAL(pthread_create(&thread, NULL, send_on, &f), 0);
	f.look.expired = on_look;
	timer_set(&f.loop.driver.timers, &f.look, loop_clock());
	loop_run(&f.loop);
	/* Its time is not over, and what it has is not read. */
	CU_ASSERT_EQUAL_FATAL(f.gone, 0);
	CU_ASSERT(unread(&f) > 0);
	/* It is closed with bytes in it: the sender is told. */
	loop_close(&f.loop);
	CU_ASSERT_EQUAL(f.gone, 1);
	pthread_join(thread, &sent);
	CU_ASSERT((size_t)sent >= TCP_LINGER_BYTES);
	CU_ASSERT((size_t)sent <= TCP_LINGER_BYTES + 16384 + 8 * (size_t)size);
	CU_ASSERT_EQUAL(f.memory.held, 0);
	close(f.other);
}

static const struct unit_test tests[] = {
    {"timers", test_timers},
    {"work", test_work},
    {"messages", test_messages},
    {"stale events", test_stale_events},
    {"many watches", test_many_watches},
    {"resolver", test_resolver},
    {"addresses", test_addresses},
    {"address take", test_address_take},
    {"listen", test_listen},
    {"tuned", test_tuned},
    {"finish", test_finish},
    {"finish has a bound", test_finish_has_a_bound},
    {NULL, NULL},
};

const struct unit_suite suite_net = {"net", tests};
