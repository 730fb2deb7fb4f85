/*
 * A session against a peer that is driven by hand, and that does what no
 * peer should: PROTOCOL.md, "Which instruction in which state".
 */
#include <stdlib.h>
#include <string.h>

#include "sim.h"
#include "test_session.h"
#include "unit.h"

#define ELEMENTS(a) (sizeof(a) / sizeof((a)[0]))

static struct sim *
peer_sim(enum ins_dialect dialect, enum sim_answer answer, unsigned by_hand)
{
	return sim_new(&(struct sim_config){
	    .dialect = dialect,
	    .seed = 9,
	    .answer = answer,
	    .by_hand = 1 + (int)by_hand,
	});
}

/* One instruction for a stream, with values that are right when it is open. */
static size_t
build(uint8_t *buf, unsigned number, uint64_t identity)
{
	const size_t cap = INS_ENCODE_MAX;

	switch (number) {
	case INS_OPEN:
		return ins_open_encode(buf, cap,
		    &(struct ins_open){
			.identity = identity,
			.window = 20000,
			.form = INS_FORM_PORT,
			.port = 9,
		    });
	case INS_OPENED:
		return ins_opened_encode(buf, cap,
		    &(struct ins_opened){
			.identity = identity,
			.window = 20000,
		    });
	case INS_DATA:
		ins_data_head_encode(buf, identity, 1);
		/* The first byte that pair 0's opener sends. */
		buf[INS_DATA_HEAD] = 0;
		return INS_DATA_HEAD + 1;
	case INS_HALF_CLOSE:
		return ins_half_close_encode(buf, cap, identity);
	case INS_RESET:
		return ins_reset_encode(buf, cap,
		    &(struct ins_reset){identity, 1});
	case INS_CLOSE:
		return ins_close_encode(buf, cap, identity);
	case INS_CREDIT:
		return ins_credit_encode(buf, cap,
		    &(struct ins_credit){identity, 1 << 20});
	case INS_LIMIT:
		return ins_limit_encode(buf, cap,
		    &(struct ins_limit){identity, 20000, WINDOW_START});
	default:
		abort();
	}
}

static void
say(struct sim *s, unsigned number, uint64_t identity)
{
	uint8_t buf[INS_ENCODE_MAX];

	sim_inject(s, buf, build(buf, number, identity));
	sim_settle(s);
}

enum column {
	OPENING,
	CONNECTING,
	CONNECTING_DONE,
	OPEN,
	OPEN_DONE,
	OURS_OPEN,
	OURS_DONE,
	COLUMNS
};

static const uint8_t rows[] = {
    INS_OPENED & 0xff,
    INS_DATA,
    INS_HALF_CLOSE & 0xff,
    INS_RESET & 0xff,
    INS_CLOSE,
    INS_CREDIT & 0xff,
    INS_LIMIT & 0xff,
};

static unsigned
row_number(size_t row)
{
	return rows[row] < 0x20 ? rows[row] : 0x8200u | rows[row];
}

/*
 * The table of PROTOCOL.md, by row, then by column: e ends the session, o is
 * over, t is taken.
 */
static const char *const expected[] = {
    /* opening, connecting, done, open, done, ours open, ours done */
    "t"
    "e"
    "e"
    "e"
    "e"
    "e"
    "e", /* InsOpened */
    "e"
    "t"
    "e"
    "t"
    "e"
    "t"
    "e", /* InsData */
    "e"
    "t"
    "e"
    "t"
    "e"
    "t"
    "e", /* InsHalfClose */
    "o"
    "o"
    "o"
    "o"
    "o"
    "o"
    "o", /* InsReset */
    "o"
    "o"
    "o"
    "o"
    "o"
    "o"
    "o", /* InsCloseConnection */
    "e"
    "e"
    "e"
    "t"
    "t"
    "t"
    "t", /* InsCredit */
    "e"
    "e"
    "e"
    "t"
    "e"
    "t"
    "e", /* InsLimit */
};

