/*
 * "host:port", "[v6]:port" and ":port" as text; nothing is resolved here.
 */
#ifndef BASE_HOSTPORT_H
#define BASE_HOSTPORT_H

#include <stddef.h>
#include <stdint.h>

#define HOSTPORT_HOST_MAX 253	/* RFC 1035, 2.3.4: a name's longest text */

struct hostport {
	char host[HOSTPORT_HOST_MAX + 1];	/* no brackets; may be "" */
	uint16_t port;
};

/*
 * Parse text.  0, or -1 when it is none of the three forms, the host is no
 * host name or numeric address, or the port is not 0 to 65535 in decimal;
 * the result is then unchanged.  An IPv6 address without brackets is refused;
 * within them it may have a zone ("[fe80::1%eth0]:80", RFC 4007, 11).  The
 * host is kept as it was written, a name in its own case.  Pure.
 */
int
hostport_parse(const char *text, struct hostport *);

/*
 * "host:port" with brackets where needed, cut to fit; buf of
 * HOSTPORT_TEXT_MAX holds any.  Returns buf.
 */
#define HOSTPORT_TEXT_MAX (HOSTPORT_HOST_MAX + sizeof("[]:65535"))
const char *
hostport_format(const struct hostport *, char *buf, size_t size);

/*
 * An order for sorting and searching; 0: the same.  Case does not count, nor
 * how an IPv6 address is spelled ("::1" and "0:0:0:0:0:0:0:1").  Pure.
 */
int
hostport_compare(const struct hostport *, const struct hostport *);

#endif
