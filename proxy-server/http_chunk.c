/*
 * Chunked bodies (RFC 9112, 7.1).  A chunk's line is written anew once it was
 * read to its end; extensions and trailers are checked and dropped.
 */
#include <inttypes.h>
#include <stdio.h>

#include "http_private.h"

#define DIGITS_MAX 15 /* a size is below 2^60 */
#define EXTENSION_MAX 4096
#define TRAILERS_MAX 8192

enum byte_class {
	CLASS_BAD,
	CLASS_HEX,
	CLASS_TOKEN,
	CLASS_COLON,
	CLASS_SEMICOLON,
	CLASS_TEXT,
	CLASS_CR,
	CLASS_LF,
	CLASSES,
};

/* What is not here is CHUNK_BAD, which is 0. */
static const uint8_t table[][CLASSES] = {
    [CHUNK_FIRST] = {[CLASS_HEX] = CHUNK_SIZE},
    [CHUNK_SIZE] =
	{
	    [CLASS_HEX] = CHUNK_SIZE,
	    [CLASS_SEMICOLON] = CHUNK_EXTENSION,
	    [CLASS_CR] = CHUNK_SIZE_LF,
	},
    [CHUNK_EXTENSION] =
	{
	    [CLASS_HEX] = CHUNK_EXTENSION,
	    [CLASS_TOKEN] = CHUNK_EXTENSION,
	    [CLASS_COLON] = CHUNK_EXTENSION,
	    [CLASS_SEMICOLON] = CHUNK_EXTENSION,
	    [CLASS_TEXT] = CHUNK_EXTENSION,
	    [CLASS_CR] = CHUNK_SIZE_LF,
	},
    [CHUNK_SIZE_LF] = {[CLASS_LF] = CHUNK_SIZE_DONE},
    [CHUNK_DATA_CR] = {[CLASS_CR] = CHUNK_DATA_LF},
    [CHUNK_DATA_LF] = {[CLASS_LF] = CHUNK_DATA_DONE},
    [CHUNK_TRAILER] =
	{
	    [CLASS_HEX] = CHUNK_NAME,
	    [CLASS_TOKEN] = CHUNK_NAME,
	    [CLASS_CR] = CHUNK_END_LF,
	},
    [CHUNK_NAME] =
	{
	    [CLASS_HEX] = CHUNK_NAME,
	    [CLASS_TOKEN] = CHUNK_NAME,
	    [CLASS_COLON] = CHUNK_VALUE,
	},
    [CHUNK_VALUE] =
	{
	    [CLASS_HEX] = CHUNK_VALUE,
	    [CLASS_TOKEN] = CHUNK_VALUE,
	    [CLASS_COLON] = CHUNK_VALUE,
	    [CLASS_SEMICOLON] = CHUNK_VALUE,
	    [CLASS_TEXT] = CHUNK_VALUE,
	    [CLASS_CR] = CHUNK_VALUE_LF,
	},
    [CHUNK_VALUE_LF] = {[CLASS_LF] = CHUNK_TRAILER},
    [CHUNK_END_LF] = {[CLASS_LF] = CHUNK_DONE},
};

/* -1: no hexadecimal digit. */
static int
hex(uint8_t c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

static enum byte_class
class_of(uint8_t c)
{
	if (hex(c) >= 0)
		return CLASS_HEX;
	if (http_is_token(c))
		return CLASS_TOKEN;
	switch (c) {
	case ':':
		return CLASS_COLON;
	case ';':
		return CLASS_SEMICOLON;
	case '\r':
		return CLASS_CR;
	case '\n':
		return CLASS_LF;
	default:
		return http_is_text(c) ? CLASS_TEXT : CLASS_BAD;
	}
}

/* Count the byte c that led from the state was to chunk; false: too many. */
static bool
within_limits(struct http *h, enum chunk_state was, uint8_t c)
{
	switch (h->chunk) {
	case CHUNK_SIZE:
		h->left = h->left << 4 | (uint64_t)hex(c);
		return ++h->digits <= DIGITS_MAX;
	case CHUNK_EXTENSION:
		return ++h->extra <= EXTENSION_MAX;
	default:
		return was < CHUNK_TRAILER || ++h->extra <= TRAILERS_MAX;
	}
}

static enum http_step
give_small(struct http *h, enum chunk_state chunk, enum request_state next)
{
	h->chunk = chunk;
	h->digits = 0;
	h->extra = 0;
	return http_give(h, strlen((char *)h->small), next);
}

static enum http_step
size_done(struct http *h)
{
	if (h->left == 0) {
		h->chunk = CHUNK_TRAILER;
		h->extra = 0;
		return STEP_ON;
	}
	snprintf((char *)h->small, sizeof(h->small), "%" PRIx64 "\r\n",
	    h->left);
	return give_small(h, CHUNK_DATA_CR, REQUEST_CHUNK_DATA);
}

static enum http_step
line_done(struct http *h)
{
	switch (h->chunk) {
	case CHUNK_SIZE_DONE:
		return size_done(h);
	case CHUNK_DATA_DONE:
		strcpy((char *)h->small, "\r\n");
		return give_small(h, CHUNK_FIRST, REQUEST_CHUNK_LINE);
	default:
		/* Only now: with a bad trailer the request never ends. */
		strcpy((char *)h->small, "0\r\n\r\n");
		return give_small(h, CHUNK_FIRST, http_after(h));
	}
}

enum http_step
http_chunk_step(struct http *h, struct http_io *io)
{
	enum chunk_state was;
	uint8_t c;

	while (h->chunk < CHUNK_SIZE_DONE) {
		if (io->in_len == 0)
			return STEP_STOP;
		c = io->in[0];
		was = h->chunk;
		h->chunk = table[was][class_of(c)];
		if (h->chunk == CHUNK_BAD || !within_limits(h, was, c))
			return http_refuse(h, 400);
		http_took(io, 1);
	}
	return line_done(h);
}
