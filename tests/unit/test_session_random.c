/*
 * Random conversations, checked to the byte.
 */
#include <stdio.h>
#include <stdlib.h>

#include "sim.h"
#include "test_session.h"
#include "unit.h"

#define SEEDS 2000 /* times UNIT_SCALE */

static bool reset_in[SIM_PAIRS];

static struct sim *
random_sim(enum ins_dialect dialect, uint64_t seed)
{
	struct sim_config c = {.dialect = dialect, .seed = seed};
	struct sim r = {.random = seed};

	c.piece = (size_t[]){0, 1, 7, 300, 20000}[sim_random(&r, 5)];
	c.capacity = (size_t[]){64, 1500, 65536, 262144}[sim_random(&r, 4)];
	c.memory = (uint64_t[]){1 << 20, 64 << 20}[sim_random(&r, 2)];
	c.window_max = (uint64_t[]){0, 20000, 32 << 20}[sim_random(&r, 3)];
	/* Far away, now and then; in small pipes it would take for ever. */
	if (c.capacity >= 65536 && sim_random(&r, 3) == 0) {
		c.delay = 1 + sim_random(&r, 50 * MS);
		c.rate = (uint64_t[]){0, 300000, 50000000}[sim_random(&r, 3)];
	}
	/* Time stands still for stopped readers: none is to stall. */
	c.stall = 10000 * (uint64_t)SECOND;
	return sim_new(&c);
}

static void
random_event(struct sim *s)
{
	size_t small = s->config.piece > 0 && s->config.piece < 100;
	uint64_t most = small || s->config.capacity < 100 ? 400 : 60000;
	struct sim_pair *p;
	struct sim_end *e;
	size_t i;

	if (s->npairs == 0 || (sim_random(s, 10) == 0 && s->npairs < 40)) {
		unsigned side = s->config.dialect == INS_EXTENDED ?
		    (unsigned)sim_random(s, 2) :
		    SERVER;

		sim_open_as(s, side, (enum sim_answer)sim_random(s, 3),
		    (enum ins_class)sim_random(s, 3),
		    1 + (unsigned)sim_random(s, INS_WEIGHT_MAX));
		return;
	}
	i = sim_random(s, s->npairs);
	p = &s->pairs[i];
	e = &p->end[sim_random(s, 2)];
	switch (sim_random(s, 12)) {
	case 0:
	case 1:
	case 2:
	case 3:
		if (!e->eof)
			e->supply += sim_random(s, most);
		break;
	case 4:
		e->eof = true;
		break;
	case 5:
		if (sim_random(s, 3) == 0)
			e->fail = reset_in[i] = true;
		break;
	case 6:
		e->room = sim_random(s, 2) * sim_random(s, most);
		break;
	case 7:
		e->room = SIM_UNLIMITED;
		break;
	case 8:
		if (p->answer == SIM_LATER && !p->end[1].connected)
			sim_answer(s, p,
			    sim_random(s, 4) == 0 ? INS_REFUSED :
						    INS_CONNECTED);
		break;
	case 9:
		if (sim_random(s, 5) == 0)
			e->broken = reset_in[i] = true;
		break;
	case 10:
		if (sim_random(s, 8) == 0 &&
		    p->stream[e == &p->end[1]] != NULL) {
			reset_in[i] = true;
			stream_abort(p->stream[e == &p->end[1]],
			    INS_RESET_POLICY, "chance");
		}
		break;
	default:
		s->now += sim_random(s, 2 * SECOND);
	}
}

/* Let everything go on to its end. */
static void
drain(struct sim *s)
{
	struct sim_pair *p;
	bool waits;
	size_t i;

	for (i = 0; i < s->npairs; i++) {
		p = &s->pairs[i];
		if (p->answer == SIM_LATER && !p->end[1].connected)
			sim_answer(s, p, INS_CONNECTED);
		p->end[0].eof = p->end[1].eof = true;
		p->end[0].room = p->end[1].room = SIM_UNLIMITED;
	}
	/* A paused carrier may hold opens back that are to be answered. */
	do {
		sim_settle(s);
		for (i = 0; i < 600 && s->config.delay != 0; i++)
			sim_pass(s, SECOND);
		waits = false;
		for (i = 0; i < s->npairs; i++) {
			p = &s->pairs[i];
			if (p->answer != SIM_LATER || p->end[1].connected ||
			    p->stream[1] == NULL)
				continue;
			waits = true;
			sim_answer(s, p, INS_CONNECTED);
		}
	} while (waits);
}

