/*
 * Visitors and applications: they talk, echo, stall, end early or late, fail
 * or never answer; and they know each byte that they ought to get.
 */
#include "sim.h"

#include <errno.h>

static struct end *
other_of(struct end *e)
{
	return &e->pair->end[e == &e->pair->end[0]];
}

static void
end_fail(struct end *e, const char *what)
{
	world_fail(e->pair->world,
	    "%s: stream %llu %s: sent %llu, got %llu of %llu",
	    side_name(e->side), (unsigned long long)e->pair->identity, what,
	    (unsigned long long)e->sent, (unsigned long long)e->got,
	    (unsigned long long)other_of(e)->sent);
}

static struct end *
end_of(struct endpoint *endpoint)
{
	struct end *e = container_of(endpoint, struct end, endpoint);

	if (!e->attached)
		end_fail(e, "is used after it was let go");
	return e;
}

static size_t
piece(struct end *e, uint64_t n)
{
	struct world *w = e->pair->world;
	uint64_t most = w->traits.piece;

	if (most == 0 || n <= 1)
		return (size_t)n;
	most = 1 + draw(w, most);
	return (size_t)(n < most ? n : most);
}

static void
soon(struct end *e)
{
	if (!e->tick.set)
		world_after(e->pair->world, &e->tick,
		    1 + draw(e->pair->world, 50));
}

static ssize_t
end_read(struct endpoint *endpoint, void *buf, size_t len)
{
	struct end *e = end_of(endpoint);
	size_t n;

	if (e->fail) {
		errno = one_in(e->pair->world, 2) ? ECONNRESET : ETIMEDOUT;
		return -1;
	}
	if (e->eof_read)
		end_fail(e, "is read behind its end");
	n = piece(e, e->supply < len ? e->supply : len);
	if (n == 0 && e->eof && len > 0) {
		e->eof_read = true;
		return 0;
	}
	if (n == 0) {
		endpoint->readable = false;
		errno = EAGAIN;
		return -1;
	}
	pattern_put(e->key, e->sent, buf, n);
	e->sent += n;
	e->supply -= n;
	if (e->supply == 0 && !e->eof && !e->lazy)
		endpoint->readable = false;
	if (e->supply == 0 && e->sent < e->size)
		soon(e);
	return (ssize_t)n;
}

static void
got(struct end *e, const struct iovec *iov, size_t n)
{
	if (!pattern_is(other_of(e)->key, e->got, iov->iov_base, n))
		end_fail(e, "got what was not sent");
	e->got += n;
	if (e->got > other_of(e)->sent)
		end_fail(e, "got more than was sent");
}

static ssize_t
end_write(struct endpoint *endpoint, const struct iovec *iov, int count)
{
	struct end *e = end_of(endpoint);
	uint64_t room = e->room;
	size_t n, done = 0;
	int i;

	if (!e->connected || e->shut)
		end_fail(e, "is written to before its open or after its end");
	if (e->broken || e->got >= e->break_at) {
		e->broken = e->pair->hurt = true;
		errno = EPIPE;
		return -1;
	}
	if (room == 0) {
		endpoint->writable = false;
		errno = EAGAIN;
		return -1;
	}
	room = piece(e, room < (1 << 20) ? room : 1 << 20);
	for (i = 0; i < count && room > 0; i++) {
		n = iov[i].iov_len < room ? iov[i].iov_len : (size_t)room;
		got(e, &iov[i], n);
		room -= n;
		done += n;
	}
	if (e->room != UNLIMITED)
		e->room -= done;
	if (e->echo) {
		e->size += done;
		e->supply += done;
	}
	if (e->echo || e->room == 0)
		soon(e);
	return (ssize_t)done;
}

static void
end_shut(struct endpoint *endpoint)
{
	struct end *e = end_of(endpoint);
	struct end *other = other_of(e);

	if (e->shut)
		end_fail(e, "is shut twice");
	if (!other->eof_read || e->got != other->sent)
		end_fail(e, "is shut before all was delivered");
	e->shut = true;
	soon(e);
}

static struct end *
let_go(struct endpoint *endpoint, enum end_over how)
{
	struct end *e = end_of(endpoint);

	if (!e->finished)
		end_fail(e, "is let go without a report");
	e->over = how;
	e->attached = false;
	timer_cancel(&e->pair->world->timers, &e->tick);
	return e;
}

