#include "tunnel/send_queue.h"

#include <string.h>

int
send_queue_init(struct send_queue *q, struct pool *pool, struct budget *process)
{
	*q = (struct send_queue){
	    .pool = pool,
	    .process = process,
	    .keep = process != NULL,
	};
	q->spare = pool_get(pool, BUFFER_MIN);
	return q->spare != NULL ? 0 : -1;
}

/* Give a buffer back, or keep it for when memory runs out. */
static void
release(struct send_queue *q, struct buffer *b)
{
	q->held -= b->size;
	if (q->process != NULL)
		budget_unkeep(q->process, b->size);
	if (q->spare == NULL && b->size == BUFFER_MIN) {
		b->at = (uint8_t *)(b + 1) + BUFFER_HEADROOM;
		b->len = 0;
		b->next = NULL;
		b->control = 0;
		q->spare = b;
	} else
		pool_put(q->pool, b);
}

/* The first buffer, which was written whole or is of no use. */
static void
release_first(struct send_queue *q)
{
	struct buffer *b = q->first;

	q->first = b->next;
	q->base += b->len;
	if (q->first == NULL)
		q->last = NULL;
	release(q, b);
}

void
send_queue_close(struct send_queue *q)
{
	while (q->first != NULL)
		release_first(q);
	pool_put(q->pool, q->spare);
	q->spare = NULL;
	q->head = NULL;
}

void
send_queue_append(struct send_queue *q, struct buffer *b)
{
	if (q->last != NULL)
		q->last->next = b;
	else
		q->first = b;
	q->last = b;
	if (q->head == NULL) {
		q->head = b;
		q->head_at = 0;
		q->begun = false;
	}
	q->queued += b->len;
	q->held += b->size;
	if (q->process != NULL)
		budget_keep(q->process, b->size);
}

uint8_t *
send_queue_room(struct send_queue *q, size_t size)
{
	struct buffer *b = q->last;

	if (b == NULL || buffer_room(b) < size) {
		b = pool_get(q->pool, size);
		if (b == NULL) {
			b = q->spare;
			q->spare = NULL;
		}
		if (b == NULL)
			return NULL;
		send_queue_append(q, b);
	}
	return b->at + b->len;
}

void
send_queue_added(struct send_queue *q, size_t len, bool control)
{
	struct buffer *b = q->last;

	if (q->head == NULL) {
		q->head = b;
		q->head_at = b->len;
		q->begun = false;
	}
	b->len += (uint32_t)len;
	q->queued += len;
	if (control)
		b->control += (uint32_t)len;
}

size_t
send_queue_gather(const struct send_queue *q, struct iovec *iov, size_t max,
    const struct iovec *local, bool partial)
{
	struct buffer *b = q->head;
	uint32_t at = q->head_at;
	size_t n = 0;

	if (q->begun && !partial) {
		iov[n++] = (struct iovec){b->at + at, b->len - at};
		b = b->next;
		at = 0;
	}
	if (local->iov_len > 0)
		iov[n++] = *local;
	for (; b != NULL && n < max; b = b->next, at = 0)
		if (b->len > at)
			iov[n++] = (struct iovec){b->at + at, b->len - at};
	return n;
}

/* Of the buffer at the cursor n bytes were written; those that are left. */
static size_t
advance(struct send_queue *q, size_t n)
{
	struct buffer *b = q->head;
	size_t part = b->len - q->head_at;

	if (part > n)
		part = n;
	q->head_at += (uint32_t)part;
	q->sent += part;
	q->queued -= part;
	if (q->sent > q->fixed)
		q->fixed = q->sent;
	q->begun = q->head_at < b->len;
	if (q->begun)
		return n - part;
	q->answers += b->control;
	b->control = 0;
	q->head = b->next;
	q->head_at = 0;
	if (!q->keep)
		release_first(q);
	return n - part;
}

size_t
send_queue_wrote_begun(struct send_queue *q, size_t n)
{
	return q->begun && n > 0 ? advance(q, n) : n;
}

size_t
send_queue_wrote(struct send_queue *q, size_t n)
{
	while (n > 0 && q->head != NULL)
		n = advance(q, n);
	return n;
}

bool
send_queue_acknowledge(struct send_queue *q, uint64_t offset)
{
	if (offset < q->acked || offset > q->sent)
		return false;
	q->acked = offset;
	while (q->first != NULL && q->first != q->head &&
	    q->base + q->first->len <= offset)
		release_first(q);
	return true;
}

/* Let head be the buffer of offset. */
static void
find_head(struct send_queue *q, uint64_t offset)
{
	uint64_t at = q->base;
	struct buffer *b;

	for (b = q->first; b != NULL && at + b->len <= offset; b = b->next)
		at += b->len;
	q->head = b;
	q->head_at = b != NULL ? (uint32_t)(offset - at) : 0;
}

