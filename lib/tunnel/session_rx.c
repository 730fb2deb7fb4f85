/*
 * What comes from the carrier: one large read a turn, taken apart in place;
 * payload goes from the read buffer into the socket.
 */
#include "tunnel/session_private.h"

#include <errno.h>
#include <string.h>

/* Bytes of counted instructions were taken. */
static void
count(struct session *s, uint64_t n)
{
	s->rx.counted += n;
}

static bool
opened_by_us(const struct session *s, uint64_t identity)
{
	return ((identity & INS_BY_CLIENT) == 0) == s->config.server;
}

/*
 * The live stream that an instruction is for.  NULL: it is over, or (then the
 * session fails) was never opened.
 */
static struct stream *
find(struct session *s, uint64_t identity, uint16_t number)
{
	uint64_t n = identity & ~INS_BY_CLIENT;
	struct stream *st = stream_find(s, identity);

	if (st != NULL || !session_extended(s))
		return st;
	if (n == 0 ||
	    n > (opened_by_us(s, identity) ? s->opened_ours : s->opened_theirs))
		session_fail(s, INS_END_PROTOCOL,
		    "%s for a stream that was never opened", ins_name(number));
	return NULL;
}

static bool
step(struct session *s, struct stream *st, enum stream_event event,
    uint16_t number)
{
	if (stream_step(st, event))
		return true;
	session_fail(s, INS_END_PROTOCOL, "%s in a state that forbids it",
	    ins_name(number));
	return false;
}

static void
bad(struct session *s, uint16_t number)
{
	session_fail(s, INS_END_PROTOCOL, "malformed %s", ins_name(number));
}

static void
refuse_open(struct session *s, const struct ins_open *open,
    enum ins_outcome outcome)
{
	struct ins_opened answer = {
	    .identity = open->identity,
	    .outcome = (uint8_t)outcome,
	};
	uint8_t *p = session_control(s, INS_ENCODE_MAX);

	if (p == NULL)
		return;
	if (session_extended(s))
		session_answer_done(s,
		    ins_opened_encode(p, INS_ENCODE_MAX, &answer));
	else
		session_answer_done(s,
		    ins_close_encode(p, INS_ENCODE_MAX, open->identity));
}

static void
take_open(struct session *s, const struct ins_open *open)
{
	struct stream *st;

	if (s->config.events->open == NULL) {
		refuse_open(s, open, INS_NOT_ALLOWED);
		return;
	}
	if (open->kind != INS_KIND_BYTES ||
	    (open->form != INS_FORM_PORT && open->form != INS_FORM_HOST)) {
		refuse_open(s, open, INS_UNSUPPORTED);
		return;
	}
	st = stream_new(s, open, STREAM_CONNECTING);
	if (st == NULL) {
		refuse_open(s, open, INS_NO_RESOURCES);
		return;
	}
	st->tx_limit = session_extended(s) ? open->window : UINT64_MAX;
	s->config.events->open(s, st, open);
}

static void
on_open(struct session *s, const uint8_t *payload, size_t len)
{
	struct ins_open open;
	uint64_t n;

	if (ins_open_decode(payload, len, &open) != INS_OK) {
		bad(s, INS_OPEN);
		return;
	}
	n = open.identity & ~INS_BY_CLIENT;
	if (opened_by_us(s, open.identity) || n <= s->opened_theirs) {
		session_fail(s, INS_END_PROTOCOL,
		    "InsOpen with an identity that does not count up");
		return;
	}
	s->opened_theirs = n;
	take_open(s, &open);
}

static void
on_opened(struct session *s, const uint8_t *payload, size_t len)
{
	struct ins_opened opened;
	struct stream *st;

	if (ins_opened_decode(payload, len, &opened) != INS_OK) {
		bad(s, INS_OPENED);
		return;
	}
	if (!opened_by_us(s, opened.identity)) {
		session_fail(s, INS_END_PROTOCOL,
		    "InsOpened for a stream of the other side");
		return;
	}
	st = find(s, opened.identity, INS_OPENED);
	if (st != NULL && step(s, st, PEER_OPENED, INS_OPENED))
		stream_opened(st, &opened);
}

static void
on_half_close(struct session *s, const uint8_t *payload, size_t len)
{
	struct stream *st;
	uint64_t identity;

	if (ins_identity_decode(payload, len, &identity) != INS_OK) {
		bad(s, INS_HALF_CLOSE);
		return;
	}
	st = find(s, identity, INS_HALF_CLOSE);
	if (st != NULL && step(s, st, PEER_HALF_CLOSE, INS_HALF_CLOSE))
		stream_half_closed(st);
}

