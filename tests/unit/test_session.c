/*
 * Sessions, two against each other in the simulator: sim.h.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "sim.h"
#include "test_session.h"
#include "unit.h"

#define KB 1024

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
new_sim(enum ins_dialect dialect, size_t piece)
{
	return sim_new(&(struct sim_config){
	    .dialect = dialect,
	    .seed = 1 + piece,
	    .piece = piece,
	});
}

static void
test_echo(void)
{
	static const size_t pieces[] = {0, 1, 2, 7, 100, 5000};
	struct sim_pair *p;
	struct sim *s;
	size_t i, k;

	for (i = 0; i < 12; i++) {
		s = new_sim((enum ins_dialect)(i / 6), pieces[i % 6]);
		for (k = 0; k < 5; k++) {
			p = sim_open(s, i >= 6 && k % 2, SIM_NOW);
			CU_ASSERT_PTR_NOT_NULL_FATAL(p);
			p->end[1].echo = true;
			p->end[0].supply =
			    pieces[i % 6] == 0 || pieces[i % 6] > 50 ? 3000000 :
								       3000;
			sim_settle(s);
			CU_ASSERT_EQUAL(opener(p)->supply, 0);
			CU_ASSERT_EQUAL(opener(p)->got, opener(p)->sent);
			CU_ASSERT_EQUAL(acceptor(p)->got, opener(p)->sent);
			opener(p)->eof = true;
			sim_settle(s);
			CU_ASSERT_EQUAL(opener(p)->over, SIM_CLOSED);
			CU_ASSERT_EQUAL(acceptor(p)->over, SIM_CLOSED);
			CU_ASSERT_EQUAL(opener(p)->report.from_local,
			    opener(p)->sent);
			CU_ASSERT_EQUAL(opener(p)->report.to_local,
			    opener(p)->got);
			CU_ASSERT_EQUAL(opener(p)->report.ended_by,
			    PARTY_LOCAL);
			CU_ASSERT_EQUAL(acceptor(p)->report.ended_by,
			    PARTY_PEER);
		}
		CU_ASSERT_EQUAL(session_streams(s->side[0].session), 0);
		CU_ASSERT_TRUE(sim_free(s));
	}
}

/* Each direction ends by itself, and the other goes on. */
static void
test_half_close(void)
{
	struct sim_pair *p;
	struct sim *s;
	unsigned first, piece;

	for (first = 0; first < 2; first++)
		for (piece = 0; piece < 4; piece++) {
			s = new_sim(INS_EXTENDED, piece);
			p = sim_open(s, piece % 2, SIM_NOW);
			sim_settle(s);
			p->end[first].supply = 1000;
			p->end[first].eof = true;
			sim_settle(s);
			CU_ASSERT_EQUAL(p->end[!first].got, 1000);
			CU_ASSERT_TRUE(p->end[!first].shut);
			CU_ASSERT_FALSE(p->end[first].shut);
			CU_ASSERT_EQUAL(p->end[0].over, SIM_OPEN);
			CU_ASSERT_EQUAL(p->end[1].over, SIM_OPEN);
			p->end[!first].supply = 600000;
			sim_settle(s);
			CU_ASSERT_EQUAL(p->end[first].got, 600000);
			p->end[!first].eof = true;
			sim_settle(s);
			CU_ASSERT_EQUAL(p->end[0].over, SIM_CLOSED);
			CU_ASSERT_EQUAL(p->end[1].over, SIM_CLOSED);
			CU_ASSERT_EQUAL(s->side[0].out.n[INS_HALF_CLOSE] +
				s->side[1].out.n[INS_HALF_CLOSE],
			    2);
			CU_ASSERT_EQUAL(s->side[0].out.n[INS_CLOSE], 0);
			CU_ASSERT_TRUE(sim_free(s));
		}
}

static void
test_both_close_at_once(void)
{
	struct sim_pair *p;
	struct sim *s;
	unsigned piece;

	for (piece = 0; piece < 10; piece++) {
		s = new_sim(INS_EXTENDED, piece);
		p = sim_open(s, SERVER, SIM_NOW);
		sim_settle(s);
		p->end[0].supply = 5000;
		p->end[1].supply = 7000;
		p->end[0].eof = p->end[1].eof = true;
		sim_settle(s);
		CU_ASSERT_EQUAL(p->end[0].over, SIM_CLOSED);
		CU_ASSERT_EQUAL(p->end[1].over, SIM_CLOSED);
		CU_ASSERT_EQUAL(p->end[0].got, 7000);
		CU_ASSERT_EQUAL(p->end[1].got, 5000);
		CU_ASSERT_TRUE(sim_free(s));
	}
}

