#include "tunnel/handshake.h"

#include <string.h>

void
handshake_init(struct handshake *h, bool server,
    const struct allocator *allocator)
{
	*h = (struct handshake){.allocator = allocator, .server = server};
}

void
handshake_close(struct handshake *h)
{
	allocator_free(h->allocator, h->data);
	h->data = NULL;
	h->len = h->room = h->used = 0;
}

int
handshake_add(struct handshake *h, const uint8_t *data, size_t len)
{
	uint8_t *grown;

	h->answered = true;
	if (h->room - h->len < len) {
		grown =
		    h->allocator->alloc(h->allocator->context, h->len + len);
		if (grown == NULL)
			return -1;
		if (h->len > 0)
			memcpy(grown, h->data, h->len);
		allocator_free(h->allocator, h->data);
		h->data = grown;
		h->room = h->len + len;
	}
	memcpy(h->data + h->len, data, len);
	h->len += len;
	return 0;
}

const uint8_t *
handshake_rest(const struct handshake *h, size_t *len)
{
	*len = h->len - h->used;
	return h->data + h->used;
}

static enum handshake_status
bad(struct handshake_event *e, enum ins_end_code code, const char *why)
{
	e->code = code;
	e->why = why;
	return HANDSHAKE_BAD;
}

/* The first byte tells the transport, the second the dialect. */
static enum handshake_status
first_bytes(struct handshake *h, struct handshake_event *e)
{
	if (h->data[0] == 0x16)
		return bad(e, INS_END_PROTOCOL,
		    "a TLS handshake; this port speaks no TLS");
	if (h->data[0] == 'G' || h->data[0] == 'P' || h->data[0] == 'H')
		return bad(e, INS_END_PROTOCOL,
		    h->server ?
			"an HTTP request; this port is for remote-clients" :
			"it speaks HTTP; is `server` the tunnel port?");
	/* A refusal may come instead of the hello. */
	if (!h->server && h->data[0] == INS_END >> 8)
		return HANDSHAKE_MORE;
	if (h->data[0] > 1 || (h->len > 1 && h->data[1] != 0))
		return bad(e, INS_END_PROTOCOL,
		    h->server ? "not the instruction protocol" :
				"it does not speak the instruction protocol; "
				"is `server` the tunnel port?");
	if (!h->server && h->data[0] == 0)
		return bad(e, INS_END_PROTOCOL,
		    "it speaks the classic "
		    "dialect; set `dialect: classic`");
	return HANDSHAKE_MORE;
}

static enum handshake_status
take_name(struct handshake_event *e, const uint8_t *name, size_t len)
{
	if (!ins_name_valid(name, len))
		return bad(e, INS_END_BAD_NAME, "malformed name");
	e->name = (struct ins_bytes){name, len};
	return HANDSHAKE_CLASSIC;
}

static enum handshake_status
take_hello(struct handshake *h, struct handshake_event *e,
    const uint8_t *payload, size_t len)
{
	if (h->hello)
		return bad(e, INS_END_PROTOCOL, "a second InsHello");
	if (ins_hello_decode(payload, len, !h->server, &e->hello) != INS_OK)
		return bad(e, INS_END_PROTOCOL,
		    h->server ? "malformed InsHello" :
				"its answer is no proxy-server's; "
				"is `server` the tunnel port?");
	if (e->hello.version == 0)
		return bad(e, INS_END_VERSION, "no version in common");
	h->hello = true;
	return HANDSHAKE_HELLO;
}

static enum handshake_status
take_register(struct handshake *h, struct handshake_event *e,
    const uint8_t *payload, size_t len)
{
	if (!h->server || !h->hello)
		return bad(e, INS_END_PROTOCOL,
		    "InsRegister where it has no place");
	if (ins_register_decode(payload, len, &e->registration) != INS_OK)
		return bad(e, INS_END_PROTOCOL, "malformed InsRegister");
	if (!ins_name_valid(e->registration.name.data,
		e->registration.name.len))
		return bad(e, INS_END_BAD_NAME, "malformed name");
	return HANDSHAKE_REGISTER;
}

static enum handshake_status
take_registered(struct handshake *h, struct handshake_event *e,
    const uint8_t *payload, size_t len)
{
	if (h->server || !h->hello ||
	    ins_registered_decode(payload, len, &e->registered) != INS_OK)
		return bad(e, INS_END_PROTOCOL,
		    "malformed or misplaced InsRegistered");
	return HANDSHAKE_REGISTERED;
}

