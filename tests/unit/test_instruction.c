/*
 * The codec: every encoder against its decoder, every decoder against every
 * prefix, and the bounds of PROTOCOL.md.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "instruction.h"
#include "unit.h"

#define ELEMENTS(a) (sizeof(a) / sizeof((a)[0]))
#define BIG (6 + INS_REGISTER_MAX)

static const uint8_t nonce[INS_NONCE_SIZE] = {1, 2, 3, 255};
static const uint8_t instance[INS_INSTANCE_SIZE] = {9, 8, 7};
static const uint8_t held[8 * INS_HELD_MAX] = {0, 0, 0, 0, 0, 0, 0, 5, 1};
static const uint8_t secret[INS_SECRET_SIZE] = {11, 12, [31] = 13};
static const uint8_t proof[INS_PROOF_SIZE] = {21, 22, [31] = 23};
static char text255[256], text254[255];

#define BYTES(s) \
	{ \
		(const uint8_t *)(s), sizeof(s) - 1 \
	}

/*
 * Decode a payload and encode what it said again: 0 when it is bad.  In any
 * encoding of ours that gives the same bytes.
 */
typedef size_t
again_fn(const uint8_t *payload, size_t len, uint8_t *buf, size_t cap);

#define AGAIN(name, type, decode, encode) \
	static size_t name(const uint8_t *p, size_t len, uint8_t *buf, \
	    size_t cap) \
	{ \
		struct type v; \
		enum ins_status status = decode; \
\
		CU_ASSERT_NOT_EQUAL_FATAL(status, INS_MORE); \
		return status == INS_OK ? encode(buf, cap, &v) : 0; \
	}

AGAIN(hello_client, ins_hello, ins_hello_decode(p, len, false, &v),
    ins_hello_encode)
AGAIN(hello_server, ins_hello, ins_hello_decode(p, len, true, &v),
    ins_hello_encode)
AGAIN(registration, ins_register, ins_register_decode(p, len, &v),
    ins_register_encode)
AGAIN(registered, ins_registered, ins_registered_decode(p, len, &v),
    ins_registered_encode)
AGAIN(resume, ins_resume, ins_resume_decode(p, len, &v), ins_resume_encode)
AGAIN(resumed, ins_resumed, ins_resumed_decode(p, len, &v), ins_resumed_encode)
AGAIN(open_again, ins_open, ins_open_decode(p, len, &v), ins_open_encode)
AGAIN(opened, ins_opened, ins_opened_decode(p, len, &v), ins_opened_encode)
AGAIN(reset, ins_reset, ins_reset_decode(p, len, &v), ins_reset_encode)
AGAIN(credit, ins_credit, ins_credit_decode(p, len, &v), ins_credit_encode)
AGAIN(limit, ins_limit, ins_limit_decode(p, len, &v), ins_limit_encode)

#define END(name, encode) \
	static size_t name(const uint8_t *p, size_t len, uint8_t *buf, \
	    size_t cap) \
	{ \
		char text[INS_TEXT_MAX + 1]; \
		struct ins_end e; \
\
		if (ins_end_decode(p, len, &e) != INS_OK) \
			return 0; \
		memcpy(text, e.text.data, e.text.len); \
		text[e.text.len] = '\0'; \
		return encode(buf, cap, e.code, text); \
	}
END(end_again, ins_end_encode)
END(go_away, ins_go_away_encode)

static size_t
half_close(const uint8_t *p, size_t len, uint8_t *buf, size_t cap)
{
	uint64_t identity;

	return ins_identity_decode(p, len, &identity) == INS_OK ?
	    ins_half_close_encode(buf, cap, identity) :
	    0;
}

#define OFFSET(name, number) \
	static size_t name(const uint8_t *p, size_t len, uint8_t *buf, \
	    size_t cap) \
	{ \
		uint64_t v; \
\
		return ins_offset_decode(p, len, &v) == INS_OK ? \
		    ins_offset_encode(buf, cap, number, v) : \
		    0; \
	}
OFFSET(ack, INS_ACK)
OFFSET(ping, INS_PING)
OFFSET(pong, INS_PONG)

