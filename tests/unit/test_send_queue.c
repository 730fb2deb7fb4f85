/*
 * The send queue against a model: all bytes that were ever put into it, and
 * where instructions end in them.
 */
#include <stdlib.h>
#include <string.h>

#include "memory.h"
#include "tunnel/send_queue.h"
#include "unit.h"

#define ALL (8u << 20)
#define LOCAL 24

static uint64_t seed;

/* xorshift64*: the same each time. */
static size_t
below(size_t n)
{
	seed ^= seed >> 12;
	seed ^= seed << 25;
	seed ^= seed >> 27;
	return (size_t)((seed * UINT64_C(2685821657736338717)) >> 33) % n;
}

struct model {
	struct memory memory;
	struct pool pool;
	struct budget process;
	struct send_queue queue;
	uint8_t *all; /* every byte by its offset */
	uint8_t *ends; /* an instruction ends before that offset */
	size_t len; /* of all */
	size_t cursor; /* what was written on this carrier */
	size_t acked, written; /* the newest, the most */
	uint8_t local[LOCAL];
	size_t local_len, local_sent;
	size_t controls;
	size_t locals; /* that were written whole */
};

static void
begin(struct model *m, uint64_t start, bool keep)
{
	memset(m, 0, sizeof(*m));
	seed = start;
	memory_init(&m->memory);
	pool_init(&m->pool, &m->memory.allocator);
	budget_init(&m->process, 64 << 20, 0);
	m->all = malloc(ALL);
	m->ends = calloc(1, ALL + 1);
	m->ends[0] = 1;
	CU_ASSERT_EQUAL_FATAL(send_queue_init(&m->queue, &m->pool,
				  keep ? &m->process : NULL),
	    0);
}

static void
end(struct model *m)
{
	send_queue_close(&m->queue);
	CU_ASSERT_EQUAL(m->queue.held, 0);
	CU_ASSERT_EQUAL(m->process.kept, 0);
	CU_ASSERT_EQUAL(m->pool.held, 0);
	pool_close(&m->pool);
	CU_ASSERT_EQUAL(m->memory.held, 0);
	free(m->all);
	free(m->ends);
}

static void
noted(struct model *m, const uint8_t *data, size_t len)
{
	if (m->len + len > ALL)
		abort();
	memcpy(m->all + m->len, data, len);
	m->len += len;
	m->ends[m->len] = 1;
}

/* InsData of n bytes, in a buffer of its own. */
static void
put_data(struct model *m, uint64_t identity, size_t n)
{
	struct buffer *b = pool_get(&m->pool, n > 0 ? n : 1);
	size_t i;

	for (i = 0; i < n; i++)
		b->at[i] = (uint8_t)below(256);
	b->at -= INS_DATA_HEAD;
	ins_data_head_encode(b->at, identity, (uint32_t)n);
	b->len = (uint32_t)n + INS_DATA_HEAD;
	noted(m, b->at, b->len);
	send_queue_append(&m->queue, b);
}

static void
put_control(struct model *m)
{
	uint8_t *p = send_queue_room(&m->queue, INS_ENCODE_MAX);
	size_t n;

	CU_ASSERT_PTR_NOT_NULL_FATAL(p);
	n = ins_close_encode(p, INS_ENCODE_MAX, 1 + below(1000));
	noted(m, p, n);
	send_queue_added(&m->queue, n, true);
	m->controls += n;
}

static void
put_local(struct model *m)
{
	if (m->local_len > 0)
		return;
	m->local_len = ins_offset_encode(m->local, LOCAL, INS_PING, below(99));
	m->local_sent = 0;
}

static struct iovec
local_of(struct model *m)
{
	return (struct iovec){m->local + m->local_sent,
	    m->local_len - m->local_sent};
}

/* What is to be written: the model's bytes, and local where one ends. */
static size_t
gathered(struct model *m, size_t max)
{
	struct iovec iov[64], local = local_of(m);
	size_t n, i, at = m->cursor, sum = 0, locals = 0;

	n = send_queue_gather(&m->queue, iov, max, &local, m->local_sent > 0);
	CU_ASSERT(n <= max);
	for (i = 0; i < n; i++) {
		CU_ASSERT(iov[i].iov_len > 0);
		sum += iov[i].iov_len;
		if (iov[i].iov_base == local.iov_base) {
			CU_ASSERT(m->local_sent > 0 ? i == 0 : m->ends[at]);
			locals++;
			continue;
		}
		CU_ASSERT_FATAL(at + iov[i].iov_len <= m->len);
		CU_ASSERT_EQUAL(memcmp(iov[i].iov_base, m->all + at,
				    iov[i].iov_len),
		    0);
		at += iov[i].iov_len;
	}
	CU_ASSERT_EQUAL(locals, local.iov_len > 0);
	/* All of it, when there was room for more. */
	if (n < max)
		CU_ASSERT_EQUAL(at, m->len);
	return sum;
}

