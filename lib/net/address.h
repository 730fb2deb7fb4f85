/*
 * Socket addresses, and the few socket calls that need more than one line.
 * Errors are -1 with errno.  Any thread.
 */
#ifndef NET_ADDRESS_H
#define NET_ADDRESS_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "base/hostport.h"

/* IPv4 or IPv6: of no other family is anything made or taken. */
struct address {
	union {
		struct sockaddr sa;
		struct sockaddr_in in;
		struct sockaddr_in6 in6;
		/* What accept(), getsockname() and the like may fill. */
		uint8_t storage[sizeof(struct sockaddr_in6)];
	};
	socklen_t len;		/* bytes of it that are used */
};

#define ADDRESS_TEXT_MAX 64	/* "[v6%scope]:port" */

/* "127.0.0.1:80", "[::1]:80"; ::ffff:a.b.c.d is shown as IPv4. */
const char *
address_format(const struct address *, char *buf, size_t size);

/* The same without the port and without brackets. */
const char *
address_format_host(const struct address *, char *buf, size_t size);

/* host is a numeric address; false when it is not. */
bool
address_numeric(const char *host, uint16_t port, struct address *);

/* A copy of what the system gave; false: it is neither IPv4 nor IPv6. */
bool
address_take(const struct sockaddr *, socklen_t len, struct address *);

/* 127.0.0.1:port, or [::1]:port for AF_INET6. */
struct address
address_loopback(int family, uint16_t port);

uint16_t
address_port(const struct address *);
void
address_set_port(struct address *, uint16_t port);

bool
address_equal(const struct address *, const struct address *);

/* 0.0.0.0 or [::]. */
bool
address_is_any(const struct address *);

/*
 * The addresses to bind for a configured "host:port": the numeric one, what
 * the name resolves to (blocks: the main thread only), or [::] for an empty host, on
 * a dual-stack socket (0.0.0.0 where the machine has no IPv6).  At most max;
 * the count, or -1 with *error a static text.
 */
int
address_to_bind(const struct hostport *, struct address *out, int max,
    const char **error);

/*
 * Whether a socket that listens on one would keep another program from the
 * other: the same port (not 0) and a host in common.
 */
bool
address_overlap(const struct address *, const struct address *);

/*
 * A non-blocking socket that is bound, for listen(2).  reuseport: several of them share the
 * address, and the kernel spreads connections.  Without it, binding fails
 * where anybody else listens.
 */
int
address_bind(const struct address *, bool reuseport);

/* The same, and it listens. */
int
address_listen(const struct address *, bool reuseport);

/*
 * A non-blocking socket that is connecting, or connected already: then, on
 * this machine mostly, *connected is true.
 */
int
address_connect(const struct address *, bool *connected);

/*
 * What every connection gets: no delay (frames are whole when they are
 * written; waiting for more would only add a round trip) and keepalive (a
 * peer that vanished is noticed within two minutes though nothing is sent;
 * the kernel's own default is two hours).  Buffer sizes are left to the
 * kernel, which follows the path better than a number does.
 *
 * address_bind() and address_connect() have called it: what is accepted
 * inherits it from its listener.  To a loopback address there is no keepalive:
 * nobody vanishes there.
 */
void
address_tune(int fd);

/*
 * What a carrier gets besides: little that waits unsent in the kernel, where
 * nothing can go ahead of it any more.
 */
#define CARRIER_UNSENT	131072	/* bytes */
void
address_tune_carrier(int fd);

/*
 * An extended carrier whose bytes nobody acknowledges for ms milliseconds is
 * dead, whatever the kernel would still wait (RFC 5482).  Nothing else gets
 * this: a zero window counts, so it would kill a download that is paused.
 */
void
address_watch_carrier(int fd, uint64_t ms);

#endif