/* Every encoder, by number of the sample; 0: no such sample, or no room. */
#define SAMPLES 44
static again_fn *
sample(int i, uint8_t *buf, size_t cap, size_t *len)
{
	const uint64_t top = INS_IDENTITY_MAX;
	struct ins_hello hello = {1, 0x0102030405060708, nonce, NULL, 0};
	struct ins_hello answer = {1, UINT64_MAX, nonce, instance, UINT64_MAX};
	struct ins_register reg = {
	    .name = BYTES("büro"),
	    .instance = instance,
	    .serial = 2,
	    .settled = 1,
	};
	struct ins_resume back = {.session = 1, .attempt = 1, .proof = proof};
	struct ins_open o = {
	    .identity = 1,
	    .window = INS_WINDOW_MIN,
	    .form = INS_FORM_PORT,
	    .port = 80,
	};
	const struct ins_address v4 = {4, {1, 2, 3, 4}, 5};
	const struct ins_address v6 = {6, {[0] = 0x20, [15] = 1}, 65535};

#define IS(f, call) \
	*len = call; \
	return f
	memset(text255, 'x', 255);
	memset(text254, 'y', 254);
	switch (i) {
	case 0:
		IS(hello_client, ins_hello_encode(buf, cap, &hello));
	case 1:
		IS(hello_server, ins_hello_encode(buf, cap, &answer));
	case 2:
		IS(registration, ins_register_encode(buf, cap, &reg));
	case 3:
		reg.name = (struct ins_bytes){(uint8_t *)text255, 255};
		reg.serial = UINT64_MAX;
		reg.settled = UINT64_MAX - 1;
		reg.held = (struct ins_bytes){held, 8};
		reg.standby = true;
		reg.software = (struct ins_bytes){(uint8_t *)text255, 64};
		IS(registration, ins_register_encode(buf, cap, &reg));
	case 4:
		reg.held = (struct ins_bytes){held, sizeof(held)};
		IS(registration, ins_register_encode(buf, cap, &reg));
	case 5:
		reg.standby = true;
		IS(registration, ins_register_encode(buf, cap, &reg));
	case 6:
		IS(registered,
		    ins_registered_encode(buf, cap,
			&(struct ins_registered){.session = 1}));
	case 7:
		IS(registered,
		    ins_registered_encode(buf, cap,
			&(struct ins_registered){.session = UINT64_MAX}));
	case 8:
		IS(end_again, ins_end_encode(buf, cap, 1, ""));
	case 9:
		IS(end_again, ins_end_encode(buf, cap, 65535, text255));
	case 10:
		IS(ack, ins_offset_encode(buf, cap, INS_ACK, 0));
	case 11:
		IS(ack, ins_offset_encode(buf, cap, INS_ACK, UINT64_MAX));
	case 12:
		IS(ping, ins_offset_encode(buf, cap, INS_PING, 1 << 20));
	case 13:
		IS(pong, ins_offset_encode(buf, cap, INS_PONG, 77));
	case 14:
		IS(open_again, ins_open_encode(buf, cap, &o));
	case 15:
		o.identity = top;
		o.kind = o.class = 255;
		o.window = INS_WINDOW_MAX;
		o.port = 65535;
		o.source = v4;
		IS(open_again, ins_open_encode(buf, cap, &o));
	case 16:
		o.form = INS_FORM_HOST;
		o.host = (struct ins_bytes){(uint8_t *)text255, INS_HOST_MAX};
		o.source = o.destination = v6;
		IS(open_again, ins_open_encode(buf, cap, &o));
	case 17:
		o.form = INS_FORM_HOST;
		o.host = (struct ins_bytes)BYTES("a");
		o.destination = v4;
		IS(open_again, ins_open_encode(buf, cap, &o));
	case 18:
		IS(opened,
		    ins_opened_encode(buf, cap,
			&(struct ins_opened){1, INS_CONNECTED, INS_WINDOW_MIN,
			    {NULL, 0}}));
	case 19:
		IS(opened,
		    ins_opened_encode(buf, cap,
			&(struct ins_opened){top, INS_CONNECTED, INS_WINDOW_MAX,
			    {NULL, 0}}));
	case 20:
		IS(opened,
		    ins_opened_encode(buf, cap,
			&(struct ins_opened){top, INS_FAILED, 0,
			    {(uint8_t *)text255, 255}}));
	case 21:
		IS(opened,
		    ins_opened_encode(buf, cap,
			&(struct ins_opened){top, 255, 0, BYTES("é")}));
	case 22:
		IS(half_close, ins_half_close_encode(buf, cap, 1));
	case 23:
		IS(half_close, ins_half_close_encode(buf, cap, top));
	case 24:
		IS(reset,
		    ins_reset_encode(buf, cap,
			&(struct ins_reset){top, 65535}));
	case 25:
		IS(credit,
		    ins_credit_encode(buf, cap,
			&(struct ins_credit){1, UINT64_MAX}));
	case 26:
		IS(limit,
		    ins_limit_encode(buf, cap,
			&(struct ins_limit){top, 1, UINT64_MAX}));
	case 27:
		IS(NULL, ins_initial_remote_encode(buf, cap, "a"));
	case 28:
		IS(NULL, ins_initial_remote_encode(buf, cap, text255));
	case 29:
		IS(NULL, ins_initial_connection_encode(buf, cap, top, 1));
	case 30:
		IS(NULL, ins_initial_connection_encode(buf, cap, 7, 65535));
	case 31:
		IS(NULL, ins_heartbeat_encode(buf, cap));
	case 32:
		IS(NULL, ins_close_encode(buf, cap, 5));
	case 33:
		IS(NULL, ins_close_encode(buf, cap, top));
	case 34:
		reg.resume = 1;
		IS(registration, ins_register_encode(buf, cap, &reg));
	case 35:
		reg.resume = INS_RESUME_MS_MAX;
		reg.standby = true;
		reg.held = (struct ins_bytes){held, sizeof(held)};
		IS(registration, ins_register_encode(buf, cap, &reg));
	case 36:
		IS(registered,
		    ins_registered_encode(buf, cap,
			&(struct ins_registered){1, INS_RESUME_MS_MAX,
			    secret}));
	case 37:
		back.who = reg;
		IS(resume, ins_resume_encode(buf, cap, &back));
	case 38:
		reg.name = (struct ins_bytes){(uint8_t *)text255, 255};
		reg.held = (struct ins_bytes){held, sizeof(held)};
		reg.software = (struct ins_bytes){(uint8_t *)text255, 64};
		back = (struct ins_resume){reg, UINT64_MAX, UINT64_MAX - 1,
		    UINT64_MAX - 2, proof};
		IS(resume, ins_resume_encode(buf, cap, &back));
	case 39:
		IS(resumed,
		    ins_resumed_encode(buf, cap,
			&(struct ins_resumed){0, proof}));
	case 40:
		IS(resumed,
		    ins_resumed_encode(buf, cap,
			&(struct ins_resumed){UINT64_MAX, proof}));
	case 41:
		IS(go_away, ins_go_away_encode(buf, cap, 1, ""));
	case 42:
		IS(go_away, ins_go_away_encode(buf, cap, 9, "büro"));
	default:
		IS(go_away, ins_go_away_encode(buf, cap, 65535, text255));
	}
}

/* A copy that ends where its block ends, so that asan sees a read past it. */
static uint8_t *
exact(const uint8_t *data, size_t len)
{
	uint8_t *p = malloc(len);

	if (len > 0)
		memcpy(p, data, len);
	return p;
}

