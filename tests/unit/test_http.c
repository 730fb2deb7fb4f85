#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../proxy-server/http.h"
#include "base/allocator.h"
#include "base/image.h"
#include "http_cases.h"
#include "unit.h"

#define OUT_MAX (4 * HTTP_HEAD_MAX)
#define ELEMENTS(a) (sizeof(a) / sizeof((a)[0]))

static uint8_t output[OUT_MAX];

/* For the corpus of fuzz_image.c: see test_session.h. */
static void
keep_image(const struct image_writer *w)
{
	static unsigned kept;
	const char *directory = getenv("UNIT_IMAGES");
	char path[512];
	FILE *file;

	if (directory == NULL || kept++ % 397 != 0)
		return;
	snprintf(path, sizeof(path), "%s/http-%06u", directory, kept);
	file = fopen(path, "wb");
	if (file == NULL)
		abort();
	fwrite("\0\7", 1, 2, file);
	fwrite(w->data, 1, w->len, file);
	fclose(file);
}

struct http *
http_moved(struct http *h)
{
	struct image_writer w = {0};
	struct image_reader r;

	http_save(h, &w);
	http_free(h);
	keep_image(&w);
	r = (struct image_reader){.at = w.data, .end = w.data + w.len};
	h = http_load(&r);
	if (h == NULL || r.at != r.end)
		abort();
	image_free(&w);
	return h;
}

/* One play of a case: how it is cut, and what came of it. */
struct play {
	struct http *h;
	size_t cap; /* of each http_request() */
	bool plain; /* go past http_request() where that may be */
	bool moved; /* it is in another process after each part */
	const char *answer;
	uint8_t *room; /* cap bytes */
	size_t out_len; /* in output[] */
	enum http_status status;
	size_t left; /* input not taken */
};

static void
collect(struct play *p, const uint8_t *data, size_t len)
{
	if (p->out_len + len > OUT_MAX)
		abort();
	memcpy(output + p->out_len, data, len);
	p->out_len += len;
}

static size_t
pass_plain(struct play *p, const uint8_t *in, size_t len)
{
	size_t n = http_request_plain(p->h);

	if (!p->plain || n == 0)
		return 0;
	if (n > len)
		n = len;
	collect(p, in, n);
	http_request_passed(p->h, n);
	return n;
}

static void
feed_exact(struct play *p, const uint8_t *in, size_t len)
{
	size_t used, made, plain;

	do {
		plain = pass_plain(p, in, len);
		in += plain;
		len -= plain;
		p->status =
		    http_request(p->h, in, len, &used, p->room, p->cap, &made);
		if (used > len || made > p->cap)
			abort();
		collect(p, p->room, made);
		in += used;
		len -= used;
		if (p->status == HTTP_WAIT && p->answer != NULL) {
			if (http_response(p->h, (const uint8_t *)p->answer,
				strlen(p->answer)) != HTTP_OK)
				abort();
			p->answer = NULL;
			used = 1;
		}
	} while (p->status != HTTP_BAD && used + made + plain > 0);
	p->left += len;
}

/* In a buffer of just the right size, for ASan to see what is read. */
static void
feed(struct play *p, const void *in, size_t len)
{
	uint8_t *exact = malloc(len);

	memcpy(exact, in, len);
	feed_exact(p, exact, len);
	free(exact);
	if (p->moved)
		p->h = http_moved(p->h);
}

static void
begin(struct play *p, size_t cap, bool plain, const char *answer)
{
	*p = (struct play){.cap = cap, .plain = plain, .answer = answer};
	p->h = http_new(APPLICATION, VISITOR);
	p->room = malloc(cap);
	if (p->h == NULL || p->room == NULL)
		abort();
}

static void
end(struct play *p)
{
	http_free(p->h);
	free(p->room);
}

static bool
as_expected(const struct http_case *c, const struct play *p)
{
	if (p->out_len != strlen(c->out) ||
	    memcmp(output, c->out, p->out_len) != 0 ||
	    http_request_count(p->h) != c->count ||
	    http_request_begun(p->h) != (c->count > 0))
		return false;
	if (c->code != 0)
		return p->status == HTTP_BAD &&
		    http_bad_code(p->h) == c->code &&
		    !http_request_partial(p->h);
	return p->status == HTTP_OK && p->left == 0 &&
	    !http_request_pending(p->h);
}