void
send_queue_rewind(struct send_queue *q, uint64_t offset)
{
	send_queue_acknowledge(q, offset);
	find_head(q, offset);
	/* Whether an instruction ends here is not known: as if it did not. */
	q->begun = q->head_at > 0;
	q->queued += (size_t)(q->sent - offset);
	q->sent = offset;
}

/* The instructions of a buffer but for data of an identity, moved together. */
static void
forget_in(struct send_queue *q, struct buffer *b, enum ins_dialect dialect,
    uint64_t identity)
{
	uint32_t from = 0, to = 0, size;
	struct ins_head h;
	size_t used;

	while (from < b->len) {
		if (ins_head_decode(dialect, b->at + from, b->len - from, &h,
			&used) != INS_OK ||
		    h.length > b->len - from - used)
			return;
		size = (uint32_t)used + h.length;
		if (h.number != INS_DATA || h.identity != identity) {
			memmove(b->at + to, b->at + from, size);
			to += size;
		}
		from += size;
	}
	q->queued -= b->len - to;
	b->len = to;
}

void
send_queue_forget(struct send_queue *q, enum ins_dialect dialect,
    uint64_t identity)
{
	struct buffer *b = q->head;

	if (b != NULL && q->begun)
		b = b->next;
	for (; b != NULL; b = b->next)
		forget_in(q, b, dialect, identity);
}

void
send_queue_drop(struct send_queue *q)
{
	struct buffer *kept = q->begun ? q->head : NULL, *b;

	while ((b = q->first) != NULL) {
		q->first = b->next;
		if (b != kept)
			release(q, b);
	}
	q->first = q->last = q->head = kept;
	q->queued = 0;
	if (kept == NULL)
		return;
	kept->next = NULL;
	q->queued = kept->len - q->head_at;
}

void
send_queue_save(const struct send_queue *q, struct image_writer *w)
{
	const struct buffer *b;
	size_t n = 0;

	for (b = q->first; b != NULL; b = b->next)
		n += b->len > 0;
	image_put(w, q->base);
	image_put(w, q->sent);
	image_put(w, q->fixed);
	image_put(w, q->acked);
	image_put(w, q->begun);
	image_put(w, q->answers);
	image_put(w, n);
	for (b = q->first; b != NULL; b = b->next) {
		if (b->len == 0)
			continue;
		image_put(w, b->control);
		image_put_bytes(w, b->at, b->len);
	}
}

/* One buffer of an image; false when it failed or memory ran out. */
static bool
load_buffer(struct send_queue *q, struct image_reader *r)
{
	uint32_t control = (uint32_t)image_take(r, BUFFER_MAX);
	struct buffer *b;
	const uint8_t *p;
	size_t len;

	p = image_take_bytes(r, &len);
	if (r->failed || len == 0 || len > BUFFER_MAX + BUFFER_HEADROOM ||
	    control > len)
		return false;
	/* The head of a frame was in the headroom: no more room than before. */
	b = pool_get(q->pool,
	    len > BUFFER_HEADROOM ? len - BUFFER_HEADROOM : len);
	if (b == NULL)
		return false;
	if (len > b->size)
		b->at -= len - b->size;
	memcpy(b->at, p, len);
	b->len = (uint32_t)len;
	b->control = control;
	send_queue_append(q, b);
	return true;
}

/* Of a queue from an image; false when its offsets cannot be. */
static bool
place_cursor(struct send_queue *q, uint64_t sent)
{
	uint64_t end = q->base + q->queued;
	bool begun = q->begun;

	if (q->acked > sent || q->fixed < sent || sent > end ||
	    q->fixed > end || sent < q->base || (q->keep && q->base > q->acked))
		return false;
	find_head(q, sent);
	if (!q->keep && q->first != q->head)
		return false;
	q->begun = begun && q->head != NULL && q->head_at > 0;
	q->queued = (size_t)(end - sent);
	q->sent = sent;
	return true;
}

bool
send_queue_load(struct send_queue *q, struct image_reader *r)
{
	uint64_t sent, n;
	bool begun;

	q->base = image_take(r, INS_OFFSET_MAX);
	sent = image_take(r, INS_OFFSET_MAX);
	q->fixed = image_take(r, INS_OFFSET_MAX);
	q->acked = image_take(r, INS_OFFSET_MAX);
	begun = image_take_bool(r);
	q->answers = image_take(r, UINT64_MAX);
	for (n = image_take(r, SIZE_MAX); n > 0; n--)
		if (!load_buffer(q, r))
			return false;
	q->begun = begun;
	return !r->failed && place_cursor(q, sent);
}
