#include "base/cidr.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#include "base/decimal.h"

#define IPV4_PREFIX 96 /* of ::ffff:0:0/96, where IPv4 is kept */

/* A piece of the text; at is NULL when the piece is not there. */
struct piece {
	const char *at;
	size_t len;
};

struct pieces {
	struct piece address, prefix, ports;
};

static const char twice[] = "the prefix is there twice";
static const char trailing[] = "only /PREFIX and :PORTS may follow ADDRESS";

/* Cut at the first of the characters in set; the rest, or NULL. */
static const char *
cut(const char *text, const char *set, struct piece *piece)
{
	piece->at = text;
	piece->len = strcspn(text, set);
	return text[piece->len] == '\0' ? NULL : text + piece->len;
}

/* "[ADDRESS]" or "[ADDRESS/PREFIX]"; the rest goes on after the bracket. */
static const char *
split_brackets(const char *text, struct pieces *p, const char **rest)
{
	const char *at = cut(text + 1, "/]", &p->address);

	if (at != NULL && *at == '/')
		at = cut(at + 1, "]", &p->prefix);
	if (at == NULL)
		return "there is no ]";
	if (memchr(p->address.at, ':', p->address.len) == NULL)
		return "brackets are for IPv6";
	*rest = at + 1;
	return NULL;
}

/* NULL, or what is wrong. */
static const char *
split(const char *text, struct pieces *p)
{
	const char *colon = strchr(text, ':');
	const char *why, *rest;

	memset(p, 0, sizeof(*p));
	if (text[0] == '[') {
		why = split_brackets(text, p, &rest);
		if (why != NULL)
			return why;
	} else if (colon != NULL && strchr(colon + 1, ':') != NULL) {
		/* Two colons: IPv6, and no port can be told from it. */
		rest = cut(text, "/", &p->address);
	} else {
		rest = cut(text, "/:", &p->address);
	}
	if (rest != NULL && *rest == '/') {
		if (p->prefix.at != NULL)
			return twice;
		rest = cut(rest + 1, ":", &p->prefix);
		if (rest != NULL && text[0] != '[' &&
		    memchr(p->address.at, ':', p->address.len) != NULL)
			return "IPv6 with ports needs brackets";
	}
	if (rest != NULL && *rest == ':')
		rest = cut(rest + 1, "", &p->ports);
	return rest != NULL && *rest != '\0' ? trailing : NULL;
}

/* The address in IPv6 form; *base is the prefix of the family's own form. */
static const char *
read_address(const struct piece *piece, struct in6_addr *address,
    unsigned *base)
{
	char text[INET6_ADDRSTRLEN];

	if (piece->len < sizeof(text)) {
		memcpy(text, piece->at, piece->len);
		text[piece->len] = '\0';
		*base = 0;
		if (inet_pton(AF_INET6, text, address) == 1)
			return NULL;
		*base = IPV4_PREFIX;
		memset(address, 0, sizeof(*address));
		memset(&address->s6_addr[10], 0xff, 2);
		if (inet_pton(AF_INET, text, &address->s6_addr[12]) == 1)
			return NULL;
	}
	return "ADDRESS must be a numeric IPv4 or IPv6 address";
}

static const char *
read_prefix(const struct piece *piece, unsigned base, unsigned *prefix)
{
	uint64_t value = 128 - base;

	if (piece->at != NULL &&
	    decimal_parse(piece->at, piece->len, 128 - base, &value) != 0)
		return base == 0 ? "PREFIX must be 0 to 128" :
				   "PREFIX must be 0 to 32";
	*prefix = base + (unsigned)value;
	return NULL;
}

static const char *
read_ports(const struct piece *piece, uint16_t *first, uint16_t *last)
{
	const char *dash;
	uint64_t low = 1, high = UINT16_MAX;
	size_t len = piece->len;

	if (piece->at == NULL || (len == 1 && piece->at[0] == '*'))
		goto done;
	dash = memchr(piece->at, '-', len);
	if (dash != NULL) {
		len = (size_t)(dash - piece->at);
		if (decimal_parse(dash + 1, piece->len - len - 1, UINT16_MAX,
			&high) != 0)
			goto bad;
	}
	if (decimal_parse(piece->at, len, UINT16_MAX, &low) != 0 || low == 0)
		goto bad;
	if (dash == NULL)
		high = low;
	if (low > high)
		return "PORTS must go from low to high";
done:
	*first = (uint16_t)low;
	*last = (uint16_t)high;
	return NULL;

bad:
	return "PORTS must be *, N or N-M of 1 to 65535";
}

