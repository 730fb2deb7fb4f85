/*
 * Feeds bytes to every decoder.  What one takes is encoded again and must
 * decode to the same encoding.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "instruction.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static uint8_t first[6 + INS_REGISTER_MAX + 70000];
static uint8_t second[sizeof(first)];

static void
require(int ok)
{
	if (!ok)
		abort();
}

/* Decode, encode, decode and encode: the two encodings are the same. */
#define TWICE(type, decode, encode, ...) \
	do { \
		struct type v; \
		size_t n, m; \
\
		if (decode(data, len __VA_ARGS__, &v) == INS_OK) { \
			n = encode(first, sizeof(first), &v); \
			require(n > 6); \
			require(decode(first + 6, n - 6 __VA_ARGS__, &v) == \
			    INS_OK); \
			m = encode(second, sizeof(second), &v); \
			require(n == m && memcmp(first, second, n) == 0); \
		} \
	} while (0)

static void
payloads(const uint8_t *data, size_t len)
{
	struct ins_register g;
	struct ins_end e;
	uint64_t v;
	size_t i;

	TWICE(ins_hello, ins_hello_decode, ins_hello_encode, , false);
	TWICE(ins_hello, ins_hello_decode, ins_hello_encode, , true);
	TWICE(ins_register, ins_register_decode, ins_register_encode);
	TWICE(ins_registered, ins_registered_decode, ins_registered_encode);
	TWICE(ins_resume, ins_resume_decode, ins_resume_encode);
	TWICE(ins_resumed, ins_resumed_decode, ins_resumed_encode);
	TWICE(ins_opened, ins_opened_decode, ins_opened_encode);
	TWICE(ins_reset, ins_reset_decode, ins_reset_encode);
	TWICE(ins_credit, ins_credit_decode, ins_credit_encode);
	TWICE(ins_limit, ins_limit_decode, ins_limit_encode);
	if (ins_register_decode(data, len, &g) == INS_OK)
		for (i = 0; i < g.held.len / 8; i++)
			ins_held(&g.held, i);
	if (ins_end_decode(data, len, &e) == INS_OK)
		require(e.text.len <= INS_TEXT_MAX &&
		    ins_text_valid(e.text.data, e.text.len));
	require((ins_offset_decode(data, len, &v) == INS_OK) == (len == 8));
	require((ins_identity_decode(data, len, &v) == INS_OK) == (len == 6));
	require(!ins_name_valid(data, len) || (len > 0 && len <= 255));
}

static void
open_payload(const uint8_t *data, size_t len)
{
	struct ins_open o;

	if (ins_open_decode(data, len, &o) != INS_OK ||
	    (o.form != INS_FORM_PORT && o.form != INS_FORM_HOST))
		return;
	TWICE(ins_open, ins_open_decode, ins_open_encode);
}

/* Heads, one behind the other; a cut one is never taken. */
static void
heads(enum ins_dialect dialect, const uint8_t *data, size_t len)
{
	enum ins_status status;
	struct ins_head h, again;
	size_t used, same;

	while (len > 0) {
		status = ins_head_decode(dialect, data, len, &h, &used);
		if (status != INS_OK)
			return;
		require(used >= 2 && used <= INS_HEAD_MAX && used <= len);
		require(ins_head_decode(dialect, data, used - 1, &again,
			    &same) == INS_MORE);
		require(ins_name(h.number) != NULL);
		data += used;
		len -= used;
		if (h.length > len)
			return;
		payloads(data, h.length);
		open_payload(data, h.length);
		data += h.length;
		len -= h.length;
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	if (len > 65536)
		return 0;
	heads(INS_CLASSIC, data, len);
	heads(INS_EXTENDED, data, len);
	payloads(data, len);
	open_payload(data, len);
	return 0;
}
