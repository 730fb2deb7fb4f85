#include "test_config_text.h"

#include <CUnit/CUnit.h>

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>

#include "base/cidr.h"
#include "base/decimal.h"
#include "base/hostport.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

#define LABEL61 \
	"a23456789012345678901234567890" \
	"1234567890123456789012345678901"
#define LABEL63 LABEL61 "23"
#define NAME191 LABEL63 "." LABEL63 "." LABEL63

/* CUnit tells the line of the assertion; the case tells the rest. */
static void
check(int ok, const char *what, const char *text)
{
	if (!ok)
		fprintf(stderr, "\n%s: \"%s\"\n", what, text);
	CU_ASSERT(ok);
}

static const struct {
	const char *text;
	uint64_t max;
	int rc;
	uint64_t value;
} decimals[] = {
    {"0", 0, 0, 0},
    {"7", 7, 0, 7},
    {"8", 7, -1, 0},
    {"007", 7, 0, 7},
    {"65535", 65535, 0, 65535},
    {"65536", 65535, -1, 0},
    {"18446744073709551615", UINT64_MAX, 0, UINT64_MAX},
    {"18446744073709551616", UINT64_MAX, -1, 0},
    {"18446744073709551620", UINT64_MAX, -1, 0},
    {"99999999999999999999999", UINT64_MAX, -1, 0},
    {"9", 5, -1, 0},
    {"", 9, -1, 0},
    {"-1", 9, -1, 0},
    {"+1", 9, -1, 0},
    {" 1", 9, -1, 0},
    {"1 ", 9, -1, 0},
    {"0x1", 9, -1, 0},
    {"1e1", 99, -1, 0},
};

void
test_decimal(void)
{
	uint64_t value;
	size_t i;
	int rc;

	for (i = 0; i < COUNT(decimals); i++) {
		value = 424242;
		rc = decimal_parse(decimals[i].text, strlen(decimals[i].text),
		    decimals[i].max, &value);
		check(rc == decimals[i].rc, "decimal", decimals[i].text);
		check(value == (rc == 0 ? decimals[i].value : 424242),
		    "decimal value", decimals[i].text);
	}
	/* The length counts, not the end of the string. */
	CU_ASSERT(decimal_parse("123x", 3, 999, &value) == 0 && value == 123);
}

static const struct {
	const char *text, *host;
	unsigned port;
} hostports[] = {
    {":0", "", 0}, {":65535", "", 65535}, {"127.0.0.1:80", "127.0.0.1", 80},
    {"127.0.0.1:080", "127.0.0.1", 80}, {"0.0.0.0:0", "0.0.0.0", 0},
    {"localhost:1", "localhost", 1}, {"LocalHost:1", "LocalHost", 1},
    {"a:1", "a", 1}, {"a.b-c.example:1", "a.b-c.example", 1},
    {"example.com.:1", "example.com.", 1},
    {"proxy_server_1:1", "proxy_server_1", 1}, {"3com.com:1", "3com.com", 1},
    {"1.2.3.4a:1", "1.2.3.4a", 1}, {"0xyz:1", "0xyz", 1},
    {"xn--bcher-kva.example:1", "xn--bcher-kva.example", 1},
    {"[::]:1", "::", 1}, {"[::1]:80", "::1", 80},
    {"[2001:db8::1]:80", "2001:db8::1", 80},
    {"[::ffff:1.2.3.4]:80", "::ffff:1.2.3.4", 80},
    {"[fe80::1%eth0]:80", "fe80::1%eth0", 80},
    {"[fe80::1%2]:80", "fe80::1%2", 80}, {LABEL63 ":1", LABEL63, 1},
    {NAME191 "." LABEL61 ":1", NAME191 "." LABEL61, 1}, /* 253 */
};

void
test_hostport_parse(void)
{
	struct hostport hp;
	size_t i;
	int rc;

	for (i = 0; i < COUNT(hostports); i++) {
		memset(&hp, 0xaa, sizeof(hp));
		rc = hostport_parse(hostports[i].text, &hp);
		check(rc == 0 && strcmp(hp.host, hostports[i].host) == 0 &&
			hp.port == hostports[i].port,
		    "taken", hostports[i].text);
	}
}

