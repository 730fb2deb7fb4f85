/*
 * Streams: PROTOCOL.md, "Streams" and "Which instruction in which state".
 */
#include "tunnel/session_private.h"

#include <errno.h>
#include <string.h>

#define QUEUE_IOV 16
#define ILLEGAL 0xff

/* The state that follows, by state and event. */
/* clang-format off */
#define OVER STREAM_OVER
static const uint8_t steps[STREAM_OVER][PEER_LIMIT + 1] = {
[STREAM_OPENING] = {
	[PEER_OPENED] = STREAM_OPEN,
	[PEER_DATA] = ILLEGAL,	[PEER_HALF_CLOSE] = ILLEGAL,
	[PEER_RESET] = OVER,	[PEER_CLOSE] = OVER,
	[PEER_CREDIT] = ILLEGAL, [PEER_LIMIT] = ILLEGAL,
},
[STREAM_CONNECTING] = {
	[PEER_OPENED] = ILLEGAL,
	[PEER_DATA] = STREAM_CONNECTING,
	[PEER_HALF_CLOSE] = STREAM_CONNECTING_DONE,
	[PEER_RESET] = OVER,	[PEER_CLOSE] = OVER,
	[PEER_CREDIT] = ILLEGAL, [PEER_LIMIT] = ILLEGAL,
},
[STREAM_CONNECTING_DONE] = {
	[PEER_OPENED] = ILLEGAL,
	[PEER_DATA] = ILLEGAL,	[PEER_HALF_CLOSE] = ILLEGAL,
	[PEER_RESET] = OVER,	[PEER_CLOSE] = OVER,
	[PEER_CREDIT] = ILLEGAL, [PEER_LIMIT] = ILLEGAL,
},
[STREAM_OPEN] = {
	[PEER_OPENED] = ILLEGAL,
	[PEER_DATA] = STREAM_OPEN,
	[PEER_HALF_CLOSE] = STREAM_PEER_DONE,
	[PEER_RESET] = OVER,	[PEER_CLOSE] = OVER,
	[PEER_CREDIT] = STREAM_OPEN, [PEER_LIMIT] = STREAM_OPEN,
},
[STREAM_PEER_DONE] = {
	[PEER_OPENED] = ILLEGAL,
	[PEER_DATA] = ILLEGAL,	[PEER_HALF_CLOSE] = ILLEGAL,
	[PEER_RESET] = OVER,	[PEER_CLOSE] = OVER,
	[PEER_CREDIT] = STREAM_PEER_DONE, [PEER_LIMIT] = ILLEGAL,
},
};
/* clang-format on */

bool
stream_step(struct stream *st, enum stream_event event)
{
	uint8_t next = steps[st->state][event];

	if (next == ILLEGAL)
		return false;
	/* Being over takes more than the state: over() does it. */
	if (next != STREAM_OVER)
		st->state = next;
	return true;
}

struct stream *
stream_find(struct session *s, uint64_t identity)
{
	struct hash_node *n;

	n = hash_find(&s->streams, &identity, sizeof(identity));
	return n != NULL ? container_of(n, struct stream, node) : NULL;
}

struct stream *
stream_bare(struct session *s, const struct ins_open *open,
    enum stream_state state)
{
	struct stream *st;

	st = allocator_new(s->driver->allocator, sizeof(*st));
	if (st == NULL)
		return NULL;
	st->session = s;
	st->identity = open->identity;
	st->class = open->class;
	st->weight = open->weight != 0 ? open->weight : INS_WEIGHT_DEFAULT;
	st->emptied = true;
	st->state = (uint8_t)(state != STREAM_OVER ? state : STREAM_OPEN);
	st->tail = &st->queue;
	st->read_size = READ_FIRST;
	st->opened_at = st->mark_at = s->driver->now;
	st->sent_at = (uint32_t)(s->driver->now / MS);
	list_init(&st->ready);
	list_init(&st->active);
	list_init(&st->waiting);
	st->node.key = &st->identity;
	st->node.len = sizeof(st->identity);
	hash_insert(&s->streams, &st->node);
	s->alive++;
	return st;
}