/* A stream in the state of a column; its identity. */
static uint64_t
bring_to(struct sim *s, enum column column, unsigned by_hand)
{
	uint64_t theirs = by_hand == CLIENT ? INS_BY_CLIENT | 1 : 1;
	uint64_t ours = by_hand == CLIENT ? 1 : INS_BY_CLIENT | 1;

	if (column == OPENING || column >= OURS_OPEN) {
		sim_open(s, !by_hand, SIM_NOW);
		sim_settle(s);
		if (column != OPENING)
			say(s, INS_OPENED, ours);
		if (column == OURS_DONE)
			say(s, INS_HALF_CLOSE, ours);
		return ours;
	}
	say(s, INS_OPEN, theirs);
	if (column == CONNECTING_DONE || column == OPEN_DONE)
		say(s, INS_HALF_CLOSE, theirs);
	return theirs;
}

static void
try_cell(size_t row, enum column column, unsigned by_hand)
{
	struct sim *s = peer_sim(INS_EXTENDED,
	    column == CONNECTING || column == CONNECTING_DONE ? SIM_LATER :
								SIM_NOW,
	    by_hand);
	struct sim_side *d = &s->side[!by_hand];
	uint64_t identity = bring_to(s, column, by_hand);
	char want = expected[row][column];
	uint8_t buf[INS_ENCODE_MAX];

	CU_ASSERT_PTR_NOT_NULL_FATAL(d->session);
	CU_ASSERT_EQUAL(session_streams(d->session), 1);
	/* Ours sends nothing wrong in its data: its key is another. */
	sim_inject(s, buf, build(buf, row_number(row), identity));
	sim_settle(s);
	if (want == 'e') {
		CU_ASSERT_EQUAL(d->ended, 1);
		CU_ASSERT_EQUAL(d->end_code, INS_END_PROTOCOL);
		CU_ASSERT_EQUAL(d->out.last, INS_END);
		CU_ASSERT_EQUAL(d->out.end.code, INS_END_PROTOCOL);
	} else {
		CU_ASSERT_EQUAL(d->ended, 0);
		CU_ASSERT(d->session != NULL &&
		    session_streams(d->session) == (want == 't'));
	}
	if (want !=
	    (d->ended ? 'e' :
		    d->session != NULL && session_streams(d->session) == 0 ?
			'o' :
			't'))
		fprintf(stderr, "\n%s in column %d: %s\n",
		    ins_name((uint16_t)row_number(row)), (int)column,
		    d->end_why);
	/* What came into pair 0 is what build() says, not the pattern. */
	s->pairs[0].end[0].corrupt = s->pairs[0].end[1].corrupt = false;
	CU_ASSERT_TRUE(sim_free(s));
}

void
test_peer_states(void)
{
	unsigned column, by_hand;
	size_t row;

	for (row = 0; row < ELEMENTS(rows); row++)
		for (column = 0; column < COLUMNS; column++)
			for (by_hand = 0; by_hand < 2; by_hand++)
				try_cell(row, (enum column)column, by_hand);
}

/* An instruction for a stream that is over is counted, and that is all. */
void
test_peer_over(void)
{
	struct session_offsets before, after;
	uint8_t buf[INS_ENCODE_MAX];
	unsigned by_hand;
	struct sim *s;
	uint64_t id;
	size_t row, n;

	for (by_hand = 0; by_hand < 2; by_hand++) {
		s = peer_sim(INS_EXTENDED, SIM_NOW, by_hand);
		id = bring_to(s, OURS_OPEN, by_hand);
		say(s, INS_RESET, id);
		for (row = 0; row < ELEMENTS(rows); row++) {
			before = session_offsets(s->side[!by_hand].session);
			n = build(buf, row_number(row), id);
			sim_inject(s, buf, n);
			sim_pass(s, 2 * MS);
			CU_ASSERT_PTR_NOT_NULL_FATAL(s->side[!by_hand].session);
			after = session_offsets(s->side[!by_hand].session);
			CU_ASSERT_EQUAL(after.received, before.received + n);
			CU_ASSERT_EQUAL(after.acknowledged_to_peer,
			    after.received);
			CU_ASSERT_EQUAL(after.sent, before.sent);
		}
		/* Any amount of data. */
		ins_data_head_encode(buf, id, 1000);
		sim_inject(s, buf, INS_DATA_HEAD + 1000);
		CU_ASSERT_PTR_NOT_NULL(s->side[!by_hand].session);
		CU_ASSERT_TRUE(sim_free(s));
	}
}