static const char *const bad_hostports[] = {
    "",
    ":",
    "::",
    "80",
    "localhost",
    "localhost:",
    "[::1]",
    "[::1]:",
    "[::1]80",
    "[::1",
    "[]:80",
    "[",
    "]:80",
    "::1",
    "::1:80",
    "2001:db8::1:80",
    "a:b:1",
    "a:-1",
    "a:+1",
    "a: 1",
    "a:1 ",
    " a:1",
    "a:65536",
    "a:99999999999999999999",
    "a:1x",
    "a:0x10",
    "a:http",
    "[1.2.3.4]:80",
    "[localhost]:80",
    "[::1]]:80",
    "[[::1]]:80",
    "[::1%]:80",
    "[%eth0]:80",
    "[fe80::1%abcdefghijklmnop]:80",
    "[fe80::1%e/0]:80",
    "[:::1]:80",
    "[0:0:0:0:0:0:0:0000000000000000000000000000000001]:80",
    "[1::2::3]:80",
    "[12345::]:80",
    "1.2.3:80",
    "1.2.3.4.5:80",
    "1.2.3.256:80",
    "127.1:80",
    "2130706433:80",
    "0x7f000001:80",
    "0x7f.0.0.0x1:80",
    "0X7F:80",
    "01.02.03.04:80",
    "1.2.3.4.:80",
    "a..b:80",
    ".a:80",
    ".:80",
    "-a:80",
    "a-:80",
    "a.-b:80",
    "a b:80",
    "a/b:80",
    "a@b:80",
    "*:80",
    "caf\xc3\xa9:80",
    "a\n:80",
    "a\x7f:80",
    "a" LABEL63 ":80",
    NAME191 "." LABEL61 "2:80",
    "http://a:80",
};

void
test_hostport_refuse(void)
{
	struct hostport hp, before;
	size_t i;

	memset(&hp, 0x55, sizeof(hp));
	before = hp;
	for (i = 0; i < COUNT(bad_hostports); i++) {
		check(hostport_parse(bad_hostports[i], &hp) == -1, "refused",
		    bad_hostports[i]);
		check(memcmp(&hp, &before, sizeof(hp)) == 0, "unchanged",
		    bad_hostports[i]);
	}
}

void
test_hostport_format(void)
{
	static const char *const cases[] = {
	    ":0",
	    ":65535",
	    "127.0.0.1:80",
	    "localhost:1",
	    "[::1]:80",
	    "[fe80::1%eth0]:65535",
	};
	char buf[HOSTPORT_TEXT_MAX], small[8];
	struct hostport hp;
	size_t i;

	for (i = 0; i < COUNT(cases); i++) {
		CU_ASSERT(hostport_parse(cases[i], &hp) == 0);
		check(strcmp(hostport_format(&hp, buf, sizeof(buf)),
			  cases[i]) == 0,
		    "format", cases[i]);
	}
	CU_ASSERT(hostport_format(&hp, small, sizeof(small)) == small);
	CU_ASSERT_STRING_EQUAL(small, "[fe80::");
	/* The longest of all. */
	memset(&hp, 0, sizeof(hp));
	memset(hp.host, ':', HOSTPORT_HOST_MAX);
	hp.port = 65535;
	CU_ASSERT(
	    strlen(hostport_format(&hp, buf, sizeof(buf))) == sizeof(buf) - 1);
}

static const struct {
	const char *a, *b;
	int order;
} orders[] = {
    {"a:1", "a:1", 0},
    {"a:1", "A:1", 0},
    {"a:1", "a:2", -1},
    {"a:1", "b:1", -1},
    {":1", "a:1", -1},
    {"1.2.3.4:080", "1.2.3.4:80", 0},
    {"[::1]:1", "[0:0::0:1]:1", 0},
    {"[2001:DB8::1]:1", "[2001:db8::1]:1", 0},
    {"[::ffff:1.2.3.4]:1", "[::ffff:102:304]:1", 0},
    {"[::1]:1", "[::2]:1", -1},
    {"0.0.0.0:1", "[::]:1", -1},
    {":1", "[::]:1", -1},
    {"[fe80::1%a]:1", "[fe80::1%b]:1", -1},
};

