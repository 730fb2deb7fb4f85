/*
 * Every allocation fails once, and then every one from there on: no crash, no
 * leak, and what goes on is not corrupted.
 */
#include "sim.h"
#include "unit.h"

#include "net/loop.h"

/* Both sides, some streams each way, to the end.  Whether all went well. */
static bool
converse(struct sim *s)
{
	struct sim_pair *p[6];
	bool whole = true;
	unsigned i, side;

	for (side = 0; side < 2; side++) {
		if (sim_start(s, side))
			continue;
		/* The carrier is still ours. */
		s->side[side].open = false;
		s->side[side].out.ended = true;
		s->side[!side].out.swallowed = true;
	}
	for (i = 0; i < 6; i++) {
		side = s->config.dialect == INS_EXTENDED && i % 2;
		p[i] = sim_open(s, side, i == 5 ? SIM_LATER : SIM_NOW);
		if (p[i] == NULL) {
			whole = false;
			continue;
		}
		p[i]->end[1].echo = true;
		p[i]->end[0].supply = 100 + 60000 * i;
		/* Some of it waits in queues. */
		p[i]->end[1].room = 20000;
		sim_turn(s);
	}
	sim_settle(s);
	for (i = 0; i < 6; i++) {
		if (p[i] == NULL)
			continue;
		if (i == 5)
			sim_answer(s, p[i], INS_CONNECTED);
		p[i]->end[1].room = SIM_UNLIMITED;
		sim_settle(s);
		p[i]->end[0].eof = true;
	}
	sim_settle(s);
	for (i = 0; i < 6; i++)
		if (p[i] != NULL) {
			whole &= p[i]->end[0].over == SIM_CLOSED;
			/* Correct to the last byte, or reset, or refused. */
			if (s->config.dialect == INS_EXTENDED)
				CU_ASSERT(p[i]->end[0].over != SIM_CLOSED ||
				    p[i]->end[0].got == p[i]->end[0].sent);
			if (s->side[0].session != NULL &&
			    s->side[1].session != NULL)
				CU_ASSERT(p[i]->end[0].finished);
		}
	return whole;
}

static void
starve(enum ins_dialect dialect, unsigned side, size_t count)
{
	bool whole = false;
	struct sim *s;
	size_t n;

	for (n = 1; !whole && n < 5000; n++) {
		s = sim_bare(&(struct sim_config){
		    .dialect = dialect,
		    .seed = n,
		    .capacity = 3000,
		});
		memory_fail(&s->side[side].memory, n, count);
		whole = converse(s) &&
		    s->side[side].memory.asked < s->side[side].memory.fail_from;
		CU_ASSERT_TRUE(sim_free(s));
	}
	CU_ASSERT(n > 8 && n < 5000);
}

static void
test_extended(void)
{
	starve(INS_EXTENDED, SERVER, 1);
	starve(INS_EXTENDED, CLIENT, 1);
}

static void
test_extended_from_then_on(void)
{
	starve(INS_EXTENDED, SERVER, SIZE_MAX);
	starve(INS_EXTENDED, CLIENT, SIZE_MAX);
}

static void
test_classic(void)
{
	starve(INS_CLASSIC, SERVER, 1);
	starve(INS_CLASSIC, CLIENT, 1);
	starve(INS_CLASSIC, SERVER, SIZE_MAX);
	starve(INS_CLASSIC, CLIENT, SIZE_MAX);
}

static void
test_driver(void)
{
	struct memory m;
	struct driver d;

	memory_init(&m);
	memory_fail(&m, 1, 1);
	CU_ASSERT_EQUAL(driver_init(&d, &m.allocator), -1);
	CU_ASSERT_EQUAL(m.held, 0);
}

static void
test_loop(void)
{
	struct memory m;
	struct loop l;
	size_t n;
	int r = -1;

	for (n = 1; r < 0 && n < 100; n++) {
		memory_init(&m);
		memory_fail(&m, n, 1);
		r = loop_init(&l, &m.allocator);
		if (r == 0)
			loop_close(&l);
		CU_ASSERT_EQUAL(m.held, 0);
	}
	CU_ASSERT(n > 2 && n < 100);
}

static const struct unit_test tests[] = {
    {"driver", test_driver},
    {"loop", test_loop},
    {"extended, one fails", test_extended},
    {"extended, all fail from then on", test_extended_from_then_on},
    {"classic", test_classic},
    {NULL, NULL},
};

const struct unit_suite suite_oom = {"oom", tests};
