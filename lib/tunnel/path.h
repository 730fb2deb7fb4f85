/*
 * What a carrier's path bears: its rate and its round trip, learnt from
 * acknowledgements, and from these how many bytes may be unacknowledged and
 * how large a frame may be.  docs/architecture.md, "The limit follows the
 * path", has the rule and why each part of it is there.
 *
 * Pure: no clock of its own, no I/O, no allocation.  Offsets are counted
 * bytes, times microseconds of any monotonic clock.
 */
#ifndef TUNNEL_PATH_H
#define TUNNEL_PATH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PATH_LIMIT_FIRST 65536
#define PATH_LIMIT_MIN	16384
/* The most where PATH_NEAR_US holds: one frame comes while one is taken. */
#define PATH_LIMIT_NEAR	(2 * PATH_FRAME_MAX)
#define PATH_NEAR_US	1000		/* a round trip below it: no distance */
#define PATH_SLACK_US	4000		/* of the rate, above the round trip */
#define PATH_FRAME_US	2000		/* of the rate: a frame */
#define PATH_FRAME_MIN	4096
/*
 * With its head it fills four of the largest segments (64 KiB less what IP and
 * TCP put in front) and begins no fifth.
 */
#define PATH_FRAME_MAX	(4 * 65483 - 12)
#define PATH_FRAME_BESIDE (3 * 65483 - 12)	/* beside interactive streams */
#define PATH_RATES	10		/* round trips that are remembered */
#define PATH_FORGET_US	10000000	/* the smallest round trip, after it */

struct path {
	uint64_t limit;		/* bytes that may be unacknowledged */
	uint64_t most;		/* that limit may become */
	uint64_t rate;		/* bytes a second; 0: unknown */
	uint64_t rtt;		/* us, smoothed; 0: unknown */
	uint64_t rtt_min;	/* us; 0: unknown */

	/*
	 * Two marks travel with the bytes, and what comes of them when they
	 * are acknowledged.  The one for the round trip is set as early as
	 * there is a byte, since what follows in a burst waits for its own
	 * kind; the one for the rate is set at the end of a burst, since the
	 * acknowledgement of its first bytes tells of a rate that is far too
	 * low.
	 */
	struct path_mark {
		bool running;
		uint64_t began, end;
	} trip, burst;
	uint64_t sent;
	uint64_t acked;		/* when the burst's mark was set */
	bool bound;		/* the limit held something back since */
	bool held;		/* the carrier did */

	uint64_t rates[PATH_RATES];
	size_t next_rate;
	bool doubling;
	uint64_t doubling_rate;	/* that a round trip has to beat */
	unsigned flat;		/* round trips that have not */
	unsigned bound_trips;
	unsigned probing;	/* round trips of the halved limit to go */
	uint64_t probed;	/* us: the smallest of them */
	uint64_t rtt_min_at;
};

/* most: at least PATH_LIMIT_FIRST. */
void
path_init(struct path *, uint64_t most);

/*
 * Bytes up to sent are on their way; acked: what is acknowledged of them;
 * more: others will follow at once.
 */
void
path_sent(struct path *, uint64_t sent, uint64_t acked, bool more,
    uint64_t now);

/* A round trip was measured otherwise, by a ping. */
void
path_trip(struct path *, uint64_t us, uint64_t now);

/* Something waits for the limit. */
static inline void
path_bind(struct path *p)
{
	p->bound = true;
}

/*
 * Something waits for the carrier's socket: the limit is above what the path
 * bears now, whatever was learnt before.
 */
static inline void
path_hold(struct path *p)
{
	p->held = true;
}

/* The peer has acknowledged up to acked. */
void
path_acked(struct path *, uint64_t acked, uint64_t now);

/* Bytes a second that the path bears, as far as known; never 0. */
uint64_t
path_bears(const struct path *);

/* The most that one frame may hold, in bytes. */
size_t
path_frame(const struct path *);

/*
 * Frame and limit beside interactive streams.  Near, where distance and line
 * are no matter, a key stroke waits for the time that the processes take for
 * what is before it: there the limit is lower as well.
 */
size_t
path_frame_beside(const struct path *);
uint64_t
path_limit_beside(const struct path *);

#endif