void
test_hostport_compare(void)
{
	struct hostport a, b;
	int ab, ba;
	size_t i;

	for (i = 0; i < COUNT(orders); i++) {
		CU_ASSERT(hostport_parse(orders[i].a, &a) == 0);
		CU_ASSERT(hostport_parse(orders[i].b, &b) == 0);
		ab = hostport_compare(&a, &b);
		ba = hostport_compare(&b, &a);
		check((ab > 0) - (ab < 0) == orders[i].order, "compare",
		    orders[i].a);
		check((ba > 0) - (ba < 0) == -orders[i].order, "compare",
		    orders[i].b);
	}
}

static const struct {
	const char *text, *shown;
} cidrs[] = {
    {"127.0.0.1", "127.0.0.1/32:1-65535"},
    {"127.0.0.1:80", "127.0.0.1/32:80-80"},
    {"127.0.0.1:*", "127.0.0.1/32:1-65535"},
    {"127.0.0.0/8", "127.0.0.0/8:1-65535"},
    {"127.0.0.0/8:80-90", "127.0.0.0/8:80-90"},
    {"0.0.0.0/0", "0.0.0.0/0:1-65535"},
    {"10.0.0.0/9:1-65535", "10.0.0.0/9:1-65535"},
    {"10.128.0.0/9:65535", "10.128.0.0/9:65535-65535"},
    {"1.2.3.254/31", "1.2.3.254/31:1-65535"},
    {"1.2.3.4/32:7-7", "1.2.3.4/32:7-7"},
    {"::1", "[::1/128]:1-65535"},
    {"::", "[::/128]:1-65535"},
    {"::/0", "[::/0]:1-65535"},
    {"fd00::/8", "[fd00::/8]:1-65535"},
    {"[::1]", "[::1/128]:1-65535"},
    {"[::1]:80", "[::1/128]:80-80"},
    {"[fd00::/8]:80", "[fd00::/8]:80-80"},
    {"[fd00::]/8:80", "[fd00::/8]:80-80"},
    {"[fd00::/8]", "[fd00::/8]:1-65535"},
    {"[fd00::]/8", "[fd00::/8]:1-65535"},
    {"[2001:db8::/33]:*", "[2001:db8::/33]:1-65535"},
    {"::ffff:1.2.3.4", "1.2.3.4/32:1-65535"},
    {"::ffff:1.2.0.0/112", "1.2.0.0/16:1-65535"},
    {"[::ffff:0:0/96]:80", "0.0.0.0/0:80-80"},
    /* Without brackets it cannot be told from a port. */
    {"fd00::1:80", "[fd00::1:80/128]:1-65535"},
    {"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
	"[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128]:1-65535"},
};

void
test_cidr_parse(void)
{
	char buf[CIDR_TEXT_MAX];
	const char *why;
	struct cidr c, again;
	size_t i;

	for (i = 0; i < COUNT(cidrs); i++) {
		memset(&c, 0xaa, sizeof(c));
		why = "unset";
		check(cidr_parse(cidrs[i].text, &c, &why) == 0, "cidr",
		    cidrs[i].text);
		check(strcmp(cidr_format(&c, buf, sizeof(buf)),
			  cidrs[i].shown) == 0,
		    buf, cidrs[i].text);
		/* What was shown reads as the same. */
		check(cidr_parse(buf, &again, &why) == 0, "again", buf);
		check(memcmp(&c, &again, sizeof(c)) == 0, "again", buf);
	}
}

