/*
 * The connector, against sockets of this machine.  The clock of its driver is
 * moved by hand where it is about what comes when; what goes through epoll
 * runs on the loop.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "memory.h"
#include "net/connector.h"
#include "unit.h"

#define TIMEOUT (100 * (uint64_t)SECOND)
#define HOLES 6

/* One for each test with names: its threads outlive the test. */
static struct resolver resolvers[4], *resolver;

static struct loop loop;
static struct connector connector;
static unsigned descriptors;

/* What done was told. */
static struct {
	unsigned calls;
	int fd;
	bool has_address;
	struct address address;
	char why[128];
} told;

static void
begin(void)
{
	descriptors = unit_descriptors();
	memset(&told, 0, sizeof(told));
	memset(&connector, 0, sizeof(connector));
	CU_ASSERT_EQUAL_FATAL(loop_init(&loop, &allocator_system), 0);
}

static void
begin_with_names(void)
{
	static unsigned n;

	begin();
	CU_ASSERT_FATAL(n < sizeof(resolvers) / sizeof(resolvers[0]));
	resolver = &resolvers[n++];
	resolver_init(resolver);
}

/* Threads of lookups that were cancelled may have some for a while. */
static void
check_descriptors(unsigned most)
{
	unsigned i;

	for (i = 0; i < 1000 && unit_descriptors() > most; i++)
		poll(NULL, 0, 10);
	CU_ASSERT(unit_descriptors() <= most);
}

/* Nothing is left: no descriptor, no timer, no work. */
static void
end(void)
{
	CU_ASSERT_EQUAL(timers_next(&loop.driver.timers), UINT64_MAX);
	CU_ASSERT_FALSE(driver_has_work(&loop.driver));
	CU_ASSERT_PTR_NULL(connector.loop);
	if (resolver != NULL)
		resolver_close(resolver);
	resolver = NULL;
	loop_close(&loop);
	check_descriptors(descriptors);
}

static void
on_done(void *context, int fd, const struct address *address, const char *why)
{
	CU_ASSERT_PTR_EQUAL(context, &told);
	CU_ASSERT_EQUAL(fd >= 0, why == NULL);
	CU_ASSERT_PTR_NULL(connector.loop);
	told.calls++;
	told.fd = fd;
	told.has_address = address != NULL;
	if (address != NULL)
		told.address = *address;
	snprintf(told.why, sizeof(told.why), "%s", why != NULL ? why : "");
	loop_stop(&loop);
}

static int
start(const struct address *addresses, size_t n, uint64_t timeout)
{
	int r = connector_start_addresses(&connector, &loop, addresses, n,
	    timeout, on_done, &told);

	/* Never from there. */
	CU_ASSERT_EQUAL(told.calls, 0);
	return r;
}

static int
start_name(const char *name, uint16_t port)
{
	struct hostport host = {.port = port};
	int r;

	snprintf(host.host, sizeof(host.host), "%s", name);
	r = connector_start(&connector, &loop, resolver, &host, TIMEOUT,
	    on_done, &told);
	CU_ASSERT_EQUAL(told.calls, 0);
	return r;
}

static void
run(void)
{
	loop.stopped = false;
	loop_run(&loop);
}

/* A turn without events, us later. */
static void
turn(uint64_t us)
{
	loop.driver.now += us;
	timers_run(&loop.driver.timers, loop.driver.now);
	driver_run_work(&loop.driver);
}

static unsigned
running(void)
{
	unsigned i, n = 0;

	for (i = 0; i < CONNECTOR_ATTEMPTS; i++)
		n += connector.attempts[i].address != NULL;
	return n;
}

static int
listen_at(struct address *a)
{
	int fd = address_listen(a, false);

	CU_ASSERT_FATAL(fd >= 0);
	CU_ASSERT_EQUAL_FATAL(getsockname(fd, &a->sa, &a->len), 0);
	return fd;
}

/* An address of the family at which a listener was until now. */
static struct address
refusing(int family)
{
	struct address a = address_loopback(family, 0);

	close(listen_at(&a));
	return a;
}

