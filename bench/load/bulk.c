/*
 * Bulk streams.  Downwards, what arrives here is counted.  Upwards, what the
 * application received is: its sinks report from time to time how much that
 * was and when, and what they had at the marks lies between two reports.
 */
#include "bench/load/bulk.h"

#include <sys/epoll.h>
#include <sys/socket.h>

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { EVENTS = 64, REPORT_US = 40000, PATIENCE_MS = 20000, LATE_MS = 5000 };

enum phase { CONNECTING, WARMING, MEASURING, CLOSING, OVER };

struct stream {
	int fd;
	long index;
	bool begun;
	uint64_t pos;
	uint64_t at_start, at_end; /* bytes at the two marks */
	/* upwards */
	bool past_end;
	struct report last, incoming;
	size_t have;
};

static struct {
	const struct options *o;
	struct bulk_result *r;
	struct stream *all;
	int poller;
	long begun, past_end;
	enum phase phase;
	uint64_t next_ns; /* when the phase ends, or patience does */
} bulk;

static void
stream_watch(struct stream *s, int how, uint32_t events)
{
	struct epoll_event event = {.events = events, .data.ptr = s};

	if (epoll_ctl(bulk.poller, how, s->fd, &event) < 0)
		base_die("epoll_ctl: %s", strerror(errno));
}

static _Noreturn void
stream_lost(const struct stream *s, const char *why)
{
	base_die("stream %ld: %s after %" PRIu64 " bytes", s->index, why,
	    s->pos);
}

static void
stream_begin(struct stream *s)
{
	struct request request = {
	    .mode = bulk.o->up ? MODE_SINK : MODE_SOURCE,
	    .version = 1,
	    .amount = bulk.o->up ? REPORT_US : 0,
	};

	if (send(s->fd, &request, sizeof(request), MSG_NOSIGNAL) !=
	    sizeof(request))
		stream_lost(s, strerror(errno));
	stream_watch(s, EPOLL_CTL_MOD,
	    bulk.o->up ? EPOLLIN | EPOLLOUT : EPOLLIN);
	s->begun = true;
	bulk.begun++;
}

static void
stream_down(struct stream *s)
{
	ssize_t n = base_take(s->fd, &s->pos);

	if (n == 0)
		stream_lost(s, "early end of file");
	if (n < 0 && errno != EAGAIN)
		stream_lost(s, strerror(errno));
}

/* The bytes at time ns, when it lies between the last report and this. */
static void
interpolate(const struct stream *s, uint64_t ns, uint64_t *bytes)
{
	double part;

	if (ns == 0 || s->last.ns >= ns || s->incoming.ns < ns)
		return;
	part =
	    (double)(ns - s->last.ns) / (double)(s->incoming.ns - s->last.ns);
	*bytes = s->last.bytes +
	    (uint64_t)((double)(s->incoming.bytes - s->last.bytes) * part);
}

static void
stream_reports(struct stream *s)
{
	for (;;) {
		ssize_t n = recv(s->fd, (char *)&s->incoming + s->have,
		    sizeof(s->incoming) - s->have, MSG_DONTWAIT);

		if (n == 0)
			stream_lost(s, "early end of file");
		if (n < 0 && errno == EAGAIN)
			return;
		if (n < 0)
			stream_lost(s, strerror(errno));
		s->have += (size_t)n;
		if (s->have < sizeof(s->incoming))
			continue;
		s->have = 0;
		if (s->incoming.bytes > s->pos)
			stream_lost(s, "a sink has more than was sent");
		interpolate(s, bulk.r->start_ns, &s->at_start);
		interpolate(s, bulk.r->end_ns, &s->at_end);
		if (bulk.phase == CLOSING && !s->past_end &&
		    s->incoming.ns >= bulk.r->end_ns) {
			s->past_end = true;
			bulk.past_end++;
		}
		s->last = s->incoming;
	}
}

static void
stream_step(struct stream *s, uint32_t events)
{
	if (!s->begun) {
		stream_begin(s);
		return;
	}
	if (!bulk.o->up) {
		stream_down(s);
		return;
	}
	if (events & (EPOLLIN | EPOLLERR | EPOLLHUP))
		stream_reports(s);
	if (events & EPOLLOUT && base_give(s->fd, &s->pos, UINT64_MAX) < 0 &&
	    errno != EAGAIN)
		stream_lost(s, strerror(errno));
}

