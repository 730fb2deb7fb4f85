/*
 * Input: a byte for the room that http_request() gets and whether HTTP_WAIT
 * is answered by itself, one that seeds where the input is cut, one for the
 * allocation that fails (0: none), then what the visitor sends.  0xfe begins
 * what the application sends, 0xff what the visitor sends again.
 *
 * However it is cut, the same must come out; and what comes out must be read
 * by two strict readers, one of them http.c itself, as the same requests.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../proxy-server/http_private.h"

#define APPLICATION "app:80"
#define VISITOR "192.0.2.7"
#define NO "HTTP/1.1 204 No\r\n\r\n"
#define YES "HTTP/1.1 101 Yes\r\n\r\n"

#define CHECK(x) \
	do { \
		if (!(x)) { \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, \
			    #x); \
			abort(); \
		} \
	} while (0)

struct bytes {
	uint8_t *at;
	size_t len, size;
};

struct run {
	struct http *h;
	size_t cap;
	unsigned seed; /* 0: nothing is cut */
	bool answers; /* HTTP_WAIT is answered with NO */
	struct bytes waiting; /* of the visitor, not taken yet */
	struct bytes out;
	bool request_bad, response_bad;
	uint64_t opaque; /* the request that got 101, or 0 */
};

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void
append(struct bytes *b, const void *data, size_t len)
{
	if (b->len + len > b->size) {
		b->size = (b->len + len) * 2;
		b->at = realloc(b->at, b->size);
		CHECK(b->at != NULL);
	}
	if (len > 0)
		memcpy(b->at + b->len, data, len);
	b->len += len;
}

static void
take_off(struct bytes *b, size_t len)
{
	b->len -= len;
	if (len > 0 && b->len > 0)
		memmove(b->at, b->at + len, b->len);
}

static bool
is_opaque(const struct run *r)
{
	return r->h->state == REQUEST_OPAQUE;
}

static void
respond(struct run *r, const uint8_t *in, size_t len)
{
	if (http_response(r->h, in, len) == HTTP_BAD)
		r->response_bad = true;
	CHECK(http_response_whole(r->h) <= len);
	CHECK(r->h->parser.data == NULL);
	if (r->opaque == 0 && is_opaque(r))
		r->opaque = http_request_count(r->h);
}

/* One http_request() on a copy of the right size; whether anything moved. */
static bool
request_once(struct run *r)
{
	uint8_t *exact = malloc(r->waiting.len), *out = malloc(r->cap);
	size_t used, made, plain = http_request_plain(r->h);
	enum http_status status;

	if (r->waiting.len > 0)
		memcpy(exact, r->waiting.at, r->waiting.len);
	/* The short way or the long one, by the seed. */
	if (r->seed % 2 != 0 && plain > 0 && r->waiting.len > 0) {
		used = plain < r->waiting.len ? plain : r->waiting.len;
		append(&r->out, exact, used);
		http_request_passed(r->h, used);
		made = used;
	} else {
		status = http_request(r->h, exact, r->waiting.len, &used, out,
		    r->cap, &made);
		CHECK(used <= r->waiting.len && made <= r->cap);
		append(&r->out, out, made);
		r->request_bad = status == HTTP_BAD;
		/* Within a response it would be part of that one's body. */
		if (status == HTTP_WAIT && r->answers &&
		    !http_response_partial(r->h)) {
			respond(r, (const uint8_t *)NO, strlen(NO));
			made = 1;
		}
	}
	take_off(&r->waiting, used);
	free(exact);
	free(out);
	return !r->request_bad && used + made > 0;
}

static size_t
next_cut(struct run *r, size_t len)
{
	size_t n;

	if (r->seed == 0)
		return len;
	r->seed = (r->seed * 1103515245u + 12345u) | 1u << 31;
	n = (r->seed >> 16) % 12 + 1;
	return n < len ? n : len;
}

static void
visitor_sends(struct run *r, const uint8_t *in, size_t len)
{
	size_t n;

	for (; len > 0 && !r->request_bad && !r->response_bad; len -= n) {
		n = next_cut(r, len);
		append(&r->waiting, in, n);
		in += n;
		while (!r->response_bad && request_once(r))
			;
	}
}

/*
 * What waits is taken after the last part only: else it would hang on the
 * cuts whether a second response has a request to answer.
 */
static void
application_sends(struct run *r, const uint8_t *in, size_t len)
{
	size_t n;

	for (; len > 0 && !r->response_bad; len -= n) {
		n = next_cut(r, len);
		respond(r, in, n);
		in += n;
	}
	while (!r->request_bad && !r->response_bad && request_once(r))
		;
}