static enum ins_dialect
dialect_of(int i)
{
	return i >= 27 && i <= 33 ? INS_CLASSIC : INS_EXTENDED;
}

static void
test_round_trip(void)
{
	static uint8_t buf[BIG + 1000], out[BIG + 1000];
	struct ins_head h;
	size_t len, used, n;
	uint8_t *payload;
	again_fn *again;
	int i;

	for (i = 0; i < SAMPLES; i++) {
		again = sample(i, buf, sizeof(buf), &len);
		CU_ASSERT_FATAL(len >= 2);
		CU_ASSERT_EQUAL(ins_head_decode(dialect_of(i), buf, len, &h,
				    &used),
		    INS_OK);
		CU_ASSERT_EQUAL(h.number, buf[0] << 8 | buf[1]);
		CU_ASSERT_EQUAL(used + h.length, len);
		CU_ASSERT_EQUAL(dialect_of(i) == INS_EXTENDED ||
			h.number == INS_CLOSE,
		    ins_known(h.number));
		if (again == NULL)
			continue;
		payload = exact(buf + used, h.length);
		n = again(payload, h.length, out, sizeof(out));
		CU_ASSERT_EQUAL(n, len);
		CU_ASSERT(n == len && memcmp(out, buf, n) == 0);
		free(payload);
	}
}

static void
test_values(void)
{
	struct ins_register g;
	uint8_t buf[BIG];
	struct ins_head h;
	struct ins_open o;
	size_t len, used;

	sample(3, buf, sizeof(buf), &len);
	CU_ASSERT_EQUAL(ins_register_decode(buf + 6, len - 6, &g), INS_OK);
	CU_ASSERT_EQUAL(g.name.len, 255);
	CU_ASSERT_EQUAL(g.serial, UINT64_MAX);
	CU_ASSERT_EQUAL(g.settled, UINT64_MAX - 1);
	CU_ASSERT_EQUAL(ins_held(&g.held, 0), 5);
	CU_ASSERT_TRUE(g.standby);
	CU_ASSERT_EQUAL(g.resume, 0);
	sample(35, buf, sizeof(buf), &len);
	CU_ASSERT_EQUAL(ins_register_decode(buf + 6, len - 6, &g), INS_OK);
	CU_ASSERT_EQUAL(g.resume, INS_RESUME_MS_MAX);
	sample(16, buf, sizeof(buf), &len);
	CU_ASSERT_EQUAL(ins_open_decode(buf + 6, len - 6, &o), INS_OK);
	CU_ASSERT_EQUAL(o.identity, 1);
	CU_ASSERT_EQUAL(o.host.len, INS_HOST_MAX);
	CU_ASSERT_EQUAL(o.source.family, 6);
	CU_ASSERT_EQUAL(o.source.port, 65535);
	sample(28, buf, sizeof(buf), &len);
	CU_ASSERT_EQUAL(ins_head_decode(INS_CLASSIC, buf, len, &h, &used),
	    INS_OK);
	CU_ASSERT_EQUAL(h.length, 255);
	sample(29, buf, sizeof(buf), &len);
	CU_ASSERT_EQUAL(ins_head_decode(INS_CLASSIC, buf, len, &h, &used),
	    INS_OK);
	CU_ASSERT_EQUAL(h.identity, INS_IDENTITY_MAX);
	CU_ASSERT_EQUAL(h.port, 1);
	ins_data_head_encode(buf, INS_BY_CLIENT | 3, UINT32_MAX);
	for (len = 0; len < 2; len++) {
		CU_ASSERT_EQUAL(ins_head_decode((enum ins_dialect)len, buf,
				    INS_DATA_HEAD, &h, &used),
		    INS_OK);
		CU_ASSERT_EQUAL(h.number, INS_DATA);
		CU_ASSERT_EQUAL(h.identity, INS_BY_CLIENT | 3);
		CU_ASSERT_EQUAL(h.length, UINT32_MAX);
		CU_ASSERT_EQUAL(used, INS_DATA_HEAD);
	}
}

/* What resuming says. */
static void
test_resume_values(void)
{
	struct ins_registered g;
	struct ins_resumed d;
	struct ins_resume m;
	struct ins_end e;
	uint8_t buf[BIG];
	size_t len;

	sample(6, buf, sizeof(buf), &len);
	CU_ASSERT_EQUAL(ins_registered_decode(buf + 6, len - 6, &g), INS_OK);
	CU_ASSERT_EQUAL(g.resume, 0);
	CU_ASSERT_PTR_NULL(g.secret);
	sample(36, buf, sizeof(buf), &len);
	CU_ASSERT_EQUAL(ins_registered_decode(buf + 6, len - 6, &g), INS_OK);
	CU_ASSERT_EQUAL(g.session, 1);
	CU_ASSERT_EQUAL(g.resume, INS_RESUME_MS_MAX);
	CU_ASSERT_EQUAL(memcmp(g.secret, secret, sizeof(secret)), 0);
	sample(38, buf, sizeof(buf), &len);
	CU_ASSERT_EQUAL(ins_resume_decode(buf + 6, len - 6, &m), INS_OK);
	CU_ASSERT_EQUAL(m.who.name.len, 255);
	CU_ASSERT_EQUAL(memcmp(m.who.instance, instance, sizeof(instance)), 0);
	CU_ASSERT_EQUAL(m.who.serial, 2);
	CU_ASSERT_EQUAL(m.who.settled, 1);
	CU_ASSERT_EQUAL(m.who.held.len, 8 * INS_HELD_MAX);
	CU_ASSERT_EQUAL(m.session, UINT64_MAX);
	CU_ASSERT_EQUAL(m.attempt, UINT64_MAX - 1);
	CU_ASSERT_EQUAL(m.offset, UINT64_MAX - 2);
	CU_ASSERT_EQUAL(memcmp(m.proof, proof, sizeof(proof)), 0);
	sample(40, buf, sizeof(buf), &len);
	CU_ASSERT_EQUAL(ins_resumed_decode(buf + 6, len - 6, &d), INS_OK);
	CU_ASSERT_EQUAL(d.offset, UINT64_MAX);
	CU_ASSERT_EQUAL(memcmp(d.proof, proof, sizeof(proof)), 0);
	sample(42, buf, sizeof(buf), &len);
	CU_ASSERT_EQUAL(ins_end_decode(buf + 6, len - 6, &e), INS_OK);
	CU_ASSERT_EQUAL(e.code, INS_END_SHUTDOWN);
	CU_ASSERT_EQUAL(e.text.len, 5);
}