struct stream *
stream_new(struct session *s, const struct ins_open *open,
    enum stream_state state)
{
	uint64_t window = budget_open(&s->budget, s->config.process);
	struct stream *st;

	if (window == 0) {
		errno = ENOBUFS;
		return NULL;
	}
	st = stream_bare(s, open, state);
	if (st == NULL) {
		budget_close(&s->budget, s->config.process, window);
		errno = ENOMEM;
		return NULL;
	}
	st->window = window;
	credit_open(st);
	window = st->window;
	/* Before we have answered, what came ahead of the answer is bounded. */
	st->rx_granted = !session_extended(s) ? UINT64_MAX :
	    state == STREAM_CONNECTING        ? INS_WINDOW_MIN :
						window;
	return st;
}

uint64_t
stream_identity(const struct stream *st)
{
	return st->identity;
}

uint64_t
stream_window(const struct stream *st)
{
	return st->window;
}

static void
blame(struct stream *st, enum stream_party who)
{
	if (st->ended_by == PARTY_NONE)
		st->ended_by = (uint8_t)who;
}

static void
drop_queue(struct stream *st)
{
	struct buffer *b;

	while ((b = st->queue) != NULL) {
		st->queue = b->next;
		pool_put(&st->session->driver->pool, b);
	}
	st->tail = &st->queue;
	st->queued = 0;
}

void
stream_over(struct stream *st)
{
	struct session *s = st->session;

	if (st->state == STREAM_OVER)
		return;
	st->state = STREAM_OVER;
	hash_remove(&s->streams, &st->node);
	if (s->rx.stream == st)
		s->rx.stream = NULL;
	list_remove(&st->ready);
	if (session_extended(s))
		list_remove(&st->waiting);
	list_remove(&st->active);
	list_append(&s->over, &st->active);
}

/* Report: before the endpoint, whose owner the report's user may be, goes. */
static void
report(struct stream *st)
{
	struct session *s = st->session;
	struct stream_report r = {
	    .identity = st->identity,
	    .from_local = st->tx_sent,
	    .to_local = st->rx_delivered,
	    .duration = s->driver->now - st->opened_at,
	    .stalls = st->stalls,
	    .ended_by = (enum stream_party)st->ended_by,
	    .why = st->why != NULL ? st->why : "closed",
	    .user = st->user,
	};

	stall_log(st);
	if (st->endpoint != NULL)
		st->endpoint->stream = NULL;
	s->config.events->finished(s, &r);
}

/* After the report, and after the endpoint was let go. */
static void
release(struct stream *st)
{
	struct session *s = st->session;

	stream_over(st);
	session_unblock(s, st);
	drop_queue(st);
	list_remove(&st->active);
	budget_close(&s->budget, s->config.process, st->window);
	s->alive--;
	allocator_free(s->driver->allocator, st);
	session_reap(s);
}

static void
finish_reset(struct stream *st, const char *why)
{
	st->why = why;
	report(st);
	if (st->endpoint != NULL)
		st->endpoint->ops->reset(st->endpoint);
	release(st);
}

static void
finish_close(struct stream *st)
{
	report(st);
	st->endpoint->ops->close(st->endpoint);
	release(st);
}

/*
 * After what was queued or a direction changed: pass ends on whose data is
 * delivered.  May free the stream.
 */
static void
settle(struct stream *st)
{
	if (st->queue != NULL || !st->connected)
		return;
	if (st->state == STREAM_OVER)
		finish_close(st);
	else if (st->state == STREAM_PEER_DONE && !st->shut) {
		st->shut = true;
		st->endpoint->ops->shut(st->endpoint);
	}
}

/* Both directions have ended: over without a word. */
static void
check_both_done(struct stream *st)
{
	if (st->local_done && st->state == STREAM_PEER_DONE)
		stream_over(st);
}