static const char *
judge_end(const struct sim *s, const struct sim_pair *p, int i, bool reset)
{
	const struct sim_end *e = &p->end[i], *o = &p->end[!i];
	bool classic = s->config.dialect == INS_CLASSIC;

	if (!e->finished && e->over == SIM_OPEN)
		return "is not over";
	if (e->got > o->sent)
		return "got more than was sent";
	if (e->over == SIM_REFUSED && (i == 1 || p->answer == SIM_NOW))
		if (e->outcome != INS_NO_RESOURCES)
			return "refused for nothing";
	/* What connects has nothing to deliver. */
	if (e->over == SIM_RESET && i == 1 && !e->connected)
		return NULL;
	if (e->over == SIM_RESET && !reset)
		return "reset for nothing";
	if (e->over == SIM_CLOSED && !classic && !reset &&
	    (!o->eof_read || e->got != o->sent))
		return "closed with bytes missing";
	if (e->over == SIM_CLOSED && !classic && reset &&
	    o->over == SIM_CLOSED && e->got != o->sent)
		return "closed with bytes missing beside a reset";
	/* The end of one direction is that of both. */
	if (e->over == SIM_CLOSED && classic && !reset && !e->eof_read &&
	    o->eof_read && e->got != o->sent)
		return "classic: closed with bytes missing";
	return NULL;
}

static bool
judge(const struct sim *s)
{
	const char *why;
	size_t i;
	int k;

	if (s->side[0].session == NULL || s->side[1].session == NULL) {
		fprintf(stderr, "\nseed %llu: ended: %s / %s\n",
		    (unsigned long long)s->config.seed, s->side[0].end_why,
		    s->side[1].end_why);
		return false;
	}
	for (i = 0; i < s->npairs; i++)
		for (k = 0; k < 2; k++) {
			/* An open without budget, or that never came. */
			if (s->pairs[i].end[k].identity == 0)
				continue;
			if (k == 1 && s->pairs[i].answer == SIM_REFUSE)
				continue;
			why = judge_end(s, &s->pairs[i], k, reset_in[i]);
			if (why == NULL)
				continue;
			fprintf(stderr, "\nseed %llu: pair %zu end %d %s\n",
			    (unsigned long long)s->config.seed, i, k, why);
			return false;
		}
	return session_streams(s->side[0].session) == 0 &&
	    session_streams(s->side[1].session) == 0;
}

/* One of them, or both, in another process. */
static bool
random_move(struct sim *s)
{
	unsigned sides = 1 + (unsigned)sim_random(s, 3), side;
	struct image_writer image;
	bool ok = true;

	for (side = 0; side < 2 && ok; side++) {
		if ((sides & 1u << side) == 0)
			continue;
		ok = sim_move(s, side, &image);
		test_keep_image(s, side, &image);
		image_free(&image);
	}
	return ok;
}

static bool
converse(enum ins_dialect dialect, uint64_t seed, bool moves)
{
	struct sim *s = random_sim(dialect, seed);
	struct session_offsets a, b;
	unsigned i, n;
	bool ok = true;

	for (i = 0; i < SIM_PAIRS; i++)
		reset_in[i] = false;
	n = 100 + (unsigned)sim_random(s, 300);
	for (i = 0; i < n && ok; i++) {
		random_event(s);
		if (moves && sim_random(s, 10) == 0)
			ok = random_move(s);
		if (sim_random(s, 3) != 0)
			sim_turn(s);
		if (sim_random(s, 20) == 0)
			sim_settle(s);
	}
	if (ok) {
		drain(s);
		sim_pass(s, 200 * MS);
		ok = judge(s);
	} else
		fprintf(stderr, "\nseed %llu: cannot be moved\n",
		    (unsigned long long)seed);
	if (ok && dialect == INS_EXTENDED) {
		a = session_offsets(s->side[0].session);
		b = session_offsets(s->side[1].session);
		ok = a.sent == b.received && b.sent == a.received &&
		    a.sent == a.acknowledged && b.sent == b.acknowledged;
	}
	/* Everything was given back before the sessions end. */
	ok = ok && s->side[0].process.used == 0 && s->side[1].process.used == 0;
	if (!sim_free(s))
		ok = false;
	if (!ok)
		fprintf(stderr, "\nseed %llu failed\n",
		    (unsigned long long)seed);
	return ok;
}

static void
run(enum ins_dialect dialect, bool moves)
{
	const char *scale = getenv("UNIT_SCALE");
	double seeds = SEEDS / 2 * (scale != NULL ? atof(scale) : 1);
	unsigned failed = 0;
	uint64_t seed;

	for (seed = 1; (double)seed <= seeds && failed < 5; seed++)
		if (!converse(dialect, seed, moves))
			failed++;
	CU_ASSERT_EQUAL(failed, 0);
}

void
test_random_extended(void)
{
	run(INS_EXTENDED, false);
}

void
test_random_classic(void)
{
	run(INS_CLASSIC, false);
}

void
test_random_moved(void)
{
	run(INS_EXTENDED, true);
	run(INS_CLASSIC, true);
}