/* These bytes behind an open stream 1 of the peer (the server) end it. */
static void
violate(const void *data, size_t len)
{
	struct sim *s = peer_sim(INS_EXTENDED, SIM_NOW, SERVER);
	struct sim_side *d = &s->side[CLIENT];

	say(s, INS_OPEN, 1);
	sim_open(s, CLIENT, SIM_NOW);
	sim_settle(s);
	say(s, INS_OPENED, INS_BY_CLIENT | 1);
	CU_ASSERT_PTR_NOT_NULL(d->session);
	sim_inject(s, data, len);
	sim_settle(s);
	CU_ASSERT_EQUAL(d->ended, 1);
	CU_ASSERT_EQUAL(d->end_code, INS_END_PROTOCOL);
	CU_ASSERT_EQUAL(d->out.end.code, INS_END_PROTOCOL);
	CU_ASSERT_EQUAL(d->out.last, INS_END);
	s->pairs[0].end[1].corrupt = false;
	CU_ASSERT_TRUE(sim_free(s));
}

static void
violate_with(unsigned number, uint64_t identity)
{
	uint8_t buf[INS_ENCODE_MAX];

	violate(buf, build(buf, number, identity));
}

static void
violate_with_limit(uint64_t limit, uint64_t seen)
{
	uint8_t buf[INS_ENCODE_MAX];

	violate(buf,
	    ins_limit_encode(buf, sizeof(buf),
		&(struct ins_limit){1, limit, seen}));
}

static void
violate_with_credit(uint64_t offset)
{
	uint8_t buf[INS_ENCODE_MAX];

	violate(buf,
	    ins_credit_encode(buf, sizeof(buf),
		&(struct ins_credit){1, offset}));
}

void
test_peer_violations(void)
{
	static const unsigned numbers[] = {
	    INS_DATA,
	    INS_HALF_CLOSE,
	    INS_RESET,
	    INS_CLOSE,
	    INS_CREDIT,
	    INS_LIMIT,
	};
	uint8_t buf[INS_ENCODE_MAX] = {0};
	size_t i, n;

	/* Streams that were never opened, on either side. */
	for (i = 0; i < ELEMENTS(numbers); i++) {
		violate_with(numbers[i], 0);
		violate_with(numbers[i], 2);
		violate_with(numbers[i], INS_BY_CLIENT);
		violate_with(numbers[i], INS_BY_CLIENT | 2);
		violate_with(numbers[i], INS_IDENTITY_MAX);
	}
	violate_with(INS_OPENED, INS_BY_CLIENT | 2);
	violate_with(INS_OPENED, 1);
	violate_with(INS_OPENED, 2);
	/* Opens that do not count up, or are not the peer's. */
	violate_with(INS_OPEN, 0);
	violate_with(INS_OPEN, 1);
	violate_with(INS_OPEN, INS_BY_CLIENT | 1);
	violate_with(INS_OPEN, INS_BY_CLIENT | 2);
	/* Grants. */
	violate_with_limit(0, WINDOW_START + 1);
	violate_with_limit(WINDOW_START, WINDOW_START - 1);
	violate_with_credit(0);
	violate_with_credit(20000);
	violate_with_credit(INS_OFFSET_MAX + 1);
	violate_with_credit(UINT64_MAX);
	ins_data_head_encode(buf, 1, WINDOW_START + 1);
	violate(buf, INS_DATA_HEAD);
	ins_data_head_encode(buf, 1, UINT32_MAX);
	violate(buf, INS_DATA_HEAD);
	/* What has no place in a session. */
	n = ins_registered_encode(buf, sizeof(buf),
	    &(struct ins_registered){.session = 1});
	violate(buf, n);
	violate("\xc2\x01\0\0\0\0", 6);
	violate("\xc2\x01\0\0\x40\0", 6);
	violate("\0\0", 2);
	violate("\0\1", 2);
	violate("\0\2", 2);
	violate("\0\5", 2);
	violate("\1\0\0\0\0\52"
		"0123456789012345678901234567890123456789xy",
	    48);
	violate("\2\0\0\1\0\1", 6);
	violate("\x82\x26\0\0\0\0", 6);
	violate("\xc2\x04\0\0\0\0", 6);
	/* Acknowledgements of what was not sent, or that go back. */
	n = ins_offset_encode(buf, sizeof(buf), INS_ACK, UINT64_MAX);
	violate(buf, n);
	n = ins_offset_encode(buf, sizeof(buf), INS_ACK, 20);
	n += ins_offset_encode(buf + n, sizeof(buf) - n, INS_ACK, 19);
	violate(buf, n);
	/* Malformed ones. */
	n = build(buf, INS_OPEN, 2);
	buf[n - 1] = 0;
	violate(buf, n);
	n = ins_end_encode(buf, sizeof(buf), 1, "\x01");
	violate(buf, n);
}