static const struct {
	const char *text, *why;
} bad_cidrs[] = {
    {"", "ADDRESS must"},
    {"localhost", "ADDRESS must"},
    {"1.2.3", "ADDRESS must"},
    {"1.2.3.4.5", "ADDRESS must"},
    {"1.2.3.256", "ADDRESS must"},
    {"01.2.3.4", "ADDRESS must"},
    {" 1.2.3.4", "ADDRESS must"},
    {"*", "ADDRESS must"},
    {":80", "ADDRESS must"},
    {"/8", "ADDRESS must"},
    {"fe80::1%eth0", "ADDRESS must"},
    {"1:2:3:4:5:6:7:8:9", "ADDRESS must"},
    {"1.2.3.4/33", "PREFIX must be 0 to 32"},
    {"1.2.3.4/", "PREFIX must be 0 to 32"},
    {"1.2.3.4/-1", "PREFIX must be 0 to 32"},
    {"1.2.3.4/255.0.0.0", "PREFIX must be 0 to 32"},
    {"1.2.3.4/8/8", "PREFIX must be 0 to 32"},
    {"::1/129", "PREFIX must be 0 to 128"},
    {"::1/", "PREFIX must be 0 to 128"},
    {"::1/99999999999999999999", "PREFIX must be 0 to 128"},
    {"1.2.3.4/31x", "PREFIX must be 0 to 32"},
    {"10.0.0.1/8", "bits below"},
    {"10.0.0.0/6", "bits below"},
    {"1.2.3.4/0", "bits below"},
    {"1.2.3.3/31", "bits below"},
    {"fd00::1/8", "bits below"},
    {"::1/127", "bits below"},
    {"2001:db8:8000::/32", "bits below"},
    {"1.2.3.4:", "PORTS must be"},
    {"1.2.3.4:0", "PORTS must be"},
    {"1.2.3.4:65536", "PORTS must be"},
    {"1.2.3.4:1-65536", "PORTS must be"},
    {"1.2.3.4:0-5", "PORTS must be"},
    {"1.2.3.4:-5", "PORTS must be"},
    {"1.2.3.4:5-", "PORTS must be"},
    {"1.2.3.4:5-6-7", "PORTS must be"},
    {"1.2.3.4:**", "PORTS must be"},
    {"1.2.3.4:http", "PORTS must be"},
    {"1.2.3.4:80 ", "PORTS must be"},
    {"1.2.3.4:9-8", "PORTS must go from low to high"},
    {"[1.2.3.4]:80", "brackets are for IPv6"},
    {"[::1", "there is no ]"},
    {"[::1/8", "there is no ]"},
    {"[", "there is no ]"},
    {"[]:80", "brackets are for IPv6"},
    {"[::/0]/0", "the prefix is there twice"},
    {"[::1]80", "only /PREFIX and :PORTS"},
    {"[::1]]:80", "only /PREFIX and :PORTS"},
    {"[::1] :80", "only /PREFIX and :PORTS"},
    {"fd00::/8:80", "IPv6 with ports needs brackets"},
};

void
test_cidr_refuse(void)
{
	struct cidr c, before;
	const char *why;
	size_t i;

	memset(&c, 0x55, sizeof(c));
	before = c;
	for (i = 0; i < COUNT(bad_cidrs); i++) {
		why = "";
		check(cidr_parse(bad_cidrs[i].text, &c, &why) == -1, "refused",
		    bad_cidrs[i].text);
		check(strstr(why, bad_cidrs[i].why) == why, why,
		    bad_cidrs[i].text);
		check(memcmp(&c, &before, sizeof(c)) == 0, "unchanged",
		    bad_cidrs[i].text);
	}
}

