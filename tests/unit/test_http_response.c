#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../proxy-server/http.h"
#include "http_cases.h"
#include "unit.h"

#define ELEMENTS(a) (sizeof(a) / sizeof((a)[0]))

#define SOCKET \
	"GET / HTTP/1.1\r\nHost: v\r\nUpgrade: websocket\r\n" \
	"Connection: upgrade\r\n\r\n"
#define OK "HTTP/1.1 200 OK\r\n"
#define NO "HTTP/1.1 204 No\r\n\r\n"
#define TIMEOUT "HTTP/1.1 408 Late\r\nContent-Length: 1\r\n\r\nx"

struct response_case {
	const char *name;
	const char *asked; /* a letter each, see ask() */
	const char *in;
	enum http_status status;
	/* The rest is for HTTP_OK. */
	bool idle;
	bool opaque;
	enum http_status end;
};

#define GOOD(name, asked, in) \
	{ \
		name, asked, in, HTTP_OK, true, false, HTTP_OK \
	}
#define PART(name, asked, in) \
	{ \
		name, asked, in, HTTP_OK, false, false, HTTP_BAD \
	}
#define BAD(name, asked, in) \
	{ \
		name, asked, in, HTTP_BAD, false, false, HTTP_BAD \
	}

static const struct response_case cases[] = {
    GOOD("nothing", "", ""),
    GOOD("no body", "g", OK LENGTH(0) "\r\n"),
    GOOD("body", "g", OK LENGTH(5) "\r\nHTTP/"),
    GOOD("chunks", "g", OK CHUNKED "\r\n3\r\n0\r\n\r\n0\r\n\r\n"),
    GOOD("chunks with extension and trailer", "g",
	OK CHUNKED "\r\n1;a=b\r\nx\r\n0\r\na: b\r\n\r\n"),
    GOOD("chunks of another coding", "g",
	OK "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
    GOOD("folded field", "g", OK "A: b\r\n c\r\n" LENGTH(1) "\r\nx"),
    GOOD("1.0", "g", "HTTP/1.0 200 OK\r\n" LENGTH(1) "\r\nx"),
    GOOD("no reason", "g", "HTTP/1.1 200 \r\n" LENGTH(1) "\r\nx"),
    GOOD("three", "ggg", OK LENGTH(1) "\r\nx" NO OK CHUNKED "\r\n0\r\n\r\n"),
    GOOD("three, the first says close", "ggg",
	OK "Connection: close\r\n" LENGTH(1) "\r\nx" NO NO),
    GOOD("HEAD with length", "h", OK LENGTH(5) "\r\n"),
    GOOD("HEAD with chunks", "h", OK CHUNKED "\r\n"),
    GOOD("HEAD without length", "h", OK "\r\n"),
    GOOD("HEAD among others", "ghghhg",
	OK LENGTH(1) "\r\nx" OK LENGTH(1) "\r\n" OK LENGTH(1) "\r\nx" OK LENGTH(
	    1) "\r\n" OK CHUNKED "\r\n" OK LENGTH(2) "\r\nxy"),
    GOOD("204", "g", NO),
    GOOD("304 with length", "gg",
	"HTTP/1.1 304 Not Modified\r\n" LENGTH(5) "\r\n" NO),
    GOOD("304 with chunks", "gg",
	"HTTP/1.1 304 Not Modified\r\n" CHUNKED "\r\n" NO),
    GOOD("100 first", "g", "HTTP/1.1 100 Continue\r\n\r\n" NO),
    GOOD("103 twice", "gg",
	"HTTP/1.1 103 Hints\r\nLink: x\r\n\r\n"
	"HTTP/1.1 103 Hints\r\n" LENGTH(7) "\r\n" NO NO),
    GOOD("408 unasked", "", TIMEOUT),
    GOOD("408 unasked after one", "g", NO TIMEOUT),
    GOOD("408 asked", "g", TIMEOUT),
    GOOD("upgrade offered", "g",
	OK "Upgrade: h2c\r\nConnection: upgrade\r\n" LENGTH(1) "\r\nx"),
    GOOD("line ends before", "g", "\r\n" NO),

    PART("not yet", "g", ""),
    PART("half a status line", "g", "HTTP/1."),
    PART("half a head", "g", OK LENGTH(0)),
    PART("half a body", "g", OK LENGTH(5) "\r\nabc"),
    PART("chunks without end", "g", OK CHUNKED "\r\n1\r\nx\r\n"),
    PART("chunks without the last line", "g", OK CHUNKED "\r\n0\r\n"),
    PART("one of two", "gg", NO),
    PART("only 100", "g", "HTTP/1.1 100 Continue\r\n\r\n"),
    PART("half a 408", "", "HTTP/1.1 408"),
    {"until close", "g", OK "\r\nx", HTTP_OK, false, false, HTTP_OK},
    {"until close, none yet", "g", OK "\r\n", HTTP_OK, false, false, HTTP_OK},
    {"until close by coding", "g", OK "Transfer-Encoding: gzip\r\n\r\nx",
	HTTP_OK, false, false, HTTP_OK},
    {"1.0 until close", "gg", "HTTP/1.0 200 OK\r\n\r\n" NO, HTTP_OK, false,
	false, HTTP_OK},
    {"upgraded", "w",
	"HTTP/1.1 101 Yes\r\nUpgrade: websocket\r\n"
	"Connection: Upgrade\r\n\r\nHTTP/1.1 nonsense\r\n\r\n\x01",
	HTTP_OK, false, true, HTTP_OK},
    {"upgraded without a word", "w", "HTTP/1.1 101 Yes\r\n\r\n\x01", HTTP_OK,
	false, true, HTTP_OK},
    {"upgraded after others", "ggw",
	NO OK LENGTH(1) "\r\nx"
			"HTTP/1.1 100 C\r\n\r\nHTTP/1.1 101 Yes\r\n\r\n\x01",
	HTTP_OK, false, true, HTTP_OK},

    BAD("no HTTP", "g", "SSH-2.0-x\r\n"),
    BAD("lower-case", "g", "http/1.1 200 OK\r\n\r\n"),
    BAD("HTTP/2", "g", "HTTP/2.0 200 OK\r\n" LENGTH(0) "\r\n"),
    BAD("status of two digits", "g", "HTTP/1.1 20 OK\r\n" LENGTH(0) "\r\n"),
    BAD("status of four digits", "g", "HTTP/1.1 2000 OK\r\n" LENGTH(0) "\r\n"),
    BAD("no status", "g", "HTTP/1.1 OK\r\n" LENGTH(0) "\r\n"),
    BAD("length is no number", "g", OK LENGTH(x) "\r\n"),
    BAD("two lengths", "g", OK LENGTH(1) LENGTH(2) "\r\nxy"),
    BAD("length and chunks", "g", OK LENGTH(1) CHUNKED "\r\n0\r\n\r\n"),
    BAD("chunk is no number", "g", OK CHUNKED "\r\nx\r\n"),
    BAD("control character", "g", OK "a: x\x01\r\n\r\n"),
    BAD("unasked", "", OK LENGTH(0) "\r\n"),
    BAD("unasked 400", "", "HTTP/1.1 400 Bad\r\n"),
    BAD("unasked 404", "", "HTTP/1.1 404 Not Found\r\n"),
    BAD("unasked 40", "", "HTTP/1.1 40 x\r\n\r\n"),
    BAD("unasked 4080", "", "HTTP/1.1 4080 x\r\n\r\n"),
    BAD("unasked 100", "", "HTTP/1.1 100 Continue\r\n\r\n"),
    BAD("unasked 101", "", "HTTP/1.1 101 Yes\r\n\r\n"),
    BAD("unasked second", "g", NO NO),
    BAD("body after HEAD", "h", OK LENGTH(1) "\r\nx"),
    BAD("body after 204", "g", "HTTP/1.1 204 No\r\n" LENGTH(1) "\r\nx"),
    BAD("body too long", "g", OK LENGTH(1) "\r\nxy"),
    BAD("101 not asked for", "g", "HTTP/1.1 101 Yes\r\n\r\n"),
    BAD("101 too early", "gw", "HTTP/1.1 101 Yes\r\n\r\n"),
    BAD("101 too late", "w", NO "HTTP/1.1 101 Yes\r\n\r\n"),
};

static void
take(struct http *h, const char *in, enum http_status status)
{
	size_t used, made, len = strlen(in);
	uint8_t out[4096];

	CU_ASSERT_EQUAL(http_request(h, (const uint8_t *)in, len, &used, out,
			    sizeof(out), &made),
	    status);
	CU_ASSERT_EQUAL(used, len);
}

static enum http_status
answer(struct http *h, const char *in)
{
	return http_response(h, (const uint8_t *)in, strlen(in));
}

static struct http *
ask(const char *asked)
{
	struct http *h = http_new(APPLICATION, VISITOR);

	if (h == NULL)
		abort();
	for (; *asked != '\0'; asked++) {
		if (*asked == 'g')
			take(h, GET, HTTP_OK);
		else if (*asked == 'h')
			take(h, "HEAD / HTTP/1.1\r\nHost: v\r\n\r\n", HTTP_OK);
		else
			take(h, SOCKET, HTTP_WAIT);
	}
	return h;
}

static enum http_status
answer_exact(struct http *h, const char *in, size_t len)
{
	enum http_status status;
	uint8_t *exact = malloc(len);

	if (len > 0)
		memcpy(exact, in, len);
	status = http_response(h, exact, len);
	free(exact);
	return status;
}

static bool
as_expected(const struct response_case *c, struct http *h,
    enum http_status status)
{
	if (status != c->status)
		return false;
	if (status == HTTP_BAD)
		return answer(h, NO) == HTTP_BAD &&
		    http_response_end(h) == HTTP_BAD;
	if (http_response_idle(h) != c->idle ||
	    (http_request_plain(h) == SIZE_MAX) != c->opaque)
		return false;
	if (c->end == HTTP_BAD && !http_response_partial(h))
		return http_response_end(h) == HTTP_OK;
	return http_response_end(h) == c->end;
}

/* moved: it is in another process after each part. */
static bool
play_case(const struct response_case *c, size_t cut, bool moved)
{
	struct http *h = ask(c->asked);
	enum http_status status = HTTP_OK;
	size_t i, len = strlen(c->in);
	bool good;

	if (cut == SIZE_MAX) {
		for (i = 0; i < len && status == HTTP_OK; i++) {
			status = answer_exact(h, c->in + i, 1);
			if (moved)
				h = http_moved(h);
		}
	} else {
		status = answer_exact(h, c->in, cut);
		if (moved)
			h = http_moved(h);
		if (status == HTTP_OK)
			status = answer_exact(h, c->in + cut, len - cut);
	}
	good = as_expected(c, h, status);
	if (!good)
		fprintf(stderr, "\n%s, cut at %zd: %d\n", c->name, (ssize_t)cut,
		    status);
	http_free(h);
	return good;
}

static void
play_cases(bool moved)
{
	size_t i, cut;
	bool good;

	for (i = 0; i < ELEMENTS(cases); i++) {
		good = play_case(&cases[i], SIZE_MAX, moved);
		for (cut = 0; good && cut <= strlen(cases[i].in); cut++)
			good = play_case(&cases[i], cut, moved);
		CU_ASSERT_TRUE(good);
	}
}

void
test_http_response_cases(void)
{
	play_cases(false);
}

void
test_http_response_moved(void)
{
	play_cases(true);
}

/* A script that says 204 and sends a body loses the body, no more. */
void
test_http_response_whole(void)
{
	struct http *h = ask("gg");

	CU_ASSERT_EQUAL(answer(h, NO "oops"), HTTP_BAD);
	CU_ASSERT_EQUAL(http_response_whole(h), strlen(NO));
	CU_ASSERT_FALSE(http_response_partial(h));
	CU_ASSERT_FALSE(http_response_idle(h));
	http_free(h);

	h = ask("gg");
	CU_ASSERT_EQUAL(answer(h, NO OK CHUNKED "\r\nx"), HTTP_BAD);
	CU_ASSERT_EQUAL(http_response_whole(h), strlen(NO));
	CU_ASSERT_FALSE(http_response_partial(h));
	http_free(h);

	h = ask("gg");
	CU_ASSERT_EQUAL(answer(h, NO OK), HTTP_OK);
	CU_ASSERT_EQUAL(answer(h, CHUNKED "\r\nx"), HTTP_BAD);
	CU_ASSERT_EQUAL(http_response_whole(h), 0);
	CU_ASSERT_TRUE(http_response_partial(h));
	http_free(h);
}

void
test_http_response_partial(void)
{
	struct http *h = ask("g");

	CU_ASSERT_FALSE(http_response_partial(h));
	CU_ASSERT_EQUAL(answer(h, "HTTP/1.1 100 C\r\n\r"), HTTP_OK);
	CU_ASSERT_TRUE(http_response_partial(h));
	CU_ASSERT_EQUAL(answer(h, "\n"), HTTP_OK);
	CU_ASSERT_FALSE(http_response_partial(h));
	CU_ASSERT_FALSE(http_response_idle(h));
	CU_ASSERT_EQUAL(answer(h, "H"), HTTP_OK);
	CU_ASSERT_TRUE(http_response_partial(h));
	CU_ASSERT_EQUAL(answer(h, "TTP/1.1 204 No\r\n\r\n"), HTTP_OK);
	CU_ASSERT_FALSE(http_response_partial(h));
	CU_ASSERT_TRUE(http_response_idle(h));
	http_free(h);
}

/* A 408 that began before the request is no answer to it. */
void
test_http_response_order(void)
{
	struct http *h = ask("");

	CU_ASSERT_EQUAL(answer(h, "HTTP/1.1 408 Late\r\n"), HTTP_OK);
	take(h, GET, HTTP_OK);
	CU_ASSERT_EQUAL(answer(h, LENGTH(0) "\r\n"), HTTP_OK);
	CU_ASSERT_FALSE(http_response_idle(h));
	CU_ASSERT_EQUAL(answer(h, NO), HTTP_OK);
	CU_ASSERT_TRUE(http_response_idle(h));
	http_free(h);

	h = ask("");
	CU_ASSERT_EQUAL(answer(h, "HTTP/1.1 "), HTTP_OK);
	take(h, GET, HTTP_OK);
	CU_ASSERT_EQUAL(answer(h, "200 OK\r\n"), HTTP_BAD);
	http_free(h);
}

/* The limit is http_parser's own; http.h tells it to the caller. */
void
test_http_response_limit(void)
{
	static char text[90 * 1024];
	const size_t fill[] = {78 * 1024, 81 * 1024};
	size_t i, len, step;
	enum http_status status;
	struct http *h;

	for (i = 0; i < 2; i++) {
		snprintf(text, sizeof(text), OK LENGTH(0) "A: %0*d\r\n\r\n",
		    (int)fill[i], 0);
		for (step = 1; step < sizeof(text); step *= 7) {
			h = ask("g");
			status = HTTP_OK;
			for (len = 0; text[len] != '\0' && status == HTTP_OK;
			     len += strnlen(text + len, step))
				status = answer_exact(h, text + len,
				    strnlen(text + len, step));
			CU_ASSERT_EQUAL(status, i == 0 ? HTTP_OK : HTTP_BAD);
			http_free(h);
		}
	}
}

/* An application may refuse a head that it has not read to the end. */
void
test_http_response_before_head_is_out(void)
{
	struct http *h = ask("");
	size_t used, made, i;
	uint8_t out[4096];

	for (i = 0; i < 2; i++) {
		const char *in = i == 0 ? GET : SOCKET;

		http_request(h, (const uint8_t *)in, strlen(in), &used, out, 1,
		    &made);
		CU_ASSERT_TRUE(http_request_pending(h));
		CU_ASSERT_EQUAL(answer(h,
				    "HTTP/1.1 431 No\r\n" LENGTH(0) "\r\n"),
		    HTTP_OK);
		CU_ASSERT_TRUE(http_response_idle(h));
		take(h, "", HTTP_OK);
		CU_ASSERT_FALSE(http_request_pending(h));
		take(h, GET, HTTP_OK);
		CU_ASSERT_EQUAL(answer(h, NO), HTTP_OK);
	}
	http_free(h);
}

void
test_http_pipeline(void)
{
	struct http *h = ask("");
	size_t used, made;
	uint8_t out[256];
	unsigned i;

	for (i = 1; i < HTTP_PIPELINE_MAX; i++)
		take(h, GET, HTTP_OK);
	take(h, GET, HTTP_WAIT);
	CU_ASSERT_EQUAL(http_request(h, (const uint8_t *)GET, strlen(GET),
			    &used, out, sizeof(out), &made),
	    HTTP_WAIT);
	CU_ASSERT_EQUAL(used, 0);
	CU_ASSERT_EQUAL(made, 0);
	CU_ASSERT_EQUAL(answer(h, "HTTP/1.1 100 C\r\n\r\n"), HTTP_OK);
	take(h, "", HTTP_WAIT);
	CU_ASSERT_EQUAL(answer(h, NO), HTTP_OK);
	take(h, "HEAD / HTTP/1.1\r\nHost: v\r\n\r\n", HTTP_WAIT);
	for (i = 1; i < HTTP_PIPELINE_MAX; i++)
		CU_ASSERT_EQUAL(answer(h, OK LENGTH(1) "\r\nx"), HTTP_OK);
	CU_ASSERT_EQUAL(answer(h, OK LENGTH(1) "\r\n"), HTTP_OK);
	CU_ASSERT_TRUE(http_response_idle(h));
	http_free(h);
}

void
test_http_upgrade(void)
{
	struct http *h = ask("gw");
	size_t used, made;
	uint8_t out[8];

	take(h, "", HTTP_WAIT);
	CU_ASSERT_FALSE(http_request_partial(h));
	CU_ASSERT_EQUAL(answer(h, NO "HTTP/1.1 100 C\r\n\r\n"), HTTP_OK);
	take(h, "", HTTP_WAIT);
	CU_ASSERT_EQUAL(http_request_plain(h), 0);
	CU_ASSERT_EQUAL(answer(h, "HTTP/1.1 101 Yes\r\n\r"), HTTP_OK);
	take(h, "", HTTP_WAIT);
	CU_ASSERT_EQUAL(answer(h, "\n\x01"), HTTP_OK);
	CU_ASSERT_EQUAL(http_request_plain(h), SIZE_MAX);
	http_request_passed(h, 1000);
	CU_ASSERT_EQUAL(http_request_plain(h), SIZE_MAX);
	CU_ASSERT_EQUAL(http_request(h, (const uint8_t *)"\0\1\2\3", 4, &used,
			    out, 3, &made),
	    HTTP_OK);
	CU_ASSERT_EQUAL(used, 3);
	CU_ASSERT_EQUAL(made, 3);
	CU_ASSERT_EQUAL(memcmp(out, "\0\1\2", 3), 0);
	CU_ASSERT_FALSE(http_response_idle(h));
	CU_ASSERT_FALSE(http_request_partial(h));
	CU_ASSERT_EQUAL(http_response_end(h), HTTP_OK);
	http_free(h);
}

void
test_http_upgrade_refused(void)
{
	struct http *h = ask("w");

	CU_ASSERT_EQUAL(answer(h, "HTTP/1.1 403 No\r\n" LENGTH(1) "\r\n"),
	    HTTP_OK);
	take(h, "", HTTP_WAIT);
	CU_ASSERT_EQUAL(answer(h, "x"), HTTP_OK);
	CU_ASSERT_EQUAL(http_request_plain(h), 0);
	take(h, GET, HTTP_OK);
	CU_ASSERT_EQUAL(answer(h, "HTTP/1.1 101 Yes\r\n\r\n"), HTTP_BAD);
	CU_ASSERT_EQUAL(http_request_plain(h), 0);
	http_free(h);
}

void
test_http_upgrade_not_oldest(void)
{
	struct http *h = ask("gw");

	CU_ASSERT_EQUAL(answer(h, "HTTP/1.1 101 Yes\r\n\r\n"), HTTP_BAD);
	CU_ASSERT_EQUAL(http_request_plain(h), 0);
	http_free(h);
}

void
test_http_upgrade_too_early(void)
{
	struct http *h = ask("");
	size_t used, made;
	uint8_t out[1];

	http_request(h, (const uint8_t *)SOCKET, strlen(SOCKET), &used, out, 1,
	    &made);
	CU_ASSERT_TRUE(http_request_pending(h));
	CU_ASSERT_EQUAL(answer(h, "HTTP/1.1 101 Yes\r\n\r\n"), HTTP_BAD);
	http_free(h);
}

static void
take_bad(struct http *h, const char *in)
{
	size_t used, made;
	uint8_t out[4096];

	CU_ASSERT_EQUAL(http_request(h, (const uint8_t *)in, strlen(in), &used,
			    out, sizeof(out), &made),
	    HTTP_BAD);
}

/* Its response never comes, so that the error answer must not wait for it. */
void
test_http_bad_body_is_owed_nothing(void)
{
	struct http *h = ask("h");

	take(h, POST(CHUNKED), HTTP_OK);
	take_bad(h, "x");
	CU_ASSERT_FALSE(http_response_idle(h));
	CU_ASSERT_EQUAL(answer(h, OK LENGTH(1) "\r\n"), HTTP_OK);
	CU_ASSERT_TRUE(http_response_idle(h));
	http_free(h);

	/* Unless it has begun already. */
	h = ask("g");
	take(h, POST(CHUNKED), HTTP_OK);
	CU_ASSERT_EQUAL(answer(h, NO OK LENGTH(1) "\r\n"), HTTP_OK);
	take_bad(h, "x");
	CU_ASSERT_FALSE(http_response_idle(h));
	CU_ASSERT_EQUAL(answer(h, "x"), HTTP_OK);
	CU_ASSERT_TRUE(http_response_idle(h));
	http_free(h);

	/* Or is over. */
	h = ask("");
	take(h, POST(CHUNKED), HTTP_OK);
	CU_ASSERT_EQUAL(answer(h, NO), HTTP_OK);
	take_bad(h, "x");
	CU_ASSERT_TRUE(http_response_idle(h));
	http_free(h);

	/* A head that is bad never was owed one. */
	h = ask("g");
	take_bad(h, "x\r\n");
	/* And what comes after it is not looked at. */
	take_bad(h, GET);
	CU_ASSERT_FALSE(http_response_idle(h));
	CU_ASSERT_EQUAL(answer(h, NO), HTTP_OK);
	CU_ASSERT_TRUE(http_response_idle(h));
	http_free(h);
}

void
test_http_error(void)
{
	static const int codes[] = {400, 431, 501, 502, 503, 504, 505};
	char line[32];
	struct http *h;
	const char *text;
	size_t i, len;

	for (i = 0; i < ELEMENTS(codes); i++) {
		text = http_error(codes[i], &len);
		CU_ASSERT_EQUAL(len, strlen(text));
		snprintf(line, sizeof(line), "HTTP/1.1 %d ", codes[i]);
		CU_ASSERT_EQUAL(strncmp(text, line, strlen(line)), 0);
		CU_ASSERT_PTR_NOT_NULL(
		    strstr(text, "\r\nConnection: close\r\n"));
		h = ask("g");
		CU_ASSERT_EQUAL(answer(h, text), HTTP_OK);
		CU_ASSERT_TRUE(http_response_idle(h));
		http_free(h);
	}
	CU_ASSERT_PTR_EQUAL(http_error(200, &len), http_error(400, &len));
}
