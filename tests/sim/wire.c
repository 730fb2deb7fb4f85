/*
 * What each side says, decoded on its way by code of its own: no sender passes
 * its grant, no credit its window, and what is said again on another carrier
 * is what was said before, from a place where an instruction begins or inside
 * of data.
 */
#include "sim.h"

#include <stdlib.h>
#include <string.h>

#include "instruction.h"

#define UNKNOWN_HEAD 6

static uint64_t
number(const uint8_t *p, size_t size)
{
	uint64_t v = 0;

	while (size-- > 0)
		v = v << 8 | *p++;
	return v;
}

static uint64_t
sum_of(const uint8_t *p, size_t len)
{
	uint64_t h = UINT64_C(0xcbf29ce484222325);

	while (len-- > 0)
		h = (h ^ *p++) * UINT64_C(0x100000001b3);
	return h;
}

/* The end of a stream that is on a side; NULL: not known. */
static struct end *
end_at(struct side *s, uint64_t identity)
{
	uint64_t n = identity & ~INS_BY_CLIENT;
	unsigned opener = identity & INS_BY_CLIENT ? CLIENT : SERVER;
	struct pair *p = n <= PAIRS ? s->world->by_identity[opener][n] : NULL;

	if (p == NULL) {
		world_fail(s->world, "%s: the wire names stream %llu",
		    side_name(s->index), (unsigned long long)identity);
		return NULL;
	}
	return &p->end[s->index != opener];
}

static struct end *
other_end(struct end *e)
{
	return &e->pair->end[e == &e->pair->end[0]];
}

static void
check_data(struct side *s, uint64_t identity, uint64_t len)
{
	struct end *e = end_at(s, identity);

	if (e == NULL)
		return;
	e->said += len;
	if (e->said > e->grant)
		world_fail(s->world,
		    "%s: stream %llu passes its grant: %llu of %llu",
		    side_name(s->index), (unsigned long long)identity,
		    (unsigned long long)e->said, (unsigned long long)e->grant);
	if (e->said > e->sent)
		world_fail(s->world, "%s: stream %llu says what it has not",
		    side_name(s->index), (unsigned long long)identity);
}

/* e lets the other end send up to offset. */
static void
grant(struct side *s, struct end *e, uint64_t offset)
{
	struct end *sender = other_end(e);

	if (offset < sender->grant)
		world_fail(s->world, "%s: a grant goes back",
		    side_name(s->index));
	sender->grant = sender->newest = offset;
	if (e->endpoint.stream != NULL &&
	    offset > e->got + stream_window(e->endpoint.stream))
		world_fail(s->world, "%s: a grant is larger than its window",
		    side_name(s->index));
}

static void
check_control(struct side *s, unsigned ins, const uint8_t *p)
{
	struct end *e;
	uint64_t v;

	if (ins == INS_GO_AWAY && s->wire.went++)
		world_fail(s->world, "%s: goes away twice",
		    side_name(s->index));
	if (ins < INS_OPEN || ins > INS_LIMIT)
		return;
	e = end_at(s, number(p, 6));
	if (e == NULL)
		return;
	if (ins == INS_OPEN) {
		e->grant = INS_WINDOW_MIN;
		grant(s, e, number(p + 8, 8));
	} else if (ins == INS_OPENED || ins == INS_CREDIT) {
		v = number(p + (ins == INS_OPENED ? 7 : 6), 8);
		/* A refused opener may have sent meanwhile. */
		if (v != 0)
			grant(s, e, v);
	} else if (ins == INS_LIMIT) {
		v = number(p + 6, 8);
		if (number(p + 14, 8) == e->newest)
			e->grant = v;
	}
}

static void
check_ack(struct side *s, uint64_t offset)
{
	struct wire *w = &s->wire;

	if (offset < w->acked ||
	    (s->session != NULL &&
		offset > session_offsets(s->session).received))
		world_fail(s->world, "%s: acknowledges what it has not counted",
		    side_name(s->index));
	w->acked = offset;
}

/* Drop what the other side has counted, or make room. */
static void
make_room(struct side *s)
{
	const struct side *other = &s->world->side[!s->index];
	struct wire *w = &s->wire;
	struct wire_entry *old = w->log, *e;
	uint64_t done = UINT64_MAX, i;

	if (other->session != NULL)
		done = session_offsets(other->session).received;
	while (w->first < w->end) {
		e = &old[w->first & (w->cap - 1)];
		if (e->start + e->size > done || w->first == w->next)
			break;
		w->first++;
	}
	if (w->end - w->first < w->cap)
		return;
	w->log = malloc(2 * w->cap * sizeof(w->log[0]));
	if (w->log == NULL)
		abort();
	for (i = w->first; i < w->end; i++)
		w->log[i & (2 * w->cap - 1)] = old[i & (w->cap - 1)];
	w->cap *= 2;
	free(old);
}

