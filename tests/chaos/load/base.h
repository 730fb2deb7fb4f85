/*
 * What both ends of the load share: clocks, sockets, the pattern, the loop
 * and its commands.
 *
 * A visitor begins with a request of REQUEST bytes, filled up with spaces:
 * `echo SEED` or `bulk SEED RATE`, RATE being the bytes per second that the
 * application sends back.
 */
#ifndef CHAOS_BASE_H
#define CHAOS_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <netinet/in.h>

enum {
	REQUEST = 64,
	TRAILER = 32, /* the totals behind a bulk stream, in hex */
	MESSAGE = 64, /* of an interactive visitor */
	FIRST = 64, /* what an application sends at once, whatever its rate */
	TICK_MS = 5,
	SECOND = 1000000000,
	MILLISECOND = 1000000,
};

/* Ends the process with errno's text. */
_Noreturn void
base_die(const char *what) __attribute__((noreturn));

/* The monotonic clock, which is the same in all network namespaces. */
uint64_t
base_now(void);

/* ADDRESS:PORT, or the end of the process. */
struct sockaddr_in
base_address(const char *text);

/* Non-blocking sockets.  base_dial: -1 with errno. */
int
base_dial(const struct sockaddr_in *to);
int
base_listen(const struct sockaddr_in *at);

/* A seed far from that of any other number. */
uint64_t
base_seed(uint64_t number);

/* The bytes that a stream of this seed has from pos on. */
void
base_fill(uint8_t *buf, uint64_t seed, uint64_t pos, size_t len);

/* The index of the first byte that is not right, or len. */
size_t
base_check(const uint8_t *buf, uint64_t seed, uint64_t pos, size_t len);

/*
 * epoll, whose events carry a pointer.  tick() is called each TICK_MS,
 * command() with each line of standard input, ready() for the rest, and
 * after() behind the last of what came together.  The end of standard input is
 * the end of the process.
 */
struct loop_calls {
	void (*tick)(uint64_t now);
	void (*command)(const char *line);
	void (*ready)(void *what);
	void (*after)(void);
};

_Noreturn void
base_loop(const struct loop_calls *calls);

/* *watched is what was asked for before; UINT32_MAX: nothing was. */
void
base_watch(int fd, uint32_t *watched, uint32_t events, void *what);

/* One line to standard output at once. */
void
base_say(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