static void
play(struct run *r, const uint8_t *data, size_t len)
{
	bool visitor = true;
	size_t n;

	while (len > 0) {
		for (n = 0; n < len && data[n] < 0xfe; n++)
			;
		if (visitor)
			visitor_sends(r, data, n);
		else
			application_sends(r, data, n);
		if (n == len)
			break;
		visitor = data[n] == 0xff;
		data += n + 1;
		len -= n + 1;
	}
	CHECK(r->h->owed <= HTTP_PIPELINE_MAX);
	CHECK(r->request_bad || r->response_bad || !http_request_pending(r->h));
}

static void
run_open(struct run *r, const struct allocator *allocator, size_t cap,
    unsigned seed, bool answers)
{
	memset(r, 0, sizeof(*r));
	r->h = http_new_from(allocator, APPLICATION, VISITOR);
	r->cap = cap;
	r->seed = seed;
	r->answers = answers;
}

static void
run_close(struct run *r)
{
	http_free(r->h);
	free(r->waiting.at);
	free(r->out.at);
}

static bool
same(const struct bytes *a, const struct bytes *b)
{
	return a->len == b->len &&
	    (a->len == 0 || memcmp(a->at, b->at, a->len) == 0);
}

/* What came out of one goes into another, which must see the same in it. */
static void
again(const struct run *from, struct run *to)
{
	bool last;

	run_open(to, &allocator_system, 4096, 0, false);
	append(&to->waiting, from->out.at, from->out.len);
	while (to->waiting.len > 0) {
		while (request_once(to))
			;
		CHECK(!to->request_bad);
		if (to->waiting.len == 0)
			break;
		/* It waits. */
		last = to->h->owed == 1 && from->opaque != 0 &&
		    http_request_count(to->h) == from->opaque;
		respond(to, (const uint8_t *)(last ? YES : NO),
		    strlen(last ? YES : NO));
		CHECK(!to->response_bad);
	}
	CHECK(http_request_count(to->h) == http_request_count(from->h));
	if (!from->request_bad && from->h->state != REQUEST_HEAD)
		CHECK(http_request_partial(to->h) ==
		    http_request_partial(from->h));
}

/* The second reader: knows only the narrow HTTP that http.c may write. */
struct strict {
	const uint8_t *at, *end;
	unsigned hosts, lengths, codings, addresses;
	unsigned long long length;
	bool old;
};

static size_t
left(const struct strict *s)
{
	return (size_t)(s->end - s->at);
}

/* A line without its CRLF; NULL: it is not whole. */
static const uint8_t *
strict_line(struct strict *s, size_t *len)
{
	const uint8_t *line = s->at;
	const uint8_t *lf = left(s) > 0 ? memchr(line, '\n', left(s)) : NULL;
	size_t i;

	if (lf == NULL)
		return NULL;
	CHECK(lf > line && lf[-1] == '\r');
	*len = (size_t)(lf - line) - 1;
	for (i = 0; i < *len; i++)
		CHECK((line[i] >= ' ' && line[i] != 0x7f) || line[i] == '\t');
	s->at = lf + 1;
	return line;
}

static bool
line_is(const uint8_t *line, size_t len, const char *text)
{
	return len == strlen(text) && memcmp(line, text, len) == 0;
}

static void
strict_field(struct strict *s, const uint8_t *line, size_t len)
{
	const uint8_t *colon = memchr(line, ':', len);
	char name[64];
	size_t i, n;

	CHECK(colon != NULL && colon > line && colon[1] == ' ');
	n = (size_t)(colon - line);
	for (i = 0; i < n; i++)
		CHECK(line[i] > ' ' && line[i] < 0x7f);
	if (n >= sizeof(name))
		return;
	for (i = 0; i < n; i++) {
		name[i] = (char)(line[i] == '_' ? '-' : line[i]);
		if (name[i] >= 'A' && name[i] <= 'Z')
			name[i] = (char)(name[i] + 'a' - 'A');
	}
	name[n] = '\0';
	if (strcmp(name, "host") == 0) {
		s->hosts++;
		CHECK(line_is(line, len, "Host: " APPLICATION));
	} else if (strcmp(name, "x-forwarded-for") == 0) {
		s->addresses++;
		CHECK(line_is(line, len, "X-Forwarded-For: " VISITOR));
	} else if (strcmp(name, "content-length") == 0) {
		s->lengths++;
		/* Ends at the CR at the latest. */
		s->length = strtoull((const char *)colon + 2, NULL, 10);
	} else if (strcmp(name, "transfer-encoding") == 0) {
		s->codings++;
		CHECK(line_is(line, len, "Transfer-Encoding: chunked"));
	}
	CHECK(strcmp(name, "te") != 0 && strcmp(name, "forwarded") != 0);
}