/* A peer that takes no answers: ended, with bounded memory. */
void
test_peer_unread(void)
{
	uint8_t buf[INS_ENCODE_MAX];
	struct sim *s = peer_sim(INS_EXTENDED, SIM_REFUSE, SERVER);
	struct sim_side *d = &s->side[CLIENT];
	uint64_t id = 0;
	size_t n = 0, most = 0;

	/* Answers stay in the pipe; nothing is acknowledged. */
	while (d->session != NULL && id < 200000) {
		s->npairs = 0;
		n = build(buf, INS_OPEN, ++id);
		sim_inject(s, buf, n);
		if (d->driver.pool.held > most)
			most = d->driver.pool.held;
	}
	CU_ASSERT_EQUAL(d->end_code, INS_END_UNREAD);
	CU_ASSERT(most < 1400000);
	CU_ASSERT(id > 20000);
	CU_ASSERT_TRUE(sim_free(s));
	/* Read but never acknowledged. */
	s = peer_sim(INS_EXTENDED, SIM_REFUSE, SERVER);
	d = &s->side[CLIENT];
	for (id = 1; d->session != NULL && id < 200000; id++) {
		s->npairs = 0;
		n = build(buf, INS_OPEN, id);
		sim_inject(s, buf, n);
		d->out.len = d->out.arrived = 0;
	}
	CU_ASSERT_EQUAL(d->end_code, INS_END_UNREAD);
	CU_ASSERT(id > 20000);
	CU_ASSERT_TRUE(sim_free(s));
	/* Read and acknowledged: for as long as it likes. */
	s = peer_sim(INS_EXTENDED, SIM_REFUSE, SERVER);
	d = &s->side[CLIENT];
	for (id = 1; d->session != NULL && id < 100000; id++) {
		s->npairs = 0;
		n = build(buf, INS_OPEN, id);
		sim_inject(s, buf, n);
		d->out.len = d->out.arrived = 0;
		if (id % 1000 == 0 && d->session != NULL)
			sim_inject(s, buf,
			    ins_offset_encode(buf, sizeof(buf), INS_ACK,
				session_offsets(d->session).sent));
	}
	CU_ASSERT_EQUAL(id, 100000);
	CU_ASSERT_TRUE(sim_free(s));
}

/* What the handshake read too much is acknowledged as well. */
void
test_peer_input_is_acknowledged(void)
{
	struct sim *s = peer_sim(INS_EXTENDED, SIM_NOW, SERVER);
	struct sim_side *d = &s->side[CLIENT];
	uint8_t buf[INS_ENCODE_MAX];
	size_t n = build(buf, INS_OPEN, 1);

	session_input(d->session, buf, n);
	sim_pass(s, 150 * MS);
	CU_ASSERT_EQUAL(session_streams(d->session), 1);
	CU_ASSERT_EQUAL(session_offsets(d->session).received, n);
	CU_ASSERT_EQUAL(d->out.n[INS_ACK], 1);
	CU_ASSERT_EQUAL(d->out.last_ack, n);
	CU_ASSERT_TRUE(sim_free(s));
}

