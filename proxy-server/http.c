#include "http.h"

#include <assert.h>

#include "http_private.h"

_Static_assert(HTTP_PIPELINE_MAX <= 64, "a bit of heads for each request");
_Static_assert(sizeof(struct http) < 1024, "most visitors are idle");

struct http *
http_new(const char *host, const char *visitor)
{
	return http_new_from(&allocator_system, host, visitor);
}

struct http *
http_new_from(const struct allocator *allocator, const char *host,
    const char *visitor)
{
	size_t host_len = strlen(host), visitor_len = strlen(visitor);
	struct http *h;

	h = allocator_new(allocator, sizeof(*h) + host_len + visitor_len);
	if (h == NULL)
		return NULL;
	h->allocator = allocator;
	h->state = REQUEST_BETWEEN;
	h->host_len = host_len;
	h->visitor_len = visitor_len;
	memcpy(h->names, host, host_len);
	memcpy(h->names + host_len, visitor, visitor_len);
	http_parser_init(&h->parser, HTTP_RESPONSE);
	return h;
}

void
http_free(struct http *h)
{
	if (h == NULL)
		return;
	http_drop(h);
	allocator_free(h->allocator, h);
}

void
http_drop(struct http *h)
{
	allocator_free(h->allocator, h->buf);
	h->buf = NULL;
	h->size = h->len = h->given = 0;
}

/*
 * A request that breaks off in its body will get no response from the
 * application.  It is no longer owed one, unless that has begun, so that the
 * error answer finds its turn.
 */
enum http_step
http_refuse(struct http *h, int code)
{
	bool begun = h->mid && !h->unasked;

	if (h->state == REQUEST_CHUNK_LINE && h->owed > (begun ? 1 : 0))
		h->owed--;
	http_drop(h);
	h->code = code;
	h->state = REQUEST_BAD;
	return STEP_BAD;
}

enum request_state
http_after(const struct http *h)
{
	return h->close ? REQUEST_CLOSED : REQUEST_BETWEEN;
}

enum http_step
http_give(struct http *h, size_t len, enum request_state next)
{
	h->len = len;
	h->given = 0;
	h->next = next;
	h->state = REQUEST_GIVE;
	return STEP_ON;
}

static size_t
copy(struct http_io *io, const uint8_t *from, uint64_t len)
{
	size_t n = io->out_len;

	if (n > len)
		n = (size_t)len;
	if (n == 0)
		return 0;
	memcpy(io->out, from, n);
	io->out += n;
	io->out_len -= n;
	return n;
}

static enum http_step
between_step(struct http *h, struct http_io *io)
{
	if (h->owed == HTTP_PIPELINE_MAX)
		return STEP_WAIT;
	if (io->in_len == 0)
		return STEP_STOP;
	if (io->in[0] != (h->blank % 2 == 0 ? '\r' : '\n')) {
		if (h->blank % 2 != 0)
			return http_refuse(h, 400);
		h->blank = 0;
		h->state = REQUEST_HEAD;
		return STEP_ON;
	}
	if (h->blank == HTTP_BLANK_MAX)
		return http_refuse(h, 400);
	h->blank++;
	http_took(io, 1);
	return STEP_ON;
}

static enum http_step
give_step(struct http *h, struct http_io *io)
{
	const uint8_t *from = h->buf != NULL ? h->buf : h->small;

	h->given += copy(io, from + h->given, h->len - h->given);
	if (h->given < h->len)
		return STEP_STOP;
	http_drop(h);
	h->state = h->next;
	return STEP_ON;
}

static enum http_step
plain_step(struct http *h, struct http_io *io)
{
	size_t plain = http_request_plain(h);
	size_t n = copy(io, io->in, plain < io->in_len ? plain : io->in_len);

	http_took(io, n);
	http_request_passed(h, n);
	return n == 0 ? STEP_STOP : STEP_ON;
}

static enum http_step
upgrading_step(struct http *h, struct http_io *io)
{
	(void)h;
	(void)io;
	return STEP_WAIT;
}

/*
 * RFC 9112, 9.6: nothing after a request that says close is a request.  It is
 * taken nevertheless: unread input would make the kernel reset the connection
 * and with it what is left of the response.
 */
static enum http_step
closed_step(struct http *h, struct http_io *io)
{
	(void)h;
	http_took(io, io->in_len);
	return STEP_STOP;
}

static enum http_step
bad_step(struct http *h, struct http_io *io)
{
	(void)h;
	(void)io;
	return STEP_BAD;
}

enum http_status
http_request(struct http *h, const uint8_t *in, size_t inlen, size_t *used,
    uint8_t *out, size_t cap, size_t *made)
{
	static enum http_step (*const steps[])(struct http *,
	    struct http_io *) = {
	    [REQUEST_BETWEEN] = between_step,
	    [REQUEST_HEAD] = http_head_step,
	    [REQUEST_GIVE] = give_step,
	    [REQUEST_BODY] = plain_step,
	    [REQUEST_CHUNK_LINE] = http_chunk_step,
	    [REQUEST_CHUNK_DATA] = plain_step,
	    [REQUEST_UPGRADING] = upgrading_step,
	    [REQUEST_OPAQUE] = plain_step,
	    [REQUEST_CLOSED] = closed_step,
	    [REQUEST_BAD] = bad_step,
	};
	static const enum http_status statuses[] = {
	    [STEP_STOP] = HTTP_OK,
	    [STEP_WAIT] = HTTP_WAIT,
	    [STEP_BAD] = HTTP_BAD,
	};
	struct http_io io = {in, inlen, out, cap};
	enum http_step step;

	do
		step = steps[h->state](h, &io);
	while (step == STEP_ON);
	*used = inlen - io.in_len;
	*made = cap - io.out_len;
	return statuses[step];
}

size_t
http_request_plain(const struct http *h)
{
	switch (h->state) {
	case REQUEST_BODY:
	case REQUEST_CHUNK_DATA:
		return h->left < SIZE_MAX ? (size_t)h->left : SIZE_MAX;
	case REQUEST_OPAQUE:
		return SIZE_MAX;
	default:
		return 0;
	}
}

void
http_request_passed(struct http *h, size_t n)
{
	assert(n <= http_request_plain(h));
	if (n == 0 || h->state == REQUEST_OPAQUE)
		return;
	h->left -= n;
	if (h->left > 0)
		return;
	if (h->state == REQUEST_BODY) {
		h->state = http_after(h);
		return;
	}
	h->chunk = CHUNK_DATA_CR;
	h->state = REQUEST_CHUNK_LINE;
}

bool
http_request_pending(const struct http *h)
{
	return h->state == REQUEST_GIVE;
}

bool
http_request_begun(const struct http *h)
{
	return h->count > 0;
}

uint64_t
http_request_count(const struct http *h)
{
	return h->count;
}

bool
http_request_partial(const struct http *h)
{
	switch (h->state == REQUEST_GIVE ? h->next : h->state) {
	case REQUEST_HEAD:
	case REQUEST_BODY:
	case REQUEST_CHUNK_LINE:
	case REQUEST_CHUNK_DATA:
		return true;
	default:
		return false;
	}
}

int
http_bad_code(const struct http *h)
{
	return h->code;
}
