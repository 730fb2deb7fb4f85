/*
 * What endpoints say: a function of who says it and of the offset, without a
 * period that a lost or doubled piece could hide in.
 */
#include "sim.h"

#include <string.h>

#define BLOCK 1024 /* of a pattern: each is elsewhere in the table */
#define TABLE 65536

static uint8_t table[TABLE + BLOCK];

static const uint8_t *
pattern_at(unsigned key, uint64_t at)
{
	uint64_t h = (at / BLOCK + 1) * UINT64_C(0x9e3779b97f4a7c15) ^
	    (key + 1) * UINT64_C(0xbf58476d1ce4e5b9);
	size_t i;

	if (table[0] == 0) {
		for (i = 0; i < sizeof(table); i++)
			table[i] = (uint8_t)(i * 2654435761u >> 13 ^ i >> 9);
		table[0] = 1;
	}
	return table + (h >> 40) % TABLE + at % BLOCK;
}

void
pattern_put(unsigned key, uint64_t at, uint8_t *buf, size_t len)
{
	size_t n;

	for (; len > 0; buf += n, at += n, len -= n) {
		n = BLOCK - at % BLOCK < len ? BLOCK - (size_t)at % BLOCK : len;
		memcpy(buf, pattern_at(key, at), n);
	}
}

bool
pattern_is(unsigned key, uint64_t at, const uint8_t *data, size_t len)
{
	size_t n;

	for (; len > 0; data += n, at += n, len -= n) {
		n = BLOCK - at % BLOCK < len ? BLOCK - (size_t)at % BLOCK : len;
		if (memcmp(data, pattern_at(key, at), n) != 0)
			return false;
	}
	return true;
}
