#include "bench/load/base.h"

#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/socket.h>

#include <errno.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { SAMPLED = 64, FILES = 65536 };

const uint8_t *base_pattern;
int base_pattern_fd;

static uint8_t scratch[BASE_READ];

static uint64_t
xorshift(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

void
base_die(const char *format, ...)
{
	va_list arguments;

	fputs("load: ", stderr);
	va_start(arguments, format);
	vfprintf(stderr, format, arguments);
	va_end(arguments);
	fputc('\n', stderr);
	exit(1);
}

void
base_pattern_open(void)
{
	uint64_t state = 88172645463325252u;
	size_t size = 2 * (size_t)BASE_PERIOD;
	uint8_t *all;

	base_pattern_fd = memfd_create("pattern", MFD_CLOEXEC);
	if (base_pattern_fd < 0 || ftruncate(base_pattern_fd, (off_t)size) < 0)
		base_die("memfd_create: %s", strerror(errno));
	all = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED,
	    base_pattern_fd, 0);
	if (all == MAP_FAILED)
		base_die("mmap: %s", strerror(errno));
	for (size_t i = 0; i < BASE_PERIOD; i++)
		all[i] = all[i + BASE_PERIOD] = (uint8_t)xorshift(&state);
	base_pattern = all;
}

/* As far as the hard limit lets us, and further when we may. */
void
base_raise_files(void)
{
	struct rlimit limit = {FILES, FILES};

	if (setrlimit(RLIMIT_NOFILE, &limit) == 0)
		return;
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
}

uint64_t
base_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/*
 * Ports in TIME_WAIT run out after 28,000 connections from one address, but
 * loopback has 16 million addresses.
 */
static void
choose_source(int fd)
{
	static uint32_t next;
	struct sockaddr_in from = {.sin_family = AF_INET};
	uint32_t n = next++ % 60000;
	int on = 1;

	from.sin_addr.s_addr =
	    htonl(0x7f400001u + ((n / 250) << 8) + (n % 250));
	setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof(on));
	if (bind(fd, (struct sockaddr *)&from, sizeof(from)) < 0)
		base_die("bind: %s", strerror(errno));
}

int
base_dial(const struct sockaddr_in *to, bool wait)
{
	struct timeval patience = {.tv_sec = 20};
	int on = 1;
	int fd = socket(AF_INET,
	    SOCK_STREAM | SOCK_CLOEXEC | (wait ? 0 : SOCK_NONBLOCK), 0);

	if (fd < 0)
		base_die("socket: %s", strerror(errno));
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	if (ntohl(to->sin_addr.s_addr) >> 24 == 127)
		choose_source(fd);
	if (connect(fd, (const struct sockaddr *)to, sizeof(*to)) < 0 &&
	    (wait || errno != EINPROGRESS))
		base_die("connect: %s", strerror(errno));
	return fd;
}

void
base_receive(int fd, void *buf, size_t len)
{
	for (size_t got = 0; got < len;) {
		ssize_t n = recv(fd, (char *)buf + got, len - got, 0);

		if (n < 0 && errno == EAGAIN)
			base_die("no answer within 20 s");
		if (n < 0)
			base_die("connection lost: %s", strerror(errno));
		if (n == 0)
			base_die("early end of file");
		got += (size_t)n;
	}
}

void
base_echo(int fd, bool first)
{
	struct request request = {.mode = MODE_ECHO, .version = 1};
	uint8_t out[sizeof(request) + BASE_ECHO], in[BASE_ECHO];
	size_t skip = first ? 0 : sizeof(request);

	memcpy(out, &request, sizeof(request));
	memcpy(out + sizeof(request), base_pattern, BASE_ECHO);
	if (send(fd, out + skip, sizeof(out) - skip, MSG_NOSIGNAL) !=
	    (ssize_t)(sizeof(out) - skip))
		base_die("send: %s", strerror(errno));
	base_receive(fd, in, sizeof(in));
	if (memcmp(in, base_pattern, sizeof(in)) != 0)
		base_die("wrong byte in an echo");
}

ssize_t
base_take(int fd, uint64_t *pos)
{
	static uint64_t state;
	bool sampled;
	ssize_t n;

	if (state == 0)
		state = base_now() | 1;
	sampled = xorshift(&state) % SAMPLED == 0;
	n = recv(fd, sampled ? scratch : NULL, BASE_READ,
	    MSG_DONTWAIT | (sampled ? 0 : MSG_TRUNC));
	if (n <= 0)
		return n;
	if (sampled &&
	    memcmp(scratch, base_pattern + *pos % BASE_PERIOD, (size_t)n) != 0)
		base_die("wrong byte in the %zd after %llu", n,
		    (unsigned long long)*pos);
	*pos += (uint64_t)n;
	return n;
}

ssize_t
base_give(int fd, uint64_t *pos, uint64_t most)
{
	off_t offset = (off_t)(*pos % BASE_PERIOD);
	ssize_t n = sendfile(fd, base_pattern_fd, &offset,
	    most < BASE_GIVE ? (size_t)most : BASE_GIVE);

	if (n > 0)
		*pos += (uint64_t)n;
	return n;
}

void
base_cpu(const struct options *o, double *seconds)
{
	for (int i = 0; i < o->pid_count; i++) {
		struct timespec t;
		clockid_t clock;

		if (clock_getcpuclockid(o->pids[i], &clock) != 0 ||
		    clock_gettime(clock, &t) < 0)
			base_die("process %d has no CPU clock: it is gone",
			    (int)o->pids[i]);
		seconds[i] = (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
	}
}

void
base_cpu_print(const struct options *o, const double *from, const double *to)
{
	double all = 0;

	if (o->pid_count == 0)
		return;
	for (int i = 0; i < o->pid_count; i++)
		all += to[i] - from[i];
	printf(", \"cpu_seconds\": %.6f, \"cpu_by_pid\": {", all);
	for (int i = 0; i < o->pid_count; i++)
		printf("%s\"%d\": %.6f", i > 0 ? ", " : "", (int)o->pids[i],
		    to[i] - from[i]);
	putchar('}');
}
