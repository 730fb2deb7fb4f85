/*
 * Listeners of a proxy-server whose sockets come from another process, and
 * what becomes of them as the configuration changes.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "proxy-server/registry.h"
#include "proxy-server/reload.h"
#include "proxy-server/worker.h"
#include "unit.h"

#define WORKERS 2

static struct server server;
static struct listeners listeners;

static void
set_up(void)
{
	server = (struct server){0};
	log_set_level(LOG_ERROR);
	budget_init(&server.memory, 64 << 20, 65536);
	atomic_init(&server.next_session, 1);
	CU_ASSERT_EQUAL_FATAL(workers_init(&server, WORKERS), 0);
	table_init(&server.remotes, &allocator_system, 1);
	table_init(&server.connections, &allocator_system, 1);
	listeners_init(&listeners);
}

static void
tear_down(void)
{
	workers_stop(&server);
	listeners_close(&listeners);
	registry_close(&server);
	table_close(&server.remotes);
	table_close(&server.connections);
	config_free(server.config);
	log_set_level(LOG_INFO);
}

/* Nobody registers the name, so every visitor is reset. */
static int
apply(const char *bind)
{
	struct config *c;
	char text[512], error[512];

	snprintf(text, sizeof(text),
	    "bind: \"127.0.0.2:0\"\nwait_for_remote: 0s\nlog_level: error\n"
	    "proxy:\n- remote_name: r\n  port_list:\n"
	    "  - {type: tcp, bind: \"%s\", remote: 1}\n",
	    bind);
	c = config_parse(text, strlen(text), "test", CONFIG_SERVER, error,
	    sizeof(error));
	CU_ASSERT_PTR_NOT_NULL_FATAL(c);
	if (reload_apply(&server, &listeners, c) == 0)
		return 0;
	config_free(c);
	return -1;
}

/* The binding behind that of the tunnel port. */
static struct binding *
binding(void)
{
	return container_of(listeners.bound.next->next, struct binding, node);
}

/* A listening socket as another process would have it. */
static int
other_socket(struct address *a, bool reuseport)
{
	int fd = address_listen(a, reuseport);

	CU_ASSERT_FATAL(fd >= 0);
	a->len = sizeof(a->storage);
	CU_ASSERT_EQUAL_FATAL(getsockname(fd, &a->sa, &a->len), 0);
	fcntl(fd, F_SETFL, 0);
	return fd;
}

/* Whether a visitor is let in and, as nobody is there to serve it, reset. */
static bool
is_served(const struct address *a)
{
	bool connected;
	int fd = address_connect(a, &connected);
	struct pollfd p = {.fd = fd, .events = POLLIN};
	char byte;
	bool served;

	/* The reset may be there before connect() returns. */
	if (fd < 0)
		return errno == ECONNRESET;
	served = poll(&p, 1, 5000) == 1 && read(fd, &byte, 1) < 0 &&
	    errno == ECONNRESET;
	close(fd);
	return served;
}

/* So often that each of the sockets gets some. */
static void
check_served(const struct address *a)
{
	unsigned i;

	for (i = 0; i < 64; i++)
		CU_ASSERT_TRUE_FATAL(is_served(a));
}

static bool
is_open(int fd)
{
	return fcntl(fd, F_GETFD) >= 0;
}

static bool
has_socket(const struct binding *b, int fd)
{
	size_t i;

	for (i = 0; i < b->nacceptors; i++)
		if (b->acceptors[i].watch.fd == fd)
			return true;
	return false;
}

