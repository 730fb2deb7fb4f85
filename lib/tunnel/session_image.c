#include "tunnel/session_image.h"

#include <string.h>

#include "tunnel/session_private.h"

#define TIME_MAX (UINT64_C(1) << 62) /* us */

static void
save_timer(struct image_writer *w, const struct timer *t)
{
	image_put(w, t->set ? t->at : 0);
}

static void
load_timer(struct image_reader *r, struct session *s, struct timer *t)
{
	uint64_t at = image_take(r, TIME_MAX);

	if (at != 0)
		timer_set(&s->driver->timers, t, at);
}

/* Streams. */

static void
save_queue(struct image_writer *w, const struct stream *st)
{
	const struct buffer *b;

	for (b = st->queue; b != NULL; b = b->next)
		image_put_bytes(w, b->at, b->len);
	image_put_bytes(w, NULL, 0);
}

static void
save_stream(struct image_writer *w, const struct stream *st,
    const struct session_saver *saver)
{
	const struct session *s = st->session;

	image_put_tag(w, "strm");
	image_put(w, st->identity);
	image_put(w, st->state);
	image_put(w, st->ended_by);
	image_put(w, st->stalls);
	image_put(w, st->class);
	image_put(w, st->weight);
	image_put(w, st->local_done);
	image_put(w, st->connected);
	image_put(w, st->shut);
	image_put(w, st->emptied);
	image_put(w, st->read_size);
	image_put(w, (uint32_t)st->deficit);
	image_put(w, st->sent_at);
	image_put(w, st->tx_sent);
	image_put(w, st->tx_limit);
	image_put(w, st->rx_received);
	image_put(w, st->rx_delivered);
	image_put(w, st->rx_granted);
	image_put(w, st->window);
	image_put(w, st->mark_at);
	image_put(w, st->mark);
	image_put(w, st->opened_at);
	image_put(w, !session_extended(s) && !list_empty(&st->waiting));
	save_queue(w, st);
	saver->endpoint(w, st, st->user);
}

static struct stream *
load_new(struct session *s, struct image_reader *r)
{
	struct ins_open open = {0};
	struct stream *st;
	unsigned state;

	if (!image_take_tag(r, "strm"))
		return NULL;
	open.identity = image_take(r, INS_IDENTITY_MAX);
	state = (unsigned)image_take(r, STREAM_OVER);
	if (r->failed || stream_find(s, open.identity) != NULL)
		return NULL;
	st = stream_bare(s, &open, (enum stream_state)state);
	if (st != NULL && state == STREAM_OVER)
		stream_over(st);
	return st;
}

static void
load_fields(struct stream *st, struct image_reader *r)
{
	st->ended_by = (uint8_t)image_take(r, PARTY_SESSION);
	st->stalls = (uint8_t)image_take(r, UINT8_MAX);
	st->class = (uint8_t)image_take(r, UINT8_MAX);
	st->weight = (uint8_t)image_take(r, INS_WEIGHT_MAX);
	st->local_done = image_take_bool(r);
	st->connected = image_take_bool(r);
	st->shut = image_take_bool(r);
	st->emptied = image_take_bool(r);
	st->read_size = (uint32_t)image_take(r, BUFFER_MAX);
	st->deficit = (int32_t)(uint32_t)image_take(r, UINT32_MAX);
	st->sent_at = (uint32_t)image_take(r, UINT32_MAX);
	st->tx_sent = image_take(r, INS_OFFSET_MAX);
	st->tx_limit = image_take(r, UINT64_MAX);
	st->rx_received = image_take(r, INS_OFFSET_MAX);
	st->rx_delivered = image_take(r, INS_OFFSET_MAX);
	st->rx_granted = image_take(r, UINT64_MAX);
	st->window = image_take(r, INS_WINDOW_MAX);
	if (st->window < WINDOW_FIRST) {
		image_fail(r);
		st->window = 0;
	}
	budget_adopt(&st->session->budget, st->session->config.process,
	    st->window);
	st->mark_at = image_take(r, TIME_MAX);
	st->mark = image_take(r, INS_OFFSET_MAX);
	st->opened_at = image_take(r, TIME_MAX);
}

static bool
numbers_fit(const struct stream *st)
{
	return st->tx_sent <= st->tx_limit &&
	    st->rx_delivered <= st->rx_received &&
	    st->rx_received <= st->rx_granted && st->window >= WINDOW_FIRST &&
	    st->mark <= st->rx_delivered && st->weight >= 1 &&
	    st->read_size >= READ_FIRST;
}

