/*
 * The visitors that stay.  One line of JSON for each command:
 *
 *	since	now is what `status` counts from
 *	status	how many are connected, how many of these have no byte since,
 *		how many are not connected yet, and are lost
 *	mark	what happened since the last mark
 *	giveup	those that have no byte since are lost
 *	revive	lost ones come again, as other streams
 *	fresh N	a fresh visitor each N ms; 0: none
 *	stop	all end with a half-close; the answer comes when all have ended
 *
 * A visitor counts from its first byte on: until then it is dialled again.
 */
#include "tests/chaos/load/visitors.h"
#include "tests/chaos/load/fresh.h"
#include "tests/chaos/load/stream.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { RING = 4096, AGAIN_MS = 200 };

struct visitor {
	struct stream s;
	unsigned index;
	enum { UP, DOWN, BOTH, INTERACTIVE } kind;
	enum { AWAY, DIALLED, LIVE, LOST, ENDED } state;
	uint64_t next_ns; /* next message, or next attempt */

	/* interactive: when each message was sent, by its number */
	uint64_t *sent_ns;
	uint64_t echoed, echoed_ns; /* how many; when the last was sent */
	uint64_t longest_ns;
};

static const char *const kinds[] = {"up", "down", "both", "interactive"};

static struct visitors_options o;
static struct visitor *all;
static unsigned count;
static uint64_t since_ns, connections, closed_bytes, marked_bytes;
static bool stopping;
static struct {
	unsigned lost, wrong, again;
} marked;
static unsigned lost_in_all;

/* --- one visitor --------------------------------------------------------- */

static void
visitor_dial(struct visitor *v, uint64_t now)
{
	int fd = base_dial(&o.to), len;
	uint64_t down = v->kind == DOWN || v->kind == BOTH ? o.rate : 0;
	struct stream *s = &v->s;

	v->state = DIALLED;
	stream_init(s, fd);
	v->next_ns = now + AGAIN_MS * (uint64_t)MILLISECOND;
	if (fd < 0) {
		v->state = AWAY;
		return;
	}
	s->tx_seed = base_seed(o.seed * 1000000007 + connections++);
	memset(s->head, ' ', REQUEST);
	s->head_len = REQUEST;
	v->echoed = 0;
	v->echoed_ns = v->longest_ns = 0;
	if (v->kind == INTERACTIVE) {
		s->rx_seed = s->tx_seed;
		/* Spread over the interval, so that they do not come at once. */
		v->next_ns = now +
		    (uint64_t)v->index * o.interval_ms * MILLISECOND / count;
		len = snprintf(s->head, REQUEST, "echo %" PRIu64, s->tx_seed);
	} else {
		s->rx_seed = ~s->tx_seed;
		s->trailed = true;
		s->rate = v->kind == DOWN ? 0 : o.rate;
		len = snprintf(s->head, REQUEST, "bulk %" PRIu64 " %" PRIu64,
		    s->tx_seed, down);
	}
	s->head[len] = ' ';
	s->blocked = true; /* until it is connected */
	stream_watch(s, true, v);
}

static void
visitor_close(struct visitor *v, int state, bool reset)
{
	closed_bytes += v->s.rx_pos;
	stream_close(&v->s, reset);
	v->s.rx_pos = 0;
	v->state = state;
}

static void
visitor_lost(struct visitor *v, const char *why, bool wrong)
{
	if (v->state == DIALLED && !wrong) {
		marked.again++;
		visitor_close(v, stopping ? ENDED : AWAY, true);
		return;
	}
	marked.lost++;
	lost_in_all++;
	marked.wrong += wrong;
	base_say("{\"event\": \"lost\", \"visitor\": %u, \"kind\": \"%s\", "
		 "\"why\": \"%s\", \"seed\": %" PRIu64 ", \"sent\": %" PRIu64
		 ", \"received\": %" PRIu64 "}",
	    v->index, kinds[v->kind], why, v->s.tx_seed, v->s.tx_pos,
	    v->s.rx_pos);
	visitor_close(v, LOST, true);
}

/* The time of each round trip that is complete now. */
static void
take_echoes(struct visitor *v, uint64_t now)
{
	uint64_t took;

	while ((v->echoed + 1) * MESSAGE <= v->s.rx_pos) {
		v->echoed_ns = v->sent_ns[v->echoed++ % RING];
		took = now - v->echoed_ns;
		if (took > v->longest_ns)
			v->longest_ns = took;
	}
}

