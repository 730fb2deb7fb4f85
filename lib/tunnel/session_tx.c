/*
 * What goes to the carrier.  Counted instructions wait in a queue of buffers,
 * each of whole instructions; carrier-local ones in a small array beside it,
 * written wherever an instruction of the queue ends.  Data is pulled from
 * endpoints only when the carrier takes it, so the queue stays short.
 */
#include "tunnel/session_private.h"

#include <errno.h>
#include <string.h>

#define IOV 64

void
session_tx_init(struct session *s)
{
	s->tx.tail = &s->tx.head;
}

static void
append(struct session *s, struct buffer *b)
{
	s->tx.queued += b->len;
	*s->tx.tail = b;
	s->tx.tail = &b->next;
	s->tx.last = b;
}

void
session_tx_close(struct session *s)
{
	struct buffer *b;

	while ((b = s->tx.head) != NULL) {
		s->tx.head = b->next;
		pool_put(&s->driver->pool, b);
	}
	session_tx_init(s);
	s->tx.last = NULL;
	pool_put(&s->driver->pool, s->tx.spare);
	s->tx.spare = NULL;
}

/* The last buffer of the queue when size bytes fit behind it, else NULL. */
static struct buffer *
tail_with_room(struct session *s, size_t size)
{
	struct buffer *b = s->tx.last;

	return b != NULL && buffer_room(b) >= size ? b : NULL;
}

uint8_t *
session_control(struct session *s, size_t size)
{
	struct buffer *b = tail_with_room(s, size);

	if (s->end_code != 0 || s->carrier == NULL)
		return NULL;
	if (b == NULL) {
		b = pool_get(&s->driver->pool, size);
		if (b == NULL) {
			b = s->tx.spare;
			s->tx.spare = NULL;
		}
		if (b == NULL) {
			session_fail(s, INS_END_NO_RESOURCES, "out of memory");
			return NULL;
		}
		append(s, b);
	}
	return b->at + b->len;
}

void
session_control_done(struct session *s, size_t len)
{
	uint64_t allowed =
	    ANSWERS_MAX + (uint64_t)ANSWERS_STREAM * s->streams.count;

	s->tx.last->len += (uint32_t)len;
	s->tx.queued += len;
	s->tx.last->control += (uint32_t)len;
	s->tx.answers += len;
	if (s->tx.answers - s->tx.answers_acked > allowed)
		session_fail(s, INS_END_UNREAD,
		    "the peer does not take our answers");
	session_wake(s);
}

void
session_control_patient(struct session *s, size_t len)
{
	bool all = s->tx.queued == s->tx.patient;

	session_control_done(s, len);
	if (s->config.answer_delay > 0 && all)
		s->tx.patient = s->tx.queued;
}

/* Whether what there is to write may wait; then it does. */
static bool
is_patient(struct session *s)
{
	if (s->tx.patient == 0 || s->tx.patient != s->tx.queued ||
	    s->tx.local_len > 0)
		return false;
	if (!s->answer.set)
		timer_set(&s->driver->timers, &s->answer,
		    s->driver->now + s->config.answer_delay);
	return true;
}

/* A buffer of the queue was written: remember where its answers end. */
static void
mark(struct session *s, uint32_t control)
{
	size_t n = s->tx.nmarks;

	if (control == 0)
		return;
	s->tx.answers_sent += control;
	if (!session_extended(s)) {
		s->tx.answers_acked = s->tx.answers_sent;
		return;
	}
	/* Full: the last two become one, which counts too much for a while. */
	if (n == MARKS)
		n--;
	s->tx.marks[n].offset = s->tx.sent;
	s->tx.marks[n].answers = s->tx.answers_sent;
	s->tx.nmarks = n + 1;
}

bool
session_acknowledged(struct session *s, uint64_t offset)
{
	size_t n = 0;

	if (offset < s->tx.acked || offset > s->tx.sent)
		return false;
	s->tx.acked = offset;
	path_acked(&s->tx.path, offset, s->driver->now);
	while (n < s->tx.nmarks && s->tx.marks[n].offset <= offset)
		s->tx.answers_acked = s->tx.marks[n++].answers;
	s->tx.nmarks -= n;
	memmove(s->tx.marks, s->tx.marks + n,
	    s->tx.nmarks * sizeof(s->tx.marks[0]));
	return true;
}

