/*
 * The rule of path.c on simulated paths: a line with a rate, a round trip and
 * a queue without end, a sender that always has more, and a receiver that
 * acknowledges as PROTOCOL.md says.
 */
#include <CUnit/Basic.h>

#include <stdlib.h>
#include <string.h>

#include "tunnel/path.h"
#include "unit.h"

#define MS 1000
#define SECOND (1000 * MS)
#define PIECE 1448
#define MOST (32u << 20)
#define RING (1u << 16)

struct event {
	uint64_t at, value;
};

struct fifo {
	struct event *ring;
	size_t head, n;
};

struct line {
	struct path path;
	uint64_t rate, rtt; /* bytes a second, us */
	uint64_t sent, acked;
	uint64_t free_at; /* when the line has sent what it was given */
	uint64_t rest; /* of the last piece, us * bytes a second */
	struct fifo pieces, acks;
	uint64_t received, told, told_at;
	uint64_t offered; /* bytes a second that there are to send; 0: no end */
	/* Since the measurement began. */
	uint64_t worst_queue, worst_limit, least_limit;
};

static void
put(struct fifo *f, uint64_t at, uint64_t value)
{
	if (f->n == RING)
		abort();
	f->ring[(f->head + f->n++) % RING] = (struct event){at, value};
}

static bool
take(struct fifo *f, uint64_t now, uint64_t *value)
{
	if (f->n == 0 || f->ring[f->head].at > now)
		return false;
	*value = f->ring[f->head].value;
	f->head = (f->head + 1) % RING;
	f->n--;
	return true;
}

static void
transmit(struct line *l, uint64_t now, size_t n);

static void
line_init(struct line *l, uint64_t mbit, uint64_t rtt)
{
	memset(l, 0, sizeof(*l));
	l->rate = mbit * 1000000 / 8;
	l->rtt = rtt;
	l->pieces.ring = calloc(RING, sizeof(struct event));
	l->acks.ring = calloc(RING, sizeof(struct event));
	path_init(&l->path, MOST);
	/* The first that a session sends is small: an open. */
	transmit(l, 0, 100);
	path_sent(&l->path, l->sent, 0, false, 0);
}

static void
line_free(struct line *l)
{
	free(l->pieces.ring);
	free(l->acks.ring);
}

static void
transmit(struct line *l, uint64_t now, size_t n)
{
	size_t part;

	while (n > 0) {
		part = n < PIECE ? n : PIECE;
		if (l->free_at < now)
			l->free_at = now;
		l->rest += part * SECOND;
		l->free_at += l->rest / l->rate;
		l->rest %= l->rate;
		l->sent += part;
		put(&l->pieces, l->free_at + l->rtt / 2, l->sent);
		n -= part;
	}
}

/* One turn of the receiver: it takes what is there, and may say so. */
static void
receive(struct line *l, uint64_t now)
{
	while (take(&l->pieces, now, &l->received))
		if (l->received - l->told >= 65536) {
			l->told = l->received;
			l->told_at = now;
			put(&l->acks, now + l->rtt / 2, l->told);
		}
	if (l->received > l->told && (l->told == 0 || now - l->told_at >= MS)) {
		l->told = l->received;
		l->told_at = now;
		put(&l->acks, now + l->rtt / 2, l->told);
	}
}

/* One turn of the sender, as session_transmit() does it. */
static void
send_turn(struct line *l, uint64_t now, uint64_t started)
{
	size_t frame = path_frame(&l->path);
	bool room = l->sent - l->acked < l->path.limit;

	if (l->offered != 0 &&
	    l->sent + frame > (now - started) * l->offered / SECOND) {
		path_sent(&l->path, l->sent, l->acked, false, now);
		return;
	}
	if (room)
		transmit(l, now, frame);
	else
		path_bind(&l->path);
	room = l->sent - l->acked < l->path.limit;
	path_sent(&l->path, l->sent, l->acked, room, now);
}

/* Let it run for us; the bytes received meanwhile, in Mbit/s. */
static double
run(struct line *l, uint64_t from, uint64_t us, uint64_t tick)
{
	uint64_t now, before = l->received, i;

	l->worst_queue = l->worst_limit = 0;
	l->least_limit = UINT64_MAX;
	for (now = from; now < from + us; now += tick) {
		receive(l, now);
		while (take(&l->acks, now, &l->acked))
			path_acked(&l->path, l->acked, now);
		/* A worker has many turns in a tick. */
		for (i = 0; i < 16; i++)
			send_turn(l, now, 0);
		if (l->free_at > now && l->free_at - now > l->worst_queue)
			l->worst_queue = l->free_at - now;
		if (l->path.limit > l->worst_limit)
			l->worst_limit = l->path.limit;
		if (l->path.limit < l->least_limit)
			l->least_limit = l->path.limit;
	}
	return (double)(l->received - before) * 8 / (double)us;
}