static void
open_with(struct sim *s, struct ins_open *o, uint64_t identity)
{
	uint8_t buf[INS_ENCODE_MAX];

	o->identity = identity;
	o->window = INS_WINDOW_MIN;
	sim_inject(s, buf, ins_open_encode(buf, sizeof(buf), o));
	sim_settle(s);
}

void
test_peer_opens_refused(void)
{
	struct sim *s = peer_sim(INS_EXTENDED, SIM_NOW, CLIENT);
	struct sim_side *d = &s->side[SERVER];
	struct ins_open o = {.form = INS_FORM_PORT, .port = 1, .kind = 1};

	open_with(s, &o, INS_BY_CLIENT | 1);
	o = (struct ins_open){.form = 77, .port = 1};
	open_with(s, &o, INS_BY_CLIENT | 5);
	CU_ASSERT_EQUAL(d->out.n[INS_OPENED], 2);
	CU_ASSERT_EQUAL(session_streams(d->session), 0);
	o = (struct ins_open){.form = INS_FORM_PORT, .port = 1, .class = 9};
	open_with(s, &o, INS_BY_CLIENT | 6);
	CU_ASSERT_EQUAL(session_streams(d->session), 1);
	/* Those that were refused or left out are over. */
	say(s, INS_DATA, INS_BY_CLIENT | 1);
	say(s, INS_DATA, INS_BY_CLIENT | 3);
	say(s, INS_RESET, INS_BY_CLIENT | 5);
	CU_ASSERT_PTR_NOT_NULL(d->session);
	CU_ASSERT_TRUE(sim_free(s));
}

/* Unknown instructions that may be skipped, in any pieces. */
void
test_peer_skipped(void)
{
	static uint8_t buf[6 + INS_SKIP_MAX];
	struct session_offsets o;
	struct sim *s;
	unsigned i;

	for (i = 0; i < 4; i++) {
		s = sim_new(&(struct sim_config){
		    .dialect = INS_EXTENDED,
		    .by_hand = 1 + SERVER,
		    .piece = i * 5,
		    .answer = SIM_NOW,
		});
		memcpy(buf, "\x02\x00\0\1\0\0", 6);
		sim_inject(s, buf, sizeof(buf));
		memcpy(buf, "\x43\x00\0\0\0\3xyz", 9);
		sim_inject(s, buf, 9);
		memcpy(buf, "\x03\x00\0\0\0\0", 6);
		sim_inject(s, buf, 6);
		say(s, INS_OPEN, 1);
		CU_ASSERT_EQUAL(session_streams(s->side[CLIENT].session), 1);
		o = session_offsets(s->side[CLIENT].session);
		CU_ASSERT_EQUAL(o.received, sizeof(buf) + 6 + 29);
		CU_ASSERT_TRUE(sim_free(s));
	}
}

/* A conversation, cut in two at every byte. */
void
test_peer_every_cut(void)
{
	static const unsigned said[] = {
	    INS_OPEN,
	    INS_DATA,
	    INS_DATA,
	    INS_CREDIT,
	    INS_LIMIT,
	    INS_DATA,
	    INS_HALF_CLOSE,
	    INS_CLOSE,
	};
	uint8_t buf[1000];
	struct sim_end *e;
	size_t len = 0, cut, i;
	struct sim *s;

	for (i = 0; i < ELEMENTS(said); i++) {
		len += build(buf + len, said[i], 1);
		if (said[i] == INS_LIMIT) {
			len += ins_offset_encode(buf + len, 100, INS_PING, 5);
			memcpy(buf + len, "\x03\x07\0\0\0\4wxyz", 10);
			len += 10;
		}
	}
	for (cut = 0; cut <= len; cut++) {
		s = peer_sim(INS_EXTENDED, SIM_NOW, SERVER);
		sim_inject(s, buf, cut);
		CU_ASSERT_PTR_NOT_NULL_FATAL(s->side[CLIENT].session);
		sim_inject(s, buf + cut, len - cut);
		sim_pass(s, 2 * MS);
		CU_ASSERT_PTR_NOT_NULL_FATAL(s->side[CLIENT].session);
		e = &s->pairs[0].end[1];
		CU_ASSERT_EQUAL(e->got, 3);
		CU_ASSERT_TRUE(e->shut);
		CU_ASSERT_EQUAL(e->over, SIM_CLOSED);
		CU_ASSERT_EQUAL(s->side[CLIENT].out.n[INS_PONG], 1);
		CU_ASSERT_EQUAL(session_offsets(s->side[CLIENT].session)
				    .received,
		    len - 14);
		e->corrupt = false;
		CU_ASSERT_TRUE(sim_free(s));
	}
}

