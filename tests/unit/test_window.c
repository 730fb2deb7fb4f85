/*
 * Windows and the budgets that they come from, with a simulated distance:
 * sim.h.
 */
#include <errno.h>
#include <stdlib.h>

#include "sim.h"
#include "unit.h"

#define MIB ((uint64_t)1 << 20)
#define DELAY (20 * MS) /* each way */
#define WINDOW_MAX (4 * MIB)
#define CROWD 10000 /* times UNIT_SCALE */
#define CROWD_BYTES 102400

static struct sim_end *
opener(struct sim_pair *p)
{
	return &p->end[0];
}

static struct sim_end *
acceptor(struct sim_pair *p)
{
	return &p->end[1];
}

static struct sim *
distant(uint64_t memory)
{
	return sim_new(&(struct sim_config){
	    .dialect = INS_EXTENDED,
	    .seed = 11,
	    .capacity = 32 * MIB,
	    .memory = memory,
	    .window_max = WINDOW_MAX,
	    .delay = DELAY,
	});
}

/* Both ends of file: the stream is over, and all of it was given back. */
static void
finish(struct sim *s, struct sim_pair *p)
{
	opener(p)->eof = acceptor(p)->eof = true;
	sim_pass(s, SECOND);
	CU_ASSERT_EQUAL(opener(p)->over, SIM_CLOSED);
	CU_ASSERT_EQUAL(acceptor(p)->over, SIM_CLOSED);
	CU_ASSERT_EQUAL(opener(p)->got, acceptor(p)->sent);
	CU_ASSERT_EQUAL(acceptor(p)->got, opener(p)->sent);
	CU_ASSERT_EQUAL(s->side[SERVER].process.used, 0);
	CU_ASSERT_EQUAL(s->side[CLIENT].process.used, 0);
}

/* A reader that takes all: up to window_max, by doubling, and no further. */
static void
test_grows(void)
{
	struct sim *s = distant(0);
	struct sim_pair *p = sim_open(s, SERVER, SIM_NOW);
	uint64_t window = WINDOW_START, now;
	unsigned steps = 0, who;

	for (who = 0; who < 2; who++) {
		sim_pass(s, SECOND);
		window = stream_window(p->stream[!who]);
		CU_ASSERT_EQUAL(window, WINDOW_START);
		p->end[who].supply = 128 * MIB;
		for (steps = 0; p->end[!who].got < 128 * MIB;) {
			sim_step(s);
			now = stream_window(p->stream[!who]);
			if (now == window)
				continue;
			CU_ASSERT_EQUAL(now, 2 * window);
			window = now;
			steps++;
		}
		CU_ASSERT_EQUAL(steps, 4);
		CU_ASSERT_EQUAL(window, WINDOW_MAX);
		/* Whoever sends nothing keeps what it began with. */
		if (who == 0)
			CU_ASSERT_EQUAL(stream_window(p->stream[0]),
			    WINDOW_START);
	}
	CU_ASSERT_EQUAL(s->side[CLIENT].process.used, WINDOW_MAX);
	/* Nothing is sent for long: it is lowered. */
	sim_pass(s, 20 * SECOND);
	CU_ASSERT_EQUAL(s->side[SERVER].process.used, WINDOW_FIRST);
	CU_ASSERT_EQUAL(s->side[CLIENT].process.used, WINDOW_FIRST);
	finish(s, p);
	CU_ASSERT_EQUAL(acceptor(p)->report.stalls & STALL_MEMORY, 0);
	CU_ASSERT_TRUE(sim_free(s));
}

/* A slow sender fills no window: it stays. */
static void
test_slow_sender(void)
{
	struct sim *s = distant(0);
	struct sim_pair *p = sim_open(s, SERVER, SIM_NOW);
	unsigned i;

	sim_pass(s, SECOND);
	/* 1.25 MB a second: in two round trips a hundred KB, of 256. */
	for (i = 0; i < 2000; i++) {
		opener(p)->supply += 1250;
		sim_pass(s, MS);
		CU_ASSERT_EQUAL_FATAL(stream_window(p->stream[1]),
		    WINDOW_START);
	}
	finish(s, p);
	CU_ASSERT_TRUE(sim_free(s));
}

/*
 * More than half a window goes by in two round trips, but the reader never
 * takes all that is there: it stays.
 */
