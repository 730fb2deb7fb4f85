#include "base/hostport.h"

#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/decimal.h"

#define LABEL_MAX 63 /* RFC 1035, 2.3.4 */

static const char letters[] =
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
static const char digits[] = "0123456789";

static bool
in_set(char c, const char *set)
{
	return c != '\0' && strchr(set, c) != NULL;
}

/*
 * One label of a name.  The underscore is in no RFC on host names, but
 * container networks hand out names that have it.
 */
static bool
label_valid(const char *label, size_t len)
{
	size_t i;

	if (len == 0 || len > LABEL_MAX)
		return false;
	if (label[0] == '-' || label[len - 1] == '-')
		return false;
	for (i = 0; i < len; i++)
		if (!in_set(label[i], letters) && !in_set(label[i], digits) &&
		    label[i] != '-' && label[i] != '_')
			return false;
	return true;
}

/*
 * RFC 1123, 2.1: a name's last label is not a number.  Without this rule
 * "127.1", "0x7f.1" and "10.0.0.256" would pass for names, and inet_aton()
 * inside the resolver would make addresses of them that nobody wrote.
 */
static bool
label_numeric(const char *label, size_t len)
{
	if (strspn(label, digits) >= len)
		return true;
	return len >= 2 && label[0] == '0' && in_set(label[1], "xX") &&
	    strspn(label + 2, "0123456789abcdefABCDEF") >= len - 2;
}

static bool
name_valid(const char *host)
{
	const char *label = host;
	size_t len;

	for (;;) {
		len = strcspn(label, ".");
		if (!label_valid(label, len))
			return false;
		/* One dot may end the name: it is then a full one. */
		if (label[len] == '\0' || label[len + 1] == '\0')
			return !label_numeric(label, len);
		label += len + 1;
	}
}

static bool
ipv4_valid(const char *host)
{
	struct in_addr address;

	return inet_pton(AF_INET, host, &address) == 1;
}

/* A zone is the name or the number of an interface. */
static bool
zone_valid(const char *zone)
{
	size_t i, len = strlen(zone);

	if (len == 0 || len >= IF_NAMESIZE)
		return false;
	for (i = 0; i < len; i++)
		if (!in_set(zone[i], letters) && !in_set(zone[i], digits) &&
		    !in_set(zone[i], "-_."))
			return false;
	return true;
}

static bool
ipv6_valid(const char *host)
{
	char text[INET6_ADDRSTRLEN];
	struct in6_addr address;
	size_t len = strcspn(host, "%");

	if (len >= sizeof(text))
		return false;
	memcpy(text, host, len);
	text[len] = '\0';
	if (inet_pton(AF_INET6, text, &address) != 1)
		return false;
	return host[len] == '\0' || zone_valid(host + len + 1);
}

int
hostport_parse(const char *text, struct hostport *hp)
{
	bool bracketed = text[0] == '[';
	const char *host = text + bracketed;
	const char *end = strchr(host, bracketed ? ']' : ':');
	struct hostport parsed;
	const char *port;
	uint64_t value;

	if (end == NULL || (size_t)(end - host) > HOSTPORT_HOST_MAX)
		return -1;
	port = end + bracketed;
	if (*port++ != ':')
		return -1;
	if (decimal_parse(port, strlen(port), UINT16_MAX, &value) != 0)
		return -1;

	memset(&parsed, 0, sizeof(parsed));
	memcpy(parsed.host, host, (size_t)(end - host));
	parsed.port = (uint16_t)value;
	if (bracketed) {
		if (!ipv6_valid(parsed.host))
			return -1;
	} else if (parsed.host[0] != '\0') {
		if (!ipv4_valid(parsed.host) && !name_valid(parsed.host))
			return -1;
	}
	*hp = parsed;
	return 0;
}

const char *
hostport_format(const struct hostport *hp, char *buf, size_t size)
{
	bool bracketed = strchr(hp->host, ':') != NULL;

	snprintf(buf, size, "%s%s%s:%u", bracketed ? "[" : "", hp->host,
	    bracketed ? "]" : "", (unsigned)hp->port);
	return buf;
}

/* One spelling for an IPv6 address; anything else as it is. */
static const char *
one_spelling(const char *host, char buf[INET6_ADDRSTRLEN])
{
	struct in6_addr address;

	if (inet_pton(AF_INET6, host, &address) != 1)
		return host;
	return inet_ntop(AF_INET6, &address, buf, INET6_ADDRSTRLEN);
}

int
hostport_compare(const struct hostport *a, const struct hostport *b)
{
	char abuf[INET6_ADDRSTRLEN], bbuf[INET6_ADDRSTRLEN];

	if (a->port != b->port)
		return a->port < b->port ? -1 : 1;
	return strcasecmp(one_spelling(a->host, abuf),
	    one_spelling(b->host, bbuf));
}
