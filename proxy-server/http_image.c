/*
 * The state of http.h as a part of an image, for an upgrade in place.
 */
#include "http_private.h"

#include "base/image.h"

#define BUF_MAX (1 << 20) /* far above any head, rewritten or not */
#define NAME_MAX_HTTP 512

static void
save_request(const struct http *h, struct image_writer *w)
{
	image_put(w, h->state);
	image_put(w, h->next);
	image_put(w, (uint64_t)h->code);
	image_put(w, h->close);
	image_put(w, h->blank);
	image_put(w, h->count);
	image_put(w, h->buf != NULL);
	image_put(w, h->size);
	image_put(w, h->len);
	if (h->buf != NULL)
		image_put_bytes(w, h->buf, h->len);
	image_put(w, h->given);
	image_put(w, h->line);
	image_put(w, h->fields);
	image_put_bytes(w, h->small, sizeof(h->small));
	image_put(w, h->left);
	image_put(w, h->chunk);
	image_put(w, h->digits);
	image_put(w, h->extra);
}

void
http_save(const struct http *h, struct image_writer *w)
{
	image_put_tag(w, "http");
	image_put_bytes(w, h->names, h->host_len);
	image_put_bytes(w, h->names + h->host_len, h->visitor_len);
	save_request(h, w);
	image_put(w, h->owed);
	image_put(w, h->heads);
	image_put_bytes(w, &h->parser, sizeof(h->parser));
	image_put(w, h->mid);
	image_put(w, h->unasked);
	image_put(w, h->broken);
	image_put(w, h->whole);
}

static bool
load_buf(struct http *h, struct image_reader *r)
{
	bool there = image_take_bool(r);
	const uint8_t *p;
	size_t len;

	h->size = image_take(r, BUF_MAX);
	h->len = image_take(r, BUF_MAX);
	if (!there)
		return h->size == 0 && h->len <= HTTP_SMALL_MAX;
	p = image_take_bytes(r, &len);
	if (r->failed || len != h->len || h->len > h->size || h->size == 0)
		return false;
	h->buf = h->allocator->alloc(h->allocator->context, h->size);
	if (h->buf == NULL)
		return false;
	memcpy(h->buf, p, len);
	return true;
}

static bool
load_request(struct http *h, struct image_reader *r)
{
	h->state = (enum request_state)image_take(r, REQUEST_BAD);
	h->next = (enum request_state)image_take(r, REQUEST_BAD);
	h->code = (int)image_take(r, 999);
	h->close = image_take_bool(r);
	h->blank = (unsigned)image_take(r, UINT8_MAX);
	h->count = image_take(r, UINT64_MAX);
	if (!load_buf(h, r))
		return false;
	h->given = image_take(r, h->len);
	/* Of a head before, unless one is being gathered. */
	h->line = image_take(r, h->state == REQUEST_HEAD ? h->len : BUF_MAX);
	h->fields = image_take(r, BUF_MAX);
	image_take_exact(r, h->small, sizeof(h->small));
	h->left = image_take(r, UINT64_MAX);
	h->chunk = (enum chunk_state)image_take(r, CHUNK_DONE);
	h->digits = (unsigned)image_take(r, 16);
	h->extra = image_take(r, UINT32_MAX);
	return !r->failed;
}

static bool
load_all(struct http *h, struct image_reader *r)
{
	if (!load_request(h, r))
		return false;
	h->owed = (unsigned)image_take(r, HTTP_PIPELINE_MAX);
	h->heads = image_take(r, UINT64_MAX);
	/* Plain data; the library's layout is of its version. */
	image_take_exact(r, &h->parser, sizeof(h->parser));
	h->parser.data = NULL;
	h->mid = image_take_bool(r);
	h->unasked = image_take_bool(r);
	h->broken = image_take_bool(r);
	h->whole = image_take(r, SIZE_MAX);
	return !r->failed;
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