static void
on_reset(struct session *s, const uint8_t *payload, size_t len)
{
	struct ins_reset reset;
	struct stream *st;

	if (ins_reset_decode(payload, len, &reset) != INS_OK) {
		bad(s, INS_RESET);
		return;
	}
	st = find(s, reset.identity, INS_RESET);
	if (st != NULL && step(s, st, PEER_RESET, INS_RESET))
		stream_reset(st, reset.reason);
}

static void
on_credit(struct session *s, const uint8_t *payload, size_t len)
{
	struct ins_credit credit;
	struct stream *st;

	if (ins_credit_decode(payload, len, &credit) != INS_OK ||
	    credit.offset > INS_OFFSET_MAX) {
		bad(s, INS_CREDIT);
		return;
	}
	st = find(s, credit.identity, INS_CREDIT);
	if (st == NULL || !step(s, st, PEER_CREDIT, INS_CREDIT))
		return;
	/* What we have ended needs no credit; it may have crossed our end. */
	if (st->local_done)
		return;
	if (credit.offset <= st->tx_limit) {
		session_fail(s, INS_END_PROTOCOL,
		    "InsCredit that does not rise");
		return;
	}
	st->tx_limit = credit.offset;
	session_watch_grant(s, st);
	stream_want(st);
}

static void
on_limit(struct session *s, const uint8_t *payload, size_t len)
{
	struct ins_limit limit;
	struct stream *st;

	if (ins_limit_decode(payload, len, &limit) != INS_OK) {
		bad(s, INS_LIMIT);
		return;
	}
	st = find(s, limit.identity, INS_LIMIT);
	if (st == NULL || !step(s, st, PEER_LIMIT, INS_LIMIT))
		return;
	if (limit.limit < st->rx_received || limit.limit > limit.seen ||
	    limit.seen > st->rx_granted) {
		session_fail(s, INS_END_PROTOCOL,
		    "InsLimit outside what was granted");
		return;
	}
	/* A credit that it had not seen is on its way: the grant stays. */
	if (limit.seen != st->rx_granted)
		return;
	st->rx_granted = limit.limit;
	/* Else more is still queued here: that memory is not given back. */
	if (limit.limit - st->rx_delivered <= WINDOW_FIRST)
		st->window =
		    budget_lower(&s->budget, s->config.process, st->window);
}

static void
on_offset(struct session *s, uint16_t number, const uint8_t *payload,
    size_t len)
{
	uint64_t value;

	if (ins_offset_decode(payload, len, &value) != INS_OK) {
		bad(s, number);
		return;
	}
	if (number == INS_ACK) {
		if (!session_acknowledged(s, value))
			session_fail(s, INS_END_PROTOCOL,
			    "InsAck of what was not sent");
	} else if (number == INS_PING) {
		s->tx.pong_due = true;
		s->tx.pong_stamp = value;
	} else if (value == s->tx.ping_stamp && value != 0) {
		path_trip(&s->tx.path, s->driver->now - value, s->driver->now);
		s->tx.ping_stamp = 0;
	}
}

static void
on_end(struct session *s, const uint8_t *payload, size_t len)
{
	struct ins_end end;
	const char *text;

	if (ins_end_decode(payload, len, &end) != INS_OK) {
		bad(s, INS_END);
		return;
	}
	s->peer_ended = true;
	text = ins_end_text(end.code);
	/* Most say no more than the code does. */
	if (end.text.len == 0 ||
	    (end.text.len == strlen(text) &&
		memcmp(end.text.data, text, end.text.len) == 0))
		session_fail(s, end.code, "peer: %s", text);
	else
		session_fail(s, end.code, "peer: %s: %.*s", text,
		    (int)end.text.len, (const char *)end.text.data);
}

static void
on_go_away(struct session *s, const uint8_t *payload, size_t len)
{
	struct ins_end end;

	if (ins_end_decode(payload, len, &end) != INS_OK)
		bad(s, INS_GO_AWAY);
	else
		session_told_to_go(s, &end);
}

static void
on_close(struct session *s, uint64_t identity)
{
	struct stream *st = find(s, identity, INS_CLOSE);

	if (st != NULL && step(s, st, PEER_CLOSE, INS_CLOSE))
		stream_closed(st);
}