/* n bytes were written, as session_tx.c counts them. */
static void
write_some(struct model *m, size_t n)
{
	size_t all = n, left = m->local_len - m->local_sent, part;

	if (m->local_sent == 0)
		n = send_queue_wrote_begun(&m->queue, n);
	part = n < left ? n : left;
	m->local_sent += part;
	if (m->local_len > 0 && m->local_sent == m->local_len) {
		m->local_len = m->local_sent = 0;
		m->locals++;
	}
	CU_ASSERT_EQUAL(send_queue_wrote(&m->queue, n - part), 0);
	m->cursor += all - part;
	if (m->cursor > m->written)
		m->written = m->cursor;
}

static void
consistent(const struct model *m)
{
	const struct send_queue *q = &m->queue;
	const struct buffer *b;
	size_t held = 0, len = 0;

	for (b = q->first; b != NULL; b = b->next) {
		held += b->size;
		len += b->len;
		CU_ASSERT((b->next == NULL) == (b == q->last));
	}
	CU_ASSERT_EQUAL(q->held, held);
	CU_ASSERT_EQUAL(q->sent, m->cursor);
	CU_ASSERT_EQUAL(q->queued, m->len - m->cursor);
	CU_ASSERT_EQUAL(q->base + len, m->len);
	CU_ASSERT_EQUAL(q->fixed, m->written);
	if (!q->keep)
		return;
	CU_ASSERT_EQUAL(q->acked, m->acked);
	CU_ASSERT(q->base <= m->acked);
	CU_ASSERT_EQUAL(m->process.kept, held);
	/* No more is kept than the buffer in which the acknowledged ends. */
	if (q->first != NULL && q->first != q->head)
		CU_ASSERT(q->base + q->first->len > m->acked);
}

static void
acknowledge(struct model *m, size_t offset)
{
	CU_ASSERT_TRUE(send_queue_acknowledge(&m->queue, offset));
	m->acked = offset;
}

/* Another carrier. */
static void
rewind_to(struct model *m, size_t offset)
{
	send_queue_rewind(&m->queue, offset);
	m->acked = m->cursor = offset;
	m->local_len = m->local_sent = 0;
}

static void
write_all(struct model *m)
{
	size_t n;

	while ((n = gathered(m, 2 + below(62))) > 0)
		write_some(m, n);
	CU_ASSERT_EQUAL(m->cursor, m->len);
	CU_ASSERT_EQUAL(m->local_len, 0);
}

static void
test_order(void)
{
	struct model m;
	size_t i, n;

	begin(&m, 5, true);
	for (i = 0; i < 300; i++) {
		if (below(2))
			put_control(&m);
		else
			put_data(&m, 7, below(9000));
		put_local(&m);
		n = gathered(&m, 2 + below(20));
		write_some(&m, below(n + 1));
		consistent(&m);
	}
	write_all(&m);
	/* Room of one that was written whole is used again. */
	put_control(&m);
	CU_ASSERT_EQUAL(gathered(&m, 2), 8);
	write_all(&m);
	CU_ASSERT_EQUAL(m.queue.answers, m.controls);
	CU_ASSERT(m.locals > 10);
	acknowledge(&m, m.len);
	consistent(&m);
	end(&m);
}

static void
test_acknowledge(void)
{
	struct model m;
	size_t at, sent;

	begin(&m, 6, true);
	for (at = 0; at < 5; at++) {
		put_data(&m, 7, 5000);
		put_control(&m);
	}
	write_some(&m, 12000);
	sent = m.cursor;
	CU_ASSERT_EQUAL(sent, 12000);
	CU_ASSERT_FALSE(send_queue_acknowledge(&m.queue, sent + 1));
	CU_ASSERT_FALSE(send_queue_acknowledge(&m.queue, UINT64_MAX));
	for (at = 0; at <= sent; at++) {
		acknowledge(&m, at);
		consistent(&m);
		if (at > 0)
			CU_ASSERT_FALSE(
			    send_queue_acknowledge(&m.queue, at - 1));
		CU_ASSERT_TRUE(send_queue_acknowledge(&m.queue, at));
	}
	write_all(&m);
	acknowledge(&m, m.len);
	CU_ASSERT_PTR_NULL(m.queue.first);
	CU_ASSERT_EQUAL(m.queue.held, 0);
	end(&m);
}

