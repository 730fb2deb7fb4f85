/*
 * Payloads of a session's instructions: one decoder and one encoder for each, in
 * the order of PROTOCOL.md.
 */
#include "instruction.h"

#include "fields.h"

enum {
	FIELD_OPEN_TARGET = 0x8001,
	FIELD_OPEN_SOURCE = 2,
	FIELD_OPEN_DESTINATION = 3,
	FIELD_OPEN_WEIGHT = 4,

	FIELD_OPENED_REASON = 1,
};

enum ins_status
ins_offset_decode(const uint8_t *payload, size_t len, uint64_t *offset)
{
	struct reader r = {payload, payload + len, false};

	*offset = reader_uint(&r, 8);
	return fields_end(&r);
}

static bool
open_target(struct ins_open *o, const struct field *f)
{
	struct reader r = {f->data, f->data + f->len, false};

	o->form = (uint8_t)reader_uint(&r, 1);
	if (r.failed)
		return false;
	if (o->form != INS_FORM_PORT && o->form != INS_FORM_HOST)
		return true;
	o->port = (uint16_t)reader_uint(&r, 2);
	o->host.len = reader_left(&r);
	o->host.data = reader_bytes(&r, o->host.len);
	if (r.failed || o->port == 0)
		return false;
	if (o->form == INS_FORM_PORT)
		return o->host.len == 0;
	return o->host.len >= 1 && o->host.len <= INS_HOST_MAX &&
	    ins_text_valid(o->host.data, o->host.len);
}

static bool
open_address(struct ins_address *a, const struct field *f)
{
	struct reader r = {f->data, f->data + f->len, false};
	const uint8_t *p;
	size_t size;

	a->family = (uint8_t)reader_uint(&r, 1);
	if (r.failed || (a->family != 4 && a->family != 6))
		return false;
	size = a->family == 4 ? 4 : 16;
	p = reader_bytes(&r, size);
	a->port = (uint16_t)reader_uint(&r, 2);
	if (fields_end(&r) != INS_OK)
		return false;
	memcpy(a->address, p, size);
	return true;
}

static bool
open_weight(struct ins_open *o, const struct field *f)
{
	if (f->len != 1 || f->data[0] < 1 || f->data[0] > INS_WEIGHT_MAX)
		return false;
	o->weight = f->data[0];
	return true;
}

static bool
open_field(struct ins_open *o, const struct field *f)
{
	switch (f->type) {
	case FIELD_OPEN_TARGET:
		return open_target(o, f);
	case FIELD_OPEN_SOURCE:
		return open_address(&o->source, f);
	case FIELD_OPEN_DESTINATION:
		return open_address(&o->destination, f);
	case FIELD_OPEN_WEIGHT:
		return open_weight(o, f);
	default:
		return false;
	}
}

enum ins_status
ins_open_decode(const uint8_t *payload, size_t len, struct ins_open *o)
{
	struct reader r = {payload, payload + len, false};
	uint32_t seen = 0;
	struct field f;

	*o = (struct ins_open){.weight = INS_WEIGHT_DEFAULT};
	o->identity = reader_uint(&r, 6);
	o->kind = (uint8_t)reader_uint(&r, 1);
	o->class = (uint8_t)reader_uint(&r, 1);
	o->window = reader_uint(&r, 8);
	while (field_next(&r, &f)) {
		if (f.type == FIELD_OPEN_TARGET ||
		    f.type == FIELD_OPEN_SOURCE ||
		    f.type == FIELD_OPEN_DESTINATION ||
		    f.type == FIELD_OPEN_WEIGHT) {
			if (!field_once(&seen, &f) || !open_field(o, &f))
				return INS_BAD;
		} else if (!field_skippable(&f))
			return INS_BAD;
	}
	if ((seen & 2) == 0 || o->window < INS_WINDOW_MIN ||
	    o->window > INS_WINDOW_MAX)
		return INS_BAD;
	return fields_end(&r);
}

enum ins_status
ins_opened_decode(const uint8_t *payload, size_t len, struct ins_opened *o)
{
	struct reader r = {payload, payload + len, false};
	uint32_t seen = 0;
	struct field f;

	*o = (struct ins_opened){0};
	o->identity = reader_uint(&r, 6);
	o->outcome = (uint8_t)reader_uint(&r, 1);
	o->window = reader_uint(&r, 8);
	while (field_next(&r, &f)) {
		if (f.type == FIELD_OPENED_REASON) {
			if (!field_once(&seen, &f) || f.len > INS_TEXT_MAX ||
			    !ins_text_valid(f.data, f.len))
				return INS_BAD;
			o->reason = (struct ins_bytes){f.data, f.len};
		} else if (!field_skippable(&f))
			return INS_BAD;
	}
	if (o->outcome == INS_CONNECTED ?
		o->window < INS_WINDOW_MIN || o->window > INS_WINDOW_MAX :
		o->window != 0)
		return INS_BAD;
	return fields_end(&r);
}

enum ins_status
ins_identity_decode(const uint8_t *payload, size_t len, uint64_t *identity)
{
	struct reader r = {payload, payload + len, false};

	*identity = reader_uint(&r, 6);
	return fields_end(&r);
}

