/*
 * Whose bytes leave first, and how many: sessions in the simulator, with a
 * simulated path.
 */
#include <stdlib.h>
#include <string.h>

#include "sim.h"
/* For what the path allows at a moment, which no caller needs. */
#include "tunnel/session_private.h"
#include "unit.h"

#define MIB ((uint64_t)1 << 20)
#define WITHOUT_END ((uint64_t)1 << 40)
#define CONTROL 4096 /* what credits and heads may add to a frame */

static struct sim *
path_sim(uint64_t delay, uint64_t rate, size_t capacity)
{
	return sim_new(&(struct sim_config){
	    .dialect = INS_EXTENDED,
	    .seed = 21,
	    .capacity = capacity,
	    .window_max = 32 * MIB,
	    .delay = delay,
	    .rate = rate,
	});
}

/* n streams of the proxy-server that send without end. */
static void
open_full(struct sim *s, unsigned n, enum ins_class class)
{
	struct sim_pair *p;

	while (n-- > 0) {
		p = sim_open_as(s, SERVER, SIM_NOW, class, INS_WEIGHT_DEFAULT);
		CU_ASSERT_PTR_NOT_NULL_FATAL(p);
		p->end[0].supply = WITHOUT_END;
	}
}

/* Bytes that have reached the application of each stream, in all. */
static uint64_t
delivered(const struct sim *s)
{
	uint64_t n = 0;
	size_t i;

	for (i = 0; i < s->npairs; i++)
		n += s->pairs[i].end[1].got;
	return n;
}

/* From now on until so many more bytes were delivered: of each stream. */
static void
measure(struct sim *s, uint64_t bytes, uint64_t *got)
{
	uint64_t until = delivered(s) + bytes;
	size_t i;

	for (i = 0; i < s->npairs; i++)
		got[i] = s->pairs[i].end[1].got;
	while (delivered(s) < until)
		sim_step(s);
	for (i = 0; i < s->npairs; i++)
		got[i] = s->pairs[i].end[1].got - got[i];
}

static void
test_fair(void)
{
	struct sim *s = path_sim(MS, 100000000, 8 * MIB);
	uint64_t got[64], least = UINT64_MAX, most = 0;
	unsigned i;

	open_full(s, 64, INS_CLASS_AUTO);
	measure(s, 256 * MIB, got);
	for (i = 0; i < 64; i++) {
		least = got[i] < least ? got[i] : least;
		most = got[i] > most ? got[i] : most;
	}
	CU_ASSERT(most * 10 <= least * 12);
	CU_ASSERT_TRUE(sim_free(s));
}

/*
 * Some sockets hold less than a large read, as a kernel's do that has seen no
 * reason for more; they are filled again as they are read.
 */
static void
test_fair_to_small_sockets(void)
{
	static const uint64_t holds[] = {90000, 70000, 130000, 200000};
	struct sim *s = path_sim(MS, 100000000, 8 * MIB);
	uint64_t got[32], until = 64 * MIB, sum = 0;
	unsigned i;

	open_full(s, 32, INS_CLASS_AUTO);
	for (i = 0; i < 4; i++)
		s->pairs[i].end[0].supply = holds[i];
	while (delivered(s) < until) {
		sim_step(s);
		for (i = 0; i < 4; i++)
			s->pairs[i].end[0].supply = holds[i];
	}
	for (i = 0; i < 32; i++)
		sum += got[i] = s->pairs[i].end[1].got;
	for (i = 0; i < 32; i++) {
		CU_ASSERT(got[i] * 10 >= sum / 32 * 8);
		CU_ASSERT(got[i] * 10 <= sum / 32 * 12);
	}
	CU_ASSERT_TRUE(sim_free(s));
}

/* In either direction: the acceptor learns the weight from InsOpen. */
static void
shares_follow_weights(uint64_t rate, uint64_t us)
{
	static const unsigned weights[] = {1, 10, 100, 10, 1};
	struct sim *s = path_sim(MS, rate, 8 * MIB);
	uint64_t got[2][5], sum[2] = {0, 0}, part;
	unsigned i, k, total = 0;
	struct sim_pair *p;

	for (i = 0; i < 5; i++) {
		p = sim_open_as(s, SERVER, SIM_NOW, INS_CLASS_AUTO, weights[i]);
		total += weights[i];
	}
	/* All are there before the first has its turn. */
	sim_pass(s, SECOND);
	for (i = 0; i < 5; i++) {
		p = &s->pairs[i];
		CU_ASSERT_EQUAL(p->open.weight, weights[i]);
		p->end[0].supply = p->end[1].supply = WITHOUT_END;
	}
	/* Windows grow first. */
	sim_pass(s, SECOND);
	for (k = 0; k < 2; k++)
		for (i = 0; i < 5; i++)
			got[k][i] = s->pairs[i].end[k].got;
	sim_pass(s, us);
	for (k = 0; k < 2; k++)
		for (i = 0; i < 5; i++) {
			got[k][i] = s->pairs[i].end[k].got - got[k][i];
			sum[k] += got[k][i];
		}
	for (k = 0; k < 2; k++)
		for (i = 0; i < 5; i++) {
			part = sum[k] * weights[i] / total;
			CU_ASSERT(got[k][i] * 10 >= part * 8);
			CU_ASSERT(got[k][i] * 10 <= part * 12);
		}
	CU_ASSERT_TRUE(sim_free(s));
}