/* Every offset that a peer may state, from each that was acknowledged. */
static void
test_rewind_everywhere(void)
{
	struct model m;
	size_t to, sent, locals;

	for (sent = 0;; sent += 7) {
		for (to = 0; to <= sent; to += below(3) + 1) {
			begin(&m, 8 + to, true);
			put_control(&m);
			put_data(&m, 7, 40);
			put_control(&m);
			put_data(&m, 7, 0);
			put_data(&m, 9, 30);
			if (sent > m.len) {
				end(&m);
				return;
			}
			write_some(&m, sent);
			acknowledge(&m, below(to + 1));
			rewind_to(&m, to);
			consistent(&m);
			locals = m.locals;
			put_local(&m);
			put_control(&m);
			write_all(&m);
			CU_ASSERT_EQUAL(m.locals, locals + 1);
			CU_ASSERT_EQUAL(m.queue.answers, m.controls);
			consistent(&m);
			end(&m);
		}
	}
}

/* Into a new queue, which goes on with it. */
static void
through_image(struct model *m)
{
	struct image_writer w = {0};
	struct image_reader r = {0};
	struct send_queue again;
	uint64_t kept = m->process.kept;

	send_queue_save(&m->queue, &w);
	CU_ASSERT_FALSE_FATAL(w.failed);
	send_queue_close(&m->queue);
	CU_ASSERT_EQUAL(m->process.kept, 0);
	CU_ASSERT_EQUAL_FATAL(send_queue_init(&again, &m->pool, &m->process),
	    0);
	r.at = w.data;
	r.end = w.data + w.len;
	CU_ASSERT_TRUE(send_queue_load(&again, &r));
	CU_ASSERT_PTR_EQUAL(r.at, r.end);
	m->queue = again;
	CU_ASSERT(m->process.kept <= kept);
	image_free(&w);
}

static void
test_random(void)
{
	struct model m;
	size_t i, n, images = 0;

	begin(&m, 11, true);
	for (i = 0; i < 20000; i++)
		switch (below(12)) {
		case 0:
		case 1:
			if (m.len < ALL - 400000)
				put_data(&m, 1 + below(5),
				    below(4) ? below(600) : below(70000));
			break;
		case 2:
		case 3:
			put_control(&m);
			break;
		case 4:
			put_local(&m);
			break;
		case 5:
			acknowledge(&m,
			    m.acked + below(m.cursor - m.acked + 1));
			break;
		case 6:
			if (below(4) == 0)
				rewind_to(&m,
				    m.acked + below(m.cursor - m.acked + 1));
			break;
		case 7:
			if (below(50) == 0 && m.local_sent == 0) {
				through_image(&m);
				images++;
			}
			break;
		default:
			n = gathered(&m, 2 + below(30));
			write_some(&m, below(4) ? n : below(n + 1));
		}
	CU_ASSERT(images > 5);
	consistent(&m);
	write_all(&m);
	acknowledge(&m, m.len);
	consistent(&m);
	end(&m);
}

/* What is no image is not taken, and nothing is left of it. */
static void
test_bad_images(void)
{
	struct image_writer w = {0};
	struct image_reader r = {0};
	struct send_queue q;
	struct model m;
	uint8_t *copy;
	size_t i;

	begin(&m, 13, true);
	put_data(&m, 7, 20);
	put_control(&m);
	put_data(&m, 7, 5);
	write_some(&m, 37);
	acknowledge(&m, 9);
	send_queue_save(&m.queue, &w);
	for (i = 0; i < 2 * w.len; i++) {
		copy = malloc(w.len);
		memcpy(copy, w.data, w.len);
		r = (struct image_reader){.at = copy, .end = copy + w.len};
		if (i < w.len)
			r.end = copy + i; /* cut */
		else
			copy[i - w.len] ^= 0x80;
		CU_ASSERT_EQUAL_FATAL(send_queue_init(&q, &m.pool, &m.process),
		    0);
		if (send_queue_load(&q, &r)) {
			CU_ASSERT(i >= w.len);
			CU_ASSERT(q.acked <= q.sent && q.sent <= q.fixed);
		}
		send_queue_close(&q);
		free(copy);
	}
	image_free(&w);
	end(&m);
}