/* Whose it can be, in this dialect and in this state. */
static bool
state_fits(const struct stream *st)
{
	const struct session *s = st->session;
	bool client = (st->identity & INS_BY_CLIENT) != 0;
	bool ours = client != s->config.server;
	uint64_t n = st->identity & ~INS_BY_CLIENT;

	if (!session_extended(s))
		return st->state == STREAM_OPEN || st->state == STREAM_OVER ||
		    (st->state == STREAM_CONNECTING && !s->config.server);
	/* One that has ended knows of no identities any more. */
	if (!s->ended &&
	    (n == 0 || n > (ours ? s->opened_ours : s->opened_theirs)))
		return false;
	switch (st->state) {
	case STREAM_OPENING:
		return ours;
	case STREAM_CONNECTING:
	case STREAM_CONNECTING_DONE:
		return !ours;
	default:
		return true;
	}
}

/* What follows from the state, and has been done by then. */
static bool
is_sound(const struct stream *st)
{
	if (!numbers_fit(st) || !state_fits(st))
		return false;
	if (st->state < STREAM_OPEN && (st->connected || st->shut))
		return false;
	if (st->state == STREAM_OPEN || st->state == STREAM_PEER_DONE)
		return st->connected &&
		    (!st->shut || st->state == STREAM_PEER_DONE) &&
		    !(st->local_done && st->state == STREAM_PEER_DONE);
	return st->state != STREAM_OVER || !st->shut;
}

/* What is queued waits for the endpoint; what is not has been passed on. */
static bool
queue_fits(const struct stream *st)
{
	if (st->state == STREAM_OVER)
		return st->queued > 0;
	return st->state != STREAM_PEER_DONE || st->shut == (st->queued == 0);
}

static bool
load_queue(struct stream *st, struct image_reader *r)
{
	const uint8_t *p;
	size_t len;

	while ((p = image_take_bytes(r, &len)), len > 0)
		if (len > BUFFER_MAX + BUFFER_HEADROOM ||
		    !stream_enqueue(st, p, len))
			return false;
	return !r->failed && st->queued == st->rx_received - st->rx_delivered;
}

/* What the owner has to hold as well: a stream without one is nothing. */
static bool
load_stream(struct session *s, const struct session_loader *loader,
    struct image_reader *r)
{
	struct stream *st = load_new(s, r);
	bool blocked;

	if (st == NULL)
		return false;
	load_fields(st, r);
	blocked = image_take_bool(r);
	if (r->failed || !is_sound(st) || !load_queue(st, r) ||
	    !queue_fits(st) || !loader->endpoint(r, st, loader->context) ||
	    st->endpoint == NULL)
		return false;
	if (blocked && st->state != STREAM_OVER && !session_extended(s))
		list_append(&s->blocked, &st->waiting);
	if (st->state == STREAM_OPEN || st->state == STREAM_PEER_DONE)
		session_watch_grant(s, st);
	credit_delivered(st);
	return true;
}

/* The session itself. */

static void
save_rx(const struct session *s, struct image_writer *w)
{
	image_put(w, s->rx.counted);
	image_put(w, s->rx.acked);
	image_put(w, s->rx.acked_at);
	image_put(w, s->rx.last);
	image_put(w, s->rx.data_left);
	image_put(w, s->rx.skip_left);
	image_put(w, s->rx.skip_counted);
	image_put(w, s->rx.stream != NULL);
	image_put(w, s->rx.stream != NULL ? s->rx.stream->identity : 0);
	image_put_bytes(w, s->rx.partial, s->rx.partial_len);
}

/* Whether bytes are an instruction that a read has cut, and nothing more. */
static bool
is_partial(const struct session *s, const uint8_t *p, size_t len)
{
	struct ins_head h;
	size_t used;

	if (len == 0)
		return true;
	if (len > PARTIAL_MAX || s->rx.data_left > 0 || s->rx.skip_left > 0)
		return false;
	switch (ins_head_decode(s->config.dialect, p, len, &h, &used)) {
	case INS_MORE:
		return len < PARTIAL_MAX;
	case INS_OK:
		return session_extended(s) && ins_known(h.number) &&
		    h.number != INS_DATA && h.number != INS_CLOSE &&
		    len < used + h.length && used + h.length <= PARTIAL_MAX;
	default:
		return false;
	}
}