static const struct {
	const char *network, *address;
	unsigned port;
	int within;
} matches[] = {
    {"127.0.0.1", "::ffff:127.0.0.1", 80, 1},
    {"127.0.0.1", "::ffff:127.0.0.2", 80, 0},
    {"127.0.0.1", "::1", 80, 0},
    {"127.0.0.1", "::127.0.0.1", 80, 0},
    {"127.0.0.1:80", "::ffff:127.0.0.1", 79, 0},
    {"127.0.0.1:80", "::ffff:127.0.0.1", 81, 0},
    {"127.0.0.1:80-81", "::ffff:127.0.0.1", 81, 1},
    {"127.0.0.1", "::ffff:127.0.0.1", 1, 1},
    {"127.0.0.1", "::ffff:127.0.0.1", 65535, 1},
    {"127.0.0.1", "::ffff:127.0.0.1", 0, 0},
    {"10.0.0.0/9", "::ffff:10.127.255.255", 1, 1},
    {"10.0.0.0/9", "::ffff:10.128.0.0", 1, 0},
    {"1.2.3.254/31", "::ffff:1.2.3.255", 1, 1},
    {"1.2.3.254/31", "::ffff:1.2.3.253", 1, 0},
    {"0.0.0.0/0", "::ffff:255.255.255.255", 1, 1},
    {"0.0.0.0/0", "::1", 1, 0},
    {"0.0.0.0/0", "2001:db8::1", 1, 0},
    {"::1", "::1", 1, 1},
    {"::1", "::", 1, 0},
    {"::1", "::ffff:127.0.0.1", 1, 0},
    {"fd00::/8", "fdff::1", 1, 1},
    {"fd00::/8", "fe00::1", 1, 0},
    {"2001:db8::/33", "2001:db8:7fff::", 1, 1},
    {"2001:db8::/33", "2001:db8:8000::", 1, 0},
    {"2001:db8::/127", "2001:db8::1", 1, 1},
    {"2001:db8::/127", "2001:db8::2", 1, 0},
    {"::/0", "2001:db8::1", 1, 1},
    {"::/0", "::", 1, 1},
    /* All of IPv6 is not all of IPv4. */
    {"::/0", "::ffff:1.2.3.4", 1, 0},
    {"::/64", "::ffff:1.2.3.4", 1, 0},
    {"::ffff:0:0/96", "::ffff:1.2.3.4", 1, 1},
};

void
test_cidr_match(void)
{
	struct in6_addr address;
	const char *why;
	struct cidr c;
	size_t i;

	for (i = 0; i < COUNT(matches); i++) {
		CU_ASSERT(cidr_parse(matches[i].network, &c, &why) == 0);
		CU_ASSERT(
		    inet_pton(AF_INET6, matches[i].address, &address) == 1);
		check(cidr_match(&c, &address, (uint16_t)matches[i].port) ==
			(matches[i].within != 0),
		    matches[i].network, matches[i].address);
	}
}

void
test_cidr_canonical(void)
{
	struct sockaddr_storage storage;
	struct sockaddr *sa = (struct sockaddr *)&storage;
	struct sockaddr_in6 in6 = {
	    .sin6_family = AF_INET6,
	    .sin6_port = htons(443),
	    .sin6_addr = IN6ADDR_LOOPBACK_INIT,
	    .sin6_scope_id = 3,
	};
	struct sockaddr_in in = {
	    .sin_family = AF_INET,
	    .sin_port = htons(80),
	};
	char text[INET6_ADDRSTRLEN];
	struct in6_addr address;
	uint16_t port;

	inet_pton(AF_INET, "1.2.3.4", &in.sin_addr);
	memcpy(&storage, &in, sizeof(in));
	CU_ASSERT(cidr_canonical(sa, &address, &port));
	CU_ASSERT_STRING_EQUAL(inet_ntop(AF_INET6, &address, text,
				   sizeof(text)),
	    "::ffff:1.2.3.4");
	CU_ASSERT(port == 80);

	memcpy(&storage, &in6, sizeof(in6));
	CU_ASSERT(cidr_canonical(sa, &address, &port));
	CU_ASSERT(IN6_IS_ADDR_LOOPBACK(&address));
	CU_ASSERT(port == 443);

	memset(&storage, 0, sizeof(storage));
	sa->sa_family = AF_UNIX;
	CU_ASSERT_FALSE(cidr_canonical(sa, &address, &port));
}
