/*
 * What goes from one process to another in an upgrade: images, and sessions
 * in them.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/image.h"
#include "sim.h"
#include "test_session.h"
#include "tunnel/send_queue.h"
#include "unit.h"

#define KB 1024

/* Numbers, bytes and descriptors. */

static const uint64_t numbers[] = {0, 1, 255, 1u << 31, UINT64_MAX};

static struct image_writer
every_kind(void)
{
	struct image_writer w = {0};
	size_t i;

	image_put_tag(&w, "tag ");
	for (i = 0; i < 5; i++)
		image_put(&w, numbers[i]);
	image_put_bytes(&w, "\0bytes", 6);
	image_put_bytes(&w, NULL, 0);
	image_put_text(&w, "a text");
	image_put_text(&w, "");
	image_put(&w, 1);
	image_put_fd(&w, 77);
	image_put_fd(&w, 78);
	return w;
}

/* Whether all of it is as it was put; none of it may be read past its end. */
static bool
take_every_kind(struct image_reader *r)
{
	char text[10], exact[6];
	bool same = true;
	size_t i, len;

	same &= image_take_tag(r, "tag ");
	for (i = 0; i < 5; i++)
		same &= image_take(r, numbers[i]) == numbers[i];
	image_take_exact(r, exact, 6);
	same &= memcmp(exact, "\0bytes", 6) == 0;
	image_take_bytes(r, &len);
	same &= len == 0;
	image_take_text(r, text, 7);
	same &= strcmp(text, "a text") == 0;
	image_take_text(r, text, 1);
	same &= text[0] == '\0';
	same &= image_take_bool(r);
	same &= image_take_fd(r) == 77 && image_take_fd(r) == 78;
	return same && !r->failed;
}

static void
test_takes(void)
{
	struct image_writer w = every_kind();
	int fds[2];
	struct image_reader r;
	uint8_t *copy;
	size_t cut;

	CU_ASSERT_FALSE_FATAL(w.failed);
	for (cut = 0; cut <= w.len; cut++) {
		/* Of the right size, for whoever watches reads. */
		copy = malloc(cut + (cut == 0));
		memcpy(copy, w.data, cut);
		fds[0] = 77;
		fds[1] = 78;
		r = (struct image_reader){.at = copy, .end = copy + cut};
		r.fds = fds;
		r.nfds = 2;
		CU_ASSERT_EQUAL(take_every_kind(&r), cut == w.len);
		CU_ASSERT_EQUAL(r.failed, cut < w.len);
		CU_ASSERT_PTR_EQUAL(r.at, r.end);
		free(copy);
	}
	image_free(&w);
}

static bool
refuses(uint64_t value, void (*take)(struct image_reader *))
{
	struct image_writer w = {0};
	struct image_reader r;
	int fds[1] = {5};

	image_put(&w, value);
	image_put(&w, 0);
	r = (struct image_reader){.at = w.data, .end = w.data + w.len};
	r.fds = fds;
	r.nfds = 1;
	take(&r);
	/* It stays so. */
	CU_ASSERT_EQUAL(image_take(&r, UINT64_MAX), 0);
	image_free(&w);
	return r.failed;
}

static void
take_seven(struct image_reader *r)
{
	CU_ASSERT_EQUAL(image_take(r, 7), 0);
}

static void
take_bool(struct image_reader *r)
{
	CU_ASSERT_FALSE(image_take_bool(r));
}

static void
take_fd(struct image_reader *r)
{
	CU_ASSERT_EQUAL(image_take_fd(r), -1);
}

static void
take_text(struct image_reader *r)
{
	char text[8];

	image_take_text(r, text, sizeof(text));
	CU_ASSERT_STRING_EQUAL(text, "");
}

static void
take_four(struct image_reader *r)
{
	uint8_t four[4] = {1, 2, 3, 4};

	image_take_exact(r, four, 4);
	CU_ASSERT_EQUAL(four[0] | four[1] | four[2] | four[3], 0);
}

static void
test_lies(void)
{
	CU_ASSERT_TRUE(refuses(8, take_seven));
	CU_ASSERT_TRUE(refuses(2, take_bool));
	CU_ASSERT_TRUE(refuses(1, take_fd));
	CU_ASSERT_TRUE(refuses(UINT64_MAX, take_fd));
	CU_ASSERT_TRUE(refuses(8, take_text));
	/* There, but with a NUL in it. */
	CU_ASSERT_TRUE(refuses(7, take_text));
	CU_ASSERT_TRUE(refuses(UINT64_MAX, take_text));
	CU_ASSERT_TRUE(refuses(3, take_four));
	CU_ASSERT_TRUE(refuses(5, take_four));
}