/* Nearly all of the line, and no queue to speak of. */
static void
test_paths(void)
{
	static const struct {
		uint64_t mbit, rtt, least; /* Mbit/s, us, Mbit/s */
	} paths[] = {
	    {20, 5 * MS, 19},
	    {20, 20 * MS, 19},
	    {20, 100 * MS, 19},
	    {100, 2 * MS, 95},
	    {200, 20 * MS, 190},
	    {200, 100 * MS, 190},
	    {1000, 20 * MS, 950},
	    {1000, 100 * MS, 950},
	    {1000, 300, 950},
	    {10000, 300, 9000},
	};
	struct line l;
	double got;
	size_t i;

	for (i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
		line_init(&l, paths[i].mbit, paths[i].rtt);
		run(&l, 0, 5 * SECOND, 100);
		got = run(&l, 5 * SECOND, 20 * SECOND, 100);
		CU_ASSERT(got >= (double)paths[i].least);
		CU_ASSERT(l.worst_queue <= paths[i].rtt + 20 * MS);
		CU_ASSERT(l.path.limit <= MOST);
		if (l.path.rtt_min < PATH_NEAR_US)
			CU_ASSERT(l.path.limit <= PATH_LIMIT_NEAR);
		line_free(&l);
	}
}

/* A slow line: the first steps fill it, and it is let go at once. */
static void
test_slow(void)
{
	struct line l;

	line_init(&l, 1, 20 * MS);
	CU_ASSERT_EQUAL(path_frame(&l.path) >= PATH_FRAME_MIN, 1);
	run(&l, 0, 5 * SECOND, 100);
	CU_ASSERT(run(&l, 5 * SECOND, 20 * SECOND, 100) >= 0.95);
	CU_ASSERT(l.worst_limit <= 2 * PATH_LIMIT_MIN);
	CU_ASSERT_EQUAL(path_frame(&l.path), PATH_FRAME_MIN);
	line_free(&l);
}

/* A sender with little to send learns nothing wrong from it. */
static void
test_little_to_send(void)
{
	struct line l;

	line_init(&l, 200, 20 * MS);
	run(&l, 0, 5 * SECOND, 100);
	l.offered = 1000000;
	run(&l, 5 * SECOND, 10 * SECOND, 100);
	CU_ASSERT(l.path.limit >= 200000);
	l.offered = 0;
	CU_ASSERT(run(&l, 15 * SECOND, 5 * SECOND, 100) >= 180);
	line_free(&l);
}

/* The path changes under way. */
static void
test_changes(void)
{
	struct line l;

	line_init(&l, 200, 20 * MS);
	run(&l, 0, 5 * SECOND, 100);
	l.rate = 20 * 1000000 / 8;
	run(&l, 5 * SECOND, 15 * SECOND, 100);
	CU_ASSERT(run(&l, 20 * SECOND, 10 * SECOND, 100) >= 19);
	CU_ASSERT(l.worst_queue <= 40 * MS);
	l.rate = 200 * 1000000 / 8;
	run(&l, 30 * SECOND, 10 * SECOND, 100);
	CU_ASSERT(run(&l, 40 * SECOND, 10 * SECOND, 100) >= 190);
	/* A longer way is not known for one before the old one is forgotten. */
	l.rtt = 80 * MS;
	run(&l, 50 * SECOND, 15 * SECOND, 100);
	CU_ASSERT(run(&l, 65 * SECOND, 20 * SECOND, 100) >= 180);
	line_free(&l);
}

/*
 * The line gets slower while its queue holds less than the limit: then the
 * carrier's socket holds the sender back, and the limit never does.
 */
static void
test_held_by_the_carrier(void)
{
	uint64_t now, tick = 100, room = 250000;
	struct line l;
	size_t frame;

	line_init(&l, 1000, 20 * MS);
	run(&l, 0, 5 * SECOND, tick);
	l.rate = 20 * 1000000 / 8;
	for (now = 5 * SECOND; now < 65 * SECOND; now += tick) {
		receive(&l, now);
		while (take(&l.acks, now, &l.acked))
			path_acked(&l.path, l.acked, now);
		frame = path_frame(&l.path);
		if (l.sent - l.received >= room)
			path_hold(&l.path);
		else if (l.sent - l.acked < l.path.limit)
			transmit(&l, now, frame);
		else
			path_bind(&l.path);
		path_sent(&l.path, l.sent, l.acked,
		    l.sent - l.received < room &&
			l.sent - l.acked < l.path.limit,
		    now);
	}
	CU_ASSERT(l.path.limit < room / 2);
	line_free(&l);
}

/* Acknowledgements of nothing, in one instant, and none at all. */
static void
test_odd(void)
{
	struct path p;

	path_init(&p, MOST);
	path_acked(&p, 0, 5);
	CU_ASSERT_EQUAL(p.limit, PATH_LIMIT_FIRST);
	path_sent(&p, 1000, 0, false, 10);
	path_acked(&p, 1000, 10);
	CU_ASSERT_EQUAL(p.rtt_min, 1);
	CU_ASSERT(path_frame(&p) >= PATH_FRAME_MIN);
	CU_ASSERT(path_frame(&p) <= PATH_FRAME_MAX);
	path_sent(&p, 1ull << 50, 1000, false, 10);
	path_bind(&p);
	path_acked(&p, 1ull << 50, 11);
	CU_ASSERT(p.limit >= PATH_LIMIT_MIN && p.limit <= MOST);
	CU_ASSERT(path_frame(&p) <= PATH_FRAME_MAX);
	/* A second later nothing has come back: all stays as it is. */
	path_sent(&p, (1ull << 50) + 5, 1ull << 50, false, SECOND);
	CU_ASSERT(path_bears(&p) > 0);
}

static const struct unit_test tests[] = {
    {"paths", test_paths},
    {"slow", test_slow},
    {"little to send", test_little_to_send},
    {"changes", test_changes},
    {"held by the carrier", test_held_by_the_carrier},
    {"odd", test_odd},
    {NULL, NULL},
};

const struct unit_suite suite_path = {"path", tests};
