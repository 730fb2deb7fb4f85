/*
 * Ping-pong on one connection, one message at a time, and bulk streams beside
 * it in another process, so that their work does not hold up this clock.
 */
#include "bench/load/ping.h"

#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "bench/load/bulk.h"

enum { SETTLE_MS = 100 };

static struct {
	uint32_t *ns; /* a turn of more than 4 s counts as 4 s */
	size_t count, room;
} samples;

static void
sample_add(uint64_t ns)
{
	if (samples.count == samples.room) {
		samples.room = samples.room ? 2 * samples.room : 65536;
		samples.ns =
		    realloc(samples.ns, samples.room * sizeof(*samples.ns));
		if (samples.ns == NULL)
			base_die("no memory");
	}
	samples.ns[samples.count++] =
	    ns < UINT32_MAX ? (uint32_t)ns : UINT32_MAX;
}

static int
by_value(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

/* The smallest sample that this part of all is not above, in us. */
static double
quantile(double part)
{
	size_t i = (size_t)(part * (double)samples.count);

	return samples.ns[i < samples.count ? i : samples.count - 1] * 1e-3;
}

/* In the child: measure from start_ns, write the result, and end. */
static _Noreturn void
beside(const struct options *o, uint64_t start_ns, int fd)
{
	static struct bulk_result r;
	struct options mine = *o;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	mine.to = o->beside_to;
	mine.up = o->beside_up;
	mine.streams = o->beside;
	mine.pid_count = 0;
	bulk_measure(&mine, start_ns, &r);
	if (write(fd, &r, sizeof(r)) != sizeof(r))
		base_die("write: %s", strerror(errno));
	_exit(0);
}

static int
beside_start(const struct options *o, uint64_t start_ns)
{
	int ends[2];
	pid_t child;

	if (pipe(ends) < 0)
		base_die("pipe: %s", strerror(errno));
	child = fork();
	if (child < 0)
		base_die("fork: %s", strerror(errno));
	if (child == 0) {
		close(ends[0]);
		beside(o, start_ns, ends[1]);
	}
	close(ends[1]);
	return ends[0];
}

static void
beside_wait(int fd, struct bulk_result *r)
{
	size_t got = 0;

	while (got < sizeof(*r)) {
		ssize_t n = read(fd, (char *)r + got, sizeof(*r) - got);

		/* It has said why. */
		if (n <= 0)
			base_die("the streams beside failed");
		got += (size_t)n;
	}
	close(fd);
	wait(NULL);
}

/* One turn; its time. */
static uint64_t
turn(int fd, size_t size)
{
	static uint8_t in[BASE_PERIOD];
	static uint64_t pos;
	const uint8_t *out = base_pattern + pos % BASE_PERIOD;
	uint64_t from = base_now(), to;

	if (send(fd, out, size, MSG_NOSIGNAL) != (ssize_t)size)
		base_die("ping: %s", strerror(errno));
	base_receive(fd, in, size);
	to = base_now();
	if (memcmp(in, out, size) != 0)
		base_die("ping: wrong byte after %" PRIu64, pos);
	pos += size;
	return to - from;
}

static void
ping_print(const struct options *o, double seconds, const double *from,
    const double *to, const struct bulk_result *r)
{
	if (samples.count == 0)
		base_die("ping: no turn ended in %.3f s", seconds);
	qsort(samples.ns, samples.count, sizeof(*samples.ns), by_value);
	printf("{\"count\": %zu, \"seconds\": %.6f, \"p50_us\": %.2f, "
	       "\"p90_us\": %.2f, \"p99_us\": %.2f, \"max_us\": %.2f",
	    samples.count, seconds, quantile(0.5), quantile(0.9),
	    quantile(0.99), quantile(1));
	if (r != NULL)
		printf(", \"beside_gbit\": %.4f, \"beside_bytes\": %" PRIu64,
		    bulk_gbit(r), r->bytes);
	base_cpu_print(o, from, to);
	puts("}");
}

void
ping_run(const struct options *o)
{
	static struct bulk_result r;
	struct request request = {.mode = MODE_ECHO, .version = 1};
	struct timespec pause = {o->interval_us / 1000000,
	    o->interval_us % 1000000 * 1000};
	double cpu_from[BASE_PIDS], cpu_to[BASE_PIDS];
	uint64_t start, end, took, now;
	int fd, child = -1;

	start = base_now() + (uint64_t)(o->warmup * 1e9) +
	    (o->beside > 0 ? SETTLE_MS * UINT64_C(1000000) : 0);
	end = start + (uint64_t)(o->seconds * 1e9);
	if (o->beside > 0)
		child = beside_start(o, start);
	fd = base_dial(&o->to, true);
	if (send(fd, &request, sizeof(request), MSG_NOSIGNAL) !=
	    sizeof(request))
		base_die("send: %s", strerror(errno));
	while (base_now() < start)
		turn(fd, (size_t)o->size);
	base_cpu(o, cpu_from);
	start = base_now();
	do {
		if (o->interval_us > 0)
			nanosleep(&pause, NULL);
		took = turn(fd, (size_t)o->size);
		sample_add(took);
		now = base_now();
	} while (now < end);
	base_cpu(o, cpu_to);
	close(fd);
	if (child >= 0)
		beside_wait(child, &r);
	ping_print(o, (double)(now - start) * 1e-9, cpu_from, cpu_to,
	    child >= 0 ? &r : NULL);
}