static void
tell_reset(struct stream *st, enum ins_reset_reason reason)
{
	struct session *s = st->session;
	struct ins_reset r = {st->identity, (uint16_t)reason};
	uint8_t *p;

	if (st->state == STREAM_OVER)
		return;
	p = session_control(s, INS_ENCODE_MAX);
	if (p == NULL)
		return;
	session_control_done(s,
	    session_extended(s) ?
		ins_reset_encode(p, INS_ENCODE_MAX, &r) :
		ins_close_encode(p, INS_ENCODE_MAX, st->identity));
}

void
stream_abort(struct stream *st, enum ins_reset_reason reason, const char *why)
{
	blame(st, PARTY_SESSION);
	tell_reset(st, reason);
	finish_reset(st, why);
}

void
stream_local_failure(struct stream *st, int error)
{
	blame(st, PARTY_LOCAL);
	tell_reset(st, error == EPIPE ? INS_RESET_UNWRITABLE : INS_RESET_LOCAL);
	finish_reset(st,
	    error == ECONNRESET || error == EPIPE ? "reset" :
		error == ETIMEDOUT                ? "timed out" :
						    "failed");
}

void
stream_local_end(struct stream *st)
{
	struct session *s = st->session;
	uint8_t *p;

	blame(st, PARTY_LOCAL);
	p = session_control(s, INS_ENCODE_MAX);
	if (p == NULL)
		return;
	st->local_done = true;
	if (session_extended(s)) {
		session_control_done(s,
		    ins_half_close_encode(p, INS_ENCODE_MAX, st->identity));
		check_both_done(st);
	} else {
		session_control_done(s,
		    ins_close_encode(p, INS_ENCODE_MAX, st->identity));
		stream_over(st);
	}
	settle(st);
}

/* Write the queue out.  May free the stream: false then. */
static bool
flush(struct stream *st)
{
	struct pool *pool = &st->session->driver->pool;
	struct iovec iov[QUEUE_IOV];
	struct buffer *b;
	size_t part;
	ssize_t n;
	int count;

	while (st->queue != NULL && st->endpoint->writable) {
		count = 0;
		for (b = st->queue; b != NULL && count < QUEUE_IOV; b = b->next)
			iov[count++] = (struct iovec){b->at, b->len};
		n = st->endpoint->ops->write(st->endpoint, iov, count);
		if (n < 0 && errno == EAGAIN)
			break;
		if (n < 0) {
			stream_local_failure(st, errno);
			return false;
		}
		st->rx_delivered += (uint64_t)n;
		st->queued -= (uint32_t)n;
		while (n > 0 && (b = st->queue) != NULL) {
			part = (size_t)n < b->len ? (size_t)n : b->len;
			b->at += part;
			b->len -= (uint32_t)part;
			n -= (ssize_t)part;
			if (b->len > 0)
				break;
			st->queue = b->next;
			pool_put(pool, b);
		}
		if (st->queue == NULL)
			st->tail = &st->queue;
	}
	return true;
}

bool
stream_enqueue(struct stream *st, const uint8_t *data, size_t len)
{
	struct buffer *b = st->queue == NULL ?
	    NULL :
	    container_of(st->tail, struct buffer, next);
	size_t n;

	while (len > 0) {
		if (b == NULL || buffer_room(b) == 0) {
			b = pool_get(&st->session->driver->pool,
			    len < BUFFER_MAX ? len : BUFFER_MAX);
			if (b == NULL)
				return false;
			if (st->connected)
				stream_stalled(st, STALL_READER);
			/* Never NULL: the queue's head or a next. */
			*st->tail = b; /* NOLINT(*NullDereference) */
			st->tail = &b->next;
		}
		n = buffer_room(b) < len ? buffer_room(b) : len;
		memcpy(b->at + b->len, data, n);
		b->len += (uint32_t)n;
		st->queued += (uint32_t)n;
		data += n;
		len -= n;
	}
	return true;
}