static void
take_same_fd(struct image_reader *r)
{
	CU_ASSERT_EQUAL(image_take_fd(r), 5);
	CU_ASSERT_EQUAL(image_take_fd(r), -1);
}

static void
test_descriptor_once(void)
{
	CU_ASSERT_TRUE(refuses(0, take_same_fd));
}

/* An empty image has no bytes to point at. */
static void
test_nothing(void)
{
	struct image_reader r = {0};
	char text[2] = "x";
	size_t len = 1;

	image_take_bytes(&r, &len);
	CU_ASSERT_EQUAL(len, 0);
	image_take_text(&r, text, 2);
	CU_ASSERT_STRING_EQUAL(text, "");
	image_take_exact(&r, text, 0);
	CU_ASSERT_TRUE(r.failed);
}

/* The queue of what was sent. */

struct queue_test {
	struct memory memory;
	struct pool pool;
	struct budget process;
};

static void
queue_open(struct queue_test *t)
{
	memory_init(&t->memory);
	pool_init(&t->pool, &t->memory.allocator);
	budget_init(&t->process, 1 << 30, 0);
}

static void
queue_close(struct queue_test *t)
{
	CU_ASSERT_EQUAL(t->pool.held, 0);
	CU_ASSERT_EQUAL(t->process.kept, 0);
	pool_close(&t->pool);
	CU_ASSERT_EQUAL(t->memory.held, 0);
}

/* What is behind the cursor, all of it. */
static size_t
left_of(struct send_queue *q, uint8_t *out)
{
	struct iovec iov[64], local = {0};
	size_t n = 0, i, count;

	count =
	    q->queued == 0 ? 0 : send_queue_gather(q, iov, 64, &local, false);
	for (i = 0; i < count; i++) {
		memcpy(out + n, iov[i].iov_base, iov[i].iov_len);
		n += iov[i].iov_len;
	}
	return n;
}

static void
fill_queue(struct queue_test *t, struct send_queue *q)
{
	struct buffer *b;
	unsigned i, k;

	for (i = 0; i < 12; i++) {
		if (i % 3 != 0) {
			memset(send_queue_room(q, 100), (int)i, 100);
			send_queue_added(q, 100, i % 2 == 0);
			continue;
		}
		b = pool_get(&t->pool, 8192);
		/* As a frame: its head in the headroom. */
		b->at -= 12;
		b->len = 8192 + 12;
		for (k = 0; k < b->len; k++)
			b->at[k] = (uint8_t)(i + k);
		send_queue_append(q, b);
	}
}

static void
check_queue(struct queue_test *t, const struct send_queue *q, bool keep)
{
	static uint8_t one[200000], two[200000];
	struct image_writer w = {0};
	struct send_queue copy;
	struct image_reader r;
	size_t n, cut;

	send_queue_save(q, &w);
	for (cut = 0; cut <= w.len;
	     cut += cut < w.len - 1 && cut > 300 ? 61 : 1) {
		send_queue_init(&copy, &t->pool, keep ? &t->process : NULL);
		r = (struct image_reader){.at = w.data, .end = w.data + cut};
		CU_ASSERT_EQUAL(send_queue_load(&copy, &r), cut == w.len);
		if (cut == w.len) {
			n = left_of((struct send_queue *)q, one);
			CU_ASSERT_EQUAL(n, left_of(&copy, two));
			CU_ASSERT_EQUAL(memcmp(one, two, n), 0);
			CU_ASSERT_EQUAL(copy.sent, q->sent);
			CU_ASSERT_EQUAL(copy.acked, q->acked);
			CU_ASSERT_EQUAL(copy.queued, q->queued);
			CU_ASSERT_EQUAL(copy.answers, q->answers);
			/* No more of the budget than before. */
			CU_ASSERT(copy.held <= q->held);
			CU_ASSERT_EQUAL(copy.begun, q->begun);
			/* It can be sent again from where it was taken. */
			if (keep) {
				send_queue_rewind(&copy, copy.acked);
				CU_ASSERT_EQUAL(copy.queued,
				    q->queued + q->sent - q->acked);
			}
		}
		send_queue_close(&copy);
	}
	image_free(&w);
}