/* A reset arrives as one, by a read or a write, from either side. */
static void
test_reset(void)
{
	struct sim_pair *p;
	struct sim *s;
	unsigned i, who;

	for (i = 0; i < 8; i++) {
		who = i & 1;
		s = new_sim(INS_EXTENDED, i & 2 ? 3 : 0);
		p = sim_open(s, SERVER, SIM_NOW);
		sim_settle(s);
		if (i & 4) {
			p->end[who].fail = true;
		} else {
			p->end[who].broken = true;
			p->end[!who].supply = 10;
		}
		sim_settle(s);
		CU_ASSERT_EQUAL(p->end[0].over, SIM_RESET);
		CU_ASSERT_EQUAL(p->end[1].over, SIM_RESET);
		CU_ASSERT_EQUAL(p->end[who].report.ended_by, PARTY_LOCAL);
		CU_ASSERT_EQUAL(p->end[!who].report.ended_by, PARTY_PEER);
		CU_ASSERT_STRING_EQUAL(p->end[!who].report.why,
		    i & 4 ? "reset" : "cannot be written");
		CU_ASSERT_TRUE(sim_free(s));
	}
}

/* The endpoint's own word for it. */
static void
test_endpoint_failed(void)
{
	struct sim *s = new_sim(INS_EXTENDED, 0);
	struct sim_pair *p = sim_open(s, SERVER, SIM_NOW);

	sim_settle(s);
	p->end[0].endpoint.failed = true;
	stream_ready(p->stream[0]);
	sim_settle(s);
	CU_ASSERT_EQUAL(p->end[0].over, SIM_RESET);
	CU_ASSERT_EQUAL(p->end[1].over, SIM_RESET);
	p = sim_open(s, SERVER, SIM_NOW);
	sim_settle(s);
	stream_abort(p->stream[1], INS_RESET_POLICY, "not today");
	sim_settle(s);
	CU_ASSERT_EQUAL(p->end[0].over, SIM_RESET);
	CU_ASSERT_STRING_EQUAL(p->end[0].report.why, "refused by policy");
	CU_ASSERT_STRING_EQUAL(p->end[1].report.why, "not today");
	CU_ASSERT_TRUE(sim_free(s));
}

static void
test_refused(void)
{
	struct sim_pair *p;
	struct sim *s;
	unsigned i, late;

	for (i = INS_REFUSED; i <= INS_FAILED; i++)
		for (late = 0; late < 2; late++) {
			s = new_sim(INS_EXTENDED, late * 5);
			p = sim_open(s, late, late ? SIM_LATER : SIM_REFUSE);
			p->outcome = (enum ins_outcome)i;
			opener(p)->supply = 20000;
			sim_settle(s);
			if (late)
				sim_answer(s, p, (enum ins_outcome)i);
			sim_settle(s);
			CU_ASSERT_EQUAL(opener(p)->over, SIM_REFUSED);
			CU_ASSERT_EQUAL(opener(p)->outcome, i);
			CU_ASSERT_STRING_EQUAL(opener(p)->report.why,
			    ins_outcome_text(i));
			CU_ASSERT_TRUE(sim_free(s));
		}
	s = sim_new(&(struct sim_config){
	    .dialect = INS_EXTENDED,
	    .refuse_opens = true,
	});
	p = sim_open(s, CLIENT, SIM_NOW);
	sim_settle(s);
	CU_ASSERT_EQUAL(opener(p)->outcome, INS_NOT_ALLOWED);
	CU_ASSERT_TRUE(sim_free(s));
}

/* What the opener does before its open is answered. */
static void
test_before_the_answer(void)
{
	struct sim_pair *p;
	struct sim *s;
	unsigned i;

	for (i = 0; i < 12; i++) {
		s = new_sim(INS_EXTENDED, i >= 6 ? 11 : 0);
		p = sim_open(s, SERVER, SIM_LATER);
		opener(p)->supply = 10;
		if (i % 6 == 0) /* a reset */
			opener(p)->fail = true;
		else if (i % 6 == 1) /* half-closed, then answered */
			opener(p)->eof = true;
		else if (i % 6 == 2) /* half-closed, then reset */
			opener(p)->eof = true;
		else if (i % 6 == 3) /* more than may be sent */
			opener(p)->supply = 100000;
		sim_settle(s);
		if (i % 6 == 2) {
			opener(p)->endpoint.failed = true;
			stream_ready(p->stream[0]);
		}
		if (i % 6 == 3)
			CU_ASSERT_EQUAL(opener(p)->sent, 16384);
		if (i % 6 == 4)
			stream_abort(p->stream[0], INS_RESET_TIMEOUT, "late");
		if (i % 6 == 5) /* the acceptor's socket fails */
			stream_abort(p->stream[1], INS_RESET_LOCAL, "gone");
		sim_settle(s);
		if (i % 6 == 1 || i % 6 == 3) {
			CU_ASSERT_EQUAL(acceptor(p)->got, 0);
			sim_answer(s, p, INS_CONNECTED);
			sim_settle(s);
			CU_ASSERT_EQUAL(acceptor(p)->got, opener(p)->sent);
			CU_ASSERT_EQUAL(opener(p)->supply, 0);
			CU_ASSERT_EQUAL(acceptor(p)->shut, i % 6 == 1);
			CU_ASSERT_EQUAL(acceptor(p)->over, SIM_OPEN);
			acceptor(p)->supply = 77;
			acceptor(p)->eof = opener(p)->eof = true;
			sim_settle(s);
			CU_ASSERT_EQUAL(opener(p)->got, 77);
			CU_ASSERT_EQUAL(opener(p)->over, SIM_CLOSED);
			CU_ASSERT_EQUAL(acceptor(p)->over, SIM_CLOSED);
		} else {
			CU_ASSERT_EQUAL(opener(p)->over, SIM_RESET);
			CU_ASSERT_EQUAL(acceptor(p)->over, SIM_RESET);
		}
		CU_ASSERT_TRUE(sim_free(s));
	}
}

