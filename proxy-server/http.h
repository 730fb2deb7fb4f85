/*
 * HTTP/1.x between a visitor and an application: what a `type: http` listener
 * does to the bytes of one visitor's connection.  Pure state: no sockets, no
 * clock.  The state is plain data: no pointer in it but to its allocator and
 * to the head being gathered or given out, so that it can be handed to
 * another process.
 *
 * Requests are taken apart and written anew (RFC 9110, RFC 9112); responses
 * pass unchanged and are only followed, to know where each one ends.
 *
 * Not thread-safe; one worker owns it.
 */
#ifndef PROXY_SERVER_HTTP_H
#define PROXY_SERVER_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HTTP_HEAD_MAX	 65536	/* a request's line and fields; over it: 431 */
#define HTTP_PIPELINE_MAX 64	/* requests without a response yet; more wait */

struct allocator;
struct http;
struct image_reader;
struct image_writer;

enum http_status {
	HTTP_OK,	/* go on when there is more input or more room */
	HTTP_WAIT,	/* no input is taken before a response arrives */
	HTTP_BAD,	/* refuse: answer with http_error(), then close */
};

/*
 * host: the value of the Host field for the application ("127.0.0.1:8080");
 * visitor: the visitor's numeric address for X-Forwarded-For, no port.
 * Both are copied, and written as they are: the caller vouches that they have
 * no line ends in them.  NULL when memory ran out.
 */
struct http *
http_new(const char *host, const char *visitor);

/* The same, with all memory from an allocator, which must outlive it. */
struct http *
http_new_from(const struct allocator *, const char *host,
    const char *visitor);

/* http_free(NULL) does nothing. */
void
http_free(struct http *);

/*
 * Take what the visitor sent.  Reads from in[0..inlen), sets *used to the
 * bytes taken; writes to out[0..cap) what the application shall get, sets
 * *made.  cap may be anything above 0; a head that does not fit is given out
 * over several calls, with inlen 0 too.  Call again while it made something
 * and there is more to write or to read.
 *
 * *used and *made count whatever is returned: with HTTP_BAD too, what was
 * made belongs to the requests before the bad one (or to its body, before it
 * went wrong).  HTTP_BAD is final.  Memory that ran out is HTTP_BAD with code
 * 503.  What follows a request that says close is taken and thrown away.
 */
enum http_status
http_request(struct http *, const uint8_t *in, size_t inlen, size_t *used,
    uint8_t *out, size_t cap, size_t *made);

/*
 * How many bytes of the visitor may go to the application as they are, at
 * this point, without http_request(): inside a body of known length, or
 * after an upgrade (SIZE_MAX).  0: none.  The caller says what it passed,
 * which must not be more.
 */
size_t
http_request_plain(const struct http *);
void
http_request_passed(struct http *, size_t);

/* Whether output of a request is held that http_request() has to give out. */
bool
http_request_pending(const struct http *);

/*
 * Whether a request's head has been taken wholly at least once (so that an
 * application is needed).
 */
bool
http_request_begun(const struct http *);

/* How many requests' heads have been taken wholly. */
uint64_t
http_request_count(const struct http *);

/* Whether the visitor is in the middle of a request (a head or a body). */
bool
http_request_partial(const struct http *);

/*
 * Follow what the application sent, in[0..len), all of which goes to the
 * visitor unchanged.  HTTP_BAD: this is no HTTP response, one with a head of
 * over 80 KiB, or one that nobody asked for (but 408, which servers send to
 * idle connections, and empty lines, which visitors skip); final.  After
 * HTTP_WAIT a call here may let requests go on.
 */
enum http_status
http_response(struct http *, const uint8_t *in, size_t len);

/*
 * After HTTP_BAD of http_response(): how many of the len bytes belong to
 * responses that end before the bad one, and may still go to the visitor.
 */
size_t
http_response_whole(const struct http *);

/*
 * The application ends its side; HTTP_BAD in the middle of a response.
 * HTTP_OK does not say that every request had its response.
 */
enum http_status
http_response_end(struct http *);

/*
 * Whether part of a response, but not all of it, went to the visitor.  If
 * not, and one is owed, 502 or 504 may be put in for it, also after HTTP_BAD
 * of http_response() (behind the http_response_whole() bytes).
 */
bool
http_response_partial(const struct http *);

/*
 * Whether no response is owed or being sent: an error answer may be put in.
 * A request whose body made http_request() say HTTP_BAD is not owed one.
 */
bool
http_response_idle(const struct http *);

/* The status code that fits the last HTTP_BAD of http_request(): 400, 431. */
int
http_bad_code(const struct http *);

/*
 * A whole response for code (400, 431, 501, 502, 503, 504, 505; any other is
 * taken for 400) with Connection: close and a short plain body, as a static
 * text; *len its length.
 */
const char *
http_error(int code, size_t *len);

/*
 * For an upgrade in place.  NULL: the image is not right, or memory ran out.
 */
void
http_save(const struct http *, struct image_writer *);
struct http *
http_load(struct image_reader *);

#endif