static void
load_rx(struct session *s, struct image_reader *r, uint64_t *identity,
    bool *live)
{
	const uint8_t *p;
	size_t len;

	s->rx.counted = image_take(r, INS_OFFSET_MAX);
	s->rx.acked = image_take(r, s->rx.counted);
	s->rx.acked_at = image_take(r, TIME_MAX);
	s->rx.last = image_take(r, TIME_MAX);
	s->rx.data_left = (uint32_t)image_take(r, UINT32_MAX);
	s->rx.skip_left = (uint32_t)image_take(r, INS_SKIP_MAX);
	s->rx.skip_counted = image_take_bool(r);
	*live = image_take_bool(r);
	*identity = image_take(r, INS_IDENTITY_MAX);
	p = image_take_bytes(r, &len);
	if (r->failed || !is_partial(s, p, len)) {
		image_fail(r);
		return;
	}
	memcpy(s->rx.partial, p, len);
	s->rx.partial_len = len;
}

static void
save_path(const struct path *p, struct image_writer *w)
{
	image_put(w, p->limit);
	image_put(w, p->rate);
	image_put(w, p->rtt);
	image_put(w, p->rtt_min);
	image_put(w, p->rtt_min_at);
}

/* Marks that were on their way are set anew. */
static void
load_path(struct path *p, struct image_reader *r)
{
	p->limit = image_take(r, UINT32_MAX);
	p->rate = p->rates[0] = image_take(r, UINT64_C(1) << 48);
	p->rtt = image_take(r, UINT32_MAX);
	p->rtt_min = image_take(r, UINT32_MAX);
	p->rtt_min_at = image_take(r, TIME_MAX);
	if (p->limit < PATH_LIMIT_MIN || p->limit > p->most)
		p->limit = PATH_LIMIT_FIRST;
}

static void
save_tx(const struct session *s, struct image_writer *w)
{
	size_t i;

	send_queue_save(&s->tx.queue, w);
	save_path(&s->tx.path, w);
	image_put(w, s->tx.answers);
	image_put(w, s->tx.answers_acked);
	image_put(w, s->tx.nmarks);
	for (i = 0; i < s->tx.nmarks; i++) {
		image_put(w, s->tx.marks[i].offset);
		image_put(w, s->tx.marks[i].answers);
	}
	image_put_bytes(w, s->tx.local, s->tx.local_len);
	image_put(w, s->tx.local_sent);
	image_put(w, s->tx.ack_due);
	image_put(w, s->tx.ping_due);
	image_put(w, s->tx.pong_due);
	image_put(w, s->tx.pong_stamp);
	image_put(w, s->tx.ping_stamp);
}

static bool
load_tx(struct session *s, struct image_reader *r)
{
	const uint8_t *p;
	size_t i, len;

	if (!send_queue_load(&s->tx.queue, r))
		return false;
	load_path(&s->tx.path, r);
	s->tx.answers = image_take(r, UINT64_MAX);
	s->tx.answers_acked = image_take(r, UINT64_MAX);
	s->tx.nmarks = image_take(r, MARKS);
	for (i = 0; i < s->tx.nmarks; i++) {
		s->tx.marks[i].offset = image_take(r, INS_OFFSET_MAX);
		s->tx.marks[i].answers = image_take(r, UINT64_MAX);
	}
	p = image_take_bytes(r, &len);
	if (len > LOCAL_MAX)
		return false;
	memcpy(s->tx.local, p, len);
	s->tx.local_len = len;
	s->tx.local_sent = image_take(r, len);
	s->tx.ack_due = image_take_bool(r);
	s->tx.ping_due = image_take_bool(r);
	s->tx.pong_due = image_take_bool(r);
	s->tx.pong_stamp = image_take(r, UINT64_MAX);
	s->tx.ping_stamp = image_take(r, UINT64_MAX);
	return !r->failed && s->tx.local_sent <= s->tx.local_len;
}

static void
save_timers(const struct session *s, struct image_writer *w)
{
	save_timer(w, &s->ack);
	save_timer(w, &s->heartbeat);
	save_timer(w, &s->limit);
	save_timer(w, &s->stall);
	save_timer(w, &s->resume);
}