/* A stopped reader holds a window, and holds nobody else up. */
static void
test_stopped_reader(void)
{
	struct session_offsets a, b;
	struct sim_pair *p, *q;
	struct sim *s;

	s = new_sim(INS_EXTENDED, 0);
	p = sim_open(s, SERVER, SIM_NOW);
	q = sim_open(s, SERVER, SIM_NOW);
	sim_settle(s);
	acceptor(p)->room = 1000;
	opener(p)->supply = 10000000;
	sim_pass(s, SECOND);
	CU_ASSERT_EQUAL(acceptor(p)->got, 1000);
	CU_ASSERT_EQUAL(opener(p)->sent, WINDOW_START);
	/* Buffers are up to twice as large as what they hold. */
	CU_ASSERT(s->side[CLIENT].driver.pool.held <=
	    2 * WINDOW_START + 2 * BUFFER_MIN);
	opener(q)->supply = 5000000;
	sim_pass(s, SECOND);
	CU_ASSERT_EQUAL(acceptor(q)->got, 5000000);
	a = session_offsets(s->side[SERVER].session);
	b = session_offsets(s->side[CLIENT].session);
	CU_ASSERT_EQUAL(a.sent, b.received);
	CU_ASSERT_EQUAL(a.sent, a.acknowledged);
	acceptor(p)->room = SIM_UNLIMITED;
	sim_pass(s, SECOND);
	CU_ASSERT_EQUAL(acceptor(p)->got, 10000000);
	CU_ASSERT_TRUE(sim_free(s));
}

/* Many fit with 256 KiB, then with 16, then none; all is given back. */
static void
test_budgets(void)
{
	const uint64_t total = 4 << 20;
	uint64_t limit = total - total / 8;
	unsigned large = 0, small = 0, i, process;
	struct sim_pair *p, *pairs[1000];
	struct sim *s;

	for (process = 0; process < 2; process++) {
		s = sim_new(&(struct sim_config){
		    .dialect = INS_EXTENDED,
		    .seed = 5,
		    .memory = process ? 0 : total,
		    .process = process ? total : 0,
		});
		large = small = 0;
		for (i = 0; i < 1000; i++) {
			p = sim_open(s, SERVER, SIM_NOW);
			if (p == NULL)
				break;
			pairs[i] = p;
			sim_settle(s);
			CU_ASSERT_TRUE(p->arrived);
			if (p->open.window == WINDOW_START)
				large++;
			else {
				CU_ASSERT_EQUAL(p->open.window, WINDOW_FIRST);
				small++;
			}
		}
		CU_ASSERT_EQUAL(errno, ENOBUFS);
		CU_ASSERT_EQUAL(large,
		    limit / 2 / (WINDOW_START - WINDOW_FIRST));
		CU_ASSERT_EQUAL(small,
		    (limit - large * (uint64_t)WINDOW_START) / WINDOW_FIRST);
		/* One goes, one comes. */
		opener(pairs[0])->fail = true;
		sim_settle(s);
		CU_ASSERT_PTR_NOT_NULL(sim_open(s, SERVER, SIM_NOW));
		CU_ASSERT_PTR_NULL(sim_open(s, SERVER, SIM_NOW));
		sim_settle(s);
		for (i = 1; i < large + small; i++) {
			opener(pairs[i])->eof = acceptor(pairs[i])->eof = true;
			opener(pairs[i])->supply = 20000;
		}
		sim_settle(s);
		CU_ASSERT_EQUAL(session_streams(s->side[0].session), 1);
		CU_ASSERT_TRUE(sim_free(s));
	}
}

/* The one asked has less than the one who asks. */
static void
test_no_resources(void)
{
	struct sim *s = sim_new(&(struct sim_config){
	    .dialect = INS_EXTENDED,
	    .memory = 0,
	});
	struct sim_pair *p;

	s->side[CLIENT].process.limit = 40000;
	sim_open(s, SERVER, SIM_NOW);
	sim_open(s, SERVER, SIM_NOW);
	p = sim_open(s, SERVER, SIM_NOW);
	sim_settle(s);
	CU_ASSERT_EQUAL(opener(p)->over, SIM_REFUSED);
	CU_ASSERT_EQUAL(opener(p)->outcome, INS_NO_RESOURCES);
	CU_ASSERT_EQUAL(session_streams(s->side[0].session), 2);
	CU_ASSERT_TRUE(sim_free(s));
}