static enum handshake_status
take_resume(struct handshake *h, struct handshake_event *e,
    const uint8_t *payload, size_t len)
{
	if (!h->server || !h->hello)
		return bad(e, INS_END_PROTOCOL,
		    "InsResume where it has no place");
	if (ins_resume_decode(payload, len, &e->resume) != INS_OK)
		return bad(e, INS_END_PROTOCOL, "malformed InsResume");
	if (!ins_name_valid(e->resume.who.name.data, e->resume.who.name.len))
		return bad(e, INS_END_BAD_NAME, "malformed name");
	return HANDSHAKE_RESUME;
}

static enum handshake_status
take_resumed(struct handshake *h, struct handshake_event *e,
    const uint8_t *payload, size_t len)
{
	if (h->server || !h->hello ||
	    ins_resumed_decode(payload, len, &e->resumed) != INS_OK)
		return bad(e, INS_END_PROTOCOL,
		    "malformed or misplaced InsResumed");
	return HANDSHAKE_RESUMED;
}

static enum handshake_status
take_end(struct handshake_event *e, const uint8_t *payload, size_t len)
{
	if (ins_end_decode(payload, len, &e->end) != INS_OK)
		return bad(e, INS_END_PROTOCOL, "malformed InsEnd");
	return HANDSHAKE_END;
}

static enum handshake_status
take(struct handshake *h, struct handshake_event *e,
    const struct ins_head *head, const uint8_t *payload)
{
	switch (head->number) {
	case INS_INITIAL_REMOTE:
		return take_name(e, payload, head->length);
	case INS_HELLO:
		return take_hello(h, e, payload, head->length);
	case INS_REGISTER:
		return take_register(h, e, payload, head->length);
	case INS_REGISTERED:
		return take_registered(h, e, payload, head->length);
	case INS_RESUME:
		return take_resume(h, e, payload, head->length);
	case INS_RESUMED:
		return take_resumed(h, e, payload, head->length);
	case INS_END:
		return take_end(e, payload, head->length);
	default:
		return bad(e, INS_END_PROTOCOL,
		    "an instruction where it has no place");
	}
}

/* Another one is refused at its head, however long it says to be. */
static bool
has_place(uint16_t number)
{
	return number == INS_INITIAL_REMOTE || number == INS_HELLO ||
	    number == INS_REGISTER || number == INS_REGISTERED ||
	    number == INS_RESUME || number == INS_RESUMED || number == INS_END;
}

enum handshake_status
handshake_step(struct handshake *h, struct handshake_event *e)
{
	enum handshake_status status;
	enum ins_dialect dialect;
	struct ins_head head;
	size_t left = h->len - h->used, used;
	const uint8_t *at;

	*e = (struct handshake_event){0};
	if (left == 0)
		return HANDSHAKE_MORE;
	if (!h->hello) {
		status = first_bytes(h, e);
		if (status != HANDSHAKE_MORE)
			return status;
	}
	at = h->data + h->used;
	dialect = h->hello || at[0] != 0 ? INS_EXTENDED : INS_CLASSIC;
	h->extended = dialect == INS_EXTENDED && left > 1;
	switch (ins_head_decode(dialect, at, left, &head, &used)) {
	case INS_MORE:
		return HANDSHAKE_MORE;
	case INS_BAD:
		return bad(e, INS_END_PROTOCOL, "malformed instruction");
	case INS_OK:
		break;
	}
	if (!has_place(head.number))
		return bad(e, INS_END_PROTOCOL,
		    "an instruction where it has no place");
	if (left - used < head.length)
		return HANDSHAKE_MORE;
	h->used += used + head.length;
	return take(h, e, &head, at + used);
}

void
handshake_save(const struct handshake *h, struct image_writer *w)
{
	image_put(w, h->hello);
	image_put(w, h->extended);
	image_put(w, h->answered);
	if (h->len > h->used)
		image_put_bytes(w, h->data + h->used, h->len - h->used);
	else
		image_put_bytes(w, NULL, 0);
}

bool
handshake_load(struct handshake *h, struct image_reader *r)
{
	const uint8_t *rest;
	size_t len;

	h->hello = image_take_bool(r);
	h->extended = image_take_bool(r);
	h->answered = image_take_bool(r);
	rest = image_take_bytes(r, &len);
	return !r->failed && (len == 0 || handshake_add(h, rest, len) == 0);
}