static void
test_queue(void)
{
	struct queue_test t;
	struct send_queue q;
	unsigned keep, step;

	for (keep = 0; keep < 2; keep++) {
		queue_open(&t);
		send_queue_init(&q, &t.pool, keep ? &t.process : NULL);
		check_queue(&t, &q, keep);
		fill_queue(&t, &q);
		for (step = 0; q.queued > 0; step++) {
			check_queue(&t, &q, keep);
			send_queue_wrote(&q, 3001);
			if (keep && step % 2 != 0)
				send_queue_acknowledge(&q, q.sent - 1500);
			if (step == 4)
				fill_queue(&t, &q);
		}
		check_queue(&t, &q, keep);
		send_queue_close(&q);
		queue_close(&t);
	}
}

/* Sessions. */

void
test_keep_image(const struct sim *s, unsigned side,
    const struct image_writer *image)
{
	static unsigned kept;
	const char *directory = getenv("UNIT_IMAGES");
	char path[512];
	uint8_t mode[2];
	FILE *file;

	/* Small, and with something in it. */
	if (directory == NULL || image->len > 3000 || image->len < 600 ||
	    kept++ % 97 != 0)
		return;
	mode[0] = (uint8_t)(0x80 | (s->config.dialect == INS_EXTENDED ? 1 : 0) |
	    (side == SERVER ? 2 : 0) | (s->config.resume > 0 ? 4 : 0));
	mode[1] = (uint8_t)kept;
	snprintf(path, sizeof(path), "%s/session-%06u", directory, kept);
	file = fopen(path, "wb");
	if (file == NULL)
		abort();
	fwrite(mode, 1, 2, file);
	/* Without the sign that there is one. */
	fwrite(image->data + 8, 1, image->len - 8, file);
	fclose(file);
}

/* Move both sides, once each. */
static void
move_both(struct sim *s)
{
	struct image_writer image;
	unsigned side;

	for (side = 0; side < 2; side++) {
		if (s->config.by_hand == 1 + (int)side)
			continue;
		CU_ASSERT_TRUE(sim_move(s, side, &image));
		test_keep_image(s, side, &image);
		image_free(&image);
	}
}

/* Each of both sides is loaded from every cut of its image. */
static void
cut_both(struct sim *s)
{
	struct image_writer image;
	unsigned side;
	size_t cut, step;

	for (side = 0; side < 2; side++) {
		image = (struct image_writer){0};
		sim_save(s, side, &image);
		step = image.len / 400 + 1;
		for (cut = 0; cut < image.len; cut += step) {
			CU_ASSERT_FALSE(sim_try(s, side, image.data, cut));
		}
		image_free(&image);
		CU_ASSERT_PTR_NOT_NULL(s->side[side].session);
	}
}

static struct sim *
start(enum ins_dialect dialect, size_t piece, size_t capacity)
{
	return sim_new(&(struct sim_config){
	    .dialect = dialect,
	    .seed = 7 + piece,
	    .piece = piece,
	    .capacity = capacity,
	});
}

/* All that both ends have comes, and both are closed. */
static void
finish(struct sim *s, struct sim_pair *p)
{
	int i;

	for (i = 0; i < 2; i++) {
		p->end[i].room = SIM_UNLIMITED;
		p->end[i].eof = true;
	}
	sim_pass(s, SECOND);
	for (i = 0; i < 2; i++) {
		CU_ASSERT_EQUAL(p->end[i].over, SIM_CLOSED);
		CU_ASSERT_EQUAL(p->end[i].supply, 0);
		CU_ASSERT_EQUAL(p->end[i].got, p->end[!i].sent);
		CU_ASSERT_EQUAL(p->end[i].report.to_local, p->end[i].got);
		CU_ASSERT_EQUAL(p->end[i].report.from_local, p->end[i].sent);
	}
	CU_ASSERT_EQUAL(s->side[0].process.used, 0);
	CU_ASSERT_EQUAL(s->side[1].process.used, 0);
}