/* After ten idle seconds a grant is lowered, and rises again with traffic. */
static void
test_limit(void)
{
	struct sim *s = new_sim(INS_EXTENDED, 0);
	struct sim_pair *p = sim_open(s, SERVER, SIM_NOW);
	struct budget *b = &s->side[CLIENT].process;

	sim_settle(s);
	CU_ASSERT_EQUAL(b->used, WINDOW_START);
	opener(p)->supply = 1000;
	sim_pass(s, 9 * SECOND);
	CU_ASSERT_EQUAL(s->side[SERVER].out.n[INS_LIMIT], 0);
	sim_pass(s, 7 * SECOND);
	CU_ASSERT_EQUAL(s->side[SERVER].out.n[INS_LIMIT], 1);
	CU_ASSERT_EQUAL(b->used, WINDOW_FIRST);
	CU_ASSERT_EQUAL(b->above, 0);
	/* Once, however long. */
	sim_pass(s, 60 * SECOND);
	CU_ASSERT_EQUAL(s->side[SERVER].out.n[INS_LIMIT], 1);
	opener(p)->supply = 3000000;
	sim_settle(s);
	CU_ASSERT_EQUAL(acceptor(p)->got, 3001000);
	CU_ASSERT_EQUAL(b->used, WINDOW_START);
	sim_pass(s, 20 * SECOND);
	CU_ASSERT_EQUAL(b->used, WINDOW_FIRST);
	acceptor(p)->supply = 3000000;
	sim_settle(s);
	CU_ASSERT_EQUAL(opener(p)->got, 3000000);
	CU_ASSERT_TRUE(sim_free(s));
}

/* A credit that crosses an InsLimit voids it. */
static void
test_limit_crosses_credit(void)
{
	struct sim *s = new_sim(INS_EXTENDED, 0);
	struct sim_pair *p = sim_open(s, SERVER, SIM_NOW);
	struct budget *b = &s->side[CLIENT].process;

	sim_settle(s);
	acceptor(p)->room = 0;
	opener(p)->supply = 100000;
	sim_pass(s, 9 * SECOND);
	/* From here on the server hears nothing. */
	s->side[CLIENT].out.hold = true;
	acceptor(p)->room = SIM_UNLIMITED;
	sim_pass(s, 6 * SECOND);
	CU_ASSERT_EQUAL(s->side[SERVER].out.n[INS_LIMIT], 1);
	CU_ASSERT(s->side[CLIENT].out.n[INS_CREDIT] > 0);
	CU_ASSERT_EQUAL(b->used, WINDOW_START);
	s->side[CLIENT].out.hold = false;
	opener(p)->supply = 1000000;
	sim_pass(s, SECOND);
	CU_ASSERT_EQUAL(acceptor(p)->got, 1100000);
	CU_ASSERT_TRUE(sim_free(s));
}

/* What is held for a stopped reader stays in the budget. */
static void
test_limit_of_a_stopped_reader(void)
{
	struct sim *s = new_sim(INS_EXTENDED, 0);
	struct sim_pair *p = sim_open(s, SERVER, SIM_NOW);

	sim_settle(s);
	acceptor(p)->room = 0;
	opener(p)->supply = 200000;
	sim_pass(s, 20 * SECOND);
	CU_ASSERT_EQUAL(opener(p)->sent, 200000);
	CU_ASSERT_EQUAL(s->side[SERVER].out.n[INS_LIMIT], 1);
	CU_ASSERT(s->side[CLIENT].process.used >= 200000);
	acceptor(p)->room = SIM_UNLIMITED;
	opener(p)->supply = 2000000;
	sim_pass(s, SECOND);
	CU_ASSERT_EQUAL(acceptor(p)->got, 2200000);
	CU_ASSERT_TRUE(sim_free(s));
}

static void
agree(struct sim *s)
{
	struct session_offsets a, b;

	a = session_offsets(s->side[0].session);
	b = session_offsets(s->side[1].session);
	CU_ASSERT_EQUAL(a.sent, b.received);
	CU_ASSERT_EQUAL(b.sent, a.received);
	CU_ASSERT_EQUAL(a.sent, a.acknowledged);
	CU_ASSERT_EQUAL(b.sent, b.acknowledged);
	CU_ASSERT_EQUAL(a.acknowledged_to_peer, a.received);
	CU_ASSERT_EQUAL(b.acknowledged_to_peer, b.received);
	CU_ASSERT_EQUAL(a.sent, s->side[0].out.counted);
	CU_ASSERT_EQUAL(b.sent, s->side[1].out.counted);
}

static void
test_offsets(void)
{
	static const size_t pieces[] = {0, 1, 13, 40000};
	struct sim_pair *p;
	struct sim *s;
	size_t i;

	for (i = 0; i < 4; i++) {
		s = new_sim(INS_EXTENDED, pieces[i]);
		sim_pass(s, SECOND);
		agree(s);
		CU_ASSERT_EQUAL(s->side[0].out.n[INS_ACK], 0);
		p = sim_open(s, SERVER, SIM_NOW);
		acceptor(p)->echo = true;
		opener(p)->supply = 50000;
		sim_pass(s, SECOND);
		agree(s);
		opener(p)->fail = true;
		sim_pass(s, SECOND);
		agree(s);
		CU_ASSERT_TRUE(sim_free(s));
	}
}