/* A classic peer cannot be told to wait: its carrier is not read meanwhile. */
static void
block(struct stream *st)
{
	struct session *s = st->session;

	if (session_extended(s) || st->queued < st->window ||
	    !list_empty(&st->waiting))
		return;
	list_append(&s->blocked, &st->waiting);
	stream_stalled(st, STALL_PAUSED);
	st->mark = st->rx_delivered;
	st->mark_at = s->driver->now + s->config.stall;
	if (!s->stall.set)
		timer_set(&s->driver->timers, &s->stall, st->mark_at);
}

void
stream_data(struct stream *st, const uint8_t *data, size_t len)
{
	struct endpoint *e = st->endpoint;
	struct iovec iov = {(void *)data, len};
	ssize_t n = 0;

	st->rx_received += len;
	if (st->queue == NULL && st->connected && e->writable) {
		n = e->ops->write(e, &iov, 1);
		if (n < 0 && errno != EAGAIN) {
			stream_local_failure(st, errno);
			return;
		}
		if (n < 0)
			n = 0;
		st->rx_delivered += (uint64_t)n;
	}
	if ((size_t)n < len && !stream_enqueue(st, data + n, len - (size_t)n)) {
		stream_abort(st, INS_RESET_RESOURCES, "out of memory");
		return;
	}
	/* A short write to a socket that still seems to take more. */
	if (st->queue != NULL && st->connected && e->writable && !flush(st))
		return;
	block(st);
	credit_delivered(st);
}

void
stream_half_closed(struct stream *st)
{
	blame(st, PARTY_PEER);
	check_both_done(st);
	settle(st);
}

void
stream_reset(struct stream *st, unsigned reason)
{
	blame(st, PARTY_PEER);
	stream_over(st);
	finish_reset(st, ins_reset_text(reason));
}

void
stream_closed(struct stream *st)
{
	blame(st, PARTY_PEER);
	/* A classic peer fails on data for what it has closed. */
	if (!session_extended(st->session))
		session_forget(st->session, st->identity);
	stream_over(st);
	/* An open that was closed before its answer: there is no data. */
	if (!st->connected && st->queue == NULL)
		finish_reset(st, "closed");
	else
		settle(st);
}

void
stream_opened(struct stream *st, const struct ins_opened *o)
{
	struct endpoint *e = st->endpoint;

	if (o->outcome == INS_CONNECTED) {
		st->tx_limit = o->window;
		st->connected = true;
		session_watch_grant(st->session, st);
		stream_want(st);
		settle(st);
		return;
	}
	blame(st, PARTY_PEER);
	st->why = ins_outcome_text(o->outcome);
	stream_over(st);
	report(st);
	e->ops->refuse(e, (enum ins_outcome)o->outcome);
	release(st);
}

void
stream_want(struct stream *st)
{
	if (st->state == STREAM_OVER || st->local_done ||
	    st->state == STREAM_CONNECTING ||
	    st->state == STREAM_CONNECTING_DONE || !st->endpoint->readable ||
	    !list_empty(&st->ready))
		return;
	if (st->tx_limit == st->tx_sent) {
		stream_stalled(st, STALL_CREDIT);
		return;
	}
	scheduler_add(st->session, st);
	session_wake(st->session);
}

void
stream_ready(struct stream *st)
{
	if (st->endpoint->failed) {
		stream_local_failure(st, ECONNRESET);
		return;
	}
	if (st->connected && st->queue != NULL && st->endpoint->writable) {
		if (!flush(st))
			return;
		credit_delivered(st);
		if (st->queue == NULL) {
			/* What settles may free it: read it first. */
			stream_want(st);
			settle(st);
			return;
		}
	}
	stream_want(st);
}

