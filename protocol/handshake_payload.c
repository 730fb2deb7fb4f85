/*
 * Payloads of the handshake: one decoder and one encoder for each, in the
 * order of PROTOCOL.md; and InsEnd, which may end it.
 */
#include "fields.h"

enum {
	FIELD_REGISTER_NAME = 1,
	FIELD_REGISTER_INSTANCE,
	FIELD_REGISTER_SERIAL,
	FIELD_REGISTER_SETTLED,
	FIELD_REGISTER_HELD,
	FIELD_REGISTER_STANDBY,
	FIELD_REGISTER_SOFTWARE,
	FIELD_REGISTER_RESUME,

	/* Besides those above. */
	FIELD_RESUME_SESSION,
	FIELD_RESUME_ATTEMPT,
	FIELD_RESUME_OFFSET,
	FIELD_RESUME_PROOF,

	FIELD_REGISTERED_SESSION = 1,
	FIELD_REGISTERED_RESUME,
	FIELD_REGISTERED_SECRET,

	FIELD_RESUMED_OFFSET = 1,
	FIELD_RESUMED_PROOF,
};

enum ins_status
ins_hello_decode(const uint8_t *payload, size_t len, bool from_server,
    struct ins_hello *h)
{
	struct reader r = {payload, payload + len, false};

	*h = (struct ins_hello){0};
	h->version = (uint16_t)reader_uint(&r, 2);
	h->features = reader_uint(&r, 8);
	h->nonce = reader_bytes(&r, INS_NONCE_SIZE);
	if (from_server) {
		h->instance = reader_bytes(&r, INS_INSTANCE_SIZE);
		h->start = reader_uint(&r, 8);
	}
	if (r.failed)
		return INS_BAD;
	return fields_none(&r);
}

static bool
register_field(struct ins_register *g, const struct field *f)
{
	switch (f->type) {
	case FIELD_REGISTER_NAME:
		g->name = (struct ins_bytes){f->data, f->len};
		return f->len <= INS_NAME_MAX;
	case FIELD_REGISTER_INSTANCE:
		g->instance = f->data;
		return f->len == INS_INSTANCE_SIZE;
	case FIELD_REGISTER_SERIAL:
		g->serial = field_uint(f);
		return f->len == 8;
	case FIELD_REGISTER_SETTLED:
		g->settled = field_uint(f);
		return f->len == 8;
	case FIELD_REGISTER_HELD:
		g->held = (struct ins_bytes){f->data, f->len};
		return f->len % 8 == 0 && f->len <= 8 * INS_HELD_MAX;
	case FIELD_REGISTER_STANDBY:
		g->standby = true;
		return f->len == 0;
	case FIELD_REGISTER_SOFTWARE:
		g->software = (struct ins_bytes){f->data, f->len};
		return f->len <= INS_SOFTWARE_MAX &&
		    ins_text_valid(f->data, f->len);
	case FIELD_REGISTER_RESUME:
		g->resume = field_uint(f);
		return f->len == 8 && g->resume <= INS_RESUME_MS_MAX;
	default:
		return false;
	}
}

#define REGISTER_NEEDED \
	(1u << FIELD_REGISTER_NAME | 1u << FIELD_REGISTER_INSTANCE | \
	    1u << FIELD_REGISTER_SERIAL | 1u << FIELD_REGISTER_SETTLED)

enum ins_status
ins_register_decode(const uint8_t *payload, size_t len, struct ins_register *g)
{
	struct reader r = {payload, payload + len, false};
	uint32_t seen = 0;
	struct field f;

	*g = (struct ins_register){0};
	while (field_next(&r, &f)) {
		if (f.type >= FIELD_REGISTER_NAME &&
		    f.type <= FIELD_REGISTER_RESUME) {
			if (!field_once(&seen, &f) || !register_field(g, &f))
				return INS_BAD;
		} else if (!field_skippable(&f))
			return INS_BAD;
	}
	if ((seen & REGISTER_NEEDED) != REGISTER_NEEDED ||
	    g->settled >= g->serial)
		return INS_BAD;
	return fields_end(&r);
}

uint64_t
ins_held(const struct ins_bytes *held, size_t i)
{
	struct reader r = {held->data + 8 * i, held->data + held->len, false};

	return reader_uint(&r, 8);
}

static bool
registered_field(struct ins_registered *g, const struct field *f)
{
	switch (f->type) {
	case FIELD_REGISTERED_SESSION:
		g->session = field_uint(f);
		return f->len == 8;
	case FIELD_REGISTERED_RESUME:
		g->resume = field_uint(f);
		return f->len == 8 && g->resume <= INS_RESUME_MS_MAX;
	case FIELD_REGISTERED_SECRET:
		g->secret = f->data;
		return f->len == INS_SECRET_SIZE;
	default:
		return false;
	}
}