/* 64 KiB, or read empty and 1 ms, or 100 ms. */
static void
test_acknowledgements(void)
{
	struct sim *s = sim_new(&(struct sim_config){
	    .dialect = INS_EXTENDED,
	    .seed = 3,
	    .capacity = 300000,
	});
	struct sim_pair *p = sim_open(s, SERVER, SIM_NOW);
	struct sim_pipe *c = &s->side[CLIENT].out;
	uint64_t n, i;

	sim_pass(s, SECOND);
	n = c->n[INS_ACK];
	/* A byte each 100 us for 20 ms: about one each millisecond. */
	for (i = 0; i < 200; i++) {
		opener(p)->supply += 1;
		sim_pass(s, 100);
	}
	CU_ASSERT(c->n[INS_ACK] - n >= 18 && c->n[INS_ACK] - n <= 21);
	sim_pass(s, 2 * MS);
	agree(s);
	/* Much at once: never more than a read behind. */
	n = c->n[INS_ACK];
	opener(p)->supply = 10000000;
	sim_settle(s);
	CU_ASSERT(c->n[INS_ACK] - n >= 10000000 / (300000 + 65536));
	CU_ASSERT(c->n[INS_ACK] - n <= 10000000 / 65536 + 1);
	CU_ASSERT(c->ack_max_gap <= 65536 + DRIVER_SCRATCH);
	sim_pass(s, 2 * MS);
	agree(s);
	CU_ASSERT_TRUE(sim_free(s));
}

static void
test_ping(void)
{
	struct sim *s = new_sim(INS_EXTENDED, 0);
	struct sim_side *a = &s->side[SERVER], *b = &s->side[CLIENT];

	sim_pass(s, 4999 * MS);
	/* One at the start, and no other before the interval is over. */
	CU_ASSERT_EQUAL(a->out.n[INS_PING], 1);
	CU_ASSERT_EQUAL(b->out.n[INS_PING], 1);
	sim_pass(s, 2 * MS);
	CU_ASSERT(a->out.n[INS_PING] + b->out.n[INS_PING] >= 3);
	CU_ASSERT(a->out.n[INS_PING] <= 2 && b->out.n[INS_PING] <= 2);
	CU_ASSERT_EQUAL(a->out.n[INS_PING], b->out.n[INS_PONG]);
	CU_ASSERT_EQUAL(b->out.n[INS_PING], a->out.n[INS_PONG]);
	CU_ASSERT_TRUE(sim_free(s));
}

static void
test_silent(void)
{
	unsigned piece;
	struct sim *s;

	for (piece = 0; piece < 2; piece++) {
		s = new_sim(INS_EXTENDED, piece);
		sim_open(s, SERVER, SIM_NOW);
		sim_settle(s);
		/* A black hole that swallows. */
		s->side[CLIENT].out.hold = true;
		sim_pass(s, 14900 * MS);
		CU_ASSERT_PTR_NOT_NULL(s->side[SERVER].session);
		sim_pass(s, 200 * MS);
		CU_ASSERT_PTR_NULL(s->side[SERVER].session);
		CU_ASSERT_EQUAL(s->side[SERVER].end_code, INS_END_SILENT);
		/* The other side was told. */
		CU_ASSERT_EQUAL(s->side[CLIENT].end_code, INS_END_SILENT);
		CU_ASSERT_EQUAL(s->pairs[0].end[0].over, SIM_RESET);
		CU_ASSERT_EQUAL(s->pairs[0].end[1].over, SIM_RESET);
		CU_ASSERT_TRUE(sim_free(s));
	}
}

static void
test_idle_hour(void)
{
	struct sim *s;
	unsigned i;

	for (i = 0; i < 4; i++) {
		s = sim_new(&(struct sim_config){
		    .dialect = i & 1 ? INS_EXTENDED : INS_CLASSIC,
		    .seed = 1,
		    .heartbeat = i & 2 ? 700 * MS : 0,
		});
		sim_open(s, SERVER, SIM_NOW);
		sim_pass(s, 3600 * (uint64_t)SECOND);
		CU_ASSERT_PTR_NOT_NULL(s->side[0].session);
		CU_ASSERT_PTR_NOT_NULL(s->side[1].session);
		CU_ASSERT_EQUAL(session_streams(s->side[0].session), 1);
		CU_ASSERT_EQUAL(session_streams(s->side[1].session), 1);
		CU_ASSERT(s->side[1].out.total < 200000);
		if ((i & 1) == 0)
			CU_ASSERT_EQUAL(s->side[0].out.total, 10);
		CU_ASSERT_TRUE(sim_free(s));
	}
}

