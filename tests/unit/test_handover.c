/*
 * The handover between two processes, and between one and somebody who breaks
 * off or says something else.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "net/handover.h"
#include "net/loop.h"
#include "unit.h"

#define SOON (100 * MS)
#define LATER (20 * (uint64_t)SECOND)
#define FILES 3000
#define BATCH 200

/* As it goes over the socket. */
struct note {
	uint32_t format, word;
	uint64_t len, nfds;
};

enum { IMAGE = 100, FDS = 101, REFUSED = 102 };

static void
join(int pair[2], struct handover *h)
{
	CU_ASSERT_EQUAL_FATAL(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC,
				  0, pair),
	    0);
	*h = (struct handover){.fd = pair[0]};
}

static void
part(const int pair[2])
{
	close(pair[0]);
	close(pair[1]);
}

static int
status_of(pid_t child)
{
	int status;

	while (waitpid(child, &status, 0) < 0 && errno == EINTR)
		;
	return status;
}

/* One process to another. */

static int
file_of(unsigned i)
{
	int fd = memfd_create("test", MFD_CLOEXEC);

	if (fd < 0 || write(fd, &i, sizeof(i)) != sizeof(i))
		abort();
	return fd;
}

static struct image_writer
large_image(unsigned files)
{
	struct image_writer w = {0};
	unsigned i;

	for (i = 0; i < files; i++) {
		image_put(&w, i);
		image_put_fd(&w, file_of(i));
		image_put_bytes(&w, "some bytes of it", 16);
	}
	return w;
}

/* What is not right: a number for each. */
static int
check_image(struct handover *h, unsigned files)
{
	struct image_reader r;
	unsigned i, number;
	size_t len;
	int fd;

	if (handover_receive(h, &r, loop_clock() + LATER) < 0)
		return 1;
	if (r.nfds != files)
		return 2;
	for (i = 0; i < files; i++) {
		if (image_take(&r, UINT64_MAX) != i)
			return 3;
		fd = image_take_fd(&r);
		if (fd < 0 || pread(fd, &number, sizeof(i), 0) != sizeof(i) ||
		    number != i || fcntl(fd, F_GETFD) != FD_CLOEXEC)
			return 4;
		close(fd);
		if (memcmp(image_take_bytes(&r, &len), "some bytes of it",
			16) != 0)
			return 5;
	}
	if (r.failed || r.at != r.end)
		return 6;
	handover_release(&r);
	return handover_say(h, HANDOVER_TAKEN) < 0 ? 7 : 0;
}

static void
hand_over(unsigned files)
{
	struct image_writer w = large_image(files);
	struct handover h;
	int pair[2];
	pid_t child;
	size_t i;

	join(pair, &h);
	child = fork();
	if (child == 0) {
		close(pair[0]);
		h.fd = pair[1];
		for (i = 0; i < w.nfds; i++)
			close(w.fds[i]);
		_exit(check_image(&h, files));
	}
	close(pair[1]);
	CU_ASSERT_EQUAL(handover_send(&h, &w, loop_clock() + LATER), 0);
	CU_ASSERT_EQUAL(handover_await(&h, HANDOVER_TAKEN,
			    loop_clock() + LATER),
	    0);
	CU_ASSERT_EQUAL(status_of(child), 0);
	for (i = 0; i < w.nfds; i++)
		close(w.fds[i]);
	image_free(&w);
	close(pair[0]);
}

static void
test_two(void)
{
	unsigned before = unit_descriptors();
	struct rlimit limit;

	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
	hand_over(0);
	hand_over(1);
	hand_over(BATCH - 1);
	hand_over(BATCH);
	hand_over(BATCH + 1);
	if (limit.rlim_cur > 2 * FILES)
		hand_over(FILES);
	CU_ASSERT_EQUAL(unit_descriptors(), before);
}

/* What the other one says instead. */

static void
say(int fd, uint32_t format, uint32_t word, uint64_t len, uint64_t nfds,
    const int *fds, size_t n)
{
	struct note note = {format, word, len, nfds};
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(250 * sizeof(int))];
	} control = {0};
	struct iovec iov = {&note, sizeof(note)};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};

	if (n > 0) {
		m.msg_control = control.buf;
		m.msg_controllen = CMSG_SPACE(n * sizeof(int));
		CMSG_FIRSTHDR(&m)->cmsg_level = SOL_SOCKET;
		CMSG_FIRSTHDR(&m)->cmsg_type = SCM_RIGHTS;
		CMSG_FIRSTHDR(&m)->cmsg_len = CMSG_LEN(n * sizeof(int));
		memcpy(CMSG_DATA(CMSG_FIRSTHDR(&m)), fds, n * sizeof(int));
	}
	CU_ASSERT_EQUAL(sendmsg(fd, &m, 0), (ssize_t)sizeof(note));
}