static void
put_local(struct session *s, uint16_t number, uint64_t value)
{
	s->tx.local_len += ins_offset_encode(s->tx.local + s->tx.local_len,
	    LOCAL_MAX - s->tx.local_len, number, value);
}

/* Carrier-local instructions that are due; none while older ones wait. */
static void
encode_local(struct session *s)
{
	if (s->tx.local_len > 0)
		return;
	if (!session_extended(s)) {
		if (s->tx.ping_due)
			s->tx.local_len =
			    ins_heartbeat_encode(s->tx.local, LOCAL_MAX);
		s->tx.ping_due = false;
		return;
	}
	if (s->tx.ack_due && s->rx.counted > s->rx.acked) {
		put_local(s, INS_ACK, s->rx.counted);
		s->rx.acked = s->rx.counted;
		s->rx.acked_at = s->driver->now;
		timer_cancel(&s->driver->timers, &s->ack);
	}
	if (s->tx.pong_due)
		put_local(s, INS_PONG, s->tx.pong_stamp);
	if (s->tx.ping_due) {
		s->tx.ping_stamp = s->driver->now;
		put_local(s, INS_PING, s->tx.ping_stamp);
	}
	s->tx.ack_due = s->tx.pong_due = s->tx.ping_due = false;
}

/* Credits are answers that are not counted as such: one waits per stream. */
static void
encode_credits(struct session *s)
{
	struct ins_credit c;
	struct stream *st;
	size_t len;
	uint8_t *p;

	while (!list_empty(&s->credits)) {
		st = container_of(s->credits.next, struct stream, waiting);
		c.identity = st->identity;
		if (!credit_due(st, &c.offset)) {
			list_remove(&st->waiting);
			continue;
		}
		p = session_control(s, INS_ENCODE_MAX);
		if (p == NULL)
			return;
		list_remove(&st->waiting);
		len = ins_credit_encode(p, INS_ENCODE_MAX, &c);
		s->tx.last->len += (uint32_t)len;
		s->tx.queued += len;
		st->rx_granted = c.offset;
	}
}

static size_t
gather(struct session *s, struct iovec *iov)
{
	struct buffer *b = s->tx.head;
	size_t n = 0;

	if (s->tx.begun && s->tx.local_sent == 0) {
		iov[n++] = (struct iovec){b->at, b->len};
		b = b->next;
	}
	if (s->tx.local_len > 0)
		iov[n++] = (struct iovec){s->tx.local + s->tx.local_sent,
		    s->tx.local_len - s->tx.local_sent};
	for (; b != NULL && n < IOV; b = b->next)
		if (b->len > 0)
			iov[n++] = (struct iovec){b->at, b->len};
	return n;
}

/* Of the first buffer n bytes were written; those that are left. */
static size_t
written_head(struct session *s, size_t n)
{
	struct buffer *b = s->tx.head;
	size_t part = n < b->len ? n : b->len;

	b->at += part;
	b->len -= (uint32_t)part;
	s->tx.sent += part;
	s->tx.queued -= part;
	s->tx.begun = b->len > 0;
	if (s->tx.begun)
		return n - part;
	mark(s, b->control);
	s->tx.head = b->next;
	if (s->tx.head == NULL) {
		s->tx.tail = &s->tx.head;
		s->tx.last = NULL;
	}
	if (s->tx.spare == NULL && b->size == BUFFER_MIN) {
		b->at = (uint8_t *)(b + 1) + BUFFER_HEADROOM;
		b->next = NULL;
		b->control = 0;
		s->tx.spare = b;
	} else
		pool_put(&s->driver->pool, b);
	return n - part;
}

static size_t
written_local(struct session *s, size_t n)
{
	size_t left = s->tx.local_len - s->tx.local_sent;
	size_t part = n < left ? n : left;

	s->tx.local_sent += part;
	if (s->tx.local_sent == s->tx.local_len)
		s->tx.local_len = s->tx.local_sent = 0;
	return n - part;
}

/* n bytes of what gather() named, in its order, were written. */
static void
written(struct session *s, size_t n)
{
	if (s->tx.begun && s->tx.local_sent == 0)
		n = written_head(s, n);
	if (n > 0 && s->tx.local_len > 0)
		n = written_local(s, n);
	while (n > 0)
		n = written_head(s, n);
}

