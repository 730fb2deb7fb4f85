/*
 * The proofs of resuming, against what Python's hmac and hashlib say of the
 * layout in PROTOCOL.md.
 */
#include <string.h>

#include "tunnel/proof.h"
#include "unit.h"

/* Everything that goes in, as one block: bytes counted up from a start. */
struct block {
	uint8_t secret[INS_SECRET_SIZE];
	uint8_t client_instance[INS_INSTANCE_SIZE];
	uint8_t server_instance[INS_INSTANCE_SIZE];
	uint8_t start[8];
	char name[6];
	uint8_t session[8];
	uint8_t client_nonce[INS_NONCE_SIZE];
	uint8_t server_nonce[INS_NONCE_SIZE];
	uint8_t attempt[8];
	uint8_t client_offset[8];
	uint8_t server_offset[8]; /* last: of the server's proof alone */
};

static void
count_up(uint8_t *p, size_t len, unsigned from)
{
	while (len-- > 0)
		*p++ = (uint8_t)from++;
}

static struct block
sample(void)
{
	struct block b;

	count_up(b.secret, sizeof(b.secret), 0);
	count_up(b.client_instance, sizeof(b.client_instance), 0x40);
	count_up(b.server_instance, sizeof(b.server_instance), 0x50);
	count_up(b.start, 8, 0x01);
	memcpy(b.name, "büro", 6);
	count_up(b.session, 8, 0x11);
	count_up(b.client_nonce, sizeof(b.client_nonce), 0x80);
	count_up(b.server_nonce, sizeof(b.server_nonce), 0xa0);
	count_up(b.attempt, 8, 0x21);
	count_up(b.client_offset, 8, 0x31);
	count_up(b.server_offset, 8, 0x41);
	return b;
}

static uint64_t
number(const uint8_t *p)
{
	uint64_t v = 0;
	int i;

	for (i = 0; i < 8; i++)
		v = v << 8 | p[i];
	return v;
}

static struct ins_proof
input(const struct block *b)
{
	return (struct ins_proof){
	    .client_instance = b->client_instance,
	    .server_instance = b->server_instance,
	    .server_start = number(b->start),
	    .name = {(const uint8_t *)b->name, 5},
	    .session = number(b->session),
	    .client_nonce = b->client_nonce,
	    .server_nonce = b->server_nonce,
	    .attempt = number(b->attempt),
	    .client_offset = number(b->client_offset),
	    .server_offset = number(b->server_offset),
	};
}

static const uint8_t expected[2][INS_PROOF_SIZE] = {
    {0xa2, 0x90, 0x20, 0xdd, 0x9c, 0x29, 0x27, 0x04, 0x62, 0x69, 0xb7, 0xc0,
	0xb9, 0xd0, 0x26, 0x6a, 0x9f, 0x8f, 0xe7, 0xb0, 0x32, 0x7c, 0xe4, 0xc4,
	0x7c, 0x5a, 0x10, 0xc2, 0xa5, 0x43, 0xc3, 0xaa},
    {0x34, 0xc9, 0xb9, 0x82, 0x35, 0x4a, 0x23, 0x43, 0x60, 0x13, 0xa2, 0xd9,
	0xe4, 0x68, 0xb9, 0xa7, 0x91, 0x03, 0x67, 0xa8, 0xdd, 0x91, 0x8a, 0xc0,
	0x46, 0xa7, 0x1c, 0x69, 0xa4, 0x86, 0x7a, 0xc9},
};

static void
test_vector(void)
{
	struct block b = sample();
	struct ins_proof in = input(&b);
	uint8_t proof[INS_PROOF_SIZE];
	unsigned server;

	for (server = 0; server < 2; server++) {
		CU_ASSERT_EQUAL(proof_make(b.secret, server, &in, proof), 0);
		CU_ASSERT_EQUAL(memcmp(proof, expected[server], sizeof(proof)),
		    0);
		CU_ASSERT_TRUE(
		    proof_check(b.secret, server, &in, expected[server]));
		CU_ASSERT_FALSE(
		    proof_check(b.secret, !server, &in, expected[server]));
	}
}

/* Every bit that goes in, and every bit of the proof. */
static void
test_every_bit(void)
{
	struct block b = sample();
	struct ins_proof in;
	uint8_t *bytes = (uint8_t *)&b, proof[INS_PROOF_SIZE];
	const size_t name_end = offsetof(struct block, name) + 5;
	const size_t theirs = offsetof(struct block, server_offset);
	unsigned server;
	size_t bit;
	bool same;

	for (server = 0; server < 2; server++)
		for (bit = 0; bit < 8 * sizeof(b); bit++) {
			bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
			in = input(&b);
			/* The name's zero is no part of it. */
			same = bit / 8 == name_end ||
			    (bit / 8 >= theirs && !server);
			if (proof_check(b.secret, server, &in,
				expected[server]) != same)
				CU_FAIL("a bit that does not count");
			bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
		}
	in = input(&b);
	for (bit = 0; bit < 8 * sizeof(proof); bit++) {
		memcpy(proof, expected[0], sizeof(proof));
		proof[bit / 8] ^= (uint8_t)(1u << bit % 8);
		CU_ASSERT_FALSE(proof_check(b.secret, false, &in, proof));
	}
}

/* Where the name ends counts too, and the longest one fits. */
static void
test_names(void)
{
	struct block b = sample();
	struct ins_proof in = input(&b);
	uint8_t name[INS_NAME_MAX], proofs[4][INS_PROOF_SIZE];
	size_t i;

	memset(name, 0, sizeof(name));
	for (i = 0; i < 4; i++) {
		static const size_t lengths[] = {0, 1, 254, INS_NAME_MAX};

		in.name = (struct ins_bytes){name, lengths[i]};
		CU_ASSERT_EQUAL(proof_make(b.secret, true, &in, proofs[i]), 0);
		CU_ASSERT_TRUE(proof_check(b.secret, true, &in, proofs[i]));
		CU_ASSERT_EQUAL(proof_check(b.secret, true, &in, proofs[0]),
		    i == 0);
	}
}

static const struct unit_test tests[] = {
    {"a vector", test_vector},
    {"every bit", test_every_bit},
    {"names", test_names},
    {NULL, NULL},
};

const struct unit_suite suite_proof = {"proof", tests};