enum ins_status
ins_reset_decode(const uint8_t *payload, size_t len, struct ins_reset *s)
{
	struct reader r = {payload, payload + len, false};

	s->identity = reader_uint(&r, 6);
	s->reason = (uint16_t)reader_uint(&r, 2);
	return fields_end(&r);
}

enum ins_status
ins_credit_decode(const uint8_t *payload, size_t len, struct ins_credit *c)
{
	struct reader r = {payload, payload + len, false};

	c->identity = reader_uint(&r, 6);
	c->offset = reader_uint(&r, 8);
	return fields_end(&r);
}

enum ins_status
ins_limit_decode(const uint8_t *payload, size_t len, struct ins_limit *l)
{
	struct reader r = {payload, payload + len, false};

	l->identity = reader_uint(&r, 6);
	l->limit = reader_uint(&r, 8);
	l->seen = reader_uint(&r, 8);
	return fields_end(&r);
}

size_t
ins_initial_connection_encode(uint8_t *buf, size_t cap, uint64_t identity,
    uint16_t port)
{
	struct writer w = begin(buf, cap, INS_INITIAL_CONNECTION);

	writer_uint(&w, identity, 6);
	writer_uint(&w, port, 2);
	return end(&w, buf);
}

size_t
ins_heartbeat_encode(uint8_t *buf, size_t cap)
{
	struct writer w = begin(buf, cap, INS_HEARTBEAT);

	return end(&w, buf);
}

size_t
ins_close_encode(uint8_t *buf, size_t cap, uint64_t identity)
{
	struct writer w = begin(buf, cap, INS_CLOSE);

	writer_uint(&w, identity, 6);
	return end(&w, buf);
}

size_t
ins_offset_encode(uint8_t *buf, size_t cap, uint16_t number, uint64_t value)
{
	struct writer w = begin_extended(buf, cap, number);

	writer_uint(&w, value, 8);
	return end_extended(&w, buf);
}

static void
put_address(struct writer *w, uint16_t type, const struct ins_address *a)
{
	size_t size = a->family == 4 ? 4 : 16;

	if (a->family == 0)
		return;
	writer_uint(w, type, 2);
	writer_uint(w, 3 + size, 2);
	writer_uint(w, a->family, 1);
	writer_bytes(w, a->address, size);
	writer_uint(w, a->port, 2);
}

size_t
ins_open_encode(uint8_t *buf, size_t cap, const struct ins_open *o)
{
	struct writer w = begin_extended(buf, cap, INS_OPEN);

	writer_uint(&w, o->identity, 6);
	writer_uint(&w, o->kind, 1);
	writer_uint(&w, o->class, 1);
	writer_uint(&w, o->window, 8);
	writer_uint(&w, FIELD_OPEN_TARGET, 2);
	writer_uint(&w, 3 + o->host.len, 2);
	writer_uint(&w, o->form, 1);
	writer_uint(&w, o->port, 2);
	writer_bytes(&w, o->host.data, o->host.len);
	put_address(&w, FIELD_OPEN_SOURCE, &o->source);
	put_address(&w, FIELD_OPEN_DESTINATION, &o->destination);
	if (o->weight != 0 && o->weight != INS_WEIGHT_DEFAULT)
		put_field(&w, FIELD_OPEN_WEIGHT, &o->weight, 1);
	return end_extended(&w, buf);
}

size_t
ins_opened_encode(uint8_t *buf, size_t cap, const struct ins_opened *o)
{
	struct writer w = begin_extended(buf, cap, INS_OPENED);

	writer_uint(&w, o->identity, 6);
	writer_uint(&w, o->outcome, 1);
	writer_uint(&w, o->window, 8);
	if (o->reason.len > 0)
		put_field(&w, FIELD_OPENED_REASON, o->reason.data,
		    o->reason.len < INS_TEXT_MAX ? o->reason.len :
						   INS_TEXT_MAX);
	return end_extended(&w, buf);
}

size_t
ins_half_close_encode(uint8_t *buf, size_t cap, uint64_t identity)
{
	struct writer w = begin_extended(buf, cap, INS_HALF_CLOSE);

	writer_uint(&w, identity, 6);
	return end_extended(&w, buf);
}

size_t
ins_reset_encode(uint8_t *buf, size_t cap, const struct ins_reset *s)
{
	struct writer w = begin_extended(buf, cap, INS_RESET);

	writer_uint(&w, s->identity, 6);
	writer_uint(&w, s->reason, 2);
	return end_extended(&w, buf);
}

size_t
ins_credit_encode(uint8_t *buf, size_t cap, const struct ins_credit *c)
{
	struct writer w = begin_extended(buf, cap, INS_CREDIT);

	writer_uint(&w, c->identity, 6);
	writer_uint(&w, c->offset, 8);
	return end_extended(&w, buf);
}

size_t
ins_limit_encode(uint8_t *buf, size_t cap, const struct ins_limit *l)
{
	struct writer w = begin_extended(buf, cap, INS_LIMIT);

	writer_uint(&w, l->identity, 6);
	writer_uint(&w, l->limit, 8);
	writer_uint(&w, l->seen, 8);
	return end_extended(&w, buf);
}

void
ins_data_head_encode(uint8_t *buf, uint64_t identity, uint32_t length)
{
	struct writer w = begin(buf, INS_DATA_HEAD, INS_DATA);

	writer_uint(&w, identity, 6);
	writer_uint(&w, length, 4);
}