static void
test_end(void)
{
	unsigned i, who;
	struct sim *s;
	char text[200];

	memset(text, 'e', sizeof(text));
	text[199] = '\0';
	for (i = 0; i < 24; i++) {
		who = i & 1;
		s = new_sim(INS_EXTENDED, i % 5);
		sim_open(s, SERVER, SIM_NOW);
		sim_open(s, CLIENT, SIM_LATER);
		if (i & 2)
			sim_settle(s);
		/* Less than fills a pipe: InsEnd has to fit behind it. */
		s->pairs[0].end[0].supply = 2000;
		s->pairs[0].end[1].supply = 2000;
		if (i & 4)
			sim_turn(s);
		session_end(s->side[who].session, INS_END_NOT_HELD,
		    i & 1 ? text : "given up");
		CU_ASSERT_PTR_NULL(sim_open(s, who, SIM_NOW));
		CU_ASSERT_EQUAL(errno, ECONNRESET);
		sim_settle(s);
		CU_ASSERT_EQUAL(s->side[who].ended, 1);
		CU_ASSERT_EQUAL(s->side[!who].ended, 1);
		CU_ASSERT_EQUAL(s->side[who].end_code, INS_END_NOT_HELD);
		CU_ASSERT_EQUAL(s->side[who].out.n[INS_END], 1);
		CU_ASSERT_EQUAL(s->side[!who].end_code, INS_END_NOT_HELD);
		CU_ASSERT_PTR_NOT_NULL(strstr(s->side[!who].end_why,
		    i & 1 ? "peer: not held: eee" : "peer: not held: given"));
		CU_ASSERT_EQUAL(s->pairs[0].end[0].over, SIM_RESET);
		CU_ASSERT_TRUE(sim_free(s));
	}
}

/* The carrier breaks. */
static void
test_carrier_lost(void)
{
	struct sim *s = new_sim(INS_EXTENDED, 0);
	struct sim_pair *p = sim_open(s, SERVER, SIM_NOW);

	sim_settle(s);
	s->side[CLIENT].out.ended = true;
	sim_settle(s);
	CU_ASSERT_EQUAL(s->side[SERVER].ended, 1);
	CU_ASSERT_EQUAL(s->side[SERVER].end_code, INS_END_SILENT);
	CU_ASSERT_EQUAL(p->end[0].over, SIM_RESET);
	CU_ASSERT_EQUAL(s->side[CLIENT].ended, 1);
	CU_ASSERT_TRUE(sim_free(s));
	s = new_sim(INS_EXTENDED, 0);
	p = sim_open(s, SERVER, SIM_NOW);
	sim_settle(s);
	s->side[SERVER].out.broken = true;
	p->end[0].supply = 1;
	sim_settle(s);
	CU_ASSERT_EQUAL(s->side[SERVER].ended, 1);
	CU_ASSERT_TRUE(sim_free(s));
}

/* What was taken is delivered though the session has ended. */
static void
test_delivers_after_the_end(void)
{
	struct sim_pair *p;
	struct sim *s;
	unsigned i;

	for (i = 0; i < 2; i++) {
		s = new_sim((enum ins_dialect)i, 0);
		p = sim_open(s, SERVER, SIM_NOW);
		sim_settle(s);
		acceptor(p)->room = 10;
		opener(p)->supply = 5000;
		opener(p)->eof = acceptor(p)->eof = true;
		if (i == 0)
			acceptor(p)->eof = false;
		sim_settle(s);
		session_end(s->side[CLIENT].session, INS_END_SHUTDOWN, "x");
		sim_settle(s);
		CU_ASSERT_EQUAL(s->side[CLIENT].ended, 1);
		CU_ASSERT_EQUAL(acceptor(p)->over, SIM_OPEN);
		acceptor(p)->room = 4000;
		sim_settle(s);
		CU_ASSERT_EQUAL(acceptor(p)->over, SIM_OPEN);
		if (i == 1)
			acceptor(p)->room = SIM_UNLIMITED;
		sim_settle(s);
		if (i == 1) {
			CU_ASSERT_EQUAL(acceptor(p)->over, SIM_CLOSED);
			CU_ASSERT_EQUAL(acceptor(p)->got, 5000);
		}
		/* Else session_end_all() resets it. */
		CU_ASSERT_TRUE(sim_free(s));
	}
}

/* Classic: what is queued while connecting, and close behind it. */
static void
test_classic_connecting(void)
{
	struct sim_pair *p;
	struct sim *s;
	unsigned i;

	for (i = 0; i < 8; i++) {
		s = new_sim(INS_CLASSIC, i % 2 ? 9 : 0);
		p = sim_open(s, SERVER, SIM_LATER);
		opener(p)->supply = 20000;
		opener(p)->eof = i & 2;
		sim_settle(s);
		CU_ASSERT_EQUAL(opener(p)->sent, 20000);
		CU_ASSERT_EQUAL(acceptor(p)->got, 0);
		if (i & 4) {
			sim_answer(s, p, INS_REFUSED);
			sim_settle(s);
			CU_ASSERT_EQUAL(opener(p)->over, SIM_CLOSED);
		} else {
			sim_answer(s, p, INS_CONNECTED);
			sim_settle(s);
			CU_ASSERT_EQUAL(acceptor(p)->got, 20000);
			CU_ASSERT_EQUAL(acceptor(p)->over,
			    i & 2 ? SIM_CLOSED : SIM_OPEN);
		}
		/* One close, answered by none. */
		CU_ASSERT(
		    s->side[0].out.n[INS_CLOSE] + s->side[1].out.n[INS_CLOSE] <=
			1 ||
		    (i & 6) == 6);
		CU_ASSERT_TRUE(sim_free(s));
	}
}