static void
classic_peer(unsigned by_hand, const void *data, size_t len, bool ends)
{
	struct sim *s = peer_sim(INS_CLASSIC, SIM_NOW, by_hand);
	struct sim_side *d = &s->side[!by_hand];

	if (by_hand == CLIENT) {
		sim_open(s, SERVER, SIM_NOW);
		sim_settle(s);
	}
	sim_inject(s, data, len);
	sim_settle(s);
	CU_ASSERT_EQUAL(d->ended, ends);
	if (ends)
		CU_ASSERT_EQUAL(d->end_code, INS_END_PROTOCOL);
	if (s->npairs > 0)
		s->pairs[0].end[0].corrupt = s->pairs[0].end[1].corrupt = false;
	CU_ASSERT_TRUE(sim_free(s));
}

void
test_peer_classic(void)
{
	static const char open[] = "\0\1abcdef\0\1";
	static const char twice[] = "\0\1abcdef\0\1\0\1abcdef\0\1";
	static const char again[] = "\0\1abcdef\0\1\0\4abcdef\0\1abcdef\0\1";

	classic_peer(CLIENT, "\0\2", 2, false);
	classic_peer(CLIENT, "\0\3abcdef\0\0\0\1x", 13, false);
	classic_peer(CLIENT, "\0\3\0\0\0\0\0\1\0\0\0\0", 12, false);
	classic_peer(CLIENT, "\0\4abcdef", 8, false);
	classic_peer(CLIENT, open, 10, true);
	classic_peer(CLIENT, "\0\0\0\0\0\1x", 7, true);
	classic_peer(CLIENT, "\0\5", 2, true);
	classic_peer(CLIENT, "\xc2\x10", 2, true);
	classic_peer(SERVER, "\0\2", 2, true);
	classic_peer(SERVER, open, 10, false);
	/* The peer has forgotten the first. */
	classic_peer(SERVER, twice, 20, false);
	classic_peer(SERVER, again, 28, false);
	classic_peer(SERVER, "\0\3abcdef\0\0\0\1x", 13, false);
}

/*
 * A peer that lowers its grant while much is queued for a stopped reader has
 * not given that memory back: else windows could be had again and again.
 */
void
test_peer_limit_of_a_stopped_reader(void)
{
	static uint8_t buf[INS_DATA_HEAD + 240000];
	struct sim *s = peer_sim(INS_EXTENDED, SIM_LATER, SERVER);
	struct sim_side *d = &s->side[CLIENT];
	uint8_t limit[64];

	/* Answered, then stopped. */
	say(s, INS_OPEN, 1);
	s->pairs[0].end[1].room = 0;
	sim_answer(s, &s->pairs[0], INS_CONNECTED);
	sim_settle(s);
	ins_data_head_encode(buf, 1, 240000);
	sim_inject(s, buf, sizeof(buf));
	sim_inject(s, limit,
	    ins_limit_encode(limit, sizeof(limit),
		&(struct ins_limit){1, 250000, WINDOW_START}));
	sim_settle(s);
	CU_ASSERT_PTR_NOT_NULL(d->session);
	CU_ASSERT(d->process.used >= 240000);
	CU_ASSERT_TRUE(sim_free(s));
}