/* The peer's end of file has come behind what is right so far. */
static void
visitor_ended(struct visitor *v)
{
	uint64_t sent = 0, received = 0;

	if (!v->s.shut)
		visitor_lost(v, "end of file", false);
	else if (v->kind == INTERACTIVE && v->s.rx_pos != v->s.tx_pos)
		visitor_lost(v, "echoes are missing", true);
	else if (v->kind != INTERACTIVE &&
	    (!stream_totals(&v->s, &sent, &received) ||
		received != v->s.tx_pos))
		visitor_lost(v, "the application received another total", true);
	else
		visitor_close(v, ENDED, false);
}

static void
visitor_step(struct visitor *v, enum stream_status status)
{
	if (status == STREAM_GOES_ON)
		status = stream_send(&v->s);
	if (status == STREAM_ENDED)
		visitor_ended(v);
	else if (status == STREAM_WRONG)
		visitor_lost(v, "wrong byte", true);
	else if (status == STREAM_CUT)
		visitor_lost(v, "end of file without totals", false);
	else if (status == STREAM_BROKEN)
		visitor_lost(v, strerror(errno), false);
	else
		stream_watch(&v->s, true, v);
}

static void
ready(void *what)
{
	struct visitor *v = what;
	enum stream_status status;

	if (fresh_is(what)) {
		fresh_ready(what);
		return;
	}
	if (v->state != DIALLED && v->state != LIVE)
		return;
	status = stream_receive(&v->s);
	if (v->state == DIALLED && v->s.rx_pos + v->s.tail_len > 0)
		v->state = LIVE;
	if (v->kind == INTERACTIVE)
		take_echoes(v, base_now());
	visitor_step(v, status);
}

static void
visitor_tick(struct visitor *v, uint64_t now)
{
	if (v->state == AWAY && now >= v->next_ns)
		visitor_dial(v, now);
	if (v->state != DIALLED && v->state != LIVE)
		return;
	if (v->kind != INTERACTIVE) {
		stream_allow(&v->s, now);
	} else if (now >= v->next_ns && !v->s.ending) {
		uint64_t number = v->s.tx_limit / MESSAGE;

		if (number - v->echoed < RING) {
			v->sent_ns[number % RING] = now;
			v->s.tx_limit += MESSAGE;
		}
		v->next_ns += o.interval_ms * (uint64_t)MILLISECOND;
		if (v->next_ns < now)
			v->next_ns = now;
	}
	if (!v->s.blocked)
		visitor_step(v, STREAM_GOES_ON);
}

/* --- all of them --------------------------------------------------------- */

static void
stopped(void)
{
	unsigned ended = 0;

	for (struct visitor *v = all; v < all + count; v++) {
		if (v->state == DIALLED || v->state == LIVE)
			return;
		ended += v->state == ENDED;
	}
	if (fresh_open() > 0)
		return;
	stopping = false;
	base_say("{\"answer\": \"stop\", \"ended\": %u, \"lost\": %u}", ended,
	    lost_in_all);
}

static void
tick(uint64_t now)
{
	for (struct visitor *v = all; v < all + count; v++)
		visitor_tick(v, now);
	fresh_tick(&o.to, stopping ? 0 : o.fresh_ms, now);
	if (stopping)
		stopped();
}

static void
stop(void)
{
	stopping = true;
	for (struct visitor *v = all; v < all + count; v++) {
		if (v->state == AWAY) {
			v->state = ENDED;
		} else if (v->state == DIALLED) {
			visitor_close(v, ENDED, true);
		} else if (v->state == LIVE) {
			stream_end(&v->s, v->kind != INTERACTIVE);
			visitor_step(v, STREAM_GOES_ON);
		}
	}
}

static bool
visitor_behind(const struct visitor *v)
{
	if (v->kind == INTERACTIVE)
		return v->echoed_ns < since_ns;
	return v->kind != UP && v->s.rx_ns < since_ns;
}

static void
status(void)
{
	unsigned live = 0, behind = 0, away = 0, lost = 0;

	for (struct visitor *v = all; v < all + count; v++) {
		live += v->state == LIVE;
		behind += v->state == LIVE && visitor_behind(v);
		away += v->state == AWAY || v->state == DIALLED;
		lost += v->state == LOST;
	}
	base_say("{\"answer\": \"status\", \"live\": %u, \"behind\": %u, "
		 "\"away\": %u, \"lost\": %u, \"fresh_behind\": %u}",
	    live, behind, away, lost, fresh_behind(base_now()));
}