/* Whether an image is refused, for that reason, with nothing left open. */
static void
refuses(struct handover *h, const char *why)
{
	struct image_reader r;

	CU_ASSERT_EQUAL(handover_receive(h, &r, loop_clock() + SOON), -1);
	CU_ASSERT_PTR_NOT_NULL_FATAL(strstr(h->error, why));
	handover_release(&r);
}

struct lie {
	uint32_t format, word;
	uint64_t len, nfds;
	size_t sent; /* descriptors beside it */
	uint64_t batch; /* what the next note says; 0: there is none */
	size_t in_batch; /* descriptors beside that */
	bool ends;
	const char *why;
};

static void
test_cut_short(void)
{
	static const struct lie lies[] = {
	    {1, IMAGE, 4, 0, 0, 0, 0, false, "no image"},
	    {1, IMAGE, 4, 0, 2, 0, 0, false, "no image"},
	    {1, IMAGE, 5, 0, 1, 0, 0, false, "cut"},
	    {1, IMAGE, UINT64_MAX, 0, 1, 0, 0, false, "cut"},
	    {1, IMAGE, 4, UINT64_MAX, 1, 0, 0, false, "no image"},
	    {1, HANDOVER_GO, 4, 0, 1, 0, 0, false, "no image"},
	    {1, FDS, 4, 0, 1, 0, 0, false, "no image"},
	    {0, IMAGE, 4, 0, 1, 0, 0, false, "format"},
	    {2, IMAGE, 4, 0, 1, 0, 0, false, "format"},
	    {1, REFUSED, 0, 0, 1, 0, 0, false, ""},
	    {1, IMAGE, 4, 3, 1, 0, 0, false, "in time"},
	    {1, IMAGE, 4, 3, 1, 0, 0, true, "ended"},
	    {1, IMAGE, 4, 3, 1, 2, 2, true, "ended"},
	    {1, IMAGE, 4, 3, 1, 2, 2, false, "in time"},
	    {1, IMAGE, 4, 3, 1, 3, 2, false, "missing"},
	    {1, IMAGE, 4, 3, 1, 3, 0, false, "missing"},
	    {1, IMAGE, 4, 3, 1, 2, 3, false, "missing"},
	    {1, IMAGE, 4, 3, 1, 4, 4, false, "too many"},
	    {1, IMAGE, 4, 3, 1, 250, 250, false, "descriptors"},
	};
	unsigned before = unit_descriptors();
	const struct lie *l;
	struct handover h;
	int fds[250], pair[2];
	size_t i;

	for (i = 0; i < 250; i++)
		fds[i] = file_of(7);
	for (l = lies; l < lies + sizeof(lies) / sizeof(lies[0]); l++) {
		join(pair, &h);
		say(pair[1], l->format, l->word, l->len, l->nfds, fds, l->sent);
		if (l->batch > 0)
			say(pair[1], 1, FDS, l->batch, 0, fds, l->in_batch);
		if (l->ends)
			shutdown(pair[1], SHUT_RDWR);
		refuses(&h, l->why);
		part(pair);
	}
	for (i = 0; i < 250; i++)
		close(fds[i]);
	CU_ASSERT_EQUAL(unit_descriptors(), before);
}

static void
test_short_note(void)
{
	struct note note = {1, HANDOVER_READY, 0, 0};
	struct handover h;
	int pair[2];
	size_t n;

	for (n = 1; n < sizeof(note); n++) {
		join(pair, &h);
		CU_ASSERT_EQUAL(send(pair[1], &note, n, 0), (ssize_t)n);
		CU_ASSERT_EQUAL(handover_await(&h, HANDOVER_READY,
				    loop_clock() + SOON),
		    -1);
		part(pair);
	}
}