void
session_flush(struct session *s)
{
	struct iovec iov[IOV + 2];
	size_t count;
	ssize_t n;

	s->tx.patient = 0;
	while (
	    s->carrier->writable && (s->tx.queued > 0 || s->tx.local_len > 0)) {
		count = gather(s, iov);
		n = s->carrier->ops->write(s->carrier, iov, (int)count);
		if (n >= 0)
			written(s, (size_t)n);
		else if (errno != EAGAIN) {
			s->carrier->writable = false;
			session_fail(s, INS_END_SILENT,
			    "the connection failed: %s", strerror(errno));
		}
	}
}

/* The instructions of a buffer but for data of an identity, moved together. */
static void
forget_in(struct session *s, struct buffer *b, uint64_t identity)
{
	uint32_t from = 0, to = 0, size;
	struct ins_head h;
	size_t used;

	while (from < b->len) {
		if (ins_head_decode(s->config.dialect, b->at + from,
			b->len - from, &h, &used) != INS_OK)
			return;
		size = (uint32_t)used + h.length;
		if (h.number != INS_DATA || h.identity != identity) {
			memmove(b->at + to, b->at + from, size);
			to += size;
		}
		from += size;
	}
	s->tx.queued -= b->len - to;
	b->len = to;
}

void
session_forget(struct session *s, uint64_t identity)
{
	struct buffer *b = s->tx.head;

	if (b != NULL && s->tx.begun)
		b = b->next;
	for (; b != NULL; b = b->next)
		forget_in(s, b, identity);
}

/* What is queued and was not begun. */
static void
drop_unbegun(struct session *s)
{
	struct buffer **p = s->tx.begun ? &s->tx.head->next : &s->tx.head, *b;

	while ((b = *p) != NULL) {
		*p = b->next;
		s->tx.queued -= b->len;
		pool_put(&s->driver->pool, b);
	}
	s->tx.tail = p;
	s->tx.last = s->tx.begun ? s->tx.head : NULL;
}

void
session_tx_end(struct session *s, unsigned code, const char *why)
{
	size_t room;

	/* InsEnd is the last; only what was begun is finished before it. */
	drop_unbegun(s);
	encode_local(s);
	room = LOCAL_MAX - s->tx.local_len;
	s->tx.local_len += ins_end_encode(s->tx.local + s->tx.local_len, room,
	    (uint16_t)code, why);
	session_flush(s);
}

/* A frame that filled less than half of its buffer, behind the last one. */
static bool
copied(struct session *s, const struct buffer *b)
{
	struct buffer *tail;

	if (b->len >= b->size / 2)
		return false;
	tail = tail_with_room(s, b->len);
	if (tail == NULL)
		return false;
	memcpy(tail->at + tail->len, b->at, b->len);
	tail->len += b->len;
	s->tx.queued += b->len;
	return true;
}

void
session_watch_grant(struct session *s, struct stream *st)
{
	if (!list_empty(&st->active) || !session_extended(s))
		return;
	list_append(&s->active, &st->active);
	if (!s->limit.set)
		timer_set(&s->driver->timers, &s->limit,
		    s->driver->now + LIMIT_AFTER);
}

void
session_queue_data(struct session *s, struct stream *st, struct buffer *b,
    size_t n)
{
	b->at -= INS_DATA_HEAD;
	ins_data_head_encode(b->at, st->identity, (uint32_t)n);
	b->len = (uint32_t)n + INS_DATA_HEAD;
	st->tx_sent += n;
	st->sent_at = (uint32_t)(s->driver->now / MS);
	session_watch_grant(s, st);
	if (copied(s, b))
		pool_put(&s->driver->pool, b);
	else
		append(s, b);
}

void
session_transmit(struct session *s)
{
	bool writable = s->carrier->writable, more;

	if (writable) {
		encode_credits(s);
		if (scheduler_bulk_due(s))
			scheduler_bulk(s);
		scheduler_fresh(s);
		encode_local(s);
		if (!is_patient(s))
			session_flush(s);
	}
	if (s->carrier->writable && s->end_code == 0 && scheduler_bulk(s))
		session_flush(s);
	if (!s->carrier->writable)
		scheduler_stalled(s);
	more =
	    s->end_code == 0 && s->carrier->writable && scheduler_has_work(s);
	if (more)
		session_wake(s);
	if (writable)
		path_sent(&s->tx.path, s->tx.sent, s->tx.acked, more,
		    s->driver->now);
}