/* Done was told that it is connected to a; the listener has it. */
static void
check_connected(const struct address *a, int listener)
{
	struct address peer = *a;
	char c = 0;
	int fd;

	CU_ASSERT_EQUAL(told.calls, 1);
	CU_ASSERT_FATAL(told.fd >= 0);
	CU_ASSERT_TRUE(told.has_address && address_equal(&told.address, a));
	CU_ASSERT_EQUAL(getpeername(told.fd, &peer.sa, &peer.len), 0);
	CU_ASSERT_EQUAL(address_port(&peer), address_port(a));
	/* It does not block; nothing has come. */
	CU_ASSERT(read(told.fd, &c, 1) == -1 && errno == EAGAIN);
	CU_ASSERT_EQUAL(write(told.fd, "x", 1), 1);
	fd = accept(listener, NULL, NULL);
	CU_ASSERT_FATAL(fd >= 0);
	CU_ASSERT(read(fd, &c, 1) == 1 && c == 'x');
	close(fd);
	close(told.fd);
}

static void
check_failed(const struct address *a, const char *why)
{
	CU_ASSERT_EQUAL(told.calls, 1);
	CU_ASSERT_EQUAL(told.fd, -1);
	CU_ASSERT_STRING_EQUAL(told.why, why);
	CU_ASSERT_EQUAL(told.has_address, a != NULL);
	if (a != NULL)
		CU_ASSERT_TRUE(address_equal(&told.address, a));
}

/* Whoever connects to it waits: its backlog is full. */
struct hole {
	struct address address;
	int listener, filler;
};

static void
dig(struct hole *h)
{
	bool connected;

	h->address = address_loopback(AF_INET, 0);
	h->listener = listen_at(&h->address);
	CU_ASSERT_EQUAL(listen(h->listener, 0), 0);
	h->filler = address_connect(&h->address, &connected);
	CU_ASSERT_FATAL(h->filler >= 0 && connected);
}

static void
fill_in(struct hole *h)
{
	close(h->filler);
	close(h->listener);
}

static struct hole holes[HOLES];
static struct address hole_addresses[HOLES + 1];

static void
dig_all(void)
{
	unsigned i;

	for (i = 0; i < HOLES; i++) {
		dig(&holes[i]);
		hole_addresses[i] = holes[i].address;
	}
}

static void
fill_in_all(void)
{
	unsigned i;

	for (i = 0; i < HOLES; i++)
		fill_in(&holes[i]);
}

/* Numeric, of both families, without a lookup. */
static void
test_numeric(void)
{
	static const struct {
		int family;
		const char *host;
	} hosts[] = {{AF_INET, "127.0.0.1"}, {AF_INET6, "::1"}};
	struct address a;
	unsigned i;
	int fd;

	for (i = 0; i < 2; i++) {
		begin();
		a = address_loopback(hosts[i].family, 0);
		fd = listen_at(&a);
		CU_ASSERT_EQUAL(start_name(hosts[i].host, address_port(&a)), 0);
		CU_ASSERT_PTR_NULL(connector.lookup);
		run();
		check_connected(&a, fd);
		close(fd);
		end();
	}
}

/* To 0.0.0.0 and [::] the connection is not there at once: epoll tells. */
static void
test_through_epoll(void)
{
	struct address a, any;
	unsigned i;
	int fd;

	for (i = 0; i < 2; i++) {
		begin();
		a = address_loopback(i == 0 ? AF_INET : AF_INET6, 0);
		fd = listen_at(&a);
		any = a;
		if (i == 0)
			any.in.sin_addr.s_addr = htonl(INADDR_ANY);
		else
			any.in6.sin6_addr = in6addr_any;
		CU_ASSERT_EQUAL(start(&any, 1, TIMEOUT), 0);
		turn(0);
		CU_ASSERT_EQUAL(told.calls, 0);
		CU_ASSERT_EQUAL(running(), 1);
		run();
		check_connected(&any, fd);
		close(fd);
		memset(&told, 0, sizeof(told));
		CU_ASSERT_EQUAL(start(&any, 1, TIMEOUT), 0);
		turn(0);
		CU_ASSERT_EQUAL(running(), 1);
		run();
		check_failed(&any, strerror(ECONNREFUSED));
		end();
	}
}