/* The head of InsData: from here on its bytes go to the stream. */
static void
on_data(struct session *s, const struct ins_head *h)
{
	struct stream *st = find(s, h->identity, INS_DATA);

	s->rx.data_left = h->length;
	s->rx.stream = NULL;
	if (st == NULL || !step(s, st, PEER_DATA, INS_DATA))
		return;
	if (h->length > st->rx_granted - st->rx_received) {
		session_fail(s, INS_END_PROTOCOL, "InsData past the credit");
		return;
	}
	s->rx.stream = st;
}

/* Of a classic proxy-server. */
static void
on_initial_connection(struct session *s, const struct ins_head *h)
{
	struct ins_open open = {
	    .identity = h->identity,
	    .weight = INS_WEIGHT_DEFAULT,
	    .form = INS_FORM_PORT,
	    .port = h->port,
	};

	struct stream *old = stream_find(s, h->identity);

	/* The peer has forgotten the one that it opened before. */
	if (old != NULL)
		stream_reset(old, INS_RESET_LOCAL);
	take_open(s, &open);
}

static void
classic_instruction(struct session *s, const struct ins_head *h)
{
	switch (h->number) {
	case INS_HEARTBEAT:
		if (!s->config.server)
			session_fail(s, INS_END_PROTOCOL,
			    "InsHeartbeat from a proxy-server");
		break;
	case INS_INITIAL_CONNECTION:
		if (s->config.server)
			session_fail(s, INS_END_PROTOCOL,
			    "InsInitialConnection from a remote-client");
		else
			on_initial_connection(s, h);
		break;
	default:
		session_fail(s, INS_END_PROTOCOL, "%s where it has no place",
		    ins_name(h->number));
	}
}

static void
extended_instruction(struct session *s, uint16_t number, const uint8_t *payload,
    size_t len)
{
	switch (number) {
	case INS_OPEN:
		on_open(s, payload, len);
		break;
	case INS_OPENED:
		on_opened(s, payload, len);
		break;
	case INS_HALF_CLOSE:
		on_half_close(s, payload, len);
		break;
	case INS_RESET:
		on_reset(s, payload, len);
		break;
	case INS_CREDIT:
		on_credit(s, payload, len);
		break;
	case INS_LIMIT:
		on_limit(s, payload, len);
		break;
	case INS_ACK:
	case INS_PING:
	case INS_PONG:
		on_offset(s, number, payload, len);
		break;
	case INS_END:
		on_end(s, payload, len);
		break;
	case INS_GO_AWAY:
		on_go_away(s, payload, len);
		break;
	default:
		session_fail(s, INS_END_PROTOCOL, "%s where it has no place",
		    ins_name(number));
	}
}

static bool
is_large(uint16_t number)
{
	return number == INS_REGISTER || number == INS_RESUME;
}

/*
 * Take one instruction, but not the payload of InsData or of an unknown one,
 * from data[0..len).  The bytes taken; 0: more are needed, or the session
 * fails.
 */
static size_t
take_instruction(struct session *s, const uint8_t *data, size_t len)
{
	struct ins_head h;
	size_t used;

	switch (ins_head_decode(s->config.dialect, data, len, &h, &used)) {
	case INS_MORE:
		return 0;
	case INS_BAD:
		session_fail(s, INS_END_PROTOCOL,
		    "instruction 0x%04x of length %u: unknown or malformed",
		    h.number, h.length);
		return 0;
	case INS_OK:
		break;
	}
	if (h.number == INS_DATA) {
		count(s, used);
		on_data(s, &h);
	} else if (h.number == INS_CLOSE) {
		count(s, used);
		on_close(s, h.identity);
	} else if (!session_extended(s))
		classic_instruction(s, &h);
	else if (!ins_known(h.number)) {
		s->rx.skip_left = h.length;
		s->rx.skip_counted = ins_counted(h.number);
		count(s, s->rx.skip_counted ? used : 0);
	} else if (is_large(h.number) || len - used < h.length) {
		/* The largest ones have no place here: not waited for. */
		if (is_large(h.number))
			extended_instruction(s, h.number, NULL, 0);
		return 0;
	} else {
		count(s, ins_counted(h.number) ? used + h.length : 0);
		extended_instruction(s, h.number, data + used, h.length);
		used += h.length;
	}
	return used;
}