static void
strict_head(struct strict *s)
{
	const uint8_t *line;
	size_t len;

	s->hosts = s->lengths = s->codings = s->addresses = 0;
	s->length = 0;
	line = strict_line(s, &len);
	CHECK(line != NULL && len > 9 && line[0] >= 'A' && line[0] <= 'Z');
	CHECK(memcmp(line + len - 9, " HTTP/1.", 8) == 0);
	s->old = line[len - 1] == '0';
	for (;;) {
		line = strict_line(s, &len);
		CHECK(line != NULL);
		if (len == 0)
			break;
		strict_field(s, line, len);
	}
	CHECK(s->hosts == 1 && s->addresses == 1);
	CHECK(s->lengths + s->codings <= 1 && (!s->old || s->codings == 0));
}

/* false: there is no more. */
static bool
strict_skip(struct strict *s, unsigned long long len)
{
	bool all = len <= left(s);

	s->at += all ? (size_t)len : left(s);
	return all;
}

static void
strict_chunks(struct strict *s)
{
	unsigned long long size;
	const uint8_t *line;
	char text[24];
	size_t len;

	do {
		line = strict_line(s, &len);
		if (line == NULL) {
			CHECK(s->at == s->end);
			return;
		}
		size = strtoull((const char *)line, NULL, 16);
		snprintf(text, sizeof(text), "%llx", size);
		CHECK(line_is(line, len, text));
		if (size > 0 && !strict_skip(s, size))
			return;
		line = strict_line(s, &len);
		if (line == NULL) {
			CHECK(s->at == s->end);
			return;
		}
		CHECK(len == 0);
	} while (size > 0);
}

static void
read_strictly(const struct run *r)
{
	struct strict s = {.at = r->out.at};
	uint64_t i;

	s.end = r->out.len > 0 ? s.at + r->out.len : s.at;
	for (i = 1; i <= http_request_count(r->h); i++) {
		strict_head(&s);
		if (i == r->opaque)
			return;
		if (s.codings > 0)
			strict_chunks(&s);
		else
			strict_skip(&s, s.length);
	}
	CHECK(s.at == s.end);
}

struct scarce {
	size_t pieces;
};

static void *
scarce_alloc(void *context, size_t size)
{
	struct scarce *s = context;

	return s->pieces-- == 1 ? NULL : malloc(size);
}

static void
scarce_release(void *context, void *memory)
{
	(void)context;
	free(memory);
}

static void
run_scarce(const uint8_t *data, size_t len, size_t pieces)
{
	struct scarce s = {pieces};
	struct allocator a = {scarce_alloc, scarce_release, &s};
	struct run r;

	run_open(&r, &a, 4096, 0, true);
	if (r.h != NULL)
		play(&r, data, len);
	run_close(&r);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static const size_t caps[] = {1, 2, 7, 64, 1000, 4096};
	struct run cut, whole, second, third;
	bool answers;

	if (len < 3)
		return 0;
	answers = data[0] & 0x80;
	if (data[2] != 0)
		run_scarce(data + 3, len - 3, data[2]);
	run_open(&cut, &allocator_system, caps[data[0] % 6], data[1] + 1u,
	    answers);
	run_open(&whole, &allocator_system, 65536, 0, answers);
	play(&cut, data + 3, len - 3);
	play(&whole, data + 3, len - 3);
	CHECK(cut.response_bad == whole.response_bad);
	if (!whole.response_bad) {
		CHECK(same(&cut.out, &whole.out));
		CHECK(cut.request_bad == whole.request_bad);
		CHECK(http_bad_code(cut.h) == http_bad_code(whole.h));
		CHECK(cut.h->state == whole.h->state);
		CHECK(cut.h->owed == whole.h->owed);
		CHECK(cut.opaque == whole.opaque);
		read_strictly(&whole);
		again(&whole, &second);
		again(&second, &third);
		CHECK(same(&second.out, &third.out));
		run_close(&second);
		run_close(&third);
	}
	run_close(&cut);
	run_close(&whole);
	return 0;
}