/* The payload of a sample without its n-th field; whether it is taken. */
static bool
without_field(int i, unsigned n, bool *there)
{
	static uint8_t buf[BIG], out[BIG];
	size_t len, at = 6, size, all;
	again_fn *again = sample(i, buf, sizeof(buf), &all);

	len = 0;
	*there = false;
	for (; at < all; at += size) {
		size = 4u + (size_t)(buf[at + 2] << 8 | buf[at + 3]);
		if (n-- == 0)
			*there = true;
		else {
			memmove(buf + 6 + len, buf + at, size);
			len += size;
		}
	}
	return again(buf + 6, len, out, sizeof(out)) > 0;
}

static void
test_required(void)
{
	unsigned n;
	bool there;

	/* All that these have is required. */
	for (n = 0;; n++) {
		if (without_field(37, n, &there) == there)
			CU_FAIL("a field of InsResume is not required");
		if (!there)
			break;
	}
	CU_ASSERT_EQUAL(n, 8);
	for (n = 0; n < 2; n++)
		CU_ASSERT_FALSE(without_field(39, n, &there));
	CU_ASSERT_TRUE(without_field(39, n, &there));
	/* Session, resume, secret; a secret alone says nothing. */
	CU_ASSERT_FALSE(without_field(36, 0, &there));
	CU_ASSERT_TRUE(without_field(36, 1, &there));
	CU_ASSERT_FALSE(without_field(36, 2, &there));
	CU_ASSERT_TRUE(without_field(36, 3, &there));
}

static void
cut_head(enum ins_dialect dialect, const uint8_t *buf, size_t head)
{
	struct ins_head h;
	size_t used, n;
	uint8_t *p;

	for (n = 0; n <= head; n++) {
		p = exact(buf, n);
		CU_ASSERT_EQUAL(ins_head_decode(dialect, p, n, &h, &used),
		    n < head ? INS_MORE : INS_OK);
		free(p);
	}
	CU_ASSERT_EQUAL(used, head);
}

static void
test_heads_cut(void)
{
	uint8_t buf[BIG + 1000];
	struct ins_head h;
	size_t len, used;
	int i;

	for (i = 0; i < SAMPLES; i++) {
		sample(i, buf, sizeof(buf), &len);
		ins_head_decode(dialect_of(i), buf, len, &h, &used);
		cut_head(dialect_of(i), buf, used);
	}
	ins_data_head_encode(buf, 1, 1);
	cut_head(INS_CLASSIC, buf, INS_DATA_HEAD);
	cut_head(INS_EXTENDED, buf, INS_DATA_HEAD);
}

/* A cut payload is bad, unless it is a whole one with fewer fields. */
static void
test_payloads_cut(void)
{
	static uint8_t buf[BIG + 1000], out[BIG + 1000];
	size_t len, n, got;
	again_fn *again;
	uint8_t *p;
	int i;

	for (i = 0; i < SAMPLES; i++) {
		again = sample(i, buf, sizeof(buf), &len);
		for (n = 0; again != NULL && n < len - 6; n++) {
			p = exact(buf + 6, n);
			got = again(p, n, out, sizeof(out));
			CU_ASSERT(got == 0 ||
			    (got == n + 6 && memcmp(out + 6, buf + 6, n) == 0));
			free(p);
		}
		if (again == NULL || again == end_again || again == go_away)
			continue;
		/* A byte too many is a field that is cut. */
		p = malloc(len - 5);
		memcpy(p, buf + 6, len - 6);
		p[len - 6] = 0;
		CU_ASSERT_EQUAL(again(p, len - 5, out, sizeof(out)), 0);
		free(p);
	}
}

static void
test_no_room(void)
{
	static uint8_t buf[BIG + 1000];
	size_t len, n, cap, i;
	uint8_t *p;
	int k;

	for (k = 0; k < SAMPLES; k++) {
		sample(k, buf, sizeof(buf), &len);
		for (cap = 0; cap<len; cap += cap> 600 ? 97 : 1) {
			p = malloc(cap + 16);
			memset(p, 0xee, cap + 16);
			sample(k, p, cap, &n);
			CU_ASSERT_EQUAL(n, 0);
			for (i = cap; i < cap + 16; i++)
				CU_ASSERT_FATAL(p[i] == 0xee);
			free(p);
		}
		p = malloc(len);
		sample(k, p, len, &n);
		CU_ASSERT_EQUAL(n, len);
		free(p);
		CU_ASSERT(len <= INS_ENCODE_MAX || k == 3 || k == 4 ||
		    k == 35 || k == 38);
	}
}

static enum ins_status
head_status(enum ins_dialect dialect, unsigned number, uint32_t length)
{
	uint8_t b[INS_HEAD_MAX] = {
	    (uint8_t)(number >> 8),
	    (uint8_t)number,
	    (uint8_t)(length >> 24),
	    (uint8_t)(length >> 16),
	    (uint8_t)(length >> 8),
	    (uint8_t)length,
	};
	struct ins_head h;
	size_t used;

	return ins_head_decode(dialect, b, sizeof(b), &h, &used);
}