/* After every turn, with pieces that cut every instruction everywhere. */
static void
test_every_turn(void)
{
	static const size_t pieces[] = {1, 7, 300, 0};
	static const size_t capacities[] = {5, 64, 3000, 0};
	struct sim_pair *p;
	struct sim *s;
	size_t i, turn;

	for (i = 0; i < 16; i++) {
		s = start(INS_EXTENDED, pieces[i % 4], capacities[i / 4]);
		p = sim_open(s, i % 2, i % 3 == 0 ? SIM_LATER : SIM_NOW);
		p->end[0].supply = p->end[1].supply = i % 4 == 0 ? 60 : 20000;
		p->end[i % 2].most = 13;
		p->end[0].eof = i % 3 == 1;
		for (turn = 0; turn < 150; turn++) {
			sim_turn(s);
			move_both(s);
			if (turn == 60 && p->answer == SIM_LATER)
				sim_answer(s, p, INS_CONNECTED);
		}
		sim_settle(s);
		if (!p->end[1].connected)
			sim_answer(s, p, INS_CONNECTED);
		finish(s, p);
		CU_ASSERT_TRUE(sim_free(s));
	}
}

static void
test_both_ways(void)
{
	struct sim_pair *p;
	struct sim *s = start(INS_EXTENDED, 0, 0);

	p = sim_open(s, SERVER, SIM_NOW);
	p->end[0].supply = p->end[1].supply = 3000000;
	sim_turn(s);
	sim_turn(s);
	sim_turn(s);
	CU_ASSERT_TRUE(p->end[0].got < 3000000);
	cut_both(s);
	move_both(s);
	finish(s, p);
	CU_ASSERT_TRUE(sim_free(s));
}

static void
test_half_closed(void)
{
	struct sim_pair *p;
	struct sim *s;
	unsigned i;

	for (i = 0; i < 4; i++) {
		s = start(INS_EXTENDED, 0, 0);
		p = sim_open(s, SERVER, SIM_NOW);
		sim_settle(s);
		p->end[i & 1].supply = 1000;
		p->end[i & 1].eof = true;
		/* Stopped before the end, or not. */
		p->end[!(i & 1)].room = i & 2 ? 100 : SIM_UNLIMITED;
		sim_settle(s);
		cut_both(s);
		move_both(s);
		sim_settle(s);
		CU_ASSERT_EQUAL(p->end[0].over, SIM_OPEN);
		p->end[!(i & 1)].supply = 50000;
		finish(s, p);
		CU_ASSERT_TRUE(sim_free(s));
	}
}

/* The answer comes after it; with bytes, and an end, ahead of it. */
static void
test_opening(void)
{
	struct sim_pair *p;
	struct sim *s;
	unsigned i;

	for (i = 0; i < 16; i++) {
		s = start(INS_EXTENDED, 0, 0);
		p = sim_open(s, i & 1, i & 2 ? SIM_LATER : SIM_NO_ENDPOINT);
		p->end[0].supply = i & 4 ? 100000 : 100;
		p->end[0].eof = i & 8;
		sim_settle(s);
		CU_ASSERT_FALSE(p->end[1].connected);
		cut_both(s);
		move_both(s);
		sim_settle(s);
		sim_answer(s, p, INS_CONNECTED);
		move_both(s);
		p->end[1].supply = 700;
		finish(s, p);
		CU_ASSERT_TRUE(sim_free(s));
	}
}

static void
test_refused(void)
{
	struct sim *s = start(INS_EXTENDED, 0, 0);
	struct sim_pair *p = sim_open(s, SERVER, SIM_LATER);

	p->end[0].supply = 100;
	sim_settle(s);
	move_both(s);
	sim_answer(s, p, INS_TIMED_OUT);
	move_both(s);
	sim_settle(s);
	CU_ASSERT_EQUAL(p->end[0].over, SIM_REFUSED);
	CU_ASSERT_EQUAL(p->end[0].outcome, INS_TIMED_OUT);
	CU_ASSERT_TRUE(sim_free(s));
}

/* Over for the peer; the last bytes wait for a reader. */
static void
test_delivering(void)
{
	struct sim_pair *p;
	struct sim *s;
	unsigned i;

	for (i = 0; i < 4; i++) {
		s = start(i & 1 ? INS_EXTENDED : INS_CLASSIC, 0, 0);
		p = sim_open(s, SERVER, SIM_NOW);
		sim_settle(s);
		p->end[0].room = 1000;
		p->end[1].supply = 5000;
		sim_settle(s);
		if (i & 1)
			p->end[0].eof = true;
		p->end[1].eof = true;
		sim_settle(s);
		CU_ASSERT_EQUAL(p->end[1].over, SIM_CLOSED);
		CU_ASSERT_EQUAL(p->end[0].over, SIM_OPEN);
		CU_ASSERT_EQUAL(session_streams(s->side[SERVER].session), 0);
		cut_both(s);
		/* Without its session, too. */
		if (i & 2) {
			session_end(s->side[CLIENT].session, INS_END_SHUTDOWN,
			    "stop");
			sim_settle(s);
			CU_ASSERT_PTR_NULL(s->side[SERVER].session);
			CU_ASSERT_FALSE(list_empty(&s->side[SERVER].all));
		}
		move_both(s);
		sim_settle(s);
		CU_ASSERT_EQUAL(p->end[0].got, 1000);
		p->end[0].room = SIM_UNLIMITED;
		sim_settle(s);
		CU_ASSERT_EQUAL(p->end[0].got, 5000);
		CU_ASSERT_EQUAL(p->end[0].over, SIM_CLOSED);
		CU_ASSERT_EQUAL(list_empty(&s->side[SERVER].all), (i & 2) != 0);
		CU_ASSERT_TRUE(sim_free(s));
	}
}