static void
test_words(void)
{
	unsigned before = unit_descriptors();
	struct handover h, other;
	uint64_t began;
	int pair[2], fd;
	char why[1000];

	join(pair, &h);
	other = (struct handover){.fd = pair[1]};
	CU_ASSERT_EQUAL(handover_say(&other, HANDOVER_READY), 0);
	CU_ASSERT_EQUAL(handover_await(&h, HANDOVER_READY, 0), 0);
	/* Another word; and descriptors that nobody asked for. */
	CU_ASSERT_EQUAL(handover_say(&other, HANDOVER_READY), 0);
	CU_ASSERT_EQUAL(handover_await(&h, HANDOVER_TAKEN, 0), -1);
	fd = file_of(1);
	say(pair[1], 1, HANDOVER_TAKEN, 0, 0, &fd, 1);
	close(fd);
	CU_ASSERT_EQUAL(handover_await(&h, HANDOVER_TAKEN, 0), 0);
	/* Nothing, for as long as it may be. */
	began = loop_clock();
	CU_ASSERT_EQUAL(handover_await(&h, HANDOVER_TAKEN, began + SOON), -1);
	CU_ASSERT(loop_clock() - began >= SOON - MS);
	CU_ASSERT_STRING_EQUAL(h.error, "no answer in time");
	/* Why it cannot be. */
	handover_refuse(&other, "`name` needs a restart");
	CU_ASSERT_EQUAL(handover_await(&h, HANDOVER_TAKEN, 0), -1);
	CU_ASSERT_STRING_EQUAL(h.error, "`name` needs a restart");
	memset(why, 'x', sizeof(why));
	why[sizeof(why) - 1] = '\0';
	handover_refuse(&other, why);
	CU_ASSERT_EQUAL(handover_await(&h, HANDOVER_TAKEN, 0), -1);
	CU_ASSERT_EQUAL(strlen(h.error), HANDOVER_WHY_MAX - 1);
	close(pair[1]);
	CU_ASSERT_EQUAL(handover_await(&h, HANDOVER_TAKEN, 0), -1);
	CU_ASSERT_STRING_EQUAL(h.error, "the other process has ended");
	CU_ASSERT_EQUAL(handover_say(&h, HANDOVER_GO), -1);
	close(pair[0]);
	CU_ASSERT_EQUAL(unit_descriptors(), before);
}

/* It takes nothing: what does not fit is not waited for. */
static void
test_nobody_reads(void)
{
	struct image_writer w = {0};
	struct handover h;
	int pair[2], i, fd = file_of(3);
	uint64_t began;

	join(pair, &h);
	for (i = 0; i < 400000; i++)
		image_put_fd(&w, fd);
	began = loop_clock();
	CU_ASSERT_EQUAL(handover_send(&h, &w, began + SOON), -1);
	CU_ASSERT_PTR_NOT_NULL(h.error);
	CU_ASSERT(loop_clock() - began < LATER);
	/* An image that could not be made is not sent at all. */
	w.failed = true;
	CU_ASSERT_EQUAL(handover_send(&h, &w, loop_clock() + SOON), -1);
	CU_ASSERT_STRING_EQUAL(h.error, "out of memory");
	image_free(&w);
	close(fd);
	part(pair);
}

/* Programs. */

static int
try_program(const char *path, const char *argument, char *error)
{
	char *argv[] = {(char *)path, (char *)argument, NULL};
	struct handover h;
	int result;

	handover_remember(2, argv);
	result = handover_begin(&h);
	if (result == 0)
		handover_await(&h, HANDOVER_READY, loop_clock() + SOON);
	snprintf(error, 200, "%s", h.error);
	return result < 0 ? -1 : handover_abandon(&h);
}

static void
test_programs(void)
{
	unsigned before = unit_descriptors();
	char error[200];
	int status;

	CU_ASSERT_EQUAL(try_program("/nowhere/at/all", NULL, error), -1);
	CU_ASSERT_STRING_EQUAL(error, strerror(ENOENT));
	CU_ASSERT_EQUAL(try_program("/etc/passwd", NULL, error), -1);
	CU_ASSERT_STRING_EQUAL(error, strerror(EACCES));
	status = try_program("/bin/false", NULL, error);
	/* By itself, unless it was too slow for that. */
	CU_ASSERT((WIFEXITED(status) && WEXITSTATUS(status) == 1) ||
	    WIFSIGNALED(status));
	status = try_program("/bin/sleep", "60", error);
	CU_ASSERT(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	CU_ASSERT_STRING_EQUAL(error, "no answer in time");
	/* As a shell would find it. */
	status = try_program("sleep", "60", error);
	CU_ASSERT(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	CU_ASSERT_EQUAL(unit_descriptors(), before);
	CU_ASSERT_EQUAL(waitpid(-1, NULL, WNOHANG), -1);
}

static const struct unit_test tests[] = {
    {"two processes", test_two},
    {"cut short", test_cut_short},
    {"short note", test_short_note},
    {"words", test_words},
    {"nobody reads", test_nobody_reads},
    {"programs", test_programs},
    {NULL, NULL},
};

const struct unit_suite suite_handover = {"handover", tests};