static void
test_lengths(void)
{
	static const struct {
		uint16_t number;
		uint32_t min, max;
		bool counted;
	} rows[] = {
	    {INS_HELLO, 42, 1024, false},
	    {INS_REGISTER, 0, 16384, false},
	    {INS_REGISTERED, 0, 1024, false},
	    {INS_END, 2, 1024, false},
	    {INS_RESUME, 0, 16384, false},
	    {INS_RESUMED, 0, 1024, false},
	    {INS_ACK, 8, 8, false},
	    {INS_PING, 8, 8, false},
	    {INS_PONG, 8, 8, false},
	    {INS_OPEN, 16, 1024, true},
	    {INS_OPENED, 15, 1024, true},
	    {INS_HALF_CLOSE, 6, 6, true},
	    {INS_RESET, 8, 8, true},
	    {INS_CREDIT, 14, 14, true},
	    {INS_LIMIT, 22, 22, true},
	    {INS_GO_AWAY, 2, 1024, true},
	};
	size_t i;

#define E(number, length) head_status(INS_EXTENDED, number, length)
	for (i = 0; i < ELEMENTS(rows); i++) {
		CU_ASSERT_EQUAL(E(rows[i].number, rows[i].min), INS_OK);
		CU_ASSERT_EQUAL(E(rows[i].number, rows[i].max), INS_OK);
		CU_ASSERT_EQUAL(E(rows[i].number, rows[i].max + 1), INS_BAD);
		CU_ASSERT_EQUAL(E(rows[i].number, UINT32_MAX), INS_BAD);
		if (rows[i].min > 0)
			CU_ASSERT_EQUAL(E(rows[i].number, rows[i].min - 1),
			    INS_BAD);
		CU_ASSERT_EQUAL(ins_counted(rows[i].number), rows[i].counted);
		CU_ASSERT_TRUE(ins_known(rows[i].number));
		CU_ASSERT_EQUAL(head_status(INS_CLASSIC, rows[i].number,
				    rows[i].min),
		    INS_BAD);
	}
	CU_ASSERT_TRUE(ins_counted(INS_DATA));
	CU_ASSERT_TRUE(ins_counted(INS_CLOSE));
	for (i = 0; i < 258; i++)
		CU_ASSERT_EQUAL(head_status(INS_CLASSIC, INS_INITIAL_REMOTE,
				    (uint32_t)i),
		    i >= 1 && i <= 255 ? INS_OK : INS_BAD);
}

/* Every number that there is, in both dialects. */
static void
test_numbers(void)
{
	unsigned n;
	bool known;

	for (n = 0; n < 65536; n++) {
		known = ins_known((uint16_t)n);
		CU_ASSERT_EQUAL(strcmp(ins_name((uint16_t)n), "unknown") != 0,
		    known || n <= INS_HEARTBEAT);
		if (n > INS_CLOSE)
			CU_ASSERT_EQUAL(head_status(INS_CLASSIC, n, 0),
			    INS_BAD);
		if (known)
			continue;
		if (n < INS_EXTENDED_FIRST || n & INS_MUST_UNDERSTAND) {
			CU_ASSERT_EQUAL(E(n, 0), INS_BAD);
			continue;
		}
		CU_ASSERT_EQUAL(E(n, 0), INS_OK);
		CU_ASSERT_EQUAL(E(n, INS_SKIP_MAX), INS_OK);
		CU_ASSERT_EQUAL(E(n, INS_SKIP_MAX + 1), INS_BAD);
		CU_ASSERT_EQUAL(ins_counted((uint16_t)n),
		    (n & INS_CARRIER_LOCAL) == 0);
	}
}

#undef E

static void
test_names(void)
{
	static const struct {
		const char *name;
		size_t len;
		bool valid;
	} rows[] = {
#define OK(s) {s, sizeof(s) - 1, true}
#define NO(s) \
	{ \
		s, sizeof(s) - 1, false \
	}
	    OK("a"),
	    OK(" "),
	    OK("~"),
	    OK("\xc2\xa0"),
	    OK("\xc3\xbf"),
	    OK("\xdf\xbf"),
	    OK("\xe0\xa0\x80"),
	    OK("\xed\x9f\xbf"),
	    OK("\xee\x80\x80"),
	    OK("\xef\xbf\xbf"),
	    OK("\xf0\x90\x80\x80"),
	    OK("\xf4\x8f\xbf\xbf"),
	    NO(""),
	    NO("a\0b"),
	    NO("\x1f"),
	    NO("\n"),
	    NO("a\x7f"),
	    NO("\xc2\x80"),
	    NO("\xc2\x85"),
	    NO("\xc2\x9f"),
	    NO("\xc0\x80"),
	    NO("\xc1\xbf"),
	    NO("\xc0\xaf"),
	    NO("\xe0\x80\x80"),
	    NO("\xe0\x9f\xbf"),
	    NO("\xf0\x80\x80\x80"),
	    NO("\xf0\x8f\xbf\xbf"),
	    NO("\xed\xa0\x80"),
	    NO("\xed\xbf\xbf"),
	    NO("\xf4\x90\x80\x80"),
	    NO("\xf7\xbf\xbf\xbf"),
	    NO("\xf8\x88\x80\x80\x80"),
	    NO("\xfe"),
	    NO("\xff"),
	    NO("\x80"),
	    NO("\xbf"),
	    NO("a\xc3"),
	    NO("\xe2\x82"),
	    NO("\xf0\x9f\x98"),
	    NO("\xc3("),
	    NO("\xe2(\xa1"),
	    NO("\xe2\x82("),
	    NO("\xf0\x9f\x98("),
#undef OK
#undef NO
	};
	uint8_t long_name[256], *p;
	size_t i;

	for (i = 0; i < ELEMENTS(rows); i++) {
		p = exact((const uint8_t *)rows[i].name, rows[i].len);
		CU_ASSERT_EQUAL(ins_name_valid(p, rows[i].len), rows[i].valid);
		CU_ASSERT_EQUAL(ins_text_valid(p, rows[i].len),
		    rows[i].valid || rows[i].len == 0);
		free(p);
	}
	memset(long_name, 'n', sizeof(long_name));
	CU_ASSERT_TRUE(ins_name_valid(long_name, 255));
	CU_ASSERT_FALSE(ins_name_valid(long_name, 256));
	CU_ASSERT_TRUE(ins_text_valid(long_name, 256));
}