static void
snapshot(bool end)
{
	for (long i = 0; i < bulk.o->streams; i++) {
		struct stream *s = &bulk.all[i];
		/* Upwards it holds until a report tells more. */
		uint64_t now = bulk.o->up ? s->last.bytes : s->pos;

		*(end ? &s->at_end : &s->at_start) = now;
	}
	base_cpu(bulk.o, end ? bulk.r->cpu_to : bulk.r->cpu_from);
}

static void
phase_step(uint64_t now)
{
	if (bulk.phase == CONNECTING && bulk.begun == bulk.o->streams) {
		bulk.phase = WARMING;
		if (bulk.r->start_ns != 0)
			bulk.next_ns = bulk.r->start_ns;
		else
			bulk.next_ns = now + (uint64_t)(bulk.o->warmup * 1e9);
	}
	if (bulk.phase == CLOSING && bulk.past_end == bulk.o->streams)
		bulk.phase = OVER;
	if (now < bulk.next_ns)
		return;
	switch (bulk.phase) {
	case CONNECTING:
		base_die("%ld of %ld streams are not connected",
		    bulk.o->streams - bulk.begun, bulk.o->streams);
	case WARMING:
		snapshot(false);
		bulk.r->start_ns = base_now();
		bulk.next_ns =
		    bulk.r->start_ns + (uint64_t)(bulk.o->seconds * 1e9);
		bulk.phase = MEASURING;
		break;
	case MEASURING:
		snapshot(true);
		bulk.r->end_ns = base_now();
		bulk.next_ns = bulk.r->end_ns + LATE_MS * UINT64_C(1000000);
		bulk.phase = bulk.o->up ? CLOSING : OVER;
		break;
	default:
		/* No report came: those streams stood still. */
		bulk.phase = OVER;
	}
}

/*
 * With resets: what is still on its way would be carried while the next
 * measurement runs.
 */
static void
finish(void)
{
	struct linger linger = {.l_onoff = 1};

	bulk.r->bytes = 0;
	for (long i = 0; i < bulk.o->streams; i++) {
		struct stream *s = &bulk.all[i];

		bulk.r->by_stream[i] = s->at_end - s->at_start;
		bulk.r->bytes += bulk.r->by_stream[i];
		setsockopt(s->fd, SOL_SOCKET, SO_LINGER, &linger,
		    sizeof(linger));
		close(s->fd);
	}
	close(bulk.poller);
	free(bulk.all);
}

void
bulk_measure(const struct options *o, uint64_t start_ns, struct bulk_result *r)
{
	struct epoll_event events[EVENTS];
	uint64_t now = base_now();

	bulk.o = o;
	bulk.r = r;
	r->start_ns = start_ns;
	r->end_ns = 0;
	bulk.phase = CONNECTING;
	bulk.next_ns = now + PATIENCE_MS * UINT64_C(1000000);
	bulk.poller = epoll_create1(EPOLL_CLOEXEC);
	bulk.all = calloc((size_t)o->streams, sizeof(*bulk.all));
	if (bulk.all == NULL)
		base_die("no memory");
	for (long i = 0; i < o->streams; i++) {
		struct stream *s = &bulk.all[i];

		s->index = i;
		s->last.ns = now;
		s->fd = base_dial(&o->to, false);
		stream_watch(s, EPOLL_CTL_ADD, EPOLLOUT);
	}
	while (bulk.phase != OVER) {
		uint64_t wait = bulk.next_ns > now ? bulk.next_ns - now : 0;
		int n = epoll_wait(bulk.poller, events, EVENTS,
		    (int)((wait + 999999) / 1000000));

		for (int i = 0; i < n; i++)
			stream_step(events[i].data.ptr, events[i].events);
		now = base_now();
		phase_step(now);
	}
	finish();
}

double
bulk_gbit(const struct bulk_result *r)
{
	return (double)r->bytes * 8 / (double)(r->end_ns - r->start_ns);
}

void
bulk_run(const struct options *o)
{
	static struct bulk_result r;

	bulk_measure(o, 0, &r);
	printf("{\"bytes\": %" PRIu64 ", \"seconds\": %.6f, \"gbit\": %.4f, "
	       "\"start_ns\": %" PRIu64 ", \"end_ns\": %" PRIu64
	       ", \"by_stream\": [",
	    r.bytes, (double)(r.end_ns - r.start_ns) * 1e-9, bulk_gbit(&r),
	    r.start_ns, r.end_ns);
	for (long i = 0; i < o->streams; i++)
		printf("%s%" PRIu64, i > 0 ? ", " : "", r.by_stream[i]);
	putchar(']');
	base_cpu_print(o, r.cpu_from, r.cpu_to);
	puts("}");
}
