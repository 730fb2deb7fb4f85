#include "net/address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Seconds: an idle peer that is gone is known to be so after 120. */
#define KEEPALIVE_IDLE 60
#define KEEPALIVE_INTERVAL 15
#define KEEPALIVE_PROBES 4

static bool
is_mapped(const struct address *a)
{
	return a->sa.sa_family == AF_INET6 &&
	    IN6_IS_ADDR_V4MAPPED(&a->in6.sin6_addr);
}

const char *
address_format_host(const struct address *a, char *buf, size_t size)
{
	char scope[IF_NAMESIZE + 1] = "", name[IF_NAMESIZE];
	char text[INET6_ADDRSTRLEN];

	if (is_mapped(a))
		inet_ntop(AF_INET, &a->in6.sin6_addr.s6_addr[12], text,
		    sizeof(text));
	else if (a->sa.sa_family == AF_INET6) {
		inet_ntop(AF_INET6, &a->in6.sin6_addr, text, sizeof(text));
		if (a->in6.sin6_scope_id != 0 &&
		    if_indextoname(a->in6.sin6_scope_id, name) != NULL)
			snprintf(scope, sizeof(scope), "%%%s", name);
	} else
		inet_ntop(AF_INET, &a->in.sin_addr, text, sizeof(text));
	snprintf(buf, size, "%s%s", text, scope);
	return buf;
}

const char *
address_format(const struct address *a, char *buf, size_t size)
{
	bool six = a->sa.sa_family == AF_INET6 && !is_mapped(a);
	char host[ADDRESS_TEXT_MAX];

	address_format_host(a, host, sizeof(host));
	snprintf(buf, size, six ? "[%.48s]:%u" : "%.48s:%u", host,
	    address_port(a));
	return buf;
}

bool
address_take(const struct sockaddr *sa, socklen_t len, struct address *a)
{
	socklen_t want = 0;

	if (len >= sizeof(sa->sa_family) && sa->sa_family == AF_INET)
		want = sizeof(a->in);
	else if (len >= sizeof(sa->sa_family) && sa->sa_family == AF_INET6)
		want = sizeof(a->in6);
	memset(a, 0, sizeof(*a));
	if (want == 0 || len < want)
		return false;
	memcpy(a->storage, sa, want);
	a->len = want;
	return true;
}

bool
address_numeric(const char *host, uint16_t port, struct address *a)
{
	struct addrinfo hints =
			    {
				.ai_flags = AI_NUMERICHOST,
				.ai_socktype = SOCK_STREAM,
			    },
			*found;
	unsigned char v4[4];
	bool taken;

	/* getaddrinfo() takes "1" and "0x7f.1" for IPv4 addresses; we do not. */
	if (strchr(host, ':') == NULL && inet_pton(AF_INET, host, v4) != 1)
		return false;
	if (getaddrinfo(host, NULL, &hints, &found) != 0)
		return false;
	taken = address_take(found->ai_addr, found->ai_addrlen, a);
	freeaddrinfo(found);
	address_set_port(a, port);
	return taken;
}

struct address
address_loopback(int family, uint16_t port)
{
	struct address a;

	memset(&a, 0, sizeof(a));
	a.sa.sa_family = (sa_family_t)family;
	if (family == AF_INET6) {
		a.in6.sin6_addr = in6addr_loopback;
		a.len = sizeof(a.in6);
	} else {
		a.in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
		a.len = sizeof(a.in);
	}
	address_set_port(&a, port);
	return a;
}

uint16_t
address_port(const struct address *a)
{
	return ntohs(
	    a->sa.sa_family == AF_INET6 ? a->in6.sin6_port : a->in.sin_port);
}

void
address_set_port(struct address *a, uint16_t port)
{
	if (a->sa.sa_family == AF_INET6)
		a->in6.sin6_port = htons(port);
	else
		a->in.sin_port = htons(port);
}

bool
address_equal(const struct address *a, const struct address *b)
{
	return a->len == b->len && memcmp(a->storage, b->storage, a->len) == 0;
}

bool
address_is_any(const struct address *a)
{
	return a->sa.sa_family == AF_INET6 ?
	    IN6_IS_ADDR_UNSPECIFIED(&a->in6.sin6_addr) :
	    a->in.sin_addr.s_addr == htonl(INADDR_ANY);
}

static bool
is_loopback(const struct address *a)
{
	return a->sa.sa_family == AF_INET ?
	    ntohl(a->in.sin_addr.s_addr) >> 24 == IN_LOOPBACKNET :
	    IN6_IS_ADDR_LOOPBACK(&a->in6.sin6_addr);
}