/* The sample's payload with a field more: whether it is taken. */
static bool
with_field(int i, unsigned type, const void *value, unsigned len)
{
	static uint8_t buf[BIG + 70000], out[BIG];
	again_fn *again;
	uint8_t *p;
	size_t n;
	bool ok;

	again = sample(i, buf, sizeof(buf), &n);
	p = malloc(n - 6 + 4 + len);
	memcpy(p, buf + 6, n - 6);
	p[n - 6] = (uint8_t)(type >> 8);
	p[n - 5] = (uint8_t)type;
	p[n - 4] = (uint8_t)(len >> 8);
	p[n - 3] = (uint8_t)len;
	if (len > 0)
		memcpy(p + n - 2, value, len);
	ok = again(p, n - 6 + 4 + len, out, sizeof(out)) > 0;
	free(p);
	return ok;
}

static void
test_fields(void)
{
	static const int fielded[] = {0, 1, 2, 5, 6, 14, 18, 20, 34, 36, 37,
	    39};
	static const uint8_t value[16384 + 8] = {0, 0, 0, 0, 0, 0, 0, 1};
	static const uint8_t ones[20] = "\1\1\1\1\1\1\1\1\1\1";
	size_t i;

	for (i = 0; i < ELEMENTS(fielded); i++) {
		CU_ASSERT_TRUE(with_field(fielded[i], 0x7fff, value, 0));
		CU_ASSERT_TRUE(with_field(fielded[i], 0x1234, value, 9000));
		CU_ASSERT_TRUE(with_field(fielded[i], 0, value, 3));
		CU_ASSERT_FALSE(with_field(fielded[i], 0xffff, value, 0));
		CU_ASSERT_FALSE(with_field(fielded[i], 0x9234, value, 7));
		CU_ASSERT_FALSE(with_field(fielded[i], 0x8000, value, 7));
	}
	/* Twice. */
	CU_ASSERT_FALSE(with_field(2, 1, "a", 1));
	CU_ASSERT_FALSE(with_field(2, 2, value, 16));
	CU_ASSERT_FALSE(with_field(2, 3, value, 8));
	CU_ASSERT_FALSE(with_field(2, 4, value, 8));
	CU_ASSERT_FALSE(with_field(3, 5, value, 8));
	CU_ASSERT_FALSE(with_field(5, 6, value, 0));
	CU_ASSERT_FALSE(with_field(3, 7, "a", 1));
	CU_ASSERT_FALSE(with_field(6, 1, value, 8));
	CU_ASSERT_FALSE(with_field(34, 8, value, 8));
	CU_ASSERT_FALSE(with_field(36, 2, value, 8));
	CU_ASSERT_FALSE(with_field(36, 3, value, 32));
	for (i = 9; i <= 12; i++)
		CU_ASSERT_FALSE(
		    with_field(37, (unsigned)i, value, i == 12 ? 32 : 8));
	for (i = 1; i <= 4; i++)
		CU_ASSERT_FALSE(
		    with_field(37, (unsigned)i, value, i == 2 ? 16 : 8));
	CU_ASSERT_FALSE(with_field(39, 1, value, 8));
	CU_ASSERT_FALSE(with_field(39, 2, value, 32));
	CU_ASSERT_FALSE(with_field(14, 0x8001, "\1\0\1", 3));
	CU_ASSERT_FALSE(with_field(15, 2, "\4aaaabb", 7));
	CU_ASSERT_FALSE(with_field(17, 3, "\4aaaabb", 7));
	CU_ASSERT_FALSE(with_field(20, 1, "a", 1));
	/* Wrong lengths and values. */
	for (i = 0; i <= 17; i++) {
		CU_ASSERT_EQUAL(with_field(2, 5, value, (unsigned)i),
		    i % 8 == 0);
		CU_ASSERT_EQUAL(with_field(2, 6, value, (unsigned)i), i == 0);
		CU_ASSERT_EQUAL(with_field(14, 2,
				    "\4"
				    "aaaaaaaaaaaaaaaaa",
				    (unsigned)i),
		    i == 7);
		CU_ASSERT_EQUAL(with_field(14, 3,
				    "\6"
				    "aaaaaaaaaaaaaaaaaa",
				    (unsigned)i + 3),
		    i + 3 == 19);
		CU_ASSERT_FALSE(with_field(14, 2, ones, (unsigned)i));
	}
	for (i = 0; i <= 33; i++) {
		CU_ASSERT_EQUAL(with_field(2, 8, value, (unsigned)i), i == 8);
		/* Resumable, and no secret. */
		CU_ASSERT_FALSE(with_field(6, 2, value, (unsigned)i));
		CU_ASSERT_EQUAL(with_field(6, 3, value, (unsigned)i), i == 32);
	}
	CU_ASSERT_TRUE(with_field(2, 8, "\0\0\0\0\5\x26\x5c\0", 8));
	CU_ASSERT_FALSE(with_field(2, 8, "\0\0\0\0\5\x26\x5c\1", 8));
	CU_ASSERT_FALSE(with_field(2, 8, "\1\0\0\0\0\0\0\0", 8));
	/* They belong to InsResume. */
	for (i = 9; i <= 12; i++)
		CU_ASSERT_TRUE(with_field(2, (unsigned)i, value, 8));
	CU_ASSERT_TRUE(with_field(2, 5, value, 8192));
	CU_ASSERT_FALSE(with_field(2, 5, value, 8200));
	CU_ASSERT_TRUE(with_field(2, 7, text255, 64));
	CU_ASSERT_FALSE(with_field(2, 7, text255, 65));
	CU_ASSERT_FALSE(with_field(2, 7, "a\n", 2));
	CU_ASSERT_TRUE(with_field(18, 1, text255, 255));
	CU_ASSERT_FALSE(with_field(18, 1, ones, 1));
}