static void
test_classic_close(void)
{
	struct sim_pair *p;
	struct sim *s;
	unsigned i, who;

	for (i = 0; i < 8; i++) {
		who = i & 1;
		s = new_sim(INS_CLASSIC, i & 2 ? 100 : 0);
		p = sim_open(s, SERVER, SIM_NOW);
		sim_settle(s);
		if (i & 4)
			p->end[who].fail = true;
		else {
			p->end[who].supply = 500000;
			p->end[who].eof = true;
		}
		sim_settle(s);
		CU_ASSERT_EQUAL(p->end[!who].over, SIM_CLOSED);
		CU_ASSERT_EQUAL(p->end[who].over,
		    i & 4 ? SIM_RESET : SIM_CLOSED);
		CU_ASSERT_EQUAL(p->end[!who].got, i & 4 ? 0 : 500000);
		CU_ASSERT_EQUAL(s->side[who].out.n[INS_CLOSE], 1);
		CU_ASSERT_EQUAL(s->side[!who].out.n[INS_CLOSE], 0);
		CU_ASSERT_TRUE(sim_free(s));
	}
}

/* A stopped reader pauses the carrier; it goes on when it reads again. */
static void
test_classic_pause(void)
{
	struct sim *s = new_sim(INS_CLASSIC, 0);
	struct sim_pair *p = sim_open(s, SERVER, SIM_NOW);
	struct sim_pair *q = sim_open(s, SERVER, SIM_NOW);

	sim_settle(s);
	acceptor(p)->room = 0;
	opener(p)->supply = 5000000;
	sim_settle(s);
	CU_ASSERT(opener(p)->sent < 2000000);
	CU_ASSERT(s->side[CLIENT].driver.pool.held < 2000000);
	opener(q)->supply = 10;
	/* Its silence is not counted meanwhile. */
	sim_pass(s, 20 * SECOND);
	CU_ASSERT_EQUAL(acceptor(q)->got, 0);
	CU_ASSERT_PTR_NOT_NULL(s->side[CLIENT].session);
	acceptor(p)->room = SIM_UNLIMITED;
	sim_settle(s);
	CU_ASSERT_EQUAL(acceptor(p)->got, 5000000);
	CU_ASSERT_EQUAL(acceptor(q)->got, 10);
	CU_ASSERT_TRUE(sim_free(s));
}

static void
test_classic_stall(void)
{
	struct sim *s = new_sim(INS_CLASSIC, 0);
	struct sim_pair *p = sim_open(s, CLIENT, SIM_NOW);
	struct sim_pair *q = sim_open(s, SERVER, SIM_NOW);
	unsigned i;

	(void)p;
	CU_ASSERT_TRUE(sim_free(s));
	for (i = 0; i < 2; i++) {
		s = new_sim(INS_CLASSIC, 0);
		p = sim_open(s, SERVER, SIM_NOW);
		q = sim_open(s, SERVER, SIM_NOW);
		sim_settle(s);
		/* The one who stalls is the visitor, or the application. */
		p->end[i].room = 0;
		p->end[!i].supply = 5000000;
		sim_settle(s);
		q->end[!i].supply = 10;
		sim_pass(s, 29 * SECOND);
		CU_ASSERT_EQUAL(q->end[i].got, 0);
		CU_ASSERT_EQUAL(p->end[i].over, SIM_OPEN);
		sim_pass(s, 2 * SECOND);
		CU_ASSERT_EQUAL(p->end[i].over, SIM_RESET);
		CU_ASSERT_EQUAL(p->end[!i].over, SIM_CLOSED);
		CU_ASSERT_EQUAL(q->end[i].got, 10);
		CU_ASSERT_TRUE(sim_free(s));
	}
	/* One that takes 64 KiB in that time stays. */
	s = new_sim(INS_CLASSIC, 0);
	p = sim_open(s, SERVER, SIM_NOW);
	sim_settle(s);
	p->end[1].room = 0;
	p->end[0].supply = 5000000;
	for (i = 0; i < 20; i++) {
		sim_pass(s, 10 * SECOND);
		p->end[1].room += 33000;
	}
	CU_ASSERT_EQUAL(p->end[1].over, SIM_OPEN);
	CU_ASSERT_TRUE(sim_free(s));
}

/* A classic remote-client that says nothing is dropped, in bounded time. */
static void
test_classic_silence(void)
{
	struct sim *s = sim_new(&(struct sim_config){
	    .dialect = INS_CLASSIC,
	    .by_hand = 1 + CLIENT,
	});

	sim_pass(s, 14900 * MS);
	CU_ASSERT_PTR_NOT_NULL(s->side[SERVER].session);
	sim_pass(s, 200 * MS);
	CU_ASSERT_PTR_NULL(s->side[SERVER].session);
	CU_ASSERT_EQUAL(s->side[SERVER].end_code, INS_END_SILENT);
	CU_ASSERT_TRUE(sim_free(s));
	s = sim_new(&(struct sim_config){
	    .dialect = INS_CLASSIC,
	    .by_hand = 1 + CLIENT,
	    .heartbeat = 500 * MS,
	});
	sim_pass(s, 4900 * MS);
	CU_ASSERT_PTR_NOT_NULL(s->side[SERVER].session);
	sim_pass(s, 200 * MS);
	CU_ASSERT_PTR_NULL(s->side[SERVER].session);
	CU_ASSERT_TRUE(sim_free(s));
}