/* cut: where the second part begins; SIZE_MAX: byte by byte. */
static bool
play_case(const struct http_case *c, size_t cut, size_t cap, bool plain,
    bool moved)
{
	struct play p;
	bool good;
	size_t i;

	begin(&p, cap, plain, c->answer);
	p.moved = moved;
	if (cut == SIZE_MAX) {
		for (i = 0; i < c->in_len && p.status != HTTP_BAD; i++)
			feed(&p, c->in + i, 1);
	} else {
		feed(&p, c->in, cut);
		if (p.status != HTTP_BAD)
			feed(&p, c->in + cut, c->in_len - cut);
	}
	good = as_expected(c, &p);
	if (!good)
		fprintf(stderr,
		    "\n%s, cut at %zd, room for %zu: status %d, "
		    "code %d, %zu left, made:\n%.*s\n",
		    c->name, (ssize_t)cut, cap, p.status, http_bad_code(p.h),
		    p.left, (int)p.out_len, (char *)output);
	end(&p);
	return good;
}

static void
play_cases(const struct http_case *cases, size_t len, bool moved)
{
	static const size_t caps[] = {1, 2, 7, 4096};
	size_t i, k, cut;
	bool good;

	for (i = 0; i < len; i++) {
		good = true;
		for (k = 0; k < 2 * ELEMENTS(caps) && good; k++) {
			good = play_case(&cases[i], SIZE_MAX, caps[k / 2],
			    k % 2, moved);
			for (cut = 0; cut <= cases[i].in_len && good; cut++)
				good = play_case(&cases[i], cut, caps[k / 2],
				    k % 2, moved);
		}
		CU_ASSERT_TRUE(good);
	}
}

static void
test_good(void)
{
	CU_ASSERT_TRUE(http_good_len >= 40);
	play_cases(http_good, http_good_len, false);
}

static void
test_bad(void)
{
	CU_ASSERT_TRUE(http_bad_len >= 60);
	play_cases(http_bad, http_bad_len, false);
}

static void
test_moved(void)
{
	play_cases(http_good, http_good_len, true);
	play_cases(http_bad, http_bad_len, true);
}

/* head, then fill times c, then tail, as one case's input; caller frees. */
static char *
filled(const char *head, char c, size_t fill, const char *tail)
{
	size_t len = strlen(head);
	char *text = malloc(len + fill + strlen(tail) + 1);

	if (text == NULL)
		abort();
	memcpy(text, head, len);
	memset(text + len, c, fill);
	strcpy(text + len + fill, tail);
	return text;
}

static void
play_text(const char *text, int code, unsigned count, size_t step)
{
	size_t i, n, len = strlen(text);
	struct play p;

	begin(&p, 4096, false, NULL);
	for (i = 0; i < len && p.status == HTTP_OK; i += n) {
		n = len - i < step ? len - i : step;
		feed(&p, text + i, n);
	}
	CU_ASSERT_EQUAL(p.status, code == 0 ? HTTP_OK : HTTP_BAD);
	CU_ASSERT_EQUAL(http_bad_code(p.h), code);
	CU_ASSERT_EQUAL(http_request_count(p.h), count);
	CU_ASSERT_EQUAL(p.out_len > 0, count > 0);
	end(&p);
}

static void
play_filled(const char *head, char c, size_t fill, const char *tail, int code,
    unsigned count)
{
	static const size_t steps[] = {SIZE_MAX / 2, 4096, 1000, 1};
	char *text = filled(head, c, fill, tail);
	size_t i;

	for (i = 0; i < ELEMENTS(steps); i++)
		play_text(text, code, count, steps[i]);
	free(text);
}

static void
test_head_limit(void)
{
	static const char head[] = "GET / HTTP/1.1\r\nHost: v\r\nX: ";
	const size_t fill = HTTP_HEAD_MAX - (sizeof(head) - 1) - 4;

	play_filled(head, 'x', fill, "\r\n\r\n", 0, 1);
	play_filled(head, 'x', fill + 1, "\r\n\r\n", 431, 0);
	play_filled(head, 'x', fill + 1, "\r\n\r\n" GET, 431, 0);
	play_filled("GET /", 'a', HTTP_HEAD_MAX, "", 431, 0);
	play_filled("", 'a', HTTP_HEAD_MAX, "", 0, 0);
}