/* n sockets come, and the file has their address or, any, a port 0. */
static void
inherit(unsigned n, bool any, bool reuseport)
{
	struct address a = address_loopback(AF_INET, 0), asked = a;
	char text[ADDRESS_TEXT_MAX];
	int fds[3];
	unsigned i;

	set_up();
	for (i = 0; i < n; i++) {
		fds[i] = other_socket(&a, reuseport);
		CU_ASSERT_EQUAL(listeners_inherit(&listeners,
				    any ? &asked : NULL, fds[i], NULL),
		    0);
		CU_ASSERT((fcntl(fds[i], F_GETFL) & O_NONBLOCK) != 0);
	}
	CU_ASSERT_EQUAL_FATAL(apply(any ?
				      "127.0.0.1:0" :
				      address_format(&a, text, sizeof(text))),
	    0);
	CU_ASSERT_TRUE(address_equal(&binding()->address, &a));
	CU_ASSERT_EQUAL(binding()->nacceptors, n > WORKERS ? n : WORKERS);
	for (i = 0; i < n; i++)
		CU_ASSERT_TRUE(has_socket(binding(), fds[i]));
	CU_ASSERT_TRUE(list_empty(&listeners.inherited));
	CU_ASSERT_EQUAL_FATAL(crew_start(&server.crew), 0);
	check_served(&a);

	/* Away with them, while all runs. */
	CU_ASSERT_EQUAL(apply("127.0.0.1:0"), 0);
	if (any) {
		/* That is what it was: it stays. */
		CU_ASSERT_TRUE(address_equal(&binding()->address, &a));
		check_served(&a);
	} else {
		for (i = 0; i < n; i++)
			CU_ASSERT_FALSE(
			    is_open(fds[i]) && !has_socket(binding(), fds[i]));
		check_served(&binding()->address);
		CU_ASSERT_FALSE(is_served(&a));
	}
	tear_down();
}

static void
test_inherit(void)
{
	inherit(1, false, true);
	inherit(2, false, true);
	/* One worker has two of them. */
	inherit(3, false, true);
	inherit(2, true, true);
	/* As a service manager makes it. */
	inherit(1, false, false);
}

static void
test_inherit_nothing(void)
{
	struct address a = address_loopback(AF_INET, 0), other = a;
	int fd, pair[2];

	set_up();
	/* What listens not. */
	fd = address_bind(&a, true);
	CU_ASSERT_EQUAL(listeners_inherit(&listeners, NULL, fd, NULL), -1);
	CU_ASSERT_EQUAL(errno, EINVAL);
	CU_ASSERT_TRUE(is_open(fd));
	close(fd);
	CU_ASSERT_EQUAL_FATAL(pipe(pair), 0);
	CU_ASSERT_EQUAL(listeners_inherit(&listeners, NULL, pair[0], NULL), -1);
	close(pair[0]);
	close(pair[1]);

	/* What nobody wants is closed. */
	fd = other_socket(&other, true);
	CU_ASSERT_EQUAL(listeners_inherit(&listeners, NULL, fd, NULL), 0);
	CU_ASSERT_EQUAL(apply("127.0.0.1:0"), 0);
	listeners_listen(&server, &listeners);
	CU_ASSERT_FALSE(has_socket(binding(), fd));
	CU_ASSERT_FALSE(is_open(fd));
	tear_down();
}

/* A port that another program has: all stays as it was. */
static void
test_taken(void)
{
	struct address a = address_loopback(AF_INET, 0), before;
	char text[ADDRESS_TEXT_MAX];
	int fd, i, quiet, loud;

	set_up();
	CU_ASSERT_EQUAL_FATAL(apply("127.0.0.1:0"), 0);
	before = binding()->address;
	CU_ASSERT_EQUAL_FATAL(crew_start(&server.crew), 0);
	fd = other_socket(&a, true);
	quiet = open("/dev/null", O_WRONLY);
	loud = dup(STDERR_FILENO);
	dup2(quiet, STDERR_FILENO);
	for (i = 0; i < 3; i++) {
		CU_ASSERT_EQUAL(apply(address_format(&a, text, sizeof(text))),
		    -1);
		CU_ASSERT_TRUE(list_empty(&listeners.added));
		CU_ASSERT_TRUE(address_equal(&binding()->address, &before));
		check_served(&before);
	}
	dup2(loud, STDERR_FILENO);
	close(loud);
	close(quiet);
	close(fd);
	CU_ASSERT_EQUAL(apply(text), 0);
	check_served(&a);
	CU_ASSERT_FALSE(is_served(&before));
	tear_down();
}

static const struct unit_test tests[] = {
    {"inherit", test_inherit},
    {"inherit nothing", test_inherit_nothing},
    {"taken", test_taken},
    {NULL, NULL},
};

const struct unit_suite suite_listeners = {"listeners", tests};