/* The name has two addresses where the system says so, else one. */
static void
test_name(void)
{
	struct address a = address_loopback(AF_INET, 0);
	int fd;

	begin_with_names();
	fd = listen_at(&a);
	CU_ASSERT_EQUAL(start_name("localhost", address_port(&a)), 0);
	CU_ASSERT_PTR_NOT_NULL(connector.lookup);
	run();
	check_connected(&a, fd);
	close(fd);
	memset(&told, 0, sizeof(told));
	CU_ASSERT_EQUAL(start_name("does-not-exist.invalid", 1), 0);
	run();
	CU_ASSERT_EQUAL(told.calls, 1);
	CU_ASSERT_EQUAL(told.fd, -1);
	CU_ASSERT_FALSE(told.has_address);
	CU_ASSERT_NOT_EQUAL(strlen(told.why), 0);
	end();
}

static void
test_cannot_begin(void)
{
	static struct resolver closed;
	struct hostport host = {.host = "localhost", .port = 1};

	begin();
	resolver_init(&closed);
	resolver_close(&closed);
	CU_ASSERT_EQUAL(start_name("", 1), -1);
	CU_ASSERT_EQUAL(errno, EINVAL);
	CU_ASSERT_EQUAL(start(NULL, 0, TIMEOUT), -1);
	CU_ASSERT_EQUAL(errno, EINVAL);
	CU_ASSERT_EQUAL(connector_start(&connector, &loop, &closed, &host,
			    TIMEOUT, on_done, &told),
	    -1);
	CU_ASSERT_EQUAL(errno, EAGAIN);
	connector_cancel(&connector);
	turn(0);
	CU_ASSERT_EQUAL(told.calls, 0);
	end();
}

/* By turns, each family in its own order. */
static void
test_order(void)
{
	static const struct {
		const char *given, *tried;
	} orders[] = {
	    {"4", "4"},
	    {"44", "44"},
	    {"46", "46"},
	    {"64", "64"},
	    {"4466", "4646"},
	    {"6644", "6464"},
	    {"66644", "64646"},
	    {"64444", "64444"},
	    {"44446", "46444"},
	    {"6666666666666644", "6464666666666666"},
	    {"66666666666666664", "6666666666666666"},
	};
	struct address a[RESOLVER_ADDRESSES + 1];
	unsigned seen[2], i, six;
	size_t n, k;

	begin();
	for (i = 0; i < sizeof(orders) / sizeof(orders[0]); i++) {
		n = strlen(orders[i].given);
		for (k = 0; k < n; k++)
			a[k] = address_loopback(orders[i].given[k] == '6' ?
				AF_INET6 :
				AF_INET,
			    (uint16_t)(k + 1));
		CU_ASSERT_EQUAL(start(a, n, TIMEOUT), 0);
		n = strlen(orders[i].tried);
		CU_ASSERT_EQUAL(connector.naddresses, n);
		seen[0] = seen[1] = 0;
		for (k = 0; k < n; k++) {
			six = connector.addresses[k].sa.sa_family == AF_INET6;
			CU_ASSERT_EQUAL(six ? '6' : '4', orders[i].tried[k]);
			CU_ASSERT(
			    address_port(&connector.addresses[k]) > seen[six]);
			seen[six] = address_port(&connector.addresses[k]);
		}
		connector_cancel(&connector);
	}
	end();
}

/* The next one begins at once, and the one behind it is not tried. */
static void
test_refused_then_next(void)
{
	struct address a[4];
	int fd, other;

	begin();
	a[0] = refusing(AF_INET);
	a[1] = refusing(AF_INET6);
	a[2] = address_loopback(AF_INET, 0);
	fd = listen_at(&a[2]);
	a[3] = address_loopback(AF_INET6, 0);
	other = listen_at(&a[3]);
	/* 4, 6, 4, 6: as they are tried. */
	CU_ASSERT_EQUAL(start(a, 4, TIMEOUT), 0);
	turn(0);
	check_connected(&a[2], fd);
	CU_ASSERT_EQUAL(accept(other, NULL, NULL), -1);
	CU_ASSERT_EQUAL(errno, EAGAIN);
	close(fd);
	close(other);
	end();
}

static void
test_all_refused(void)
{
	struct address a[3];
	unsigned i;

	begin();
	for (i = 0; i < 3; i++)
		a[i] = refusing(AF_INET);
	CU_ASSERT_EQUAL(start(a, 3, TIMEOUT), 0);
	turn(0);
	check_failed(&a[0], strerror(ECONNREFUSED));
	end();
}

