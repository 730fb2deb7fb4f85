#include <strings.h>

#include "base/decimal.h"
#include "http_private.h"

#define LENGTH(s) (sizeof(s) - 1)

static const struct {
	const char *name;
	size_t len;
	enum field_kind kind;
} known[] = {
#define KNOWN(name, kind) \
	{ \
		name, LENGTH(name), kind \
	}
    KNOWN("host", FIELD_HOST),
    KNOWN("content-length", FIELD_CONTENT_LENGTH),
    KNOWN("transfer-encoding", FIELD_TRANSFER_ENCODING),
    KNOWN("connection", FIELD_CONNECTION),
    KNOWN("upgrade", FIELD_UPGRADE),
    KNOWN("keep-alive", FIELD_DROP),
    KNOWN("proxy-connection", FIELD_DROP),
    KNOWN("te", FIELD_DROP),
    KNOWN("trailer", FIELD_DROP),
    KNOWN("http2-settings", FIELD_DROP),
    KNOWN("forwarded", FIELD_DROP),
    KNOWN("x-forwarded-for", FIELD_DROP),
    KNOWN("x-forwarded-proto", FIELD_DROP),
    KNOWN("x-forwarded-host", FIELD_DROP),
#undef KNOWN
};

static bool
is(struct span s, const char *word)
{
	return s.len == strlen(word) && strncasecmp(s.at, word, s.len) == 0;
}

/* As CGI and its heirs compare: case and '_' for '-' make no difference. */
static bool
folds_to(const char *at, const char *name, size_t len)
{
	size_t i;
	char c;

	for (i = 0; i < len; i++) {
		c = at[i];
		if (c >= 'A' && c <= 'Z')
			c = (char)(c - 'A' + 'a');
		if ((c == '_' ? '-' : c) != name[i])
			return false;
	}
	return true;
}

/*
 * A name with an underscore is never the field it folds to, but an
 * application may take it for that: it is dropped.
 */