/* A classic carrier stays paused, and its stall is measured on. */
static void
test_blocked(void)
{
	struct sim_pair *p, *other;
	struct sim *s;
	unsigned i;

	for (i = 0; i < 2; i++) {
		s = start(INS_CLASSIC, 0, 0);
		p = sim_open(s, SERVER, SIM_NOW);
		other = sim_open(s, SERVER, SIM_NOW);
		sim_settle(s);
		p->end[0].room = 0;
		p->end[1].supply = 4000000;
		sim_settle(s);
		other->end[1].supply = 10;
		sim_pass(s, 20 * SECOND);
		cut_both(s);
		move_both(s);
		sim_settle(s);
		CU_ASSERT_EQUAL(other->end[0].got, 0);
		if (i == 0)
			p->end[0].room = SIM_UNLIMITED;
		sim_pass(s, 11 * SECOND);
		CU_ASSERT_EQUAL(other->end[0].got, 10);
		CU_ASSERT_EQUAL(p->end[0].over, i == 0 ? SIM_OPEN : SIM_RESET);
		if (i == 0)
			CU_ASSERT_EQUAL(p->end[0].got, 4000000);
		CU_ASSERT_TRUE(sim_free(s));
	}
}

/* The credit was due, and had not been said. */
static void
test_credit_due(void)
{
	struct sim *s = start(INS_EXTENDED, 0, 0);
	struct sim_pair *p = sim_open(s, SERVER, SIM_NOW);
	uint64_t said;

	sim_settle(s);
	p->end[1].room = 0;
	p->end[0].supply = 10000000;
	sim_settle(s);
	CU_ASSERT_EQUAL(p->end[1].got, 0);
	said = s->side[CLIENT].out.n[INS_CREDIT];
	p->end[1].room = SIM_UNLIMITED;
	p->end[1].endpoint.writable = true;
	stream_ready(p->end[1].endpoint.stream);
	CU_ASSERT_EQUAL(s->side[CLIENT].out.n[INS_CREDIT], said);
	move_both(s);
	finish(s, p);
	CU_ASSERT(s->side[CLIENT].out.n[INS_CREDIT] > said);
	CU_ASSERT_TRUE(sim_free(s));
}

static struct sim *
start_resumable(void)
{
	return sim_new(&(struct sim_config){
	    .dialect = INS_EXTENDED,
	    .seed = 3,
	    .resume = 60 * (uint64_t)SECOND,
	});
}

static void
test_parked(void)
{
	struct sim *s = start_resumable();
	struct sim_pair *p = sim_open(s, SERVER, SIM_NOW);

	p->end[0].supply = p->end[1].supply = 3000000;
	sim_turn(s);
	sim_turn(s);
	move_both(s);
	sim_turn(s);
	sim_part(s);
	sim_pass(s, 59 * (uint64_t)SECOND);
	cut_both(s);
	move_both(s);
	sim_pass(s, SECOND / 2);
	CU_ASSERT_TRUE(session_is_parked(s->side[SERVER].session));
	sim_join(s);
	move_both(s);
	finish(s, p);
	CU_ASSERT_TRUE(sim_free(s));
}

/* The time that it may be without a carrier does not begin anew. */
static void
test_parked_too_long(void)
{
	struct sim *s = start_resumable();
	struct sim_pair *p = sim_open(s, SERVER, SIM_NOW);

	sim_settle(s);
	sim_part(s);
	sim_pass(s, 59 * (uint64_t)SECOND);
	move_both(s);
	sim_pass(s, 2 * SECOND);
	CU_ASSERT_PTR_NULL(s->side[SERVER].session);
	CU_ASSERT_PTR_NULL(s->side[CLIENT].session);
	CU_ASSERT_EQUAL(p->end[0].over, SIM_RESET);
	CU_ASSERT_TRUE(sim_free(s));
}