/* An instruction that an earlier read cut; the bytes of data taken. */
static size_t
take_partial(struct session *s, const uint8_t *data, size_t len)
{
	size_t had = s->rx.partial_len, n = PARTIAL_MAX - had, used;

	if (n > len)
		n = len;
	memcpy(s->rx.partial + had, data, n);
	s->rx.partial_len = 0;
	used = take_instruction(s, s->rx.partial, had + n);
	if (used == 0) {
		s->rx.partial_len = had + n;
		return n;
	}
	return used - had;
}

static size_t
take_data(struct session *s, const uint8_t *data, size_t len)
{
	size_t n = len < s->rx.data_left ? len : s->rx.data_left;
	struct stream *st = s->rx.stream;

	count(s, n);
	s->rx.data_left -= (uint32_t)n;
	if (s->rx.data_left == 0)
		s->rx.stream = NULL;
	if (st != NULL)
		stream_data(st, data, n);
	return n;
}

static size_t
take_skipped(struct session *s, size_t len)
{
	size_t n = len < s->rx.skip_left ? len : s->rx.skip_left;

	count(s, s->rx.skip_counted ? n : 0);
	s->rx.skip_left -= (uint32_t)n;
	return n;
}

static void
take_all(struct session *s, const uint8_t *data, size_t len)
{
	size_t n;

	while (len > 0 && s->end_code == 0) {
		if (s->rx.data_left > 0)
			n = take_data(s, data, len);
		else if (s->rx.skip_left > 0)
			n = take_skipped(s, len);
		else if (s->rx.partial_len > 0)
			n = take_partial(s, data, len);
		else {
			n = take_instruction(s, data, len);
			if (n == 0 && s->end_code == 0) {
				/* Cut, so shorter than the longest one. */
				memcpy(s->rx.partial, data, len);
				s->rx.partial_len = len;
				n = len;
			}
		}
		data += n;
		len -= n;
	}
}

/* PROTOCOL.md, "Offsets and acknowledgements". */
static void
acknowledge(struct session *s)
{
	uint64_t now = s->driver->now, at;

	if (!session_extended(s) || s->rx.counted == s->rx.acked)
		return;
	if (s->rx.counted - s->rx.acked >= ACK_BYTES ||
	    (!s->carrier->readable && now - s->rx.acked_at >= ACK_PAUSE)) {
		s->tx.ack_due = true;
		return;
	}
	at = s->carrier->readable ? now + ACK_LATEST :
				    s->rx.acked_at + ACK_PAUSE;
	if (!s->ack.set || at < s->ack.at)
		timer_set(&s->driver->timers, &s->ack, at);
}

void
session_input(struct session *s, const uint8_t *data, size_t len)
{
	take_all(s, data, len);
	acknowledge(s);
}

void
session_rx_park(struct session *s)
{
	/* What was cut is not counted yet: it comes again, or is void. */
	s->rx.partial_len = 0;
	if (!s->rx.skip_counted)
		s->rx.skip_left = 0;
}

/*
 * How much to read.  In the middle of a large frame no further than to the
 * head behind it: the next read begins with data then, so that frames that are
 * as large as the buffer go to their sockets in one write each, not in two.
 */
static size_t
read_size(const struct session *s)
{
	if (s->rx.data_left < DRIVER_SCRATCH / 4 ||
	    s->rx.data_left > DRIVER_SCRATCH - INS_DATA_HEAD)
		return DRIVER_SCRATCH;
	return s->rx.data_left + INS_DATA_HEAD;
}

void
session_receive(struct session *s)
{
	ssize_t n;

	n = s->carrier->ops->read(s->carrier, s->driver->scratch, read_size(s));
	if (n > 0) {
		s->rx.last = s->driver->now;
		session_input(s, s->driver->scratch, (size_t)n);
		if (s->carrier->readable)
			session_wake(s);
	} else if (n == 0)
		session_lose(s, "the peer closed the connection");
	else if (errno != EAGAIN)
		session_lose(s, "the connection failed: %s", strerror(errno));
	else
		acknowledge(s); /* it has been read empty */
}

void
session_unblock(struct session *s, struct stream *st)
{
	if (list_empty(&st->waiting))
		return;
	list_remove(&st->waiting);
	if (!list_empty(&s->blocked))
		return;
	/* The peer was not heard because we did not listen. */
	s->rx.last = s->driver->now;
	timer_cancel(&s->driver->timers, &s->stall);
	session_wake(s);
}