enum ins_status
ins_registered_decode(const uint8_t *payload, size_t len,
    struct ins_registered *g)
{
	struct reader r = {payload, payload + len, false};
	uint32_t seen = 0;
	struct field f;

	*g = (struct ins_registered){0};
	while (field_next(&r, &f)) {
		if (f.type >= FIELD_REGISTERED_SESSION &&
		    f.type <= FIELD_REGISTERED_SECRET) {
			if (!field_once(&seen, &f) || !registered_field(g, &f))
				return INS_BAD;
		} else if (!field_skippable(&f))
			return INS_BAD;
	}
	if (g->session == 0 || (g->resume != 0 && g->secret == NULL))
		return INS_BAD;
	return fields_end(&r);
}

static bool
resume_field(struct ins_resume *m, const struct field *f)
{
	switch (f->type) {
	case FIELD_RESUME_SESSION:
		m->session = field_uint(f);
		return f->len == 8;
	case FIELD_RESUME_ATTEMPT:
		m->attempt = field_uint(f);
		return f->len == 8;
	case FIELD_RESUME_OFFSET:
		m->offset = field_uint(f);
		return f->len == 8;
	case FIELD_RESUME_PROOF:
		m->proof = f->data;
		return f->len == INS_PROOF_SIZE;
	default:
		return register_field(&m->who, f);
	}
}

#define RESUME_NEEDED \
	(1u << FIELD_RESUME_SESSION | 1u << FIELD_RESUME_ATTEMPT | \
	    1u << FIELD_RESUME_OFFSET | 1u << FIELD_RESUME_PROOF)

enum ins_status
ins_resume_decode(const uint8_t *payload, size_t len, struct ins_resume *m)
{
	const uint32_t needed = REGISTER_NEEDED | RESUME_NEEDED;
	struct reader r = {payload, payload + len, false};
	uint32_t seen = 0;
	struct field f;

	*m = (struct ins_resume){0};
	while (field_next(&r, &f)) {
		if (f.type >= FIELD_REGISTER_NAME &&
		    f.type <= FIELD_RESUME_PROOF) {
			if (!field_once(&seen, &f) || !resume_field(m, &f))
				return INS_BAD;
		} else if (!field_skippable(&f))
			return INS_BAD;
	}
	if ((seen & needed) != needed || m->who.settled >= m->who.serial)
		return INS_BAD;
	return fields_end(&r);
}

enum ins_status
ins_resumed_decode(const uint8_t *payload, size_t len, struct ins_resumed *m)
{
	struct reader r = {payload, payload + len, false};
	uint32_t seen = 0;
	struct field f;

	*m = (struct ins_resumed){0};
	while (field_next(&r, &f)) {
		if (f.type == FIELD_RESUMED_OFFSET && f.len == 8)
			m->offset = field_uint(&f);
		else if (f.type == FIELD_RESUMED_PROOF &&
		    f.len == INS_PROOF_SIZE)
			m->proof = f.data;
		else if (f.type == FIELD_RESUMED_OFFSET ||
		    f.type == FIELD_RESUMED_PROOF || !field_skippable(&f))
			return INS_BAD;
		else
			continue;
		if (!field_once(&seen, &f))
			return INS_BAD;
	}
	if ((seen & 6) != 6)
		return INS_BAD;
	return fields_end(&r);
}

enum ins_status
ins_end_decode(const uint8_t *payload, size_t len, struct ins_end *e)
{
	struct reader r = {payload, payload + len, false};

	*e = (struct ins_end){0};
	e->code = (uint16_t)reader_uint(&r, 2);
	e->text.len = reader_left(&r);
	e->text.data = reader_bytes(&r, e->text.len);
	if (r.failed || e->code == 0 || e->text.len > INS_TEXT_MAX ||
	    !ins_text_valid(e->text.data, e->text.len))
		return INS_BAD;
	return INS_OK;
}

size_t
ins_initial_remote_encode(uint8_t *buf, size_t cap, const char *name)
{
	struct writer w = begin(buf, cap, INS_INITIAL_REMOTE);
	size_t len = strlen(name);

	writer_uint(&w, len, 4);
	writer_bytes(&w, name, len);
	return end(&w, buf);
}

size_t
ins_hello_encode(uint8_t *buf, size_t cap, const struct ins_hello *h)
{
	struct writer w = begin_extended(buf, cap, INS_HELLO);

	writer_uint(&w, h->version, 2);
	writer_uint(&w, h->features, 8);
	writer_bytes(&w, h->nonce, INS_NONCE_SIZE);
	if (h->instance != NULL) {
		writer_bytes(&w, h->instance, INS_INSTANCE_SIZE);
		writer_uint(&w, h->start, 8);
	}
	return end_extended(&w, buf);
}