/* Under go-away, and just before the end. */
static void
test_going(void)
{
	struct sim *s = start(INS_EXTENDED, 0, 0);
	struct sim_pair *p = sim_open(s, SERVER, SIM_NOW);

	sim_settle(s);
	session_go_away(s->side[SERVER].session, INS_END_SHUTDOWN, "stopping");
	move_both(s);
	sim_settle(s);
	move_both(s);
	CU_ASSERT_TRUE(session_is_going(s->side[CLIENT].session));
	finish(s, p);
	CU_ASSERT_EQUAL(s->side[CLIENT].end_code, INS_END_FINISHED);
	CU_ASSERT_EQUAL(s->side[CLIENT].out.n[INS_END], 0);
	CU_ASSERT_TRUE(sim_free(s));
}

static void
test_ending(void)
{
	struct sim *s = start(INS_EXTENDED, 0, 0);

	sim_open(s, SERVER, SIM_NOW);
	sim_settle(s);
	session_end(s->side[SERVER].session, INS_END_NO_RESOURCES, "too much");
	move_both(s);
	sim_settle(s);
	CU_ASSERT_EQUAL(s->side[CLIENT].end_code, INS_END_NO_RESOURCES);
	CU_ASSERT_PTR_NULL(s->side[SERVER].session);
	CU_ASSERT_TRUE(sim_free(s));
}

/* Any byte of an image is another one: it is refused, or it does no harm. */
static void
test_changed(void)
{
	struct image_writer image;
	unsigned side, i;
	struct sim_pair *p;
	struct sim *s;
	size_t at;

	for (i = 0; i < 6; i++) {
		s = start(i & 1 ? INS_EXTENDED : INS_CLASSIC, 0, 0);
		p = sim_open(s, SERVER, i & 2 ? SIM_LATER : SIM_NOW);
		p->end[0].supply = 300;
		p->end[1].room = 100;
		sim_turn(s);
		if (i & 4)
			sim_settle(s);
		for (side = 0; side < 2; side++) {
			image = (struct image_writer){0};
			sim_save(s, side, &image);
			for (at = 0; at < image.len; at++) {
				image.data[at] ^= (uint8_t)(1u << at % 8);
				sim_try(s, side, image.data, image.len);
				image.data[at] ^= (uint8_t)(1u << at % 8);
			}
			CU_ASSERT_TRUE(sim_try(s, side, image.data, image.len));
			image_free(&image);
		}
		CU_ASSERT_TRUE(sim_free(s));
	}
}

/* The n-th allocation of a load fails. */
static void
test_no_memory(void)
{
	struct sim *s = start(INS_EXTENDED, 0, 0);
	struct image_writer image = {0};
	struct sim_pair *p;
	bool loaded = false;
	size_t n;

	p = sim_open(s, SERVER, SIM_NOW);
	p->end[0].supply = 3000000;
	p->end[1].room = 100;
	sim_turn(s);
	sim_turn(s);
	sim_turn(s);
	sim_save(s, CLIENT, &image);
	for (n = 1; !loaded; n++) {
		memory_fail(&s->side[CLIENT].memory, n, 1);
		loaded = sim_try(s, CLIENT, image.data, image.len);
	}
	CU_ASSERT(n > 3);
	memory_fail(&s->side[CLIENT].memory, 0, 0);
	image_free(&image);
	finish(s, p);
	CU_ASSERT_TRUE(sim_free(s));
}

static const struct unit_test tests[] = {
    {"takes", test_takes},
    {"lies", test_lies},
    {"descriptor once", test_descriptor_once},
    {"nothing", test_nothing},
    {"send queue", test_queue},
    {"session: every turn", test_every_turn},
    {"session: both ways", test_both_ways},
    {"session: half-closed", test_half_closed},
    {"session: opening", test_opening},
    {"session: refused", test_refused},
    {"session: delivering", test_delivering},
    {"session: classic and blocked", test_blocked},
    {"session: credit due", test_credit_due},
    {"session: parked", test_parked},
    {"session: parked too long", test_parked_too_long},
    {"session: going", test_going},
    {"session: ending", test_ending},
    {"session: changed", test_changed},
    {"session: no memory", test_no_memory},
    {"session: random", test_random_moved},
    {NULL, NULL},
};

const struct unit_suite suite_image = {"image", tests};