static void
test_drop(void)
{
	struct iovec iov[4], none = {NULL, 0};
	struct model m;
	size_t sent;

	/* What was begun is finished; all else goes. */
	for (sent = 0; sent <= 120; sent++) {
		begin(&m, 17, true);
		put_data(&m, 7, 20);
		put_data(&m, 7, 30);
		put_data(&m, 7, 46);
		write_some(&m, sent);
		send_queue_drop(&m.queue);
		if (m.ends[sent]) {
			CU_ASSERT_EQUAL(m.queue.queued, 0);
			CU_ASSERT_PTR_NULL(m.queue.first);
		} else {
			CU_ASSERT_EQUAL(send_queue_gather(&m.queue, iov, 4,
					    &none, false),
			    1);
			CU_ASSERT_EQUAL(iov[0].iov_len, m.queue.queued);
			CU_ASSERT_TRUE(m.ends[sent + iov[0].iov_len]);
			CU_ASSERT_EQUAL(memcmp(iov[0].iov_base, m.all + sent,
					    iov[0].iov_len),
			    0);
			CU_ASSERT_EQUAL(send_queue_wrote(&m.queue,
					    iov[0].iov_len),
			    0);
		}
		CU_ASSERT_EQUAL(send_queue_gather(&m.queue, iov, 4, &none,
				    false),
		    0);
		end(&m);
	}
}

static void
test_forget(void)
{
	struct iovec iov[8], none = {NULL, 0};
	uint8_t left[200];
	struct model m;
	size_t n, i, len;

	/* Of a classic one: no data of 7, but what was begun. */
	begin(&m, 19, false);
	put_data(&m, 7, 20);
	put_data(&m, 7, 30);
	put_data(&m, 8, 25);
	put_control(&m);
	put_data(&m, 7, 0);
	write_some(&m, 5);
	send_queue_forget(&m.queue, INS_CLASSIC, 7);
	n = send_queue_gather(&m.queue, iov, 8, &none, false);
	for (len = i = 0; i < n; i++) {
		memcpy(left + len, iov[i].iov_base, iov[i].iov_len);
		len += iov[i].iov_len;
	}
	CU_ASSERT_EQUAL(len, 32 - 5 + 37 + 8);
	CU_ASSERT_EQUAL(len, m.queue.queued);
	CU_ASSERT_EQUAL(memcmp(left, m.all + 5, 27), 0);
	CU_ASSERT_EQUAL(memcmp(left + 27, m.all + 32 + 42, 37 + 8), 0);
	CU_ASSERT_EQUAL(send_queue_wrote(&m.queue, len), 0);
	CU_ASSERT_EQUAL(m.queue.queued, 0);
	/* Nothing is kept of what was written, once there is more. */
	put_control(&m);
	CU_ASSERT_EQUAL(send_queue_wrote(&m.queue, 8), 0);
	CU_ASSERT_PTR_NULL(m.queue.first);
	end(&m);
}

static void
test_out_of_memory(void)
{
	struct model m;
	uint8_t *p;
	size_t n;

	begin(&m, 23, true);
	memory_fail(&m.memory, 1, SIZE_MAX / 2);
	/* What is left of the spare's slab, and at last the spare itself. */
	while ((p = send_queue_room(&m.queue, INS_ENCODE_MAX)) != NULL) {
		n = ins_close_encode(p, INS_ENCODE_MAX, 1);
		noted(&m, p, n);
		send_queue_added(&m.queue, n, true);
		m.controls += n;
		CU_ASSERT_FATAL(m.len < 1 << 20);
	}
	CU_ASSERT(m.len > 0);
	CU_ASSERT_PTR_NULL(m.queue.spare);
	write_all(&m);
	acknowledge(&m, m.len);
	/* It is there again. */
	CU_ASSERT_PTR_NOT_NULL(m.queue.spare);
	CU_ASSERT_PTR_NOT_NULL(send_queue_room(&m.queue, INS_ENCODE_MAX));
	memory_fail(&m.memory, 1, 0);
	end(&m);
}

static void
test_constructor(void)
{
	struct send_queue q;
	struct memory memory;
	struct pool pool;
	size_t n;

	for (n = 1; n < 10; n++) {
		memory_init(&memory);
		pool_init(&pool, &memory.allocator);
		memory_fail(&memory, n, 1);
		if (send_queue_init(&q, &pool, NULL) == 0) {
			send_queue_close(&q);
			pool_close(&pool);
			break;
		}
		pool_close(&pool);
		CU_ASSERT_EQUAL(memory.held, 0);
	}
	CU_ASSERT(n > 1 && n < 10);
}

static const struct unit_test tests[] = {
    {"order, and room for locals", test_order},
    {"acknowledging byte by byte", test_acknowledge},
    {"rewinding to every offset", test_rewind_everywhere},
    {"random operations", test_random},
    {"bad images", test_bad_images},
    {"dropping", test_drop},
    {"forgetting", test_forget},
    {"out of memory", test_out_of_memory},
    {"constructor", test_constructor},
    {NULL, NULL},
};

const struct unit_suite suite_send_queue = {"send_queue", tests};