/* One that does not answer holds the next one up for a moment only. */
static void
test_black_hole(void)
{
	struct address a[2];
	struct hole hole;
	int fd;

	begin();
	dig(&hole);
	a[0] = hole.address;
	a[1] = address_loopback(AF_INET6, 0);
	fd = listen_at(&a[1]);
	CU_ASSERT_EQUAL(start(a, 2, TIMEOUT), 0);
	turn(0);
	CU_ASSERT_EQUAL(running(), 1);
	turn(CONNECTOR_PACE_US - 1);
	CU_ASSERT_EQUAL(told.calls, 0);
	CU_ASSERT_EQUAL(connector.next, 1);
	turn(1);
	check_connected(&a[1], fd);
	/* And by the clock. */
	memset(&told, 0, sizeof(told));
	CU_ASSERT_EQUAL(start(a, 2, TIMEOUT), 0);
	run();
	check_connected(&a[1], fd);
	close(fd);
	fill_in(&hole);
	end();
}

/* The first wins although it is slow, when the second does not answer. */
static void
test_slow_one_wins(void)
{
	struct address a[2];
	struct hole first, second;
	int fd;

	begin();
	dig(&first);
	dig(&second);
	a[0] = first.address;
	a[1] = second.address;
	CU_ASSERT_EQUAL(start(a, 2, TIMEOUT), 0);
	turn(0);
	turn(CONNECTOR_PACE_US);
	CU_ASSERT_EQUAL(running(), 2);
	/* Room again: the kernel asks once more, by itself. */
	fd = accept(first.listener, NULL, NULL);
	CU_ASSERT(fd >= 0);
	close(fd);
	run();
	CU_ASSERT_EQUAL(told.calls, 1);
	CU_ASSERT_TRUE(told.has_address && address_equal(&told.address, &a[0]));
	close(told.fd);
	fill_in(&first);
	fill_in(&second);
	end();
}

/* A few at the same time; a further one when one of them is over. */
static void
test_attempts_at_once(void)
{
	unsigned i;
	int fd;

	begin();
	dig_all();
	hole_addresses[HOLES] = address_loopback(AF_INET, 0);
	fd = listen_at(&hole_addresses[HOLES]);
	CU_ASSERT_EQUAL(start(hole_addresses, HOLES + 1, 2 * SECOND), 0);
	turn(0);
	for (i = 1; i < CONNECTOR_ATTEMPTS; i++) {
		CU_ASSERT_EQUAL(running(), i);
		turn(CONNECTOR_PACE_US);
	}
	CU_ASSERT_EQUAL(running(), CONNECTOR_ATTEMPTS);
	turn(SECOND);
	CU_ASSERT_EQUAL(running(), CONNECTOR_ATTEMPTS);
	CU_ASSERT_EQUAL(connector.next, CONNECTOR_ATTEMPTS);
	/* The first is over, and each of the others 0.25 s later. */
	turn(SECOND - (CONNECTOR_ATTEMPTS - 1) * CONNECTOR_PACE_US);
	CU_ASSERT_EQUAL(running(), CONNECTOR_ATTEMPTS);
	CU_ASSERT_EQUAL(connector.next, CONNECTOR_ATTEMPTS + 1);
	turn(CONNECTOR_PACE_US - 1);
	CU_ASSERT_EQUAL(connector.next, CONNECTOR_ATTEMPTS + 1);
	turn(1);
	CU_ASSERT_EQUAL(connector.next, CONNECTOR_ATTEMPTS + 2);
	CU_ASSERT_EQUAL(told.calls, 0);
	turn(CONNECTOR_PACE_US);
	check_connected(&hole_addresses[HOLES], fd);
	close(fd);
	fill_in_all();
	end();
}