static void
test_slow_reader(void)
{
	struct sim *s = distant(0);
	struct sim_pair *p = sim_open(s, SERVER, SIM_NOW);
	unsigned i;

	sim_pass(s, SECOND);
	acceptor(p)->room = 0;
	opener(p)->supply = 64 * MIB;
	sim_pass(s, SECOND);
	for (i = 0; i < 2000; i++) {
		acceptor(p)->room += 4000;
		sim_pass(s, MS);
		CU_ASSERT_EQUAL_FATAL(stream_window(p->stream[1]),
		    WINDOW_START);
	}
	CU_ASSERT_EQUAL(acceptor(p)->got, 2000 * 4000);
	acceptor(p)->room = SIM_UNLIMITED;
	sim_pass(s, 20 * SECOND);
	CU_ASSERT_EQUAL(acceptor(p)->got, 64 * MIB);
	finish(s, p);
	CU_ASSERT_TRUE(sim_free(s));
}

/* A budget that is used up: no more than there is, and that is said. */
static void
test_no_budget_to_grow(void)
{
	struct sim *s = distant(MIB);
	struct sim_pair *p = sim_open(s, SERVER, SIM_NOW);

	sim_pass(s, SECOND);
	opener(p)->supply = 32 * MIB;
	while (acceptor(p)->got < 32 * MIB) {
		sim_step(s);
		/* Half of what is left beside the eighth, and no more. */
		CU_ASSERT_FATAL(stream_window(p->stream[1]) <=
		    WINDOW_FIRST + (MIB - MIB / 8) / 2);
	}
	/* A part of a step fitted. */
	CU_ASSERT(stream_window(p->stream[1]) > WINDOW_START);
	finish(s, p);
	CU_ASSERT(acceptor(p)->report.stalls & STALL_MEMORY);
	CU_ASSERT_EQUAL(opener(p)->report.stalls & STALL_MEMORY, 0);
	CU_ASSERT_TRUE(sim_free(s));
}

/* As many streams as fit, whose readers have stopped. */
static size_t
fill_with_stopped(struct sim *s, uint64_t bytes)
{
	struct sim_pair *p;
	size_t n = 0;

	while ((p = sim_open(s, SERVER, SIM_NOW)) != NULL) {
		acceptor(p)->room = 0;
		opener(p)->supply = bytes;
		n++;
	}
	CU_ASSERT_EQUAL(errno, ENOBUFS);
	sim_pass(s, SECOND);
	return n;
}

/*
 * Every budget is full of what stopped readers do not take.  Those that read
 * again, one by one, get all of it.
 */
static void
test_full_of_stopped_readers(void)
{
	const uint64_t total = 4 * MIB, bytes = 600000;
	uint64_t limit = total - total / 8;
	struct sim_pair *p;
	struct sim *s;
	size_t i, n;
	int process;

	for (process = 0; process < 2; process++) {
		s = sim_new(&(struct sim_config){
		    .dialect = INS_EXTENDED,
		    .seed = 5,
		    .memory = process ? 0 : total,
		    .process = process ? total : 0,
		    .window_max = WINDOW_MAX,
		});
		n = fill_with_stopped(s, bytes);
		CU_ASSERT(n > 100);
		CU_ASSERT(s->side[CLIENT].process.used <= limit);
		CU_ASSERT(s->side[CLIENT].process.used + WINDOW_FIRST > limit);
		for (i = 0; i < n; i++) {
			p = &s->pairs[i];
			CU_ASSERT_EQUAL(acceptor(p)->got, 0);
			CU_ASSERT_EQUAL(opener(p)->sent, p->open.window);
		}
		for (i = 0; i < n; i++) {
			p = &s->pairs[i];
			acceptor(p)->room = SIM_UNLIMITED;
			opener(p)->eof = acceptor(p)->eof = true;
			sim_pass(s, SECOND);
			CU_ASSERT_EQUAL(acceptor(p)->got, bytes);
			CU_ASSERT_EQUAL(acceptor(p)->over, SIM_CLOSED);
			CU_ASSERT_EQUAL(opener(p)->over, SIM_CLOSED);
			CU_ASSERT(s->side[CLIENT].process.used <= limit);
		}
		CU_ASSERT_EQUAL(s->side[SERVER].process.used, 0);
		CU_ASSERT_EQUAL(s->side[CLIENT].process.used, 0);
		CU_ASSERT_TRUE(sim_free(s));
	}
}

