/*
 * Which stream is read next, and how much of it.
 *
 * Interactive streams go first and do not wait for the path's limit: their
 * last read emptied the socket, and they sent little of late.  The others
 * take turns by deficit round robin (Shreedhar, Varghese 1995: Efficient Fair
 * Queueing using Deficit Round Robin), one frame's worth between two looks at
 * events; those of class interactive ahead of the rest, which keeps a tenth.
 */
#include "tunnel/session_private.h"

#include <errno.h>

#define QUEUE_MAX BUFFER_MAX /* bytes: read no more before a write */
#define METER_MS 50
#define METER_MAX 65536
#define METER_PART 32 /* of what the path bears in METER_MS */
/*
 * Most of a round for a weight of 10, whatever a frame is: in a longer round a
 * socket whose buffer the kernel left small has less than its part.
 */
#define PART_MAX 65536
#define DEBT_FRAMES 4
#define PART_MIN 256 /* of a weight of 1 on a slow line */
#define BULK_PART 10 /* of all bytes: the least that bulk gets */
#define BESIDE_US (100 * MS)

static bool
is_interactive(const struct session *s, const struct stream *st)
{
	uint64_t most =
	    path_bears(&s->tx.path) / (SECOND / MS / METER_MS) / METER_PART;

	if (most > METER_MAX)
		most = METER_MAX;
	return st->class != INS_CLASS_BULK && st->emptied &&
	    (st->metered < most || since_ms(s, st->metered_at) >= METER_MS);
}

/* Whether interactive streams were active of late: bulk makes way. */
static bool
is_beside(const struct session *s)
{
	return s->driver->now - s->interactive_at < BESIDE_US;
}

static size_t
frame_of(const struct session *s)
{
	return is_beside(s) ? path_frame_beside(&s->tx.path) :
			      path_frame(&s->tx.path);
}

static void
meter(const struct session *s, struct stream *st, size_t n)
{
	uint32_t since = since_ms(s, st->metered_at);

	if (since >= METER_MS) {
		st->metered_at += since;
		st->metered = 0;
	}
	st->metered += (uint32_t)n;
}

void
scheduler_add(struct session *s, struct stream *st)
{
	/* What it owes stays: one may be emptied by every read. */
	if (st->deficit > 0)
		st->deficit = 0;
	list_append(is_interactive(s, st)          ? &s->fresh :
		st->class == INS_CLASS_INTERACTIVE ? &s->express :
						     &s->bulk,
	    &st->ready);
}

/* Large reads for those that fill them; an idle stream begins small. */
static void
adapt(struct stream *st, size_t asked, size_t got)
{
	if (got == asked && asked == st->read_size &&
	    st->read_size < BUFFER_MAX)
		st->read_size *= 2;
	else if (got < st->read_size / 4 && st->read_size > READ_FIRST)
		st->read_size /= 2;
}

/*
 * One read of one endpoint, of at most most bytes; the bytes got.  0: there
 * were none, and the stream may be gone.
 */
static size_t
pull(struct session *s, struct stream *st, size_t most)
{
	uint64_t credit = st->tx_limit - st->tx_sent;
	size_t want = st->read_size < most ? st->read_size : most;
	struct endpoint *e = st->endpoint;
	struct buffer *b;
	ssize_t n;

	if (want > credit)
		want = (size_t)credit;
	b = pool_get(&s->driver->pool, want);
	if (b == NULL) {
		stream_abort(st, INS_RESET_RESOURCES, "out of memory");
		return 0;
	}
	n = e->ops->read(e, b->at, want);
	if (n > 0) {
		adapt(st, want, (size_t)n);
		meter(s, st, (size_t)n);
		st->emptied = !e->readable;
		session_queue_data(s, st, b, (size_t)n);
		s->ahead += (uint64_t)n;
		return (size_t)n;
	}
	pool_put(&s->driver->pool, b);
	if (n == 0)
		stream_local_end(st);
	else if (errno != EAGAIN)
		stream_local_failure(st, errno);
	else
		st->emptied = true;
	return 0;
}

/* Whether it may be read on; remembers what keeps it from that. */
static bool
may_read(struct stream *st)
{
	if (!st->endpoint->readable)
		return false;
	if (st->tx_limit > st->tx_sent)
		return true;
	stream_stalled(st, STALL_CREDIT);
	return false;
}