static void
end_close(struct endpoint *endpoint)
{
	struct end *e = let_go(endpoint, END_CLOSED);
	struct end *other = other_of(e);

	if (!e->eof_read || !other->eof_read || e->got != other->sent)
		end_fail(e, "is closed before both directions are over");
}

static void
end_reset(struct endpoint *endpoint)
{
	let_go(endpoint, END_RESET);
}

static void
end_refuse(struct endpoint *endpoint, enum ins_outcome outcome)
{
	struct end *e = let_go(endpoint, END_REFUSED);
	struct world *w = e->pair->world;

	e->outcome = outcome;
	if (outcome == INS_NO_RESOURCES &&
	    (w->traits.tight || w->side[!e->side].process->heap.failed > 0))
		return;
	if (e->side == CLIENT && outcome == INS_NOT_ALLOWED)
		return;
	if (outcome != e->pair->outcome || other_of(e)->over != END_DENIED)
		end_fail(e, "is refused otherwise than it was");
}

static const struct endpoint_ops end_ops = {
    end_read,
    end_write,
    end_shut,
    end_close,
    end_reset,
    end_refuse,
};

/* Tell the stream what changed; it may be gone after that. */
static void
tell(struct end *e)
{
	bool edge = false;

	if (!e->attached || !e->connected || e->endpoint.stream == NULL)
		return;
	if (!e->endpoint.readable &&
	    (e->supply > 0 || (e->eof && !e->eof_read) || e->fail))
		edge = e->endpoint.readable = true;
	if (!e->endpoint.writable && (e->room > 0 || e->broken))
		edge = e->endpoint.writable = true;
	if (e->fail && one_in(e->pair->world, 2))
		edge = e->endpoint.failed = true;
	if (!edge)
		return;
	world_count(e->pair->world);
	stream_ready(e->endpoint.stream);
}

static void
deny(struct end *e)
{
	struct stream *st = e->endpoint.stream;

	e->over = END_DENIED;
	e->attached = false;
	timer_cancel(&e->pair->world->timers, &e->tick);
	stream_answer(st, e->pair->outcome, "because");
}

static void
answer(struct end *e)
{
	struct pair *p = e->pair;

	p->answered = true;
	world_count(p->world);
	TRACE(p->world, "stream %llu is answered",
	    (unsigned long long)p->identity);
	if (p->answer == ANSWER_NO || p->answer == ANSWER_NO_LATER) {
		deny(e);
		return;
	}
	e->connected = true;
	e->endpoint.writable = true;
	stream_answer(e->endpoint.stream, INS_CONNECTED, NULL);
}

static bool
may_end(const struct end *e)
{
	const struct pair *p = e->pair;
	const struct world *w = p->world;

	if (e->echo)
		return e->shut;
	if (e->sent + e->supply < e->size)
		return false;
	if (p->keep && !w->closing)
		return false;
	return e->eof_when == EOF_AT_END || w->calm ||
	    (e->eof_when == EOF_AFTER_PEER && e->shut);
}

static void
move(struct end *e)
{
	struct world *w = e->pair->world;
	uint64_t left = e->size - e->sent - e->supply, n;

	if (!e->echo && left > 0) {
		n = 1 + draw(w, e->chunk);
		e->supply += w->calm || n > left ? left : n;
	}
	if (!e->eof && may_end(e))
		e->eof = true;
	if (e->sent >= e->fail_at && !w->calm && !e->fail)
		e->fail = e->pair->hurt = true;
	if (w->calm)
		e->room = UNLIMITED;
	else if (e->slow && one_in(w, 4))
		e->room += draw_wide(w, 4 * e->chunk);
}

static void
on_tick(struct timer *t)
{
	struct end *e = container_of(t, struct end, tick);
	struct world *w = e->pair->world;
	bool fresh = false;

	if (!e->attached)
		return;
	if (!e->connected) {
		answer(e);
		fresh = true;
	}
	if (!e->attached)
		return;
	move(e);
	/* Before the call: what it frees takes the timer along. */
	if (fresh || (e->slow && e->room < e->chunk) ||
	    e->sent + e->supply < e->size)
		world_after(w, &e->tick,
		    1 + draw(w, w->calm ? 100 * MS : e->period));
	tell(e);
}

void
end_calm(struct end *e)
{
	struct world *w = e->pair->world;

	if (e->attached)
		world_after(w, &e->tick, draw(w, 100 * MS));
}