struct stream *
session_open(struct session *s, struct ins_open *open, struct endpoint *e,
    void *user)
{
	struct stream *st;
	uint8_t *p;
	size_t n;

	if (!session_extended(s) && open->form != INS_FORM_PORT) {
		errno = EPROTONOSUPPORT;
		return NULL;
	}
	/* What is opened for a peer that acknowledges nothing is kept. */
	if (session_tx_swamped(s)) {
		errno = ENOBUFS;
		return NULL;
	}
	p = session_control(s, INS_ENCODE_MAX);
	if (p == NULL) {
		errno = ECONNRESET;
		return NULL;
	}
	open->identity = s->opened_ours + 1;
	if (!s->config.server)
		open->identity |= INS_BY_CLIENT;
	st = stream_new(s, open,
	    session_extended(s) ? STREAM_OPENING : STREAM_OPEN);
	if (st == NULL)
		return NULL;
	s->opened_ours++;
	open->window = st->window;
	n = session_extended(s) ?
	    ins_open_encode(p, INS_ENCODE_MAX, open) :
	    ins_initial_connection_encode(p, INS_ENCODE_MAX, open->identity,
		open->port);
	session_control_done(s, n);
	st->tx_limit = session_extended(s) ? INS_WINDOW_MIN : UINT64_MAX;
	st->connected = !session_extended(s);
	stream_attach(st, e, user);
	stream_want(st);
	return st;
}

void
stream_attach(struct stream *st, struct endpoint *e, void *user)
{
	st->endpoint = e;
	st->user = user;
	e->stream = st;
}

static void
tell_opened(struct stream *st, enum ins_outcome outcome, const char *reason)
{
	struct session *s = st->session;
	struct ins_opened o = {
	    .identity = st->identity,
	    .outcome = (uint8_t)outcome,
	    .window = outcome == INS_CONNECTED ? st->window : 0,
	};
	bool patient;
	uint8_t *p;
	size_t n;

	if (st->state == STREAM_OVER ||
	    (!session_extended(s) && outcome == INS_CONNECTED))
		return;
	if (reason != NULL)
		o.reason =
		    (struct ins_bytes){(const uint8_t *)reason, strlen(reason)};
	p = session_control(s, INS_ENCODE_MAX);
	if (p == NULL)
		return;
	n = session_extended(s) ?
	    ins_opened_encode(p, INS_ENCODE_MAX, &o) :
	    ins_close_encode(p, INS_ENCODE_MAX, st->identity);
	/* One that has much to say waits for the answer to say more. */
	patient =
	    outcome == INS_CONNECTED && st->rx_received < INS_WINDOW_MIN / 2;
	if (patient)
		session_answer_patient(s, n);
	else
		session_answer_done(s, n);
}

void
stream_answer(struct stream *st, enum ins_outcome outcome, const char *reason)
{
	tell_opened(st, outcome, reason);
	if (outcome != INS_CONNECTED) {
		blame(st, PARTY_LOCAL);
		st->why = ins_outcome_text(outcome);
		report(st);
		release(st);
		return;
	}
	st->connected = true;
	if (session_extended(st->session))
		st->rx_granted = st->window;
	if (st->state == STREAM_CONNECTING)
		st->state = STREAM_OPEN;
	else if (st->state == STREAM_CONNECTING_DONE)
		st->state = STREAM_PEER_DONE;
	if (st->queue != NULL && !flush(st))
		return;
	credit_delivered(st);
	session_watch_grant(st->session, st);
	stream_want(st);
	settle(st);
}

void
stream_orphan(struct stream *st)
{
	blame(st, PARTY_SESSION);
	stream_over(st);
	finish_reset(st, "the session ended");
}

void
stream_discard(struct stream *st)
{
	if (st->endpoint != NULL) {
		st->endpoint->stream = NULL;
		st->endpoint->ops->reset(st->endpoint);
	}
	release(st);
}

void
stream_drop(struct stream *st)
{
	blame(st, PARTY_SESSION);
	finish_reset(st, st->why != NULL ? st->why : "stopped");
}