static bool
machine_has_ipv6(void)
{
	int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

static int
every_address(uint16_t port, struct address *out)
{
	memset(out, 0, sizeof(*out));
	if (machine_has_ipv6()) {
		out->sa.sa_family = AF_INET6;
		out->len = sizeof(out->in6);
	} else {
		out->sa.sa_family = AF_INET;
		out->len = sizeof(out->in);
	}
	address_set_port(out, port);
	return 1;
}

int
address_to_bind(const struct hostport *h, struct address *out, int max,
    const char **error)
{
	struct addrinfo hints =
			    {
				.ai_flags = AI_PASSIVE,
				.ai_socktype = SOCK_STREAM,
			    },
			*found, *a;
	int n = 0, status;

	if (h->host[0] == '\0')
		return every_address(h->port, out);
	if (address_numeric(h->host, h->port, out))
		return 1;
	status = getaddrinfo(h->host, NULL, &hints, &found);
	if (status != 0) {
		*error = gai_strerror(status);
		return -1;
	}
	for (a = found; a != NULL && n < max; a = a->ai_next) {
		if (!address_take(a->ai_addr, a->ai_addrlen, &out[n]))
			continue;
		address_set_port(&out[n], h->port);
		n++;
	}
	freeaddrinfo(found);
	return n;
}

static void
set(int fd, int level, int option, int value)
{
	/* Each is of use by itself: one that fails takes nothing away. */
	(void)setsockopt(fd, level, option, &value, sizeof(value));
}

void
address_tune(int fd)
{
	set(fd, IPPROTO_TCP, TCP_NODELAY, 1);
	set(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
	set(fd, IPPROTO_TCP, TCP_KEEPIDLE, KEEPALIVE_IDLE);
	set(fd, IPPROTO_TCP, TCP_KEEPINTVL, KEEPALIVE_INTERVAL);
	set(fd, IPPROTO_TCP, TCP_KEEPCNT, KEEPALIVE_PROBES);
}

void
address_tune_carrier(int fd)
{
	set(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, CARRIER_UNSENT);
}

void
address_watch_carrier(int fd, uint64_t ms)
{
	set(fd, IPPROTO_TCP, TCP_USER_TIMEOUT,
	    ms < INT_MAX ? (int)ms : INT_MAX);
}

bool
address_overlap(const struct address *a, const struct address *b)
{
	const struct address *six;

	if (address_port(a) == 0 || address_port(a) != address_port(b))
		return false;
	if (a->sa.sa_family == b->sa.sa_family)
		return address_is_any(a) || address_is_any(b) ||
		    address_equal(a, b);
	/* [::] takes IPv4 too: address_bind(). */
	six = a->sa.sa_family == AF_INET6 ? a : b;
	return address_is_any(six);
}

int
address_bind(const struct address *a, bool reuseport)
{
	int fd, on = 1, off = 0, saved;

	fd = socket(a->sa.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC,
	    0);
	if (fd < 0)
		return -1;
	/*
	 * Connections of an earlier process in TIME_WAIT must not keep the
	 * port; a listening socket still does.
	 */
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0)
		goto fail;
	if (reuseport &&
	    setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)) < 0)
		goto fail;
	/* [::] takes IPv4 too; any other IPv6 address cannot. */
	if (a->sa.sa_family == AF_INET6 &&
	    setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY,
		address_is_any(a) ? &off : &on, sizeof(on)) < 0)
		goto fail;
	address_tune(fd);
	if (bind(fd, &a->sa, a->len) < 0)
		goto fail;
	return fd;

fail:
	saved = errno;
	close(fd);
	errno = saved;
	return -1;
}

int
address_listen(const struct address *a, bool reuseport)
{
	int fd = address_bind(a, reuseport), saved;

	if (fd < 0 || listen(fd, SOMAXCONN) == 0)
		return fd;
	saved = errno;
	close(fd);
	errno = saved;
	return -1;
}

int
address_connect(const struct address *a, bool *connected)
{
	bool near = is_loopback(a);
	int fd, saved;

	fd = socket(a->sa.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC,
	    0);
	if (fd < 0)
		return -1;
	if (near)
		/* No peer of a loopback address vanishes unnoticed. */
		set(fd, IPPROTO_TCP, TCP_NODELAY, 1);
	else
		address_tune(fd);
	*connected = connect(fd, &a->sa, a->len) == 0;
	/* The other end is here: what came of it is known, if one asks. */
	if (near && !*connected && errno == EINPROGRESS)
		*connected = connect(fd, &a->sa, a->len) == 0;
	if (!*connected && errno != EINPROGRESS && errno != EALREADY) {
		saved = errno;
		close(fd);
		errno = saved;
		return -1;
	}
	return fd;
}
