/*
 * The state of http.h as a part of an image, for an upgrade in place.
 */
#include "http_private.h"

#include "base/image.h"

#define NAME_MAX_HTTP 512

static bool
gives(const struct http *h)
{
	return h->state == REQUEST_GIVE;
}

/* Requests. */

static void
save_request(const struct http *h, struct image_writer *w)
{
	bool held = h->state == REQUEST_HEAD || gives(h);

	image_put(w, h->state);
	image_put(w, gives(h) ? h->next : REQUEST_BETWEEN);
	image_put(w, (uint64_t)h->code);
	image_put(w, h->close);
	image_put(w, h->blank);
	image_put(w, h->count);
	image_put(w, h->buf != NULL);
	image_put_bytes(w, h->buf != NULL ? h->buf : h->small,
	    held ? h->len : 0);
	image_put(w, gives(h) ? h->given : 0);
	image_put(w, h->left);
	image_put(w, h->chunk);
	image_put(w, h->digits);
	image_put(w, h->extra);
}

/* What was gathered of a head goes through the gate once more. */
static bool
gather(struct http *h, const uint8_t *p, size_t len)
{
	size_t used, made;
	uint8_t out;

	http_request(h, p, len, &used, &out, 1, &made);
	return used == len && made == 0 && h->state == REQUEST_HEAD;
}

static bool
load_held(struct http *h, struct image_reader *r)
{
	bool large = image_take_bool(r);
	const uint8_t *p;
	size_t len;

	p = image_take_bytes(r, &len);
	if (r->failed)
		return false;
	if (h->state == REQUEST_HEAD)
		return gather(h, p, len);
	h->len = len;
	if (!gives(h))
		return len == 0 && !large;
	if (!large) {
		if (len > HTTP_SMALL_MAX)
			return false;
		memcpy(h->small, p, len);
		return true;
	}
	h->buf = h->allocator->alloc(h->allocator->context, len);
	if (h->buf == NULL)
		return false;
	memcpy(h->buf, p, len);
	h->size = len;
	return true;
}

/* What has to be so in the state that it is in, or that follows. */
static bool
request_fits(const struct http *h)
{
	switch (gives(h) ? h->next : h->state) {
	case REQUEST_BODY:
	case REQUEST_CHUNK_DATA:
		return h->left > 0;
	case REQUEST_CHUNK_LINE:
		return h->chunk > CHUNK_BAD && h->chunk < CHUNK_SIZE_DONE;
	case REQUEST_GIVE:
		return false;
	default:
		return true;
	}
}

static bool
load_request(struct http *h, struct image_reader *r)
{
	h->state = (enum request_state)image_take(r, REQUEST_BAD);
	h->next = (enum request_state)image_take(r, REQUEST_BAD);
	h->code = (int)image_take(r, 999);
	h->close = image_take_bool(r);
	h->blank = (unsigned)image_take(r, HTTP_BLANK_MAX);
	h->count = image_take(r, UINT64_MAX);
	if (!load_held(h, r))
		return false;
	h->given = image_take(r, h->len);
	h->left = image_take(r, UINT64_MAX);
	h->chunk = (enum chunk_state)image_take(r, CHUNK_DONE);
	h->digits = (unsigned)image_take(r, 16);
	h->extra = image_take(r, UINT32_MAX);
	return !r->failed && request_fits(h);
}

/*
 * Responses: http_parser's struct.  The library trusts it, and has its states
 * for itself; which number stands for a place that we know is found by having
 * a parser go there.
 */

enum need {
	NEED_CHUNKED = 1,
	NEED_SOME = 2, /* bytes of a body or a chunk are left */
	NEED_NONE = 4,
	NEED_FRESH = 8, /* no bytes of a line were counted */
	NEED_NAME = 16, /* it is known which field's name it can be */
	NEED_VALUE = 32, /* ... whose value it cannot be */
};

#define LINE "HTTP/1.1 200 OK\r\n"
#define CHUNKS LINE "Transfer-Encoding: chunked\r\n\r\n"

static const struct place {
	const char *text;
	unsigned needs;
} places[] = {
    {"", 0},
    {"H", 0},
    {"HT", 0},
    {"HTT", 0},
    {"HTTP", 0},
    {"HTTP/", 0},
    {"HTTP/1", 0},
    {"HTTP/1.", 0},
    {"HTTP/1.1", 0},
    {"HTTP/1.1 ", 0},
    {"HTTP/1.1 2", 0},
    {"HTTP/1.1 200 ", 0},
    {"HTTP/1.1 200 O", 0},
    {"HTTP/1.1 200 OK\r", 0},
    {LINE, 0},
    {LINE "a", NEED_NAME},
    {LINE "a\r", 0},
    {LINE "a:", 0},
    {LINE "a:\r", 0},
    {LINE "a:\r\n", 0},
    {LINE "a:b", NEED_VALUE},
    {LINE "a:b\r", 0},
    {LINE "a:b\r\n", 0},
    {LINE "a:b\r\n\r", 0},
    {LINE "\r\n", 0},
    {LINE "Content-Length: 2\r\n\r\n", NEED_SOME},
    {CHUNKS, NEED_CHUNKED | NEED_FRESH},
    {CHUNKS "2", NEED_CHUNKED},
    {CHUNKS "2;", NEED_CHUNKED},
    {CHUNKS "2\r", NEED_CHUNKED},
    {CHUNKS "2\r\n", NEED_CHUNKED | NEED_SOME},
    {CHUNKS "2\r\nab", NEED_CHUNKED | NEED_NONE},
    {CHUNKS "2\r\nab\r", NEED_CHUNKED},
};

