/*
 * The gate before http_parser, which would take a bare LF, a space in a
 * field's name, a folded value, "GET / HTTP/7.3" and more.  What passes here
 * can be read in one way only.
 */
#include "http_private.h"

#define HEAD_FIRST 1024 /* most heads fit */

/* HTTP/d.d */
#define VERSION_LEN 8

static enum http_step
reserve(struct http *h, size_t want)
{
	size_t size = h->size != 0 ? h->size : HEAD_FIRST;
	uint8_t *buf;

	if (want <= h->size)
		return STEP_ON;
	while (size < want)
		size *= 2;
	buf = h->allocator->alloc(h->allocator->context, size);
	if (buf == NULL)
		return http_refuse(h, 503);
	if (h->len > 0)
		memcpy(buf, h->buf, h->len);
	allocator_free(h->allocator, h->buf);
	h->buf = buf;
	h->size = size;
	return STEP_ON;
}

/* Checked before a line is whole: a TLS hello has no line ends. */
static bool
clean(const uint8_t *at, size_t len)
{
	size_t i;

	for (i = 0; i < len; i++)
		if (!http_is_text(at[i]) && at[i] != '\r' && at[i] != '\n')
			return false;
	return true;
}

static bool
is_digit(uint8_t c)
{
	return c >= '0' && c <= '9';
}

static int
check_version(const uint8_t *at, size_t len)
{
	if (len != VERSION_LEN || memcmp(at, "HTTP/", 5) != 0 ||
	    !is_digit(at[5]) || at[6] != '.' || !is_digit(at[7]))
		return 400;
	return at[5] == '1' && at[7] <= '1' ? 0 : 505;
}

/* The line, without its end, is METHOD SP target SP version. */
static int
check_request_line(const uint8_t *line, size_t len)
{
	size_t method, i = 0;
	int code;

	while (i < len && http_is_token(line[i]))
		i++;
	method = i;
	if (method == 0 || method == len || line[i++] != ' ')
		return 400;
	/* A fragment is for the visitor's eyes only (RFC 9110, 7.1). */
	while (i < len && line[i] > ' ' && line[i] != '#')
		i++;
	if (i == method + 1 || i == len || line[i++] != ' ')
		return 400;
	code = check_version(line + i, len - i);
	if (code == 0 && method == 7 && memcmp(line, "CONNECT", 7) == 0)
		return 501;
	return code;
}

/* No OWS before the colon; a fold would begin with it. */
static int
check_field(const uint8_t *line, size_t len)
{
	size_t i = 0;

	while (i < len && http_is_token(line[i]))
		i++;
	return i > 0 && i < len && line[i] == ':' ? 0 : 400;
}

/* buf has a whole line more, with its LF. */
static enum http_step
line_done(struct http *h)
{
	const uint8_t *line = h->buf + h->line;
	size_t len = h->len - h->line;
	int code;

	if (len < 2 || memchr(line, '\r', len) != line + len - 2)
		return http_refuse(h, 400);
	len -= 2;
	if (len == 0 && h->line > 0)
		return http_rewrite(h);
	if (h->line == 0) {
		code = check_request_line(line, len);
	} else {
		code = check_field(line, len);
		h->fields++;
	}
	if (code != 0)
		return http_refuse(h, code);
	h->line = h->len;
	return STEP_ON;
}

enum http_step
http_head_step(struct http *h, struct http_io *io)
{
	size_t n = HTTP_HEAD_MAX - h->len;
	const uint8_t *end;

	if (io->in_len == 0)
		return STEP_STOP;
	if (n == 0)
		return http_refuse(h, 431);
	if (h->len == 0)
		h->line = h->fields = 0;
	if (n > io->in_len)
		n = io->in_len;
	end = memchr(io->in, '\n', n);
	if (end != NULL)
		n = (size_t)(end - io->in) + 1;
	if (!clean(io->in, n))
		return http_refuse(h, 400);
	if (reserve(h, h->len + n) == STEP_BAD)
		return STEP_BAD;
	memcpy(h->buf + h->len, io->in, n);
	h->len += n;
	http_took(io, n);
	return end != NULL ? line_done(h) : STEP_ON;
}