void
scheduler_fresh(struct session *s)
{
	struct stream *st;
	struct list batch;

	/* Only those that are there now: a turn is to be short. */
	list_init(&batch);
	list_take(&batch, &s->fresh);
	while (!list_empty(&batch) && s->end_code == 0 &&
	    s->tx.queue.queued < QUEUE_MAX && !session_tx_full(s)) {
		st = container_of(batch.next, struct stream, ready);
		list_remove(&st->ready);
		if (!may_read(st) || pull(s, st, frame_of(s)) == 0)
			continue;
		if (st->emptied)
			s->interactive_at = s->driver->now;
		if (may_read(st))
			scheduler_add(s, st);
	}
	list_take(&batch, &s->fresh);
	list_take(&s->fresh, &batch);
}

/* The part of a round that is a stream's. */
static int32_t
quantum(const struct stream *st, size_t frame)
{
	size_t part = frame < PART_MAX ? frame : PART_MAX;
	size_t n = part * st->weight / INS_WEIGHT_DEFAULT;

	return (int32_t)(n < PART_MIN ? PART_MIN : n);
}

/*
 * Read at most most bytes of the first of a list, or pass it over; the bytes
 * got.  A read is never cut to what is left of a turn: small reads cost more
 * than that a stream owes a part of its next turn.
 */
static size_t
take_turn(struct session *s, struct list *list, size_t frame, size_t most)
{
	struct stream *st = container_of(list->next, struct stream, ready);
	size_t got = 0;

	if (!may_read(st)) {
		list_remove(&st->ready);
		return 0;
	}
	/* Out of the list first: reading may end the stream. */
	list_remove(&st->ready);
	/* What was owed when frames were larger is not worth waiting for. */
	if (st->deficit < -DEBT_FRAMES * (int32_t)frame)
		st->deficit = -DEBT_FRAMES * (int32_t)frame;
	if (st->deficit <= 0)
		st->deficit += quantum(st, frame);
	if (st->deficit > 0) {
		got = pull(s, st, most);
		if (got == 0)
			return 0;
		st->deficit -= (int32_t)got;
		if (!may_read(st))
			return got;
	}
	if (st->deficit > 0)
		list_prepend(list, &st->ready);
	else
		list_append(list, &st->ready);
	return got;
}

bool
scheduler_bulk_due(const struct session *s)
{
	return !list_empty(&s->bulk) &&
	    s->ahead > (BULK_PART - 1) * frame_of(s);
}

/* Room for bulk on the path; a classic one tells nothing of itself. */
static bool
has_room(const struct session *s)
{
	uint64_t limit =
	    is_beside(s) ? path_limit_beside(&s->tx.path) : s->tx.path.limit;

	return !session_extended(s) ||
	    s->tx.queue.sent + s->tx.queue.queued - s->tx.queue.acked < limit;
}

static struct list *
next_list(struct session *s)
{
	return list_empty(&s->express) || scheduler_bulk_due(s) ? &s->bulk :
								  &s->express;
}

bool
scheduler_bulk(struct session *s)
{
	size_t frame = frame_of(s), got = 0;
	bool due = scheduler_bulk_due(s);
	struct list *list = next_list(s);

	while (!list_empty(list) && s->end_code == 0 && !session_tx_full(s) &&
	    s->tx.queue.queued < QUEUE_MAX && got + PATH_FRAME_MIN <= frame) {
		if (!has_room(s) && !due)
			break;
		got += take_turn(s, list, frame, frame - got);
	}
	if (got > 0 ? list == &s->bulk : list_empty(&s->bulk))
		s->ahead = 0;
	/* Here: nothing may call again before there is room. */
	if (!list_empty(list) && !has_room(s)) {
		path_bind(&s->tx.path);
		stream_stalled(container_of(list->next, struct stream, ready),
		    STALL_PATH);
	}
	return got > 0;
}

void
scheduler_stalled(struct session *s)
{
	struct list *all[] = {&s->fresh, &s->express, &s->bulk};
	size_t i;

	for (i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		if (!list_empty(all[i]))
			stream_stalled(container_of(all[i]->next, struct stream,
					   ready),
			    STALL_CARRIER);
}

bool
scheduler_has_work(const struct session *s)
{
	if (session_tx_full(s))
		return false;
	if (!list_empty(&s->fresh))
		return true;
	return (!list_empty(&s->bulk) || !list_empty(&s->express)) &&
	    (has_room(s) || scheduler_bulk_due(s));
}