static void
test_chunk_limits(void)
{
	play_filled(POST(CHUNKED) "1", ';', 4096, "\r\nx\r\n0\r\n\r\n" GET, 0,
	    2);
	play_filled(POST(CHUNKED) "1", ';', 4097, "\r\nx\r\n0\r\n\r\n" GET, 400,
	    1);
	/* "a:", its CRLF and the last one count. */
	play_filled(POST(CHUNKED) "0\r\na:", ' ', 8186, "\r\n\r\n" GET, 0, 2);
	play_filled(POST(CHUNKED) "0\r\na:", ' ', 8187, "\r\n\r\n" GET, 400, 1);
	play_filled(POST(CHUNKED) "0;a\r\n", 'a', 9000, ":\r\n\r\n", 400, 1);
}

/* As many fields as one head can have. */
static void
test_many_fields(void)
{
	static const char head[] = "GET / HTTP/1.1\r\nHost: v\r\n";
	static const char field[] = "a:\r\n";
	size_t i, n = (HTTP_HEAD_MAX - (sizeof(head) - 1) - 2) / 4;
	char *text = filled(head, ' ', n * 4, "\r\n");

	for (i = 0; i < n; i++)
		memcpy(text + sizeof(head) - 1 + i * 4, field, 4);
	play_text(text, 0, 1, SIZE_MAX / 2);
	free(text);
}

static void
test_plain(void)
{
	static const char text[] = POST(LENGTH(10)) "01234";
	struct play p;

	begin(&p, 4096, false, NULL);
	CU_ASSERT_EQUAL(http_request_plain(p.h), 0);
	feed(&p, text, sizeof(text) - 1);
	CU_ASSERT_EQUAL(http_request_plain(p.h), 5);
	CU_ASSERT_TRUE(http_request_partial(p.h));
	http_request_passed(p.h, 0);
	http_request_passed(p.h, 4);
	CU_ASSERT_EQUAL(http_request_plain(p.h), 1);
	CU_ASSERT_TRUE(http_request_partial(p.h));
	http_request_passed(p.h, 1);
	CU_ASSERT_EQUAL(http_request_plain(p.h), 0);
	CU_ASSERT_FALSE(http_request_partial(p.h));
	feed(&p, GET, strlen(GET));
	CU_ASSERT_EQUAL(http_request_count(p.h), 2);
	end(&p);
}

static void
test_pending(void)
{
	struct play p;
	size_t used, made;
	uint8_t out[1];

	begin(&p, 1, false, NULL);
	CU_ASSERT_FALSE(http_request_partial(p.h));
	http_request(p.h, (const uint8_t *)"\r\nGET", 5, &used, out, 1, &made);
	CU_ASSERT_EQUAL(used, 5);
	CU_ASSERT_EQUAL(made, 0);
	CU_ASSERT_TRUE(http_request_partial(p.h));
	CU_ASSERT_FALSE(http_request_pending(p.h));
	CU_ASSERT_FALSE(http_request_begun(p.h));
	http_request(p.h, (const uint8_t *)GET + 3, strlen(GET) - 3, &used, out,
	    1, &made);
	CU_ASSERT_EQUAL(used, strlen(GET) - 3);
	CU_ASSERT_EQUAL(made, 1);
	CU_ASSERT_FALSE(http_request_partial(p.h));
	CU_ASSERT_TRUE(http_request_pending(p.h));
	CU_ASSERT_TRUE(http_request_begun(p.h));
	feed(&p, "", 0);
	CU_ASSERT_EQUAL(p.out_len, strlen(GOT) - 1);
	CU_ASSERT_FALSE(http_request_pending(p.h));
	end(&p);
}

/* Memory that runs out after so many pieces, and how much is in use. */
struct scarce {
	size_t pieces, used, most;
};

static void *
scarce_alloc(void *context, size_t size)
{
	struct scarce *s = context;
	size_t *memory;

	if (s->pieces == 0)
		return NULL;
	memory = malloc(sizeof(max_align_t) + size);
	if (memory == NULL)
		return NULL;
	s->pieces--;
	s->used += size;
	if (s->used > s->most)
		s->most = s->used;
	*memory = size;
	/* What is not written must not be read. */
	memset((char *)memory + sizeof(max_align_t), 0xa5, size);
	return (char *)memory + sizeof(max_align_t);
}

