/*
 * What payloads are made of: fields, and the head that stands before them.
 * For the codec alone.
 */
#ifndef FIELDS_H
#define FIELDS_H

#include "cursor.h"
#include "instruction.h"

struct field {
	uint16_t type;
	const uint8_t *data;
	size_t len;
};

/* The next field; false at the end or when it is cut (then r has failed). */
static inline bool
field_next(struct reader *r, struct field *f)
{
	if (r->failed || reader_left(r) == 0)
		return false;
	f->type = (uint16_t)reader_uint(r, 2);
	f->len = reader_uint(r, 2);
	f->data = reader_bytes(r, f->len);
	return !r->failed;
}

/*
 * Note in *seen that a field of this type came; false when it came before.
 * Known types lie below 32 without their top bit.
 */
static inline bool
field_once(uint32_t *seen, const struct field *f)
{
	uint32_t bit = UINT32_C(1) << (f->type & 31);

	if (*seen & bit)
		return false;
	*seen |= bit;
	return true;
}

static inline bool
field_skippable(const struct field *f)
{
	return (f->type & INS_MUST_UNDERSTAND) == 0;
}

static inline uint64_t
field_uint(const struct field *f)
{
	struct reader r = {f->data, f->data + f->len, false};

	return reader_uint(&r, f->len);
}

static inline enum ins_status
fields_end(const struct reader *r)
{
	return r->failed || reader_left(r) != 0 ? INS_BAD : INS_OK;
}

/* Fields of an instruction that has none yet. */
static inline enum ins_status
fields_none(struct reader *r)
{
	struct field f;

	while (field_next(r, &f))
		if (!field_skippable(&f))
			return INS_BAD;
	return fields_end(r);
}

/*
 * Encoders.  The head is written first, its length when the payload is known.
 */
static inline struct writer
begin(uint8_t *buf, size_t cap, uint16_t number)
{
	struct writer w = {buf, buf + cap, false};

	writer_uint(&w, number, 2);
	return w;
}

static inline struct writer
begin_extended(uint8_t *buf, size_t cap, uint16_t number)
{
	struct writer w = begin(buf, cap, number);

	writer_uint(&w, 0, 4);
	return w;
}

static inline size_t
end(const struct writer *w, const uint8_t *buf)
{
	return w->failed ? 0 : (size_t)(w->at - buf);
}

static inline size_t
end_extended(const struct writer *w, uint8_t *buf)
{
	size_t n = end(w, buf);
	struct writer head = {buf + 2, buf + 6, false};

	if (n > 0)
		writer_uint(&head, n - 6, 4);
	return n;
}

static inline void
put_field(struct writer *w, uint16_t type, const void *data, size_t len)
{
	writer_uint(w, type, 2);
	writer_uint(w, len, 2);
	writer_bytes(w, data, len);
}

static inline void
put_field_uint(struct writer *w, uint16_t type, uint64_t v)
{
	writer_uint(w, type, 2);
	writer_uint(w, 8, 2);
	writer_uint(w, v, 8);
}

#endif
