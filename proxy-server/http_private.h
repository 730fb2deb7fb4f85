/*
 * What the parts of http.c share.  http_head.c gathers a head and checks it,
 * http_rewrite.c takes it apart and writes it anew, http_field.c knows the
 * fields that matter, http_chunk.c does chunked bodies, http_response.c
 * follows the application.
 */
#ifndef PROXY_SERVER_HTTP_PRIVATE_H
#define PROXY_SERVER_HTTP_PRIVATE_H

/* Its enum http_status has HTTP's codes; ours is the one of http.h. */
#define http_status http_parser_status
#include <http_parser.h>
#undef http_status

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/allocator.h"
#include "http.h"

/* What the visitor's next byte belongs to. */
enum request_state {
	REQUEST_BETWEEN,	/* a new request, or empty lines before it */
	REQUEST_HEAD,
	REQUEST_GIVE,		/* none taken: first what is held goes out */
	REQUEST_BODY,		/* of known length */
	REQUEST_CHUNK_LINE,	/* all of a chunked body but the data */
	REQUEST_CHUNK_DATA,
	REQUEST_UPGRADING,	/* none taken: 101 or not? */
	REQUEST_OPAQUE,		/* after 101 */
	REQUEST_CLOSED,		/* the last request said close */
	REQUEST_BAD,
};

/* Where in what is between two chunks' data; names the next byte. */
enum chunk_state {
	CHUNK_BAD,
	CHUNK_FIRST,		/* first digit of the size */
	CHUNK_SIZE,
	CHUNK_EXTENSION,
	CHUNK_SIZE_LF,
	CHUNK_DATA_CR,
	CHUNK_DATA_LF,
	CHUNK_TRAILER,		/* a trailer line begins */
	CHUNK_NAME,
	CHUNK_VALUE,
	CHUNK_VALUE_LF,
	CHUNK_END_LF,
	/* These take no byte: what was read is whole. */
	CHUNK_SIZE_DONE,
	CHUNK_DATA_DONE,
	CHUNK_DONE,
};

/* 16 digits, which is one more than there are, CR, LF and NUL. */
#define HTTP_SMALL_MAX 20

/* Bytes of empty lines before a request. */
#define HTTP_BLANK_MAX 8

struct http {
	const struct allocator *allocator;
	enum request_state state;
	enum request_state next;	/* after REQUEST_GIVE */
	int code;			/* that fits REQUEST_BAD */
	bool close;			/* this request is the last */
	unsigned blank;			/* bytes of empty lines so far */
	uint64_t count;			/* heads taken */

	/*
	 * While REQUEST_HEAD, what is gathered; while REQUEST_GIVE, what goes
	 * out, which is in small when buf is NULL.
	 */
	uint8_t *buf;
	size_t size, len, given;
	size_t line;			/* where the head's last line begins */
	size_t fields;			/* lines after the first */
	uint8_t small[HTTP_SMALL_MAX];

	uint64_t left;			/* of the body's or the chunk's data */
	enum chunk_state chunk;
	unsigned digits;		/* of the chunk's size */
	size_t extra;			/* bytes of extension or trailers */

	/*
	 * Requests without a final response; bit i of heads: the i-th oldest
	 * of them is a HEAD.
	 */
	unsigned owed;
	uint64_t heads;
	http_parser parser;		/* data is NULL between calls */
	bool mid;			/* a response has begun */
	bool unasked;			/* nobody had asked when it began */
	bool broken;			/* HTTP_BAD was returned */
	size_t whole;			/* see http_response_whole() */

	size_t host_len, visitor_len;
	char names[];			/* host, then visitor, no NUL */
};

/* What is left of the caller's buffers in one http_request(). */
struct http_io {
	const uint8_t *in;
	size_t in_len;
	uint8_t *out;
	size_t out_len;
};

enum http_step {
	STEP_ON,	/* the state may have changed: step again */
	STEP_STOP,	/* no input or no room */
	STEP_WAIT,
	STEP_BAD,
};

struct span {
	const char *at;
	size_t len;
};

enum field_kind {
	FIELD_OTHER,
	FIELD_DROP,		/* ours to write, or for this hop only */
	FIELD_HOST,
	FIELD_CONTENT_LENGTH,
	FIELD_TRANSFER_ENCODING,
	FIELD_CONNECTION,
	FIELD_UPGRADE,
};

/* Further fields that Connection may name, to be dropped; over it: 400. */
#define HTTP_NAMED_MAX 32

/* What a head says; spans borrow from it. */
struct head {
	struct span method, target;
	unsigned minor;
	struct span authority;		/* the visitor's host; at may be NULL */

	unsigned hosts, lengths, encodings, upgrades;
	uint64_t length;
	unsigned chunked;		/* times in Transfer-Encoding */
	bool chunked_last;
	bool coding_unknown, coding_malformed;
	bool close, keep_alive;
	bool upgrade;			/* is a Connection option */
	bool websocket;			/* is what Upgrade says */
	struct span named[HTTP_NAMED_MAX];
	size_t named_len;
};

static inline void
http_took(struct http_io *io, size_t n)
{
	if (n == 0)
		return;
	io->in += n;
	io->in_len -= n;
}

/* RFC 9110, 5.6.2. */
static inline bool
http_is_token(uint8_t c)
{
	if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
	    (c >= '0' && c <= '9'))
		return true;
	return c != '\0' && strchr("!#$%&'*+-.^_`|~", c) != NULL;
}

/* May be in a field's value, a chunk's extension: HTAB, SP, VCHAR, obs-text. */
static inline bool
http_is_text(uint8_t c)
{
	return c == '\t' || (c >= ' ' && c != 0x7f);
}

/* Refuse what the visitor sends, with code. */
enum http_step
http_refuse(struct http *, int code);

/* The state after the last byte of a request. */
enum request_state
http_after(const struct http *);

/* Give what is in buf or small out, len bytes, and go on with next. */
enum http_step
http_give(struct http *, size_t len, enum request_state next);

/* Release buf. */
void
http_drop(struct http *);

enum http_step
http_head_step(struct http *, struct http_io *);

/* The whole head is in buf and every line is well-formed. */
enum http_step
http_rewrite(struct http *);

/* s without spaces and tabs around it. */
struct span
http_field_trim(struct span s);

/* 0, or the code to refuse the request with; value is trimmed. */
int
http_field_scan(struct head *, struct span name, struct span value);

/* What the fields say together; call after the last one. */
int
http_field_judge(struct head *);

/* Whether the field goes to the application as it is. */
bool
http_field_kept(const struct head *, struct span name);

/*
 * Whether host is a name or an address that a Host field may have, with or
 * without a port; stricter than RFC 3986: only what is ever seen in one.
 */
bool
http_field_host(struct span host);

enum http_step
http_chunk_step(struct http *, struct http_io *);

#endif
