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

/* As much as path.h may leave unacknowledged, and may have to be kept. */
static uint64_t
most_unacknowledged(const struct session *s)
{
	uint64_t most = s->config.memory - s->budget.limit;

	if (s->config.resume > 0 && most > s->config.resume_memory)
		most = s->config.resume_memory;
	return most > PATH_LIMIT_FIRST ? most : PATH_LIMIT_FIRST;
}

int
session_tx_init(struct session *s)
{
	path_init(&s->tx.path, most_unacknowledged(s));
	return send_queue_init(&s->tx.queue, &s->driver->pool,
	    s->config.resume > 0 ? s->config.process : NULL);
}

void
session_tx_close(struct session *s)
{
	send_queue_close(&s->tx.queue);
}

void
session_tx_park(struct session *s)
{
	s->tx.local_len = s->tx.local_sent = 0;
	s->tx.ack_due = s->tx.ping_due = s->tx.pong_due = false;
	s->tx.ping_stamp = 0;
	s->tx.patient = 0;
}

void
session_tx_resume(struct session *s, uint64_t offset)
{
	session_acknowledged(s, offset);
	send_queue_rewind(&s->tx.queue, offset);
	/* Another carrier has another path. */
	path_init(&s->tx.path, most_unacknowledged(s));
	s->tx.ping_due = true;
}

bool
session_tx_full(const struct session *s)
{
	const struct send_queue *q = &s->tx.queue;

	return q->held >= s->tx.path.most ||
	    (q->held >= PATH_LIMIT_FIRST && q->keep &&
		budget_kept_all(s->config.process));
}

bool
session_tx_swamped(const struct session *s)
{
	return s->tx.queue.held >= s->tx.path.most + OPENS_MAX;
}

uint8_t *
session_control(struct session *s, size_t size)
{
	uint8_t *p;

	if (s->end_code != 0 || s->ended)
		return NULL;
	p = send_queue_room(&s->tx.queue, size);
	if (p == NULL)
		session_fail(s, INS_END_NO_RESOURCES, "out of memory");
	return p;
}

void
session_control_done(struct session *s, size_t len)
{
	send_queue_added(&s->tx.queue, len, false);
	session_wake(s);
}

void
session_answer_done(struct session *s, size_t len)
{
	uint64_t allowed =
	    ANSWERS_MAX + (uint64_t)ANSWERS_STREAM * s->streams.count;

	send_queue_added(&s->tx.queue, len, true);
	s->tx.answers += len;
	if (s->tx.answers - s->tx.answers_acked > allowed)
		session_fail(s, INS_END_UNREAD,
		    "the peer does not take our answers");
	session_wake(s);
}

void
session_answer_patient(struct session *s, size_t len)
{
	bool all = s->tx.queue.queued == s->tx.patient;

	session_answer_done(s, len);
	if (s->config.answer_delay > 0 && all)
		s->tx.patient = s->tx.queue.queued;
}

/* Whether what there is to write may wait; then it does. */
static bool
is_patient(struct session *s)
{
	if (s->tx.patient == 0 || s->tx.patient != s->tx.queue.queued ||
	    s->tx.local_len > 0)
		return false;
	if (!s->answer.set)
		timer_set(&s->driver->timers, &s->answer,
		    s->driver->now + s->config.answer_delay);
	return true;
}

/* Buffers of the queue were written: remember where their answers end. */
static void
mark(struct session *s)
{
	const struct send_queue *q = &s->tx.queue;
	size_t n = s->tx.nmarks;

	if (!session_extended(s)) {
		s->tx.answers_acked = q->answers;
		return;
	}
	if (q->answers ==
	    (n > 0 ? s->tx.marks[n - 1].answers : s->tx.answers_acked))
		return;
	/* Full: the last two become one, which counts too much for a while. */
	if (n == MARKS)
		n--;
	s->tx.marks[n].offset = q->sent;
	s->tx.marks[n].answers = q->answers;
	s->tx.nmarks = n + 1;
}

bool
session_acknowledged(struct session *s, uint64_t offset)
{
	size_t n = 0;

	if (!send_queue_acknowledge(&s->tx.queue, offset))
		return false;
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
		send_queue_added(&s->tx.queue,
		    ins_credit_encode(p, INS_ENCODE_MAX, &c), false);
		st->rx_granted = c.offset;
	}
}

/* n bytes of the queue and of what is carrier-local were written. */
static void
written(struct session *s, size_t n)
{
	size_t left = s->tx.local_len - s->tx.local_sent, part;

	if (s->tx.local_sent == 0)
		n = send_queue_wrote_begun(&s->tx.queue, n);
	part = n < left ? n : left;
	s->tx.local_sent += part;
	if (s->tx.local_sent == s->tx.local_len)
		s->tx.local_len = s->tx.local_sent = 0;
	send_queue_wrote(&s->tx.queue, n - part);
	mark(s);
}

void
session_flush(struct session *s)
{
	struct iovec iov[IOV], local;
	size_t count;
	ssize_t n;

	s->tx.patient = 0;
	while (s->carrier->writable &&
	    (s->tx.queue.queued > 0 || s->tx.local_len > 0)) {
		local = (struct iovec){s->tx.local + s->tx.local_sent,
		    s->tx.local_len - s->tx.local_sent};
		count = send_queue_gather(&s->tx.queue, iov, IOV, &local,
		    s->tx.local_sent > 0);
		n = s->carrier->ops->write(s->carrier, iov, (int)count);
		if (n >= 0)
			written(s, (size_t)n);
		else if (errno != EAGAIN) {
			s->carrier->writable = false;
			session_lose(s, "the connection failed: %s",
			    strerror(errno));
		}
	}
}

void
session_forget(struct session *s, uint64_t identity)
{
	send_queue_forget(&s->tx.queue, s->config.dialect, identity);
}

void
session_tx_end(struct session *s, unsigned code, const char *why)
{
	size_t room;

	/* InsEnd is the last; only what was begun is finished before it. */
	send_queue_drop(&s->tx.queue);
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
	struct send_queue *q = &s->tx.queue;

	if (b->len >= b->size / 2 || q->last == NULL ||
	    buffer_room(q->last) < b->len)
		return false;
	memcpy(send_queue_room(q, b->len), b->at, b->len);
	send_queue_added(q, b->len, false);
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
		send_queue_append(&s->tx.queue, b);
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
		path_sent(&s->tx.path, s->tx.queue.sent, s->tx.queue.acked,
		    more, s->driver->now);
}
