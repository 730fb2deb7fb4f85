/*
 * What the parts of the load generator share: the pattern, sockets, clocks,
 * and the form of a request.
 *
 * A visitor begins with a struct request.  Both ends run on one machine, so
 * that numbers are in its own byte order and its monotonic clock is theirs.
 */
#ifndef LOAD_BASE_H
#define LOAD_BASE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include <netinet/in.h>

enum {
	/* A prime, so that no power of two that is lost leaves it in step. */
	BASE_PERIOD = 1048583,
	BASE_READ = 1 << 20,
	/* Of an endless stream at a time: the next one waits for so long. */
	BASE_GIVE = 1 << 18,
	BASE_PIDS = 64,
	BASE_ECHO = 64, /* bytes that a short visit has echoed */
};

enum mode { MODE_ECHO = 1, MODE_SOURCE, MODE_SINK };

/*
 * amount: of a source the bytes that it sends (0: endlessly), of a sink the
 * microseconds from one report to the next (0: only at the end of file).
 */
struct request {
	uint8_t mode, version, zero[6];
	uint64_t amount;
};

/* What a sink tells: bytes received at that time, and at the end of file. */
struct report {
	uint64_t bytes, ns;
};

struct options {
	struct sockaddr_in to, beside_to;
	bool up, beside_up;
	long streams, beside, size, interval_us;
	uint64_t bytes;
	double seconds, warmup;
	pid_t pids[BASE_PIDS];
	int pid_count;
};

/* The pattern twice over: a run of BASE_PERIOD bytes from any offset. */
extern const uint8_t *base_pattern;
extern int base_pattern_fd;

/* All of these end the process when they fail; what for says on stderr. */
_Noreturn void
base_die(const char *format, ...)
    __attribute__((noreturn, format(printf, 1, 2)));
void
base_pattern_open(void);
void
base_raise_files(void);

uint64_t
base_now(void);

/* A socket on the way to `to`, non-blocking or connected; TCP_NODELAY. */
int
base_dial(const struct sockaddr_in *to, bool wait);

/*
 * Send a request and BASE_ECHO bytes (first) or only these, and wait for them
 * to come back right.  fd is blocking.
 */
void
base_echo(int fd, bool first);

/* The whole of it, or the end of the process; fd is blocking. */
void
base_receive(int fd, void *buf, size_t len);

/*
 * Take what fd has, up to BASE_READ bytes, from position *pos of the pattern.
 * Most of it is dropped within the kernel, and one read in 64 compared.
 * Returns the bytes, 0 at the end of file, or -1 with errno.
 */
ssize_t
base_take(int fd, uint64_t *pos);

/* Give up to BASE_GIVE bytes of the pattern; as sendfile(). */
ssize_t
base_give(int fd, uint64_t *pos, uint64_t most);

/* The CPU seconds that each of these has used until now. */
void
base_cpu(const struct options *o, double *seconds);

/* `, "cpu_seconds": ..., "cpu_by_pid": {...}` of what lies between. */
void
base_cpu_print(const struct options *o, const double *from, const double *to);

#endif