/* An InsOpen with its target and these bytes behind it; its weight, or 0. */
static unsigned
weight_of(const char *fields, size_t len)
{
	static const uint8_t head[] = {0, 0, 0, 0, 0, 1, 0, 2, 0, 0, 0, 0, 0, 0,
	    0x40, 0, 0x80, 1, 0, 3, 1, 0, 80};
	uint8_t payload[64];
	struct ins_open o;

	memcpy(payload, head, sizeof(head));
	memcpy(payload + sizeof(head), fields, len);
	return ins_open_decode(payload, sizeof(head) + len, &o) == INS_OK ?
	    o.weight :
	    0;
}

static void
test_weight(void)
{
	uint8_t buf[INS_ENCODE_MAX];
	struct ins_open o = {
	    .identity = 1,
	    .window = INS_WINDOW_MIN,
	    .form = INS_FORM_PORT,
	    .port = 80,
	};
	struct ins_open again;
	size_t without, n;
	unsigned w;

	CU_ASSERT_EQUAL(weight_of("", 0), INS_WEIGHT_DEFAULT);
	CU_ASSERT_EQUAL(weight_of("\0\4\0\1\1", 5), 1);
	CU_ASSERT_EQUAL(weight_of("\0\4\0\1\144", 5), INS_WEIGHT_MAX);
	CU_ASSERT_EQUAL(weight_of("\0\4\0\1\0", 5), 0);
	CU_ASSERT_EQUAL(weight_of("\0\4\0\1\145", 5), 0);
	CU_ASSERT_EQUAL(weight_of("\0\4\0\1\377", 5), 0);
	CU_ASSERT_EQUAL(weight_of("\0\4\0\0", 4), 0);
	CU_ASSERT_EQUAL(weight_of("\0\4\0\2\0\1", 6), 0);
	CU_ASSERT_EQUAL(weight_of("\0\4\0\1", 4), 0);
	CU_ASSERT_EQUAL(weight_of("\0\4\0\1\7\0\4\0\1\7", 10), 0);
	/* It is another field with the top bit, which is not known. */
	CU_ASSERT_EQUAL(weight_of("\200\4\0\1\7", 5), 0);
	/* Said only where it is not the default. */
	without = ins_open_encode(buf, sizeof(buf), &o);
	for (w = 1; w <= INS_WEIGHT_MAX; w++) {
		o.weight = (uint8_t)w;
		n = ins_open_encode(buf, sizeof(buf), &o);
		CU_ASSERT_EQUAL(n - without, w == INS_WEIGHT_DEFAULT ? 0 : 5);
		CU_ASSERT_EQUAL_FATAL(ins_open_decode(buf + 6, n - 6, &again),
		    INS_OK);
		CU_ASSERT_EQUAL(again.weight, w);
	}
}

/* An InsOpen with this target alone. */
static enum ins_status
target_status(const char *target, unsigned len, uint64_t window)
{
	uint8_t buf[INS_ENCODE_MAX] = {0};
	struct ins_open o = {.identity = 1, .form = 1, .port = 1};
	enum ins_status status;
	uint8_t *p;

	o.window = window;
	ins_open_encode(buf, sizeof(buf), &o);
	buf[6 + 16 + 2] = 0;
	buf[6 + 16 + 3] = (uint8_t)(len >> 8);
	buf[6 + 16 + 3] = (uint8_t)len;
	buf[6 + 16 + 2] = (uint8_t)(len >> 8);
	memcpy(buf + 6 + 20, target, len);
	p = exact(buf + 6, 20 + len);
	status = ins_open_decode(p, 20 + len, &o);
	free(p);
	return status;
}

static void
test_open_values(void)
{
	const uint64_t w = INS_WINDOW_MIN;
	uint8_t buf[64];
	struct ins_open o = {.identity = 1, .form = 1, .port = 1, .window = w};
	char host[260] = "\2\0\1";
	size_t n, cap;

	memset(host + 3, 'h', 254);
	CU_ASSERT_EQUAL(target_status("\1\0\1", 3, w), INS_OK);
	CU_ASSERT_EQUAL(target_status("\1\0\0", 3, w), INS_BAD);
	CU_ASSERT_EQUAL(target_status("\1\0\1x", 4, w), INS_BAD);
	CU_ASSERT_EQUAL(target_status("\1\0", 2, w), INS_BAD);
	CU_ASSERT_EQUAL(target_status("", 0, w), INS_BAD);
	CU_ASSERT_EQUAL(target_status("\2\0\1", 3, w), INS_BAD);
	CU_ASSERT_EQUAL(target_status(host, 4, w), INS_OK);
	CU_ASSERT_EQUAL(target_status(host, 3 + 253, w), INS_OK);
	CU_ASSERT_EQUAL(target_status(host, 3 + 254, w), INS_BAD);
	CU_ASSERT_EQUAL(target_status("\2\0\1a\0b", 6, w), INS_BAD);
	CU_ASSERT_EQUAL(target_status("\3", 1, w), INS_OK);
	CU_ASSERT_EQUAL(target_status("\0xyz", 4, w), INS_OK);
	CU_ASSERT_EQUAL(target_status("\1\0\1", 3, w - 1), INS_BAD);
	CU_ASSERT_EQUAL(target_status("\1\0\1", 3, INS_WINDOW_MAX), INS_OK);
	CU_ASSERT_EQUAL(target_status("\1\0\1", 3, INS_WINDOW_MAX + 1),
	    INS_BAD);
	cap = ins_open_encode(buf, sizeof(buf), &o);
	CU_ASSERT_EQUAL(cap, 6 + 16 + 4 + 3);
	/* The target is required. */
	for (n = 16; n < 20 + 3; n++)
		CU_ASSERT_EQUAL(ins_open_decode(buf + 6, n, &o), INS_BAD);
}

