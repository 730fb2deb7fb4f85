#include <assert.h>

#include "http_private.h"

#define TIMEOUT 408 /* Request Timeout */

static int
on_begin(http_parser *parser)
{
	struct http *h = parser->data;

	h->mid = true;
	h->unasked = h->owed == 0;
	return 0;
}

/*
 * Servers send 408 to connections that stay idle (RFC 9110, 15.5.9).  It is
 * told apart by its code's first digits: of any other answer that nobody
 * asked for the visitor shall get as little as possible.
 */
static bool
unasked_passes(const struct http *h)
{
	unsigned code = h->parser.status_code;

	return !h->unasked || code == TIMEOUT || code == TIMEOUT / 10 ||
	    code == TIMEOUT / 100 || code == 0;
}

/*
 * The upgrade that 101 agrees to must be the only request without a response
 * and be wholly with the application.
 */
static bool
upgrade_due(const struct http *h)
{
	return h->state == REQUEST_UPGRADING && h->owed == 1;
}

/* 1: no body follows; 2: no HTTP follows. */
static int
on_head(http_parser *parser)
{
	struct http *h = parser->data;
	unsigned code = parser->status_code;

	if (parser->http_major != 1 || code < 100 || code > 999)
		return -1;
	if (code == 101)
		return upgrade_due(h) ? 2 : -1;
	/* http_parser goes by Content-Length in a 304, which has no body. */
	return code < 200 || code == 204 || code == 304 || (h->heads & 1);
}

/* One message at a time: between two, http_parser begins anew. */
static int
on_end(http_parser *parser)
{
	http_parser_pause(parser, 1);
	return 0;
}

static const http_parser_settings settings = {
    .on_message_begin = on_begin,
    .on_headers_complete = on_head,
    .on_message_complete = on_end,
};

static void
response_done(struct http *h)
{
	unsigned code = h->parser.status_code;

	http_parser_init(&h->parser, HTTP_RESPONSE);
	h->mid = false;
	if (code == 101)
		h->state = REQUEST_OPAQUE;
	else if (h->unasked || code < 200)
		return;
	assert(h->owed > 0);
	h->owed--;
	h->heads >>= 1;
	if (h->owed > 0)
		return;
	/* Not 101, or we would not be here: the visitor goes on in HTTP. */
	if (h->state == REQUEST_UPGRADING)
		h->state = REQUEST_BETWEEN;
	else if (h->next == REQUEST_UPGRADING)
		h->next = REQUEST_BETWEEN;
}

/* What began in this call does not go to the visitor. */
static enum http_status
response_bad(struct http *h, bool mid)
{
	h->broken = true;
	h->mid = mid;
	h->parser.data = NULL;
	return HTTP_BAD;
}

enum http_status
http_response(struct http *h, const uint8_t *in, size_t len)
{
	bool mid = h->mid;
	size_t at = 0;

	h->whole = 0;
	if (h->broken)
		return HTTP_BAD;
	h->parser.data = h;
	while (at < len && h->state != REQUEST_OPAQUE) {
		at += http_parser_execute(&h->parser, &settings,
		    (const char *)in + at, len - at);
		if (!unasked_passes(h))
			return response_bad(h, mid);
		if (HTTP_PARSER_ERRNO(&h->parser) == HPE_PAUSED) {
			response_done(h);
			h->whole = at;
			mid = false;
		} else if (HTTP_PARSER_ERRNO(&h->parser) != HPE_OK ||
		    at < len) {
			return response_bad(h, mid);
		}
	}
	h->parser.data = NULL;
	return HTTP_OK;
}

size_t
http_response_whole(const struct http *h)
{
	return h->whole;
}

enum http_status
http_response_end(struct http *h)
{
	if (h->broken)
		return HTTP_BAD;
	if (!h->mid)
		return HTTP_OK;
	h->parser.data = h;
	http_parser_execute(&h->parser, &settings, NULL, 0);
	if (HTTP_PARSER_ERRNO(&h->parser) != HPE_PAUSED)
		return response_bad(h, true);
	response_done(h);
	h->parser.data = NULL;
	return HTTP_OK;
}

bool
http_response_partial(const struct http *h)
{
	return h->mid;
}

bool
http_response_idle(const struct http *h)
{
	return h->owed == 0 && !h->mid && h->state != REQUEST_OPAQUE;
}