/* Whoever never sent anything has a grant to give back too. */
static void
test_limit_of_who_never_sent(void)
{
	struct sim *s = new_sim(INS_EXTENDED, 0);

	sim_open(s, SERVER, SIM_NOW);
	sim_pass(s, 20 * SECOND);
	CU_ASSERT_EQUAL(s->side[SERVER].process.used, WINDOW_FIRST);
	CU_ASSERT_EQUAL(s->side[CLIENT].process.used, WINDOW_FIRST);
	CU_ASSERT_TRUE(sim_free(s));
}

/* A remote-client does not know what was opened while it was away. */
static void
test_going_while_parked(void)
{
	struct sim *s = sim_new(&(struct sim_config){
	    .dialect = INS_EXTENDED,
	    .seed = 5,
	    .resume = 60 * (uint64_t)SECOND,
	});
	struct sim_pair *p;

	sim_settle(s);
	p = sim_open(s, SERVER, SIM_NOW);
	sim_part(s);
	session_go_away(s->side[CLIENT].session, INS_END_SHUTDOWN, "stopping");
	sim_settle(s);
	CU_ASSERT_PTR_NOT_NULL_FATAL(s->side[CLIENT].session);
	sim_join(s);
	p->end[0].supply = p->end[1].supply = 1000;
	p->end[0].eof = p->end[1].eof = true;
	sim_pass(s, SECOND);
	CU_ASSERT_EQUAL(p->end[0].over, SIM_CLOSED);
	CU_ASSERT_EQUAL(p->end[0].got, 1000);
	CU_ASSERT_EQUAL(p->end[1].got, 1000);
	CU_ASSERT_EQUAL(s->side[SERVER].end_code, INS_END_FINISHED);
	CU_ASSERT_EQUAL(s->side[CLIENT].end_code, INS_END_FINISHED);
	CU_ASSERT_TRUE(sim_free(s));
}

/* A proxy-server does, and all that it said has arrived. */
static void
test_finished_while_parked(void)
{
	struct sim *s = sim_new(&(struct sim_config){
	    .dialect = INS_EXTENDED,
	    .seed = 5,
	    .resume = 60 * (uint64_t)SECOND,
	});
	struct sim_pair *p = sim_open(s, SERVER, SIM_NOW);

	p->end[0].eof = p->end[1].eof = true;
	sim_pass(s, SECOND);
	CU_ASSERT_EQUAL(p->end[0].over, SIM_CLOSED);
	sim_part(s);
	session_go_away(s->side[SERVER].session, INS_END_SHUTDOWN, "stopping");
	sim_settle(s);
	CU_ASSERT_PTR_NULL(s->side[SERVER].session);
	CU_ASSERT_EQUAL(s->side[SERVER].end_code, INS_END_FINISHED);
	sim_pass(s, 61 * (uint64_t)SECOND);
	CU_ASSERT_PTR_NULL(s->side[CLIENT].session);
	CU_ASSERT_TRUE(sim_free(s));
}

static const struct unit_test tests[] = {
    {"echo", test_echo},
    {"half-close", test_half_close},
    {"both close at once", test_both_close_at_once},
    {"reset", test_reset},
    {"endpoint failed", test_endpoint_failed},
    {"refused", test_refused},
    {"before the answer", test_before_the_answer},
    {"stopped reader", test_stopped_reader},
    {"budgets", test_budgets},
    {"no resources", test_no_resources},
    {"limit", test_limit},
    {"limit crosses credit", test_limit_crosses_credit},
    {"limit of a stopped reader", test_limit_of_a_stopped_reader},
    {"limit of who never sent", test_limit_of_who_never_sent},
    {"offsets", test_offsets},
    {"acknowledgements", test_acknowledgements},
    {"ping", test_ping},
    {"silent", test_silent},
    {"idle hour", test_idle_hour},
    {"end", test_end},
    {"carrier lost", test_carrier_lost},
    {"going while parked", test_going_while_parked},
    {"finished while parked", test_finished_while_parked},
    {"delivers after the end", test_delivers_after_the_end},
    {"classic: connecting", test_classic_connecting},
    {"classic: close", test_classic_close},
    {"classic: pause", test_classic_pause},
    {"classic: stall", test_classic_stall},
    {"classic: silence", test_classic_silence},
    {"peer: states", test_peer_states},
    {"peer: streams that are over", test_peer_over},
    {"peer: violations", test_peer_violations},
    {"peer: answers not read", test_peer_unread},
    {"peer: input is acknowledged", test_peer_input_is_acknowledged},
    {"peer: opens refused", test_peer_opens_refused},
    {"peer: skipped", test_peer_skipped},
    {"peer: every cut", test_peer_every_cut},
    {"peer: classic", test_peer_classic},
    {"peer: limit of a stopped reader", test_peer_limit_of_a_stopped_reader},
    {"random: extended", test_random_extended},
    {"random: classic", test_random_classic},
    {NULL, NULL},
};

const struct unit_suite suite_session = {"session", tests};