static void
give_up(void)
{
	unsigned given_up = 0;

	for (struct visitor *v = all; v < all + count; v++)
		if (v->state == LIVE && visitor_behind(v)) {
			visitor_lost(v, "stands still", false);
			given_up++;
		}
	base_say("{\"answer\": \"giveup\", \"lost\": %u}", given_up);
}

static int
compare(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

/* The longest pause of a visitor; what is under way counts. */
static uint64_t
longest(struct visitor *v, uint64_t now)
{
	uint64_t ns = v->longest_ns, first;

	if (v->s.tx_limit / MESSAGE > v->echoed) {
		first = now - v->sent_ns[v->echoed % RING];
		if (first > ns)
			ns = first;
	}
	v->longest_ns = 0;
	return ns;
}

static void
mark(void)
{
	uint64_t *pauses = calloc(count + 1, sizeof(*pauses));
	uint64_t now = base_now(), bytes = closed_bytes, gap, gap_max = 0;
	unsigned n = 0;

	if (pauses == NULL)
		base_die("calloc");
	for (struct visitor *v = all; v < all + count; v++) {
		bytes += v->s.rx_pos;
		if (v->state != LIVE)
			continue;
		gap = stream_gap(&v->s, now);
		if (v->kind == INTERACTIVE)
			pauses[n++] = longest(v, now);
		else if (v->kind != UP && gap > gap_max)
			gap_max = gap;
	}
	qsort(pauses, n, sizeof(*pauses), compare);
	printf("{\"answer\": \"mark\", \"bytes\": %" PRIu64
	       ", \"lost\": %u, \"wrong\": %u, \"again\": %u, "
	       "\"measured\": %u, \"p50_ms\": %.1f, \"p99_ms\": %.1f, "
	       "\"max_ms\": %.1f, \"bulk_gap_ms\": %.1f, ",
	    bytes - marked_bytes, marked.lost, marked.wrong, marked.again, n,
	    (double)(n ? pauses[n / 2] : 0) / MILLISECOND,
	    (double)(n ? pauses[(n * 99 + 99) / 100 - 1] : 0) / MILLISECOND,
	    (double)(n ? pauses[n - 1] : 0) / MILLISECOND,
	    (double)gap_max / MILLISECOND);
	fresh_print(now);
	base_say("}");
	marked_bytes = bytes;
	memset(&marked, 0, sizeof(marked));
	free(pauses);
}

static void
revive(void)
{
	unsigned revived = 0;

	for (struct visitor *v = all; v < all + count; v++)
		if (v->state == LOST) {
			v->state = AWAY;
			v->next_ns = 0;
			revived++;
		}
	base_say("{\"answer\": \"revive\", \"revived\": %u}", revived);
}

static void
command(const char *line)
{
	if (strcmp(line, "since") == 0) {
		since_ns = base_now();
		base_say("{\"answer\": \"since\"}");
	} else if (strcmp(line, "status") == 0) {
		status();
	} else if (strcmp(line, "mark") == 0) {
		mark();
	} else if (strcmp(line, "giveup") == 0) {
		give_up();
	} else if (strcmp(line, "revive") == 0) {
		revive();
	} else if (sscanf(line, "fresh %u", &o.fresh_ms) == 1) {
		base_say("{\"answer\": \"fresh\"}");
	} else if (strcmp(line, "stop") == 0) {
		stop();
	} else {
		base_say("{\"answer\": \"unknown\"}");
	}
}

static void
after(void)
{
}

_Noreturn void
visitors_run(const struct visitors_options *options)
{
	static const struct loop_calls calls = {tick, command, ready, after};

	o = *options;
	count = o.up + o.down + o.both + o.interactive;
	all = calloc(count + 1, sizeof(*all));
	if (all == NULL)
		base_die("calloc");
	for (unsigned i = 0; i < count; i++) {
		struct visitor *v = all + i;

		v->index = i;
		v->kind = i < o.up             ? UP :
		    i < o.up + o.down          ? DOWN :
		    i < o.up + o.down + o.both ? BOTH :
						 INTERACTIVE;
		v->s.fd = -1;
		if (v->kind != INTERACTIVE)
			continue;
		v->sent_ns = calloc(RING, sizeof(*v->sent_ns));
		if (v->sent_ns == NULL)
			base_die("calloc");
	}
	base_say("{\"answer\": \"ready\", \"visitors\": %u}", count);
	base_loop(&calls);
}