static void
test_other_values(void)
{
	struct ins_hello h = {0, 0, nonce, NULL, 0};
	struct ins_register g = {
	    .name = BYTES("a"),
	    .instance = instance,
	    .serial = 1,
	    .settled = 1,
	};
	struct ins_opened o = {1, INS_CONNECTED, 0, {NULL, 0}};
	uint8_t buf[INS_ENCODE_MAX];
	struct ins_registered r;
	struct ins_end e;
	char utf8[600];
	size_t n, i;

	n = ins_hello_encode(buf, sizeof(buf), &h);
	/* Version 0 is answered with InsEnd *version*: handshake.c. */
	CU_ASSERT_EQUAL(ins_hello_decode(buf + 6, n - 6, false, &h), INS_OK);
	CU_ASSERT_EQUAL(h.version, 0);
	n = ins_end_encode(buf, sizeof(buf), 0, "");
	CU_ASSERT_EQUAL(ins_end_decode(buf + 6, n - 6, &e), INS_BAD);
	n = ins_register_encode(buf, sizeof(buf), &g);
	CU_ASSERT_EQUAL(ins_register_decode(buf + 6, n - 6, &g), INS_BAD);
	n = ins_registered_encode(buf, sizeof(buf),
	    &(struct ins_registered){0});
	CU_ASSERT_EQUAL(ins_registered_decode(buf + 6, n - 6, &r), INS_BAD);
	CU_ASSERT_EQUAL(ins_registered_decode(buf, 0, &r), INS_BAD);
	for (i = 0; i < 4; i++) {
		static const uint64_t w[] = {0, INS_WINDOW_MIN - 1,
		    INS_WINDOW_MAX + 1, UINT64_MAX};

		o = (struct ins_opened){1, INS_CONNECTED, w[i], {NULL, 0}};
		n = ins_opened_encode(buf, sizeof(buf), &o);
		CU_ASSERT_EQUAL(ins_opened_decode(buf + 6, n - 6, &o), INS_BAD);
	}
	o = (struct ins_opened){1, INS_REFUSED, 1, {NULL, 0}};
	n = ins_opened_encode(buf, sizeof(buf), &o);
	CU_ASSERT_EQUAL(ins_opened_decode(buf + 6, n - 6, &o), INS_BAD);
	/* A text that is too long is cut between two characters. */
	for (i = 0; i < 4; i++) {
		memset(utf8, 'a', i);
		for (n = i; n < 500; n += 3)
			memcpy(utf8 + n, "\xe2\x82\xac", 4);
		n = ins_end_encode(buf, sizeof(buf), 3, utf8);
		CU_ASSERT_EQUAL(ins_end_decode(buf + 6, n - 6, &e), INS_OK);
		CU_ASSERT(e.text.len <= 255 && e.text.len > 252);
		CU_ASSERT_EQUAL(e.code, 3);
	}
	memset(buf, 'a', sizeof(buf));
	CU_ASSERT_EQUAL(ins_end_decode(buf, 2 + 255, &e), INS_OK);
	CU_ASSERT_EQUAL(ins_end_decode(buf, 2 + 256, &e), INS_BAD);
	buf[5] = 0xff;
	CU_ASSERT_EQUAL(ins_end_decode(buf, 8, &e), INS_BAD);
}

static void
test_texts(void)
{
	unsigned i;

	for (i = 0; i < 100; i++) {
		CU_ASSERT(strlen(ins_outcome_text(i)) > 0);
		CU_ASSERT(strlen(ins_end_text(i)) > 0);
		CU_ASSERT(strlen(ins_reset_text(i)) > 0);
	}
	CU_ASSERT_STRING_EQUAL(ins_outcome_text(INS_REFUSED), "refused");
	CU_ASSERT_STRING_EQUAL(ins_outcome_text(99), "failed");
	CU_ASSERT_STRING_EQUAL(ins_end_text(INS_END_SILENT), "silent");
	CU_ASSERT_STRING_EQUAL(ins_end_text(INS_END_UNKNOWN_SESSION),
	    "unknown session");
	CU_ASSERT_STRING_EQUAL(ins_end_text(INS_END_NOT_RESUMED),
	    "cannot be resumed");
	CU_ASSERT_STRING_EQUAL(ins_end_text(INS_END_FINISHED), "finished");
	CU_ASSERT_STRING_EQUAL(ins_reset_text(INS_RESET_POLICY),
	    "refused by policy");
}

static const struct unit_test tests[] = {
    {"round trips", test_round_trip},
    {"values", test_values},
    {"what resuming says", test_resume_values},
    {"required fields", test_required},
    {"heads: every cut", test_heads_cut},
    {"payloads: every cut", test_payloads_cut},
    {"encoders without room", test_no_room},
    {"bounds of lengths", test_lengths},
    {"every number", test_numbers},
    {"names", test_names},
    {"fields", test_fields},
    {"weight", test_weight},
    {"InsOpen's values", test_open_values},
    {"other values", test_other_values},
    {"texts", test_texts},
    {NULL, NULL},
};

const struct unit_suite suite_instruction = {"instruction", tests};
