/*
 * A network with a range of ports, as in allow_targets.
 */
#ifndef BASE_CIDR_H
#define BASE_CIDR_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Addresses are kept in IPv6 form; IPv4 is ::ffff:a.b.c.d (RFC 4291, 2.5.5.2)
 * with prefix + 96, so that one comparison serves both.
 */
struct cidr {
	struct in6_addr address;
	unsigned prefix;		/* 0 to 128 */
	uint16_t port_first, port_last;	/* inclusive */
};

/*
 * Parse "ADDRESS[/PREFIX][:PORTS]": ADDRESS numeric; IPv6 needs brackets
 * ("[fd00::/8]:80" and "[fd00::]/8:80" are both taken) only when PORTS
 * follows; PORTS is "*", "N" or "N-M" (1 to 65535).  Bits below the prefix
 * must be zero.  Without PREFIX it is the one address, without PORTS every
 * port of it.  0, or -1 with *why set to a static text and the result
 * unchanged.  Pure.
 */
int
cidr_parse(const char *text, struct cidr *, const char **why);

/*
 * "[address/prefix]:first-last", or "a.b.c.d/prefix:first-last" for an IPv4
 * network, cut to fit; buf of CIDR_TEXT_MAX holds any.  Returns buf.
 */
#define CIDR_TEXT_MAX (INET6_ADDRSTRLEN + sizeof("[/128]:65535-65535"))
const char *
cidr_format(const struct cidr *, char *buf, size_t size);

/* The address of sa (AF_INET, AF_INET6) in IPv6 form; false: other family. */
bool
cidr_canonical(const struct sockaddr *sa, struct in6_addr *address,
    uint16_t *port);

/*
 * Whether address (canonical) and port lie within.  An IPv4 address lies in
 * no network wider than ::ffff:0:0/96: "::/0" is all of IPv6 and lets no IPv4
 * in.  Pure.
 */
bool
cidr_match(const struct cidr *, const struct in6_addr *address,
    uint16_t port);

#endif