static void
test_weights(void)
{
	shares_follow_weights(100000000, 3 * SECOND);
	/* A slow line, where a frame is a few KiB. */
	shares_follow_weights(2500000, 20 * SECOND);
}

/* Its reads are small, its share is not. */
static void
test_small_reads(void)
{
	struct sim *s = path_sim(MS, 100000000, 8 * MIB);
	uint64_t got[8];
	unsigned i;

	open_full(s, 8, INS_CLASS_AUTO);
	s->pairs[3].end[0].most = 1000;
	measure(s, 64 * MIB, got);
	for (i = 0; i < 8; i++)
		CU_ASSERT(got[i] >= 64 * MIB / 8 * 8 / 10);
	CU_ASSERT_TRUE(sim_free(s));
}

/* To somewhere among the turns of a moment. */
static void
some_turns(struct sim *s)
{
	unsigned n = (unsigned)sim_random(s, 4);

	sim_pass(s, sim_random(s, 3 * MS));
	sim_tick(s);
	while (n-- > 0)
		sim_turn(s);
}

/*
 * What leaves between the moment when a stream has 64 bytes and the one when
 * they are in the pipe, above what had been read before; the most of many
 * trials, in thousandths of a frame.
 */
static uint64_t
waits(enum ins_class class, size_t capacity, bool lazy)
{
	struct sim *s = path_sim(5 * MS, 20000000, capacity);
	const struct session *t = s->side[SERVER].session;
	const struct sim_pipe *pipe = &s->side[SERVER].out;
	uint64_t before, part, most = 0;
	const struct sim_direction *d;
	struct sim_pair *p;
	unsigned i;

	open_full(s, 8, INS_CLASS_AUTO);
	p = sim_open_as(s, SERVER, SIM_NOW, class, INS_WEIGHT_DEFAULT);
	CU_ASSERT_PTR_NOT_NULL_FATAL(p);
	p->end[0].lazy = lazy;
	d = &s->streams[SERVER][p->end[0].identity][SERVER];
	sim_pass(s, 3 * SECOND);
	for (i = 0; i < 300; i++) {
		some_turns(s);
		before = pipe->total + t->tx.queue.queued;
		p->end[0].supply = 64;
		while (p->end[0].supply > 0 || d->last < before)
			if (!sim_turn(s))
				sim_tick(s);
		part = (d->last - before) * 1000 / path_frame(&t->tx.path);
		if (part > most)
			most = part;
		sim_pass(s, 100 * MS);
		CU_ASSERT_EQUAL(p->end[1].got, 64 * (i + 1));
	}
	CU_ASSERT(p->stream[0] != NULL);
	CU_ASSERT_TRUE(sim_free(s));
	return most;
}

static void
test_interactive_first(void)
{
	/* The path's limit holds bulk back, or the carrier does. */
	CU_ASSERT(waits(INS_CLASS_AUTO, 8 * MIB, false) <= 1100);
	CU_ASSERT(waits(INS_CLASS_INTERACTIVE, 8 * MIB, false) <= 1100);
	CU_ASSERT(waits(INS_CLASS_AUTO, 30000, false) <= 1100);
	/* One that is bulk has its turn behind theirs. */
	CU_ASSERT(waits(INS_CLASS_BULK, 8 * MIB, false) >= 4000);
}

/* So does one whose endpoint tells only by EAGAIN that it was emptied. */
static void
test_interactive_by_eagain(void)
{
	CU_ASSERT(waits(INS_CLASS_AUTO, 8 * MIB, true) <= 1100);
}

/* One of class interactive with much goes ahead of bulk, which keeps a part. */
static void
test_express(void)
{
	struct sim *s = path_sim(MS, 50000000, 8 * MIB);
	uint64_t got[6], bulk = 0;
	unsigned i;

	open_full(s, 1, INS_CLASS_INTERACTIVE);
	open_full(s, 3, INS_CLASS_AUTO);
	open_full(s, 2, INS_CLASS_BULK);
	sim_pass(s, SECOND);
	measure(s, 64 * MIB, got);
	for (i = 1; i < 6; i++) {
		bulk += got[i];
		CU_ASSERT(got[i] > 0);
	}
	CU_ASSERT(got[0] >= 64 * MIB * 8 / 10);
	CU_ASSERT(bulk >= 64 * MIB * 9 / 100);
	CU_ASSERT_TRUE(sim_free(s));
}