/* Whether the first prefix bits are the same. */
static bool
same_network(const struct in6_addr *a, const struct in6_addr *b,
    unsigned prefix)
{
	unsigned bytes = prefix / 8, bits = prefix % 8;
	unsigned differing;

	if (memcmp(a->s6_addr, b->s6_addr, bytes) != 0)
		return false;
	if (bits == 0)
		return true;
	differing = a->s6_addr[bytes] ^ b->s6_addr[bytes];
	return differing >> (8 - bits) == 0;
}

/* Whether no bit is set after the first prefix bits. */
static bool
host_bits_clear(const struct in6_addr *address, unsigned prefix)
{
	unsigned i, mask;

	for (i = prefix / 8; i < sizeof(address->s6_addr); i++) {
		mask = i == prefix / 8 ? 0xffu >> (prefix % 8) : 0xffu;
		if ((address->s6_addr[i] & mask) != 0)
			return false;
	}
	return true;
}

int
cidr_parse(const char *text, struct cidr *cidr, const char **why)
{
	struct cidr parsed;
	struct pieces p;
	unsigned base = 0;

	memset(&parsed, 0, sizeof(parsed));
	*why = split(text, &p);
	if (*why == NULL)
		*why = read_address(&p.address, &parsed.address, &base);
	if (*why == NULL)
		*why = read_prefix(&p.prefix, base, &parsed.prefix);
	if (*why == NULL)
		*why =
		    read_ports(&p.ports, &parsed.port_first, &parsed.port_last);
	if (*why == NULL && !host_bits_clear(&parsed.address, parsed.prefix))
		*why = "bits below PREFIX must be 0";
	if (*why != NULL)
		return -1;
	*cidr = parsed;
	return 0;
}

const char *
cidr_format(const struct cidr *cidr, char *buf, size_t size)
{
	const struct in6_addr *address = &cidr->address;
	char text[INET6_ADDRSTRLEN];

	if (IN6_IS_ADDR_V4MAPPED(address) && cidr->prefix >= IPV4_PREFIX)
		snprintf(buf, size, "%s/%u:%u-%u",
		    inet_ntop(AF_INET, &address->s6_addr[12], text,
			sizeof(text)),
		    cidr->prefix - IPV4_PREFIX, (unsigned)cidr->port_first,
		    (unsigned)cidr->port_last);
	else
		snprintf(buf, size, "[%s/%u]:%u-%u",
		    inet_ntop(AF_INET6, address, text, sizeof(text)),
		    cidr->prefix, (unsigned)cidr->port_first,
		    (unsigned)cidr->port_last);
	return buf;
}

bool
cidr_canonical(const struct sockaddr *sa, struct in6_addr *address,
    uint16_t *port)
{
	struct sockaddr_in6 in6;
	struct sockaddr_in in;

	/* Copies, for a cast would break the aliasing rules. */
	switch (sa->sa_family) {
	case AF_INET:
		memcpy(&in, sa, sizeof(in));
		memset(address, 0, sizeof(*address));
		memset(&address->s6_addr[10], 0xff, 2);
		memcpy(&address->s6_addr[12], &in.sin_addr, 4);
		*port = ntohs(in.sin_port);
		return true;
	case AF_INET6:
		memcpy(&in6, sa, sizeof(in6));
		*address = in6.sin6_addr;
		*port = ntohs(in6.sin6_port);
		return true;
	default:
		return false;
	}
}

bool
cidr_match(const struct cidr *cidr, const struct in6_addr *address,
    uint16_t port)
{
	if (port < cidr->port_first || port > cidr->port_last)
		return false;
	/* Else "::/0", written to allow IPv6, would allow IPv4 as well. */
	if (IN6_IS_ADDR_V4MAPPED(address) && cidr->prefix < IPV4_PREFIX)
		return false;
	return same_network(&cidr->address, address, cidr->prefix);
}