/* Each attempt has its time, also when that is shorter than the pace. */
static void
test_timeouts(void)
{
	begin();
	dig_all();
	CU_ASSERT_EQUAL(start(hole_addresses, 3, 100 * MS), 0);
	turn(0);
	turn(100 * MS - 1);
	CU_ASSERT_EQUAL(connector.next, 1);
	turn(1);
	CU_ASSERT_EQUAL(connector.next, 2);
	CU_ASSERT_EQUAL(running(), 1);
	turn(100 * MS);
	CU_ASSERT_EQUAL(connector.next, 3);
	CU_ASSERT_EQUAL(told.calls, 0);
	turn(100 * MS);
	check_failed(&hole_addresses[0], "no answer in time");

	/* Longer: they overlap, and the last one has all of its own. */
	memset(&told, 0, sizeof(told));
	CU_ASSERT_EQUAL(start(hole_addresses, 2, SECOND), 0);
	turn(0);
	turn(CONNECTOR_PACE_US);
	turn(SECOND - CONNECTOR_PACE_US);
	CU_ASSERT_EQUAL(running(), 1);
	turn(CONNECTOR_PACE_US - 1);
	CU_ASSERT_EQUAL(told.calls, 0);
	turn(1);
	check_failed(&hole_addresses[0], "no answer in time");

	/* By the clock. */
	memset(&told, 0, sizeof(told));
	CU_ASSERT_EQUAL(start(hole_addresses, 2, 20 * MS), 0);
	run();
	check_failed(&hole_addresses[0], "no answer in time");
	fill_in_all();
	end();
}

/* One that this machine cannot even try says least, one that answers most. */
static void
test_why(void)
{
	static const char *const orders[] = {"nhr", "nrh", "hnr", "hrn", "rnh",
	    "rhn", "nh", "hn", "nr", "rn", "hr", "rh", "n", "h", "r"};
	struct address a[3], none, refused;
	const struct address *most;
	struct hole hole;
	unsigned i, k;
	size_t n;
	int most_errno;

	begin();
	dig(&hole);
	refused = refusing(AF_INET);
	none = refused;
	none.sa.sa_family = AF_MAX;
	for (i = 0; i < sizeof(orders) / sizeof(orders[0]); i++) {
		n = strlen(orders[i]);
		for (k = 0; k < n; k++)
			a[k] = orders[i][k] == 'n' ? none :
			    orders[i][k] == 'h'    ? hole.address :
						     refused;
		CU_ASSERT_EQUAL(start(a, n, 100 * MS), 0);
		for (k = 0; k <= n; k++)
			turn(k == 0 ? 0 : 100 * MS);
		most = strchr(orders[i], 'r') != NULL ? &refused :
		    strchr(orders[i], 'h') != NULL    ? &hole.address :
							&none;
		most_errno = most == &refused ? ECONNREFUSED : EAFNOSUPPORT;
		check_failed(most,
		    most == &hole.address ? "no answer in time" :
					    strerror(most_errno));
		memset(&told, 0, sizeof(told));
	}
	fill_in(&hole);
	end();
}

/* No memory to watch it: that attempt fails, and no descriptor is left. */
static void
test_no_memory(void)
{
	struct watch watches[64];
	struct hole hole;
	struct memory m;
	unsigned n;
	int fd;

	begin();
	loop_close(&loop);
	memory_init(&m);
	CU_ASSERT_EQUAL_FATAL(loop_init(&loop, &m.allocator), 0);
	dig(&hole);
	memory_fail(&m, 1, SIZE_MAX);
	for (n = 0; n < 64; n++) {
		fd = eventfd(0, EFD_CLOEXEC);
		CU_ASSERT_FATAL(fd >= 0);
		if (loop_watch(&loop, &watches[n], fd, EPOLLIN) < 0)
			break;
	}
	close(fd);
	CU_ASSERT(n > 0 && n < 64);
	CU_ASSERT_EQUAL(start(&hole.address, 1, TIMEOUT), 0);
	turn(0);
	check_failed(&hole.address, strerror(ENOMEM));
	while (n-- > 0)
		loop_close_watched(&loop, &watches[n]);
	fill_in(&hole);
	end();
	CU_ASSERT_EQUAL(m.held, 0);
}

/* After a while nothing has come of it. */
static void
check_cancelled(void)
{
	connector_cancel(&connector);
	connector_cancel(&connector);
	CU_ASSERT_EQUAL(timers_next(&loop.driver.timers), UINT64_MAX);
	turn(2 * TIMEOUT);
	loop_drain(&loop);
	turn(0);
	CU_ASSERT_EQUAL(told.calls, 0);
}

