/*
 * Checked cursors: the only code that touches bytes on the wire one by one.
 * A cursor that failed stays failed and yields zeros, so that a decoder reads
 * a whole layout and asks once.
 */
#ifndef CURSOR_H
#define CURSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct reader {
	const uint8_t *at, *end;
	bool failed;
};

struct writer {
	uint8_t *at, *end;
	bool failed;
};

static inline size_t
reader_left(const struct reader *r)
{
	return (size_t)(r->end - r->at);
}

/* len bytes, borrowed; NULL when there are fewer. */
static inline const uint8_t *
reader_bytes(struct reader *r, size_t len)
{
	const uint8_t *p = r->at;

	if (r->failed || reader_left(r) < len) {
		r->failed = true;
		return NULL;
	}
	r->at += len;
	return p;
}

/* A big-endian number of size bytes, at most 8. */
static inline uint64_t
reader_uint(struct reader *r, size_t size)
{
	const uint8_t *p = reader_bytes(r, size);
	uint64_t v = 0;
	size_t i;

	if (p == NULL)
		return 0;
	for (i = 0; i < size; i++)
		v = v << 8 | p[i];
	return v;
}

static inline void
writer_bytes(struct writer *w, const void *data, size_t len)
{
	if (w->failed || (size_t)(w->end - w->at) < len) {
		w->failed = true;
		return;
	}
	if (len > 0)
		memcpy(w->at, data, len);
	w->at += len;
}

static inline void
writer_uint(struct writer *w, uint64_t v, size_t size)
{
	uint8_t b[8];
	size_t i;

	for (i = 0; i < size; i++)
		b[i] = (uint8_t)(v >> 8 * (size - 1 - i));
	writer_bytes(w, b, size);
}

#endif