static unsigned
state_of(http_parser p)
{
	return (unsigned)p.state;
}

static unsigned
name_of(http_parser p)
{
	return (unsigned)p.header_state;
}

static http_parser
parse(const char *text, size_t len)
{
	static const http_parser_settings none;
	http_parser p = {0};

	http_parser_init(&p, HTTP_RESPONSE);
	if (len > 0)
		http_parser_execute(&p, &none, text, len);
	return p;
}

static bool
name_fits(const http_parser *p)
{
	static const char *const names[] = {
	    LINE "connection",
	    LINE "proxy-connection",
	    LINE "content-length",
	    LINE "transfer-encoding",
	    LINE "upgrade",
	    LINE "x",
	};
	size_t i, n;

	for (i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		for (n = strlen(LINE) + 1; n <= strlen(names[i]); n++)
			if (name_of(parse(names[i], n)) == name_of(*p))
				return true;
	return false;
}

/* Of these two the library knows more than their name by then. */
static bool
value_fits(const http_parser *p)
{
	static const char *const names[] = {
	    LINE "connection:",
	    LINE "transfer-encoding:",
	};
	size_t i;

	for (i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (name_of(parse(names[i], strlen(names[i]))) == name_of(*p))
			return false;
	return true;
}

static bool
needs_fit(const http_parser *p, unsigned needs)
{
	uint64_t left = p->content_length;

	return ((needs & NEED_CHUNKED) == 0 || (p->flags & F_CHUNKED) != 0) &&
	    ((needs & NEED_SOME) == 0 || (left > 0 && left < UINT64_MAX)) &&
	    ((needs & NEED_NONE) == 0 || left == 0) &&
	    ((needs & NEED_FRESH) == 0 || p->nread == 0) &&
	    ((needs & NEED_NAME) == 0 || name_fits(p)) &&
	    ((needs & NEED_VALUE) == 0 || value_fits(p));
}

static bool
parser_fits(const http_parser *p)
{
	size_t i;

	for (i = 0; i < sizeof(places) / sizeof(places[0]); i++)
		if (state_of(parse(places[i].text, strlen(places[i].text))) ==
		    state_of(*p))
			return needs_fit(p, places[i].needs);
	return false;
}

static void
save_parser(const http_parser *p, struct image_writer *w)
{
	image_put(w, p->flags);
	image_put(w, p->state);
	image_put(w, p->header_state);
	image_put(w, p->index);
	image_put(w, p->uses_transfer_encoding);
	image_put(w, p->nread);
	image_put(w, p->content_length);
	image_put(w, p->http_major);
	image_put(w, p->http_minor);
	image_put(w, p->status_code);
}

static bool
load_parser(http_parser *p, struct image_reader *r)
{
	p->flags = image_take(r, UINT8_MAX) & UINT8_MAX;
	p->state = image_take(r, 127) & 127;
	p->header_state = image_take(r, 127) & 127;
	p->index = image_take(r, 31) & 31;
	p->uses_transfer_encoding = image_take_bool(r);
	p->nread = (uint32_t)image_take(r, UINT32_MAX - 1);
	p->content_length = image_take(r, UINT64_MAX);
	p->http_major = (unsigned short)image_take(r, 999);
	p->http_minor = (unsigned short)image_take(r, 999);
	p->status_code = image_take(r, 999) & UINT16_MAX;
	return !r->failed && parser_fits(p);
}

/* The whole. */

void
http_save(const struct http *h, struct image_writer *w)
{
	image_put_tag(w, "http");
	image_put_bytes(w, h->names, h->host_len);
	image_put_bytes(w, h->names + h->host_len, h->visitor_len);
	save_request(h, w);
	image_put(w, h->owed);
	image_put(w, h->heads);
	image_put(w, h->mid);
	image_put(w, h->unasked);
	image_put(w, h->broken);
	image_put(w, h->whole);
	/* Between two responses, and after a bad one, there is nothing. */
	if (h->mid && !h->broken)
		save_parser(&h->parser, w);
}

static bool
load_all(struct http *h, struct image_reader *r)
{
	if (!load_request(h, r))
		return false;
	h->owed = (unsigned)image_take(r, HTTP_PIPELINE_MAX);
	h->heads = image_take(r, UINT64_MAX);
	h->mid = image_take_bool(r);
	h->unasked = image_take_bool(r);
	h->broken = image_take_bool(r);
	h->whole = image_take(r, SIZE_MAX);
	if (r->failed || !h->mid || h->broken)
		return !r->failed;
	return load_parser(&h->parser, r) && (h->unasked || h->owed > 0);
}

struct http *
http_load(struct image_reader *r)
{
	char host[NAME_MAX_HTTP], visitor[NAME_MAX_HTTP];
	struct http *h;

	image_take_tag(r, "http");
	image_take_text(r, host, sizeof(host));
	image_take_text(r, visitor, sizeof(visitor));
	if (r->failed)
		return NULL;
	h = http_new(host, visitor);
	if (h == NULL || load_all(h, r))
		return h;
	http_free(h);
	return NULL;
}
