/*
 * Windows and credit: how much a stream's receiver lets its sender send.
 * PROTOCOL.md, "Credit"; docs/architecture.md, "The way of a byte".
 */
#include "tunnel/session_private.h"

/* How far a window of WINDOW_FIRST is raised as soon as there is room. */
static uint64_t
window_start(const struct session *s)
{
	return s->config.window_max < WINDOW_START ? s->config.window_max :
						     WINDOW_START;
}

static void
raise_window(struct stream *st, uint64_t goal)
{
	struct session *s = st->session;

	st->window =
	    budget_raise(&s->budget, s->config.process, st->window, goal);
	st->short_of_memory = st->window < goal;
	if (st->short_of_memory)
		stream_stalled(st, STALL_MEMORY);
}

void
credit_open(struct stream *st)
{
	raise_window(st, window_start(st->session));
}

static void
begin_epoch(struct stream *st)
{
	st->mark_at = st->session->driver->now;
	st->mark = st->rx_delivered;
}

/*
 * A window is too small for its path when half of it goes by within two round
 * trips; and a larger one is of use only where the endpoint takes it all.
 */
static void
grow_window(struct stream *st)
{
	struct session *s = st->session;
	uint64_t now = s->driver->now, goal = 2 * st->window;

	if (st->queue != NULL) {
		begin_epoch(st);
		return;
	}
	if (goal > s->config.window_max)
		goal = s->config.window_max;
	if (now - st->mark_at > 2 * s->tx.path.rtt)
		begin_epoch(st);
	else if (st->rx_delivered - st->mark >= st->window / 2) {
		if (goal > st->window)
			raise_window(st, goal);
		begin_epoch(st);
	}
}

/* How far a credit would go: what was delivered, and a window more. */
static uint64_t
grantable(const struct stream *st)
{
	return st->rx_delivered + st->window;
}

bool
credit_due(struct stream *st, uint64_t *offset)
{
	struct session *s = st->session;

	if (st->state != STREAM_OPEN)
		return false;
	if (st->window == WINDOW_FIRST)
		raise_window(st, window_start(s));
	*offset = grantable(st);
	return *offset > st->rx_granted;
}

/* Bytes were delivered: credit goes back at each eighth of the window. */
void
credit_delivered(struct stream *st)
{
	struct session *s = st->session;

	if (!session_extended(s)) {
		if (st->queued < st->window / 2)
			session_unblock(s, st);
		return;
	}
	if (st->state != STREAM_OPEN)
		return;
	grow_window(st);
	if (!list_empty(&st->waiting) ||
	    grantable(st) < st->rx_granted + st->window / 8)
		return;
	list_append(&s->credits, &st->waiting);
	session_wake(s);
}