static void
scarce_release(void *context, void *memory)
{
	struct scarce *s = context;
	size_t *whole = (void *)((char *)memory - sizeof(max_align_t));

	s->used -= *whole;
	free(whole);
}

static void
test_memory_runs_out(void)
{
	char *text = filled(GET "GET / HTTP/1.1\r\nHost: v\r\nX: ", 'x', 5000,
	    "\r\n\r\n");
	struct scarce s;
	struct allocator a = {scarce_alloc, scarce_release, &s};
	enum http_status status = HTTP_BAD;
	size_t pieces, i;
	struct play p;

	for (pieces = 0; status != HTTP_OK && pieces < 100; pieces++) {
		s = (struct scarce){pieces, 0, 0};
		begin(&p, 4096, false, NULL);
		http_free(p.h);
		p.h = http_new_from(&a, APPLICATION, VISITOR);
		CU_ASSERT_EQUAL(p.h == NULL, pieces == 0);
		for (i = 0;
		     p.h != NULL && text[i] != '\0' && p.status != HTTP_BAD;
		     i++)
			feed(&p, text + i, 1);
		if (p.h != NULL)
			status = p.status;
		if (p.h != NULL && status != HTTP_OK)
			CU_ASSERT_EQUAL(http_bad_code(p.h), 503);
		end(&p);
		CU_ASSERT_EQUAL(s.used, 0);
	}
	CU_ASSERT_TRUE(pieces > 6);
	CU_ASSERT_EQUAL(status, HTTP_OK);
	free(text);
}

/* What a visitor costs: see http.h on how much is gathered. */
static void
test_memory_held(void)
{
	char *text = filled("GET / HTTP/1.1\r\nHost: v\r\nX: ", 'x',
	    HTTP_HEAD_MAX - 40, "\r\n\r\n");
	struct scarce s = {1000, 0, 0};
	struct allocator a = {scarce_alloc, scarce_release, &s};
	size_t idle, len = strlen(text);
	struct play p;

	begin(&p, 4096, false, NULL);
	http_free(p.h);
	p.h = http_new_from(&a, APPLICATION, VISITOR);
	idle = s.used;
	CU_ASSERT_TRUE(idle < 1024);
	feed(&p, text, len - 1);
	CU_ASSERT_EQUAL(s.used, idle + HTTP_HEAD_MAX);
	feed(&p, text + len - 1, 1);
	CU_ASSERT_EQUAL(p.status, HTTP_OK);
	CU_ASSERT_EQUAL(s.used, idle);
	/* Of the old head and the new one, for the time of one call. */
	CU_ASSERT_TRUE(s.most < idle + 2 * HTTP_HEAD_MAX + 1024);
	end(&p);
	free(text);
}

static const struct unit_test tests[] = {
    {"good requests", test_good},
    {"bad requests", test_bad},
    {"requests, moved to other processes", test_moved},
    {"responses, moved to other processes", test_http_response_moved},
    {"limit of a head", test_head_limit},
    {"limits of chunks", test_chunk_limits},
    {"many fields", test_many_fields},
    {"plain bytes", test_plain},
    {"pending output", test_pending},
    {"memory runs out", test_memory_runs_out},
    {"memory held", test_memory_held},
    {"responses", test_http_response_cases},
    {"whole responses before a bad one", test_http_response_whole},
    {"partial responses", test_http_response_partial},
    {"responses in order", test_http_response_order},
    {"limit of a response's head", test_http_response_limit},
    {"response before the head is out", test_http_response_before_head_is_out},
    {"pipeline", test_http_pipeline},
    {"upgrade", test_http_upgrade},
    {"upgrade refused", test_http_upgrade_refused},
    {"upgrade of another request", test_http_upgrade_not_oldest},
    {"upgrade before the head is out", test_http_upgrade_too_early},
    {"a bad body is owed nothing", test_http_bad_body_is_owed_nothing},
    {"error answers", test_http_error},
    {NULL, NULL},
};

const struct unit_suite suite_http = {"http", tests};