static void
test_cancel(void)
{
	unsigned turns, i, before;

	begin();
	/* Never started. */
	check_cancelled();
	dig_all();
	before = unit_descriptors();
	/* Before the first attempt, in each one's time, and when all run. */
	for (turns = 0; turns < HOLES + 2; turns++) {
		CU_ASSERT_EQUAL(start(hole_addresses, HOLES, TIMEOUT), 0);
		for (i = 0; i < turns; i++)
			turn(i == 0 ? 0 : CONNECTOR_PACE_US);
		CU_ASSERT_EQUAL(running(),
		    turns < CONNECTOR_ATTEMPTS ? turns : CONNECTOR_ATTEMPTS);
		check_cancelled();
		check_descriptors(before);
	}
	/* After some have failed. */
	CU_ASSERT_EQUAL(start(hole_addresses, HOLES, SECOND), 0);
	turn(0);
	turn(SECOND);
	CU_ASSERT_EQUAL(connector.next, 2);
	check_cancelled();
	check_descriptors(before);
	fill_in_all();
	end();
}

/* While it is connected, but the event did not come yet. */
static void
test_cancel_connected(void)
{
	struct address a = address_loopback(AF_INET, 0);
	struct pollfd p = {.events = POLLOUT};
	int fd;

	begin();
	fd = listen_at(&a);
	a.in.sin_addr.s_addr = htonl(INADDR_ANY);
	CU_ASSERT_EQUAL(start(&a, 1, TIMEOUT), 0);
	turn(0);
	CU_ASSERT_EQUAL_FATAL(running(), 1);
	p.fd = connector.attempts[0].watch.fd;
	CU_ASSERT_EQUAL(poll(&p, 1, 10000), 1);
	check_cancelled();
	close(fd);
	end();
}

/* While the name is looked up, and with the answer on its way. */
static void
test_cancel_lookup(void)
{
	struct pollfd p = {.events = POLLIN};

	begin_with_names();
	CU_ASSERT_EQUAL(start_name("localhost", 1), 0);
	connector_cancel(&connector);
	/* Its answer has come when this one's has. */
	CU_ASSERT_EQUAL(start_name("localhost", 1), 0);
	run();
	CU_ASSERT_EQUAL(told.calls, 1);
	memset(&told, 0, sizeof(told));
	CU_ASSERT_EQUAL(start_name("localhost", 1), 0);
	p.fd = loop.wake.fd;
	CU_ASSERT_EQUAL(poll(&p, 1, 10000), 1);
	check_cancelled();
	end();
}

static struct address again;

/* done may start it again, and what it was told stays as it was. */
static void
on_done_again(void *context, int fd, const struct address *address,
    const char *why)
{
	CU_ASSERT_PTR_EQUAL(context, &again);
	CU_ASSERT_EQUAL(fd, -1);
	CU_ASSERT_EQUAL(start(&again, 1, TIMEOUT), 0);
	CU_ASSERT_FALSE(address_equal(address, &again));
	CU_ASSERT_STRING_EQUAL(why, strerror(ECONNREFUSED));
}

static void
test_again(void)
{
	struct address a;
	int fd;

	begin();
	a = refusing(AF_INET);
	again = address_loopback(AF_INET6, 0);
	fd = listen_at(&again);
	CU_ASSERT_EQUAL(connector_start_addresses(&connector, &loop, &a, 1,
			    TIMEOUT, on_done_again, &again),
	    0);
	turn(0);
	CU_ASSERT_EQUAL(told.calls, 0);
	turn(0);
	check_connected(&again, fd);
	close(fd);
	end();
}

static const struct unit_test tests[] = {
    {"numeric", test_numeric},
    {"through epoll", test_through_epoll},
    {"name", test_name},
    {"cannot begin", test_cannot_begin},
    {"order", test_order},
    {"refused, then next", test_refused_then_next},
    {"all refused", test_all_refused},
    {"black hole", test_black_hole},
    {"the slow one wins", test_slow_one_wins},
    {"attempts at once", test_attempts_at_once},
    {"timeouts", test_timeouts},
    {"why", test_why},
    {"no memory", test_no_memory},
    {"cancel", test_cancel},
    {"cancel: connected", test_cancel_connected},
    {"cancel: lookup", test_cancel_lookup},
    {"again", test_again},
    {NULL, NULL},
};

const struct unit_suite suite_connector = {"connector", tests};