static void
load_timers(struct session *s, struct image_reader *r)
{
	load_timer(r, s, &s->ack);
	load_timer(r, s, &s->heartbeat);
	load_timer(r, s, &s->limit);
	load_timer(r, s, &s->stall);
	load_timer(r, s, &s->resume);
}

static void
save_streams(const struct session *s, const struct session_saver *saver,
    struct image_writer *w)
{
	const struct hash_node *n;
	const struct list *i;
	size_t c;

	image_put(w, s->alive);
	for (i = s->over.next; i != &s->over; i = i->next)
		save_stream(w, container_of(i, struct stream, active), saver);
	for (c = 0; c < s->streams.nchains; c++)
		for (n = s->streams.chains[c]; n != NULL; n = n->next)
			save_stream(w, container_of(n, struct stream, node),
			    saver);
	for (n = s->streams.single; n != NULL; n = n->next)
		save_stream(w, container_of(n, struct stream, node), saver);
}

void
session_save(const struct session *s, const struct session_saver *saver,
    struct image_writer *w)
{
	image_put_tag(w, "sess");
	image_put(w, s->ended);
	if (!s->ended) {
		image_put(w, s->peer_ended);
		image_put(w, s->lost);
		image_put(w, s->going);
		image_put(w, s->going_said);
		image_put(w, s->held_on);
		image_put(w, s->end_code);
		image_put_text(w, s->end_why);
		image_put(w, s->opened_ours);
		image_put(w, s->opened_theirs);
		save_rx(s, w);
		save_tx(s, w);
		save_timers(s, w);
		image_put(w, s->carrier != NULL);
		if (s->carrier != NULL)
			saver->carrier(w, s->carrier);
	}
	save_streams(s, saver, w);
}

static bool
load_live(struct session *s, const struct session_loader *loader,
    struct image_reader *r, uint64_t *identity, bool *live)
{
	struct carrier *carrier;

	s->peer_ended = image_take_bool(r);
	s->lost = image_take_bool(r);
	s->going = image_take_bool(r);
	s->going_said = image_take_bool(r);
	s->held_on = image_take_bool(r);
	s->end_code = (unsigned)image_take(r, UINT16_MAX);
	image_take_text(r, s->end_why, sizeof(s->end_why));
	s->opened_ours = image_take(r, INS_BY_CLIENT);
	s->opened_theirs = image_take(r, INS_BY_CLIENT);
	load_rx(s, r, identity, live);
	if (!load_tx(s, r))
		return false;
	load_timers(s, r);
	if (image_take_bool(r)) {
		carrier = loader->carrier(r, loader->context);
		if (carrier == NULL)
			return false;
		session_hook(s, carrier);
		return !r->failed && !s->resume.set;
	}
	if (!s->resume.set)
		/* Time was up, but an attempt held it: it is over with that. */
		timer_set(&s->driver->timers, &s->resume, s->driver->now);
	return !r->failed && !s->ack.set && !s->heartbeat.set;
}

/* The stream whose data is being taken, now that the streams are there. */
static bool
find_live(struct session *s, uint64_t identity)
{
	struct stream *st = stream_find(s, identity);

	if (st == NULL || s->rx.data_left == 0 ||
	    (st->state != STREAM_OPEN && st->state != STREAM_CONNECTING) ||
	    s->rx.data_left > st->rx_granted - st->rx_received)
		return false;
	s->rx.stream = st;
	return true;
}

static bool
load(struct session *s, const struct session_loader *loader,
    struct image_reader *r)
{
	uint64_t identity = 0, n;
	bool live = false;

	if (!image_take_tag(r, "sess"))
		return false;
	s->ended = image_take_bool(r);
	if (s->ended)
		session_tx_close(s);
	else if (!load_live(s, loader, r, &identity, &live))
		return false;
	for (n = image_take(r, SIZE_MAX); n > 0; n--)
		if (!load_stream(s, loader, r))
			return false;
	if (live && !find_live(s, identity))
		return false;
	/* Only for those that deliver. */
	if (s->ended && (s->streams.count > 0 || s->alive == 0))
		return false;
	return !r->failed;
}

struct session *
session_load(const struct session_config *config,
    const struct session_loader *loader, struct image_reader *r)
{
	struct session *s = session_bare(config);

	if (s == NULL)
		return NULL;
	if (load(s, loader, r)) {
		session_wake(s);
		return s;
	}
	image_fail(r);
	if (!loader->forsake)
		session_discard(s);
	return NULL;
}
