/* Short visits one after another, and visits that do nothing for long. */
#include "bench/load/visits.h"

#include <sys/epoll.h>
#include <sys/socket.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { EVENTS = 64, PATIENCE_MS = 20000 };

struct visitor {
	int fd;
	bool asked;
	size_t have;
	uint8_t in[BASE_ECHO + 1];
};

static int poller;
static uint8_t question[sizeof(struct request) + BASE_ECHO];

static void
visitor_watch(struct visitor *v, int how, uint32_t events)
{
	struct epoll_event event = {.events = events, .data.ptr = v};

	if (epoll_ctl(poller, how, v->fd, &event) < 0)
		base_die("epoll_ctl: %s", strerror(errno));
}

/* False: the connection is not there yet. */
static bool
visitor_ask(struct visitor *v)
{
	ssize_t n = send(v->fd, question, sizeof(question), MSG_NOSIGNAL);

	if (n < 0 && errno == EAGAIN)
		return false;
	if (n < 0)
		base_die("a visit: %s", strerror(errno));
	if (n != sizeof(question))
		base_die("a visit: short send");
	v->asked = true;
	return true;
}

static void
visitor_start(struct visitor *v, const struct options *o)
{
	v->asked = false;
	v->have = 0;
	v->fd = base_dial(&o->to, false);
	/* On loopback the connection is usually there already. */
	visitor_watch(v, EPOLL_CTL_ADD, visitor_ask(v) ? EPOLLIN : EPOLLOUT);
}

/* True: the echo is there and right, and the visit is over. */
static bool
visitor_step(struct visitor *v)
{
	ssize_t n;

	if (!v->asked) {
		if (visitor_ask(v))
			visitor_watch(v, EPOLL_CTL_MOD, EPOLLIN);
		return false;
	}
	n = recv(v->fd, v->in + v->have, sizeof(v->in) - v->have, 0);
	if (n < 0 && errno == EAGAIN)
		return false;
	if (n < 0)
		base_die("a visit: %s", strerror(errno));
	if (n == 0)
		base_die("a visit: early end of file");
	v->have += (size_t)n;
	if (v->have < BASE_ECHO)
		return false;
	if (v->have > BASE_ECHO || memcmp(v->in, base_pattern, BASE_ECHO) != 0)
		base_die("a visit: wrong byte");
	close(v->fd);
	return true;
}

static void
question_make(void)
{
	struct request request = {.mode = MODE_ECHO, .version = 1};

	memcpy(question, &request, sizeof(request));
	memcpy(question + sizeof(request), base_pattern, BASE_ECHO);
}

static void
connect_print(const struct options *o, uint64_t count, uint64_t ns,
    const double *from, const double *to)
{
	double seconds = (double)ns * 1e-9;

	printf("{\"connections\": %llu, \"seconds\": %.6f, "
	       "\"per_second\": %.1f",
	    (unsigned long long)count, seconds, (double)count / seconds);
	base_cpu_print(o, from, to);
	puts("}");
}

/* All visitors' visits until *count reaches the marks; see visits_connect. */
struct marks {
	uint64_t start_ns, end_ns, count;
	bool started, ended;
	double cpu_from[BASE_PIDS], cpu_to[BASE_PIDS];
};

static void
marks_step(struct marks *m, const struct options *o)
{
	uint64_t now = base_now();

	if (!m->started && now >= m->start_ns) {
		m->started = true;
		m->count = 0;
		base_cpu(o, m->cpu_from);
		m->start_ns = base_now();
		m->end_ns = m->start_ns + (uint64_t)(o->seconds * 1e9);
	} else if (m->started && !m->ended && now >= m->end_ns) {
		m->ended = true;
		base_cpu(o, m->cpu_to);
		m->end_ns = base_now();
	}
}

void
visits_connect(const struct options *o)
{
	struct visitor *all = calloc((size_t)o->streams, sizeof(*all));
	struct epoll_event events[EVENTS];
	struct marks m = {0};
	long open = o->streams;

	if (all == NULL)
		base_die("no memory");
	poller = epoll_create1(EPOLL_CLOEXEC);
	question_make();
	m.start_ns = base_now() + (uint64_t)(o->warmup * 1e9);
	for (long i = 0; i < o->streams; i++)
		visitor_start(&all[i], o);
	/* At the end every visit that was begun has to be answered. */
	while (open > 0) {
		int n = epoll_wait(poller, events, EVENTS, PATIENCE_MS);

		if (n == 0)
			base_die("a visit: no answer within 20 s");
		for (int i = 0; i < n; i++) {
			struct visitor *v = events[i].data.ptr;

			if (!visitor_step(v))
				continue;
			if (m.ended) {
				open--;
				continue;
			}
			m.count++;
			visitor_start(v, o);
		}
		marks_step(&m, o);
	}
	connect_print(o, m.count, m.end_ns - m.start_ns, m.cpu_from, m.cpu_to);
	free(all);
}

/* Say so, and wait for the end of standard input. */
static void
hold(void)
{
	char buf[64];

	puts("ready");
	fflush(stdout);
	while (read(STDIN_FILENO, buf, sizeof(buf)) > 0)
		;
}

void
visits_idle(const struct options *o)
{
	int *all = calloc((size_t)o->streams, sizeof(*all));

	if (all == NULL)
		base_die("no memory");
	for (long i = 0; i < o->streams; i++) {
		all[i] = base_dial(&o->to, true);
		base_echo(all[i], true);
	}
	hold();
	for (long i = 0; i < o->streams; i++) {
		base_echo(all[i], false);
		close(all[i]);
	}
	free(all);
}

void
visits_stopped(const struct options *o)
{
	struct request request = {.mode = MODE_SOURCE,
	    .version = 1,
	    .amount = o->bytes};
	int fd = base_dial(&o->to, true);
	char first;

	if (send(fd, &request, sizeof(request), MSG_NOSIGNAL) !=
	    sizeof(request))
		base_die("send: %s", strerror(errno));
	if (recv(fd, &first, 1, MSG_PEEK) != 1)
		base_die("nothing to leave unread: %s", strerror(errno));
	hold();
	close(fd);
}