/*
 * Whenever bytes leave, those that are not acknowledged are at most the
 * path's limit and one frame; and the limit is used.
 */
static void
test_path_limit(void)
{
	struct sim *s = path_sim(10 * MS, 20000000, 8 * MIB);
	const struct session *t = s->side[SERVER].session;
	const struct sim_pipe *pipe = &s->side[SERVER].out;
	uint64_t data, most = 0, away, end;
	unsigned passed = 0, turns = 0, i;
	struct sim_pair *p;

	open_full(s, 8, INS_CLASS_AUTO);
	for (i = 0; i < 8; i++)
		s->pairs[i].end[1].supply = WITHOUT_END;
	p = sim_open(s, SERVER, SIM_NOW);
	/* What streams may send as interactive at their begin. */
	sim_pass(s, 300 * MS);
	for (end = s->now + 15 * SECOND; s->now < end;) {
		data = pipe->n_data;
		if (++turns % 1000 == 0)
			p->end[0].supply = 64;
		if (!sim_turn(s)) {
			sim_tick(s);
			continue;
		}
		away = t->tx.queue.sent - t->tx.queue.acked;
		/* Neither credits nor the 64 bytes wait for the limit. */
		if (pipe->n_data - data <= 64)
			continue;
		if (away > t->tx.path.limit + path_frame(&t->tx.path) + CONTROL)
			passed++;
		if (away * 100 / t->tx.path.limit > most)
			most = away * 100 / t->tx.path.limit;
	}
	CU_ASSERT(turns > 5000);
	CU_ASSERT(p->end[1].got > 0);
	CU_ASSERT_EQUAL(passed, 0);
	CU_ASSERT(most >= 90);
	CU_ASSERT_TRUE(sim_free(s));
}

/* Each in the situation that it names, at the moment and in the report. */

static void
stall_of_a_reader(void)
{
	struct sim *s = path_sim(0, 0, 0);
	struct sim_pair *p = sim_open(s, SERVER, SIM_NOW);

	sim_pass(s, SECOND);
	CU_ASSERT_EQUAL(stream_stalls(p->stream[0]), 0);
	CU_ASSERT_EQUAL(stream_stalls(p->stream[1]), 0);
	p->end[1].room = 1000;
	p->end[0].supply = WINDOW_START + 2000;
	sim_pass(s, SECOND);
	CU_ASSERT_EQUAL(stream_stalls(p->stream[0]), STALL_CREDIT);
	CU_ASSERT_EQUAL(stream_stalls(p->stream[1]), STALL_READER);
	p->end[1].room = SIM_UNLIMITED;
	sim_pass(s, SECOND);
	CU_ASSERT_EQUAL(stream_stalls(p->stream[0]), 0);
	CU_ASSERT_EQUAL(stream_stalls(p->stream[1]), 0);
	p->end[0].eof = p->end[1].eof = true;
	sim_pass(s, SECOND);
	CU_ASSERT(p->end[0].report.stalls & STALL_CREDIT);
	CU_ASSERT_EQUAL(p->end[0].report.stalls & STALL_READER, 0);
	CU_ASSERT(p->end[1].report.stalls & STALL_READER);
	CU_ASSERT_EQUAL(p->end[1].report.stalls & STALL_CREDIT, 0);
	CU_ASSERT_TRUE(sim_free(s));
}

static void
stall_of_a_path(void)
{
	struct sim *s = path_sim(50 * MS, 0, 8 * MIB);
	struct sim_pair *p = sim_open(s, SERVER, SIM_NOW);

	sim_pass(s, SECOND);
	p->end[0].supply = WINDOW_START / 2;
	sim_settle(s);
	CU_ASSERT_EQUAL(stream_stalls(p->stream[0]), STALL_PATH);
	sim_pass(s, SECOND);
	CU_ASSERT_EQUAL(stream_stalls(p->stream[0]), 0);
	p->end[0].eof = p->end[1].eof = true;
	sim_pass(s, SECOND);
	CU_ASSERT_EQUAL(p->end[0].report.stalls, STALL_PATH);
	CU_ASSERT_EQUAL(p->end[1].report.stalls, 0);
	CU_ASSERT_TRUE(sim_free(s));
}

