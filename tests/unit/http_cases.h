/*
 * What suite_http is fed: requests with what the application shall get of
 * them.  The visitor is 192.0.2.7, the application's Host is app:80.
 */
#ifndef HTTP_CASES_H
#define HTTP_CASES_H

#include <stddef.h>

#define VISITOR "192.0.2.7"
#define APPLICATION "app:80"

#define TO_APP "Host: " APPLICATION "\r\n"
#define FROM_NOWHERE \
	"X-Forwarded-For: " VISITOR "\r\n" \
	"X-Forwarded-Proto: http\r\n"
#define FROM(host) FROM_NOWHERE "X-Forwarded-Host: " host "\r\n"

#define GET "GET / HTTP/1.1\r\nHost: v\r\n\r\n"
#define GOT "GET / HTTP/1.1\r\n" TO_APP FROM("v") "\r\n"
#define POST(fields) "POST / HTTP/1.1\r\nHost: v\r\n" fields "\r\n"
#define POSTED(fields) "POST / HTTP/1.1\r\n" TO_APP FROM("v") fields "\r\n"
#define CHUNKED "Transfer-Encoding: chunked\r\n"
#define LENGTH(n) "Content-Length: " #n "\r\n"

struct http_case {
	const char *name;
	const char *in;
	size_t in_len;		/* there may be NUL in it */
	const char *out;
	unsigned count;		/* requests in out */
	int code;		/* 0: all of it is good */
	const char *answer;	/* to HTTP_WAIT; NULL: there must be none */
};

extern const struct http_case http_good[], http_bad[];
extern const size_t http_good_len, http_bad_len;

/* The same in another process: saved, forgotten, and loaded. */
struct http;
struct http *http_moved(struct http *);

/* The tests of test_http_response.c. */
void test_http_response_cases(void);
void test_http_response_whole(void);
void test_http_response_partial(void);
void test_http_response_order(void);
void test_http_response_limit(void);
void test_http_response_before_head_is_out(void);
void test_http_pipeline(void);
void test_http_upgrade(void);
void test_http_upgrade_refused(void);
void test_http_upgrade_not_oldest(void);
void test_http_upgrade_too_early(void);
void test_http_bad_body_is_owed_nothing(void);
void test_http_error(void);
void test_http_response_moved(void);

#endif