static void
put_who(struct writer *w, const struct ins_register *g)
{
	put_field(w, FIELD_REGISTER_NAME, g->name.data, g->name.len);
	put_field(w, FIELD_REGISTER_INSTANCE, g->instance, INS_INSTANCE_SIZE);
	put_field_uint(w, FIELD_REGISTER_SERIAL, g->serial);
	put_field_uint(w, FIELD_REGISTER_SETTLED, g->settled);
	if (g->held.len > 0)
		put_field(w, FIELD_REGISTER_HELD, g->held.data, g->held.len);
	if (g->standby)
		put_field(w, FIELD_REGISTER_STANDBY, NULL, 0);
	if (g->software.len > 0)
		put_field(w, FIELD_REGISTER_SOFTWARE, g->software.data,
		    g->software.len);
	if (g->resume > 0)
		put_field_uint(w, FIELD_REGISTER_RESUME, g->resume);
}

size_t
ins_register_encode(uint8_t *buf, size_t cap, const struct ins_register *g)
{
	struct writer w = begin_extended(buf, cap, INS_REGISTER);

	put_who(&w, g);
	return end_extended(&w, buf);
}

size_t
ins_registered_encode(uint8_t *buf, size_t cap, const struct ins_registered *g)
{
	struct writer w = begin_extended(buf, cap, INS_REGISTERED);

	put_field_uint(&w, FIELD_REGISTERED_SESSION, g->session);
	if (g->resume > 0) {
		put_field_uint(&w, FIELD_REGISTERED_RESUME, g->resume);
		put_field(&w, FIELD_REGISTERED_SECRET, g->secret,
		    INS_SECRET_SIZE);
	}
	return end_extended(&w, buf);
}

size_t
ins_resume_encode(uint8_t *buf, size_t cap, const struct ins_resume *m)
{
	struct writer w = begin_extended(buf, cap, INS_RESUME);

	put_who(&w, &m->who);
	put_field_uint(&w, FIELD_RESUME_SESSION, m->session);
	put_field_uint(&w, FIELD_RESUME_ATTEMPT, m->attempt);
	put_field_uint(&w, FIELD_RESUME_OFFSET, m->offset);
	put_field(&w, FIELD_RESUME_PROOF, m->proof, INS_PROOF_SIZE);
	return end_extended(&w, buf);
}

size_t
ins_resumed_encode(uint8_t *buf, size_t cap, const struct ins_resumed *m)
{
	struct writer w = begin_extended(buf, cap, INS_RESUMED);

	put_field_uint(&w, FIELD_RESUMED_OFFSET, m->offset);
	put_field(&w, FIELD_RESUMED_PROOF, m->proof, INS_PROOF_SIZE);
	return end_extended(&w, buf);
}

/* The longest part of text that is at most max bytes and whole characters. */
static size_t
text_cut(const char *text, size_t max)
{
	size_t len = strlen(text);

	if (len <= max)
		return len;
	len = max;
	while (len > 0 && ((uint8_t)text[len] & 0xc0) == 0x80)
		len--;
	return len;
}

size_t
ins_proof_encode(uint8_t *buf, size_t cap, bool server,
    const struct ins_proof *p)
{
	/* So that no other use of a secret can give the same bytes. */
	static const char label[] = "port-proxy resume 1";
	struct writer w = {buf, buf + cap, false};

	writer_bytes(&w, label, sizeof(label));
	writer_uint(&w, server, 1);
	writer_bytes(&w, p->client_instance, INS_INSTANCE_SIZE);
	writer_bytes(&w, p->server_instance, INS_INSTANCE_SIZE);
	writer_uint(&w, p->server_start, 8);
	writer_uint(&w, p->name.len, 2);
	writer_bytes(&w, p->name.data, p->name.len);
	writer_uint(&w, p->session, 8);
	writer_bytes(&w, p->client_nonce, INS_NONCE_SIZE);
	writer_bytes(&w, p->server_nonce, INS_NONCE_SIZE);
	writer_uint(&w, p->attempt, 8);
	writer_uint(&w, p->client_offset, 8);
	if (server)
		writer_uint(&w, p->server_offset, 8);
	/* The channel binding: a carrier without one. */
	writer_uint(&w, 0, 2);
	return end(&w, buf);
}

static size_t
encode_end(uint8_t *buf, size_t cap, uint16_t number, uint16_t code,
    const char *text)
{
	struct writer w = begin_extended(buf, cap, number);

	writer_uint(&w, code, 2);
	writer_bytes(&w, text, text_cut(text, INS_TEXT_MAX));
	return end_extended(&w, buf);
}

size_t
ins_end_encode(uint8_t *buf, size_t cap, uint16_t code, const char *text)
{
	return encode_end(buf, cap, INS_END, code, text);
}

size_t
ins_go_away_encode(uint8_t *buf, size_t cap, uint16_t code, const char *text)
{
	return encode_end(buf, cap, INS_GO_AWAY, code, text);
}