static void
stall_of_a_carrier(void)
{
	struct sim *s = path_sim(0, 0, 10000);
	struct sim_pair *p = sim_open(s, SERVER, SIM_NOW);

	sim_pass(s, SECOND);
	s->side[SERVER].out.hold = true;
	p->end[0].supply = 200000;
	sim_settle(s);
	CU_ASSERT(stream_stalls(p->stream[0]) & STALL_CARRIER);
	s->side[SERVER].out.hold = false;
	sim_pass(s, SECOND);
	CU_ASSERT_EQUAL(stream_stalls(p->stream[0]), 0);
	p->end[0].eof = p->end[1].eof = true;
	sim_pass(s, SECOND);
	CU_ASSERT(p->end[0].report.stalls & STALL_CARRIER);
	CU_ASSERT_EQUAL(p->end[1].report.stalls & STALL_CARRIER, 0);
	CU_ASSERT_TRUE(sim_free(s));
}

static void
stall_of_memory(void)
{
	struct sim *s = path_sim(0, 0, 0);
	struct sim_pair *p;

	/* 16 KiB for a stream, and nothing above. */
	s->side[CLIENT].process.limit = 30000;
	p = sim_open(s, SERVER, SIM_NOW);
	sim_pass(s, SECOND);
	CU_ASSERT_EQUAL(stream_stalls(p->stream[0]), 0);
	CU_ASSERT_EQUAL(stream_stalls(p->stream[1]), STALL_MEMORY);
	p->end[0].supply = 100000;
	sim_pass(s, SECOND);
	CU_ASSERT_EQUAL(p->end[1].got, 100000);
	p->end[0].eof = p->end[1].eof = true;
	sim_pass(s, SECOND);
	CU_ASSERT_EQUAL(p->end[0].report.stalls & STALL_MEMORY, 0);
	CU_ASSERT_EQUAL(p->end[1].report.stalls, STALL_MEMORY);
	CU_ASSERT_TRUE(sim_free(s));
}

static void
stall_of_a_classic_carrier(void)
{
	struct sim *s = sim_new(&(struct sim_config){.dialect = INS_CLASSIC});
	struct sim_pair *p = sim_open(s, SERVER, SIM_NOW);

	sim_settle(s);
	p->end[1].room = 0;
	p->end[0].supply = 5000000;
	sim_settle(s);
	CU_ASSERT_EQUAL(stream_stalls(p->stream[1]),
	    STALL_PAUSED | STALL_READER);
	p->end[1].room = SIM_UNLIMITED;
	sim_settle(s);
	CU_ASSERT_EQUAL(stream_stalls(p->stream[1]), 0);
	CU_ASSERT_EQUAL(p->end[1].got, 5000000);
	p->end[0].eof = true;
	sim_settle(s);
	CU_ASSERT(p->end[1].report.stalls & STALL_PAUSED);
	CU_ASSERT_EQUAL(p->end[0].report.stalls & STALL_PAUSED, 0);
	CU_ASSERT_TRUE(sim_free(s));
}

static void
test_stalls(void)
{
	stall_of_a_reader();
	stall_of_a_path();
	stall_of_a_carrier();
	stall_of_memory();
	stall_of_a_classic_carrier();
}

static void
test_stall_names(void)
{
	static const char *const names[STALLS] = {"credit", "path", "carrier",
	    "reader", "memory", "paused"};
	static const unsigned bits[STALLS] = {STALL_CREDIT, STALL_PATH,
	    STALL_CARRIER, STALL_READER, STALL_MEMORY, STALL_PAUSED};
	char text[STALL_TEXT_MAX];
	unsigned i;

	for (i = 0; i < STALLS; i++)
		CU_ASSERT_STRING_EQUAL(stall_format(bits[i], text), names[i]);
	CU_ASSERT_STRING_EQUAL(stall_format(0, text), "");
	CU_ASSERT_STRING_EQUAL(stall_format(STALL_PATH | STALL_READER, text),
	    "path,reader");
	CU_ASSERT_STRING_EQUAL(stall_format((1 << STALLS) - 1, text),
	    "credit,path,carrier,reader,memory,paused");
	CU_ASSERT(strlen(text) < STALL_TEXT_MAX);
}

static const struct unit_test tests[] = {
    {"fair", test_fair},
    {"fair to small sockets", test_fair_to_small_sockets},
    {"weights", test_weights},
    {"small reads", test_small_reads},
    {"interactive first", test_interactive_first},
    {"interactive by EAGAIN", test_interactive_by_eagain},
    {"express", test_express},
    {"path limit", test_path_limit},
    {"stalls", test_stalls},
    {"stall names", test_stall_names},
    {NULL, NULL},
};

const struct unit_suite suite_scheduler = {"scheduler", tests};