static enum field_kind
kind_of(struct span name)
{
	size_t i;

	for (i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (known[i].len == name.len &&
		    folds_to(name.at, known[i].name, name.len))
			return memchr(name.at, '_', name.len) == NULL ?
			    known[i].kind :
			    FIELD_DROP;
	return FIELD_OTHER;
}

/*
 * Fields that Connection must not make us drop, besides those with a kind of
 * their own: an application's safety may hang on them.
 */
static bool
is_protected(struct span name)
{
	static const char prefix[] = "x-forwarded-";

	if (is(name, "authorization") || is(name, "cookie"))
		return true;
	return name.len >= LENGTH(prefix) &&
	    folds_to(name.at, prefix, LENGTH(prefix));
}

struct span
http_field_trim(struct span s)
{
	while (s.len > 0 && (s.at[0] == ' ' || s.at[0] == '\t')) {
		s.at++;
		s.len--;
	}
	while (s.len > 0 && (s.at[s.len - 1] == ' ' || s.at[s.len - 1] == '\t'))
		s.len--;
	return s;
}

/* Cut the first element off a list; the last one leaves rest->at NULL. */
static struct span
list_next(struct span *rest)
{
	const char *comma = memchr(rest->at, ',', rest->len);
	struct span item = *rest;

	if (comma == NULL) {
		rest->at = NULL;
		return http_field_trim(item);
	}
	item.len = (size_t)(comma - rest->at);
	rest->at += item.len + 1;
	rest->len -= item.len + 1;
	return http_field_trim(item);
}

bool
http_field_host(struct span host)
{
	static const char name[] = "abcdefghijklmnopqrstuvwxyz"
				   "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-~";
	static const char address[] = "0123456789abcdefABCDEF:.";
	const char *set = name;
	size_t i = 0, first = 0;

	if (host.len > 0 && host.at[0] == '[') {
		set = address;
		i = first = 1;
	}
	while (i < host.len && host.at[i] != '\0' &&
	    strchr(set, host.at[i]) != NULL)
		i++;
	if (i == first)
		return false;
	if (set == address && (i == host.len || host.at[i++] != ']'))
		return false;
	if (i < host.len && host.at[i++] != ':')
		return false;
	while (i < host.len && host.at[i] >= '0' && host.at[i] <= '9')
		i++;
	return i == host.len;
}

static int
scan_host(struct head *head, struct span value)
{
	/* RFC 9112, 3.2: it may be empty, but there is only one. */
	if (head->hosts++ > 0)
		return 400;
	if (value.len > 0 && !http_field_host(value))
		return 400;
	/* The authority in the request's target goes first. */
	if (head->authority.at == NULL)
		head->authority = value;
	return 0;
}

static int
scan_length(struct head *head, struct span value)
{
	if (head->lengths++ > 0)
		return 400;
	return decimal_parse(value.at, value.len, INT64_MAX, &head->length) ==
		0 ?
	    0 :
	    400;
}

static int
scan_encoding(struct head *head, struct span value)
{
	struct span item;
	size_t i;

	head->encodings++;
	do {
		item = list_next(&value);
		for (i = 0; i < item.len; i++)
			if (!http_is_token((uint8_t)item.at[i]))
				head->coding_malformed = true;
		if (item.len == 0)
			head->coding_malformed = true;
		head->chunked_last = is(item, "chunked");
		if (head->chunked_last)
			head->chunked++;
		else
			head->coding_unknown = true;
	} while (value.at != NULL);
	return 0;
}

static int
scan_connection(struct head *head, struct span value)
{
	struct span item;

	do {
		item = list_next(&value);
		if (is(item, "close"))
			head->close = true;
		else if (is(item, "keep-alive"))
			head->keep_alive = true;
		else if (is(item, "upgrade"))
			head->upgrade = true;
		else if (item.len > 0 && kind_of(item) == FIELD_OTHER &&
		    !is_protected(item)) {
			if (head->named_len == HTTP_NAMED_MAX)
				return 400;
			head->named[head->named_len++] = item;
		}
	} while (value.at != NULL);
	return 0;
}

int
http_field_scan(struct head *head, struct span name, struct span value)
{
	switch (kind_of(name)) {
	case FIELD_HOST:
		return scan_host(head, value);
	case FIELD_CONTENT_LENGTH:
		return scan_length(head, value);
	case FIELD_TRANSFER_ENCODING:
		return scan_encoding(head, value);
	case FIELD_CONNECTION:
		return scan_connection(head, value);
	case FIELD_UPGRADE:
		head->websocket =
		    head->upgrades++ == 0 && is(value, "websocket");
		return 0;
	default:
		return 0;
	}
}

static int
judge_encoding(const struct head *head)
{
	if (head->encodings == 0)
		return 0;
	if (head->lengths > 0 || head->minor == 0 || head->coding_malformed)
		return 400;
	if (head->chunked > 1 || (head->chunked == 1 && !head->chunked_last))
		return 400;
	return head->coding_unknown ? 501 : 0;
}

int
http_field_judge(struct head *head)
{
	static const struct span get = {"GET", 3};

	if (head->hosts == 0 && head->minor > 0)
		return 400;
	if (head->minor == 0 && !head->keep_alive)
		head->close = true;
	/*
	 * HTTP/1.0 knows no Upgrade.  With a body, the bytes after the head
	 * would be the body's or the new protocol's, whoever is asked.
	 */
	if (head->minor == 0 || head->close || !head->websocket ||
	    head->encodings > 0 || head->length > 0 ||
	    head->method.len != get.len ||
	    memcmp(head->method.at, get.at, get.len) != 0)
		head->upgrade = false;
	return judge_encoding(head);
}

bool
http_field_kept(const struct head *head, struct span name)
{
	size_t i;

	if (kind_of(name) != FIELD_OTHER)
		return false;
	for (i = 0; i < head->named_len; i++)
		if (head->named[i].len == name.len &&
		    strncasecmp(head->named[i].at, name.at, name.len) == 0)
			return false;
	return true;
}