static void
end_draw(struct pair *p, unsigned i, unsigned side)
{
	struct world *w = p->world;
	const struct traits *t = &w->traits;

	p->end[i] = (struct end){
	    .endpoint.ops = &end_ops,
	    .pair = p,
	    .side = side,
	    .key = 2 * p->index + i,
	    .tick.expired = on_tick,
	    .size = one_in(w, 4) ? 0 : draw_wide(w, t->most),
	    .chunk = 1 + draw_wide(w, one_in(w, 2) ? t->most : 2000),
	    .period = 1 + draw_wide(w, t->period),
	    .fail_at = NEVER,
	    .break_at = NEVER,
	    .eof_when = (enum end_eof)draw(w, 3),
	    .lazy = one_in(w, 2),
	    .slow = one_in(w, 3),
	    .room = UNLIMITED,
	};
	if (p->end[i].slow)
		p->end[i].room = draw_wide(w, t->most);
	if (one_in(w, t->breaks))
		p->end[i].fail_at = draw_wide(w, t->most);
	if (one_in(w, t->breaks))
		p->end[i].break_at = draw_wide(w, t->most);
}

static struct pair *
pair_new(struct world *w, unsigned side)
{
	struct pair *p = &w->pairs[w->npairs];

	*p = (struct pair){
	    .world = w,
	    .index = w->npairs++,
	    .keep = one_in(w, 10),
	    .answer = (enum end_answer)draw(w, 4),
	    .outcome = (enum ins_outcome)(1 + draw(w, 8)),
	};
	/* Most are taken. */
	if (p->answer >= ANSWER_NO && !one_in(w, 4))
		p->answer -= 2;
	end_draw(p, 0, side);
	end_draw(p, 1, !side);
	p->end[1].echo = one_in(w, 4);
	if (p->end[1].echo)
		p->end[1].size = 0;
	return p;
}

bool
end_open(struct world *w, unsigned side)
{
	struct ins_open open = {
	    .class = (uint8_t)draw(w, 3),
	    .weight = (uint8_t)(1 + draw(w, INS_WEIGHT_MAX)),
	    .form = INS_FORM_PORT,
	    .port = (uint16_t)(w->npairs + 1),
	};
	struct pair *p;
	struct end *e;

	if (w->npairs == PAIRS || w->side[side].session == NULL)
		return false;
	p = pair_new(w, side);
	e = &p->end[0];
	e->endpoint.writable = e->connected = e->attached = true;
	if (session_open(w->side[side].session, &open, &e->endpoint, e) ==
	    NULL) {
		e->attached = false;
		w->npairs--;
		return false;
	}
	p->identity = open.identity;
	w->by_identity[side][open.identity & ~INS_BY_CLIENT] = p;
	w->totals->streams++;
	TRACE(w, "%s opens stream %llu", side_name(side),
	    (unsigned long long)p->identity);
	if (w->calm || one_in(w, 2))
		move(e);
	tell(e);
	if (e->attached)
		soon(e);
	return true;
}

void
end_on_open(struct session *session, struct stream *st,
    const struct ins_open *open)
{
	struct side *s = session_owner(session);
	struct world *w = s->world;
	struct pair *p = &w->pairs[(open->port - 1u) % PAIRS];
	struct end *e = &p->end[1];

	if (open->port > w->npairs || p->identity != open->identity ||
	    p->arrived || e->side != s->index) {
		world_fail(w, "%s: an open that was not made or came before",
		    side_name(s->index));
		stream_answer(st, INS_FAILED, NULL);
		return;
	}
	p->arrived = true;
	if (p->answer == ANSWER_NO && one_in(w, 2)) {
		p->answered = true;
		e->over = END_DENIED;
		stream_answer(st, p->outcome, NULL);
		return;
	}
	e->attached = true;
	stream_attach(st, &e->endpoint, e);
	if (p->answer == ANSWER_NOW || p->answer == ANSWER_NO)
		answer(e);
	if (!e->attached)
		return;
	world_after(w, &e->tick,
	    1 + draw(w, p->answered || w->calm ? 100 : w->traits.period));
}

void
end_abort(struct end *e)
{
	if (!e->attached || e->endpoint.stream == NULL)
		return;
	TRACE(e->pair->world, "%s aborts stream %llu", side_name(e->side),
	    (unsigned long long)e->pair->identity);
	e->aborted = e->pair->hurt = true;
	stream_abort(e->endpoint.stream, INS_RESET_POLICY, "aborted");
}