/* One counted instruction begins; true: it is new. */
static bool
note(struct side *s, const struct wire_entry *n)
{
	struct wire *w = &s->wire;
	const struct wire_entry *e;

	if (w->next < w->end) {
		e = &w->log[w->next++ & (w->cap - 1)];
		if (e->start != n->start || e->identity != n->identity ||
		    e->sum != n->sum || e->size != n->size ||
		    e->number != n->number)
			world_fail(s->world,
			    "%s: at %llu %s is said, and was %s before",
			    side_name(s->index), (unsigned long long)n->start,
			    ins_name(n->number), ins_name(e->number));
		return false;
	}
	if (n->start != w->fixed)
		world_fail(s->world, "%s: says offset %llu instead of %llu",
		    side_name(s->index), (unsigned long long)n->start,
		    (unsigned long long)w->fixed);
	if (w->end - w->first == w->cap)
		make_room(s);
	w->log[w->end++ & (w->cap - 1)] = *n;
	w->next = w->end;
	w->fixed = n->start + n->size;
	return true;
}

/* What is counted byte by byte, not when it is whole. */
static bool
is_by_piece(const struct ins_head *h)
{
	return h->number == INS_DATA || !ins_known(h->number);
}

static void
take_counted(struct side *s, const struct ins_head *h, const uint8_t *data,
    size_t used)
{
	bool is_data = h->number == INS_DATA, by_piece = is_by_piece(h);
	struct wire_entry n = {
	    .start = s->wire.at,
	    .identity = h->identity,
	    .sum = by_piece ? 0 : sum_of(data, used + h->length),
	    .size = (uint32_t)used + h->length,
	    .number = h->number,
	};
	bool new = note(s, &n);

	s->wire.at += by_piece ? used : n.size;
	if (new &&is_data)
		check_data(s, h->identity, h->length);
	else if (new && !by_piece)
		check_control(s, h->number, data + used);
}

/* One whole instruction, or the head of one by piece; its size, or 0. */
static size_t
take_one(struct side *s, const uint8_t *data, size_t len)
{
	struct ins_head h;
	size_t used;

	switch (ins_head_decode(INS_EXTENDED, data, len, &h, &used)) {
	case INS_MORE:
		return 0;
	case INS_BAD:
		world_fail(s->world, "%s: says what does not decode (0x%04x)",
		    side_name(s->index), h.number);
		return len;
	case INS_OK:
		break;
	}
	if (!is_by_piece(&h) && len - used < h.length)
		return 0;
	if (s->wire.ended)
		world_fail(s->world, "%s: says %s behind InsEnd",
		    side_name(s->index), ins_name(h.number));
	if (ins_counted(h.number))
		take_counted(s, &h, data, used);
	else if (h.number == INS_ACK)
		check_ack(s, number(data + used, 8));
	else if (h.number == INS_END)
		s->wire.ended = true;
	if (!is_by_piece(&h))
		return used + h.length;
	s->wire.skip = h.length;
	s->wire.skip_counted = ins_counted(h.number);
	return used;
}

static size_t
take_part(struct side *s, const uint8_t *data, size_t len)
{
	struct wire *w = &s->wire;
	size_t had = w->part_len, n = PART_MAX - had, used;

	if (n > len)
		n = len;
	memcpy(w->part + had, data, n);
	used = take_one(s, w->part, had + n);
	w->part_len = used == 0 ? had + n : 0;
	return used == 0 ? n : used - had;
}

void
wire_said(struct side *s, const uint8_t *data, size_t len)
{
	struct wire *w = &s->wire;
	size_t n;

	while (len > 0 && !s->world->failed) {
		if (w->skip > 0) {
			n = len < w->skip ? len : (size_t)w->skip;
			w->skip -= n;
			w->at += w->skip_counted ? n : 0;
		} else if (w->part_len > 0)
			n = take_part(s, data, len);
		else {
			n = take_one(s, data, len);
			if (n == 0)
				n = take_part(s, data, len);
		}
		data += n;
		len -= n;
	}
}

void
wire_resume(struct side *s, uint64_t offset)
{
	struct wire *w = &s->wire;
	const struct wire_entry *e;
	uint64_t head;

	w->part_len = 0;
	w->skip = w->acked = 0;
	w->ended = false;
	w->at = offset;
	w->next = w->end;
	while (w->next > w->first &&
	    w->log[(w->next - 1) & (w->cap - 1)].start >= offset)
		w->next--;
	if (w->next == w->first)
		return;
	e = &w->log[(w->next - 1) & (w->cap - 1)];
	if (offset >= e->start + e->size)
		return;
	/* What is known, but for data, is counted whole. */
	head = e->number == INS_DATA ? INS_DATA_HEAD : UNKNOWN_HEAD;
	if ((e->number != INS_DATA && ins_known(e->number)) ||
	    offset < e->start + head)
		world_fail(s->world, "%s: goes on at %llu, inside of %s",
		    side_name(s->index), (unsigned long long)offset,
		    ins_name(e->number));
	w->skip = e->start + e->size - offset;
	w->skip_counted = true;
}

void
wire_init(struct wire *w)
{
	struct wire_entry *log = w->log;
	uint64_t cap = w->cap;

	if (log == NULL) {
		cap = 256;
		log = malloc(cap * sizeof(*log));
		if (log == NULL)
			abort();
	}
	*w = (struct wire){.log = log, .cap = cap};
}