/* "No resources" says that 16 KiB did not fit, at any filling. */
static void
test_refused_only_when_full(void)
{
	struct sim *s = sim_new(&(struct sim_config){
	    .dialect = INS_EXTENDED,
	    .seed = 6,
	    .window_max = WINDOW_MAX,
	});
	struct budget *b = &s->side[CLIENT].process;
	unsigned refused = 0, taken = 0, i;
	struct sim_pair *p;
	bool full;

	b->limit = MIB + 5000;
	for (i = 0; i < 400; i++) {
		full = b->used + WINDOW_FIRST > b->limit;
		p = sim_open(s, SERVER, SIM_NOW);
		CU_ASSERT_PTR_NOT_NULL_FATAL(p);
		/* Some read, some do not. */
		if (sim_random(s, 2) == 0)
			acceptor(p)->room = 0;
		opener(p)->supply = sim_random(s, 300000);
		sim_pass(s, 5 * MS);
		CU_ASSERT_EQUAL(opener(p)->over == SIM_REFUSED, full);
		if (opener(p)->over == SIM_REFUSED)
			CU_ASSERT_EQUAL(opener(p)->outcome, INS_NO_RESOURCES);
		refused += full;
		taken += !full;
		CU_ASSERT(b->used <= b->limit);
		/* One goes now and then. */
		do
			p = &s->pairs[sim_random(s, s->npairs)];
		while (p->stream[0] == NULL);
		if (sim_random(s, 3) == 0)
			stream_abort(p->stream[0], INS_RESET_LOCAL, "gone");
		sim_settle(s);
	}
	CU_ASSERT(refused > 20);
	CU_ASSERT(taken > 80);
	CU_ASSERT_TRUE(sim_free(s));
}

/*
 * The half that is kept for first windows just holds them all, and the other
 * half is used up: all are opened, and every one transfers.
 */
static void
test_crowd(void)
{
	const char *scale = getenv("UNIT_SCALE");
	size_t n = (size_t)(CROWD * (scale != NULL ? atof(scale) : 1)), i;
	uint64_t limit, total;
	struct sim_pair *p;
	struct sim *s;
	unsigned bad = 0;

	if (n < 100)
		n = 100;
	/* An eighth is set aside. */
	limit = 2 * n * WINDOW_FIRST;
	total = (limit * 8 + 6) / 7;
	s = sim_new(&(struct sim_config){
	    .dialect = INS_EXTENDED,
	    .seed = 9,
	    .capacity = 4 * MIB,
	    .memory = total,
	    .pairs = n,
	});
	for (i = 0; i < n; i++) {
		p = sim_open(s, SERVER, SIM_NOW);
		CU_ASSERT_PTR_NOT_NULL_FATAL(p);
	}
	sim_pass(s, SECOND);
	CU_ASSERT_EQUAL(session_streams(s->side[CLIENT].session), n);
	CU_ASSERT(s->side[CLIENT].process.above + WINDOW_START > limit / 2);
	for (i = 0; i < n; i++) {
		p = &s->pairs[i];
		CU_ASSERT_EQUAL(opener(p)->over, SIM_OPEN);
		opener(p)->supply = acceptor(p)->supply = CROWD_BYTES;
	}
	/* Half of them have ended before the others do. */
	for (i = 0; i < n; i += 2)
		s->pairs[i].end[0].eof = s->pairs[i].end[1].eof = true;
	sim_pass(s, SECOND);
	for (i = 0; i < n; i++) {
		p = &s->pairs[i];
		bad += opener(p)->got != CROWD_BYTES;
		bad += acceptor(p)->got != CROWD_BYTES;
		bad += opener(p)->corrupt || acceptor(p)->corrupt;
		bad += opener(p)->over != (i % 2 ? SIM_OPEN : SIM_CLOSED);
		opener(p)->eof = acceptor(p)->eof = true;
	}
	CU_ASSERT_EQUAL(bad, 0);
	sim_pass(s, SECOND);
	CU_ASSERT_EQUAL(session_streams(s->side[SERVER].session), 0);
	CU_ASSERT_EQUAL(s->side[SERVER].process.used, 0);
	CU_ASSERT_EQUAL(s->side[CLIENT].process.used, 0);
	CU_ASSERT_TRUE(sim_free(s));
}

static const struct unit_test tests[] = {
    {"grows", test_grows},
    {"slow sender", test_slow_sender},
    {"slow reader", test_slow_reader},
    {"no budget to grow", test_no_budget_to_grow},
    {"full of stopped readers", test_full_of_stopped_readers},
    {"refused only when full", test_refused_only_when_full},
    {"crowd", test_crowd},
    {NULL, NULL},
};

const struct unit_suite suite_window = {"window", tests};
