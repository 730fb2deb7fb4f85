#include "tunnel/path.h"

#define SECOND 1000000
#define FLAT_TRIPS 3 /* without a higher rate: the doubling ends */
#define QUEUED_US 20000 /* above one and a half round trips: a queue */
#define NUDGE_TRIPS 8 /* that the limit bound: one of them tries for more */
#define PROBE_TRIPS 2 /* one for the queue to drain, one to measure */

void
path_init(struct path *p, uint64_t most)
{
	*p = (struct path){
	    .limit = PATH_LIMIT_FIRST,
	    .most = most,
	    .doubling = true,
	};
}

static bool
is_near(const struct path *p)
{
	return p->rtt_min != 0 && p->rtt_min < PATH_NEAR_US;
}

static uint64_t
most_of(const struct path *p)
{
	return is_near(p) && p->most > PATH_LIMIT_NEAR ? PATH_LIMIT_NEAR :
							 p->most;
}

static uint64_t
clamp(uint64_t n, uint64_t least, uint64_t most)
{
	return n < least ? least : n > most ? most : n;
}

/* bytes * SECOND / us, without overflow at any rate of this world. */
static uint64_t
per_second(uint64_t bytes, uint64_t us)
{
	return us == 0 ? bytes * SECOND : bytes * SECOND / us;
}

static void
note_rtt(struct path *p, uint64_t rtt, uint64_t now)
{
	if (rtt == 0)
		rtt = 1;
	p->rtt = p->rtt == 0 ? rtt : (7 * p->rtt + rtt) / 8;
	if (p->rtt_min == 0 || rtt <= p->rtt_min) {
		p->rtt_min = rtt;
		p->rtt_min_at = now;
		p->probing = 0;
	} else if (p->probing > 0) {
		if (rtt < p->probed)
			p->probed = rtt;
		if (--p->probing == 0) {
			p->rtt_min = p->probed;
			p->rtt_min_at = now;
		}
	} else if (now - p->rtt_min_at > PATH_FORGET_US) {
		/*
		 * Without a look at the path with less in its queues, its own
		 * queue would pass for distance, and the limit follow it up.
		 */
		p->probing = PROBE_TRIPS;
		p->probed = UINT64_MAX;
	}
}

/* The largest of the last round trips. */
static void
note_rate(struct path *p, uint64_t rate)
{
	size_t i;

	/* One in which there was nothing more to send says little. */
	if (!p->bound && !p->held && rate <= p->rate)
		return;
	p->rates[p->next_rate] = rate;
	p->next_rate = (p->next_rate + 1) % PATH_RATES;
	p->rate = 0;
	for (i = 0; i < PATH_RATES; i++)
		if (p->rates[i] > p->rate)
			p->rate = p->rates[i];
}

/*
 * us: how long the burst was on its way.  A queue that shows ends it at once,
 * whoever fills it: on a slow line two more steps would be seconds of it.
 */
static void
double_up(struct path *p, uint64_t us)
{
	if (p->rate > p->doubling_rate + p->doubling_rate / 4) {
		p->doubling_rate = p->rate;
		p->flat = 0;
	} else if (p->held || us > p->rtt_min + p->rtt_min / 2 + QUEUED_US) {
		p->doubling = false;
		return;
	} else if (p->bound && ++p->flat == FLAT_TRIPS) {
		p->doubling = false;
		return;
	}
	if (p->bound)
		p->limit = clamp(2 * p->limit, PATH_LIMIT_MIN, most_of(p));
}

static void
follow(struct path *p)
{
	uint64_t limit;

	if (p->rate > p->doubling_rate + p->doubling_rate / 4) {
		p->doubling = true;
		p->doubling_rate = p->rate;
		p->flat = 0;
		return;
	}
	if (p->rate < p->doubling_rate)
		p->doubling_rate = p->rate;
	limit = p->rate * (p->rtt_min + PATH_SLACK_US) / SECOND;
	if (p->bound && ++p->bound_trips % NUDGE_TRIPS == 0)
		limit += limit / 4;
	/* Less than fills the path, so that its queues run empty. */
	if (p->probing > 0)
		limit = p->rate * p->rtt_min / SECOND / 2;
	p->limit = clamp(limit, PATH_LIMIT_MIN, most_of(p));
}

void
path_trip(struct path *p, uint64_t us, uint64_t now)
{
	note_rtt(p, us, now);
}

static void
set_mark(struct path_mark *m, uint64_t end, uint64_t now)
{
	*m = (struct path_mark){true, now, end};
}

/* Whether the mark has come back; it is gone then. */
static bool
came_back(struct path_mark *m, uint64_t acked)
{
	if (!m->running || acked < m->end)
		return false;
	m->running = false;
	return true;
}

void
path_sent(struct path *p, uint64_t sent, uint64_t acked, bool more,
    uint64_t now)
{
	/* A mark on what has been on its way for long comes back too soon. */
	if (sent == p->sent)
		return;
	p->sent = sent;
	if (!p->trip.running)
		set_mark(&p->trip, sent, now);
	if (p->burst.running || (more && sent - p->burst.end < p->limit))
		return;
	set_mark(&p->burst, sent, now);
	p->acked = acked;
}

void
path_acked(struct path *p, uint64_t acked, uint64_t now)
{
	uint64_t us;

	if (came_back(&p->trip, acked))
		note_rtt(p, now - p->trip.began, now);
	if (!came_back(&p->burst, acked))
		return;
	us = now - p->burst.began;
	note_rate(p, per_second(acked - p->acked, us));
	if (p->doubling)
		double_up(p, us);
	if (!p->doubling)
		follow(p);
	p->bound = p->held = false;
}

uint64_t
path_bears(const struct path *p)
{
	uint64_t allowed = per_second(p->limit, p->rtt_min + PATH_SLACK_US);

	return p->rate > allowed ? p->rate : allowed;
}

size_t
path_frame(const struct path *p)
{
	/* What goes before a mark in one frame would count as distance. */
	if (p->probing > 0)
		return PATH_FRAME_MIN;
	return (size_t)clamp(path_bears(p) * PATH_FRAME_US / SECOND,
	    PATH_FRAME_MIN, PATH_FRAME_MAX);
}

size_t
path_frame_beside(const struct path *p)
{
	return (size_t)clamp(path_frame(p), 0, PATH_FRAME_BESIDE);
}

uint64_t
path_limit_beside(const struct path *p)
{
	return is_near(p) ? clamp(p->limit, 0, 2 * PATH_FRAME_BESIDE) :
			    p->limit;
}
