#include "tests/chaos/load/base.h"

#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { EVENTS = 256, LINE = 256 };

#define STEP UINT64_C(0x9E3779B97F4A7C15)

static int poller = -1;

_Noreturn void
base_die(const char *what)
{
	fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
	exit(2);
}

uint64_t
base_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * SECOND + (uint64_t)t.tv_nsec;
}

/* --- sockets ------------------------------------------------------------- */

struct sockaddr_in
base_address(const char *text)
{
	struct sockaddr_in a = {.sin_family = AF_INET};
	const char *colon = strrchr(text, ':');
	char host[64];

	if (colon != NULL) {
		snprintf(host, sizeof(host), "%.*s", (int)(colon - text), text);
		a.sin_port = htons((uint16_t)atoi(colon + 1));
	}
	if (colon == NULL || inet_pton(AF_INET, host, &a.sin_addr) != 1) {
		fprintf(stderr, "load: %s: not ADDRESS:PORT\n", text);
		exit(2);
	}
	return a;
}

int
base_dial(const struct sockaddr_in *to)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int on = 1;

	if (fd < 0)
		return -1;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	if (connect(fd, (const struct sockaddr *)to, sizeof(*to)) < 0 &&
	    errno != EINPROGRESS) {
		close(fd);
		return -1;
	}
	return fd;
}

int
base_listen(const struct sockaddr_in *at)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int on = 1;

	if (fd < 0)
		base_die("socket");
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (bind(fd, (const struct sockaddr *)at, sizeof(*at)) < 0 ||
	    listen(fd, SOMAXCONN) < 0)
		base_die("listen");
	return fd;
}

/* --- the pattern --------------------------------------------------------- */

uint64_t
base_seed(uint64_t number)
{
	uint64_t z = (number + 1) * STEP;

	z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
	return z ^ (z >> 31);
}

/* Odd steps make the word of each position another one. */
static uint64_t
pattern_word(uint64_t seed, uint64_t pos)
{
	return (seed + pos / 8) * STEP;
}

void
base_fill(uint8_t *buf, uint64_t seed, uint64_t pos, size_t len)
{
	size_t skip = pos % 8, done = 0;
	uint64_t word = pattern_word(seed, pos);

	if (skip != 0) {
		done = 8 - skip < len ? 8 - skip : len;
		memcpy(buf, (uint8_t *)&word + skip, done);
		word += STEP;
	}
	for (; done + 8 <= len; done += 8, word += STEP)
		memcpy(buf + done, &word, 8);
	memcpy(buf + done, &word, len - done);
}

size_t
base_check(const uint8_t *buf, uint64_t seed, uint64_t pos, size_t len)
{
	uint64_t word, got;
	size_t i = 0;

	while (i < len) {
		word = pattern_word(seed, pos + i);
		if ((pos + i) % 8 == 0 && len - i >= 8) {
			memcpy(&got, buf + i, 8);
			if (got == word) {
				i += 8;
				continue;
			}
		}
		if (buf[i] != ((uint8_t *)&word)[(pos + i) % 8])
			break;
		i++;
	}
	return i;
}

/* --- the loop ------------------------------------------------------------ */

void
base_watch(int fd, uint32_t *watched, uint32_t events, void *what)
{
	struct epoll_event event = {.events = events, .data.ptr = what};
	int op = *watched == UINT32_MAX ? EPOLL_CTL_ADD : EPOLL_CTL_MOD;

	if (events == *watched)
		return;
	if (poller < 0)
		poller = epoll_create1(EPOLL_CLOEXEC);
	if (epoll_ctl(poller, op, fd, &event) < 0)
		base_die("epoll_ctl");
	*watched = events;
}

static void
read_commands(const struct loop_calls *calls)
{
	static char text[LINE];
	static size_t held;
	ssize_t n = read(STDIN_FILENO, text + held, sizeof(text) - 1 - held);
	char *end;

	if (n <= 0)
		exit(0);
	held += (size_t)n;
	text[held] = '\0';
	while ((end = strchr(text, '\n')) != NULL) {
		*end = '\0';
		calls->command(text);
		held -= (size_t)(end + 1 - text);
		memmove(text, end + 1, held + 1);
	}
}

static void
ticked(const struct loop_calls *calls, int timer)
{
	uint64_t times;

	if (read(timer, &times, sizeof(times)) == sizeof(times))
		calls->tick(base_now());
}

static int
timer_start(void)
{
	const struct itimerspec each = {
	    .it_interval.tv_nsec = TICK_MS * MILLISECOND,
	    .it_value.tv_nsec = TICK_MS * MILLISECOND,
	};
	int timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);

	if (timer < 0 || timerfd_settime(timer, 0, &each, NULL) < 0)
		base_die("timerfd");
	return timer;
}

_Noreturn void
base_loop(const struct loop_calls *calls)
{
	static const char is_command, is_tick;
	struct epoll_event events[EVENTS];
	uint32_t none = UINT32_MAX;
	int timer = timer_start(), n;

	base_watch(timer, &none, EPOLLIN, (void *)&is_tick);
	none = UINT32_MAX;
	base_watch(STDIN_FILENO, &none, EPOLLIN, (void *)&is_command);
	for (;;) {
		n = epoll_wait(poller, events, EVENTS, -1);
		if (n < 0 && errno != EINTR)
			base_die("epoll_wait");
		for (int i = 0; i < n; i++) {
			if (events[i].data.ptr == &is_tick)
				ticked(calls, timer);
			else if (events[i].data.ptr == &is_command)
				read_commands(calls);
			else
				calls->ready(events[i].data.ptr);
		}
		calls->after();
	}
}

void
base_say(const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	vprintf(format, ap);
	va_end(ap);
	putchar('\n');
	fflush(stdout);
}
