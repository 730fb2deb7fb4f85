#include "net/handover.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/daemon.h"
#include "net/loop.h"

#define VARIABLE "PORT_PROXY_HANDOVER"
#define CHILD_FD 3
#define FDS_BATCH 200 /* of SCM_MAX_FD, 253 */
#define BUSY_TRIES 50
#define BUSY_PAUSE_US 20000

extern char **environ;

/* What goes over the socket, with descriptors beside it. */
struct note {
	uint32_t format;
	uint32_t word; /* enum handover_word, or one of these */
	uint64_t len; /* of an image; descriptors of a batch */
	uint64_t nfds;
};

enum { NOTE_IMAGE = 100, NOTE_FDS, NOTE_REFUSED };

static struct {
	char path[PATH_MAX];
	char **argv;
} started;

/* Where the shell found it, not where that leads: links are changed too. */
static void
find_path(const char *name)
{
	char directory[PATH_MAX], *paths, *rest, *p;
	ssize_t n;

	if (name[0] == '/') {
		snprintf(started.path, sizeof(started.path), "%s", name);
		return;
	}
	if (strchr(name, '/') != NULL && getcwd(directory, PATH_MAX) != NULL) {
		if (strlen(directory) + strlen(name) + 2 <= PATH_MAX)
			stpcpy(stpcpy(stpcpy(started.path, directory), "/"),
			    name);
		return;
	}
	paths = getenv("PATH");
	if (paths != NULL)
		paths = strdup(paths);
	rest = paths;
	while ((p = strsep(&rest, ":")) != NULL && started.path[0] == '\0') {
		snprintf(directory, sizeof(directory), "%s/%s", p, name);
		if (*p != '\0' && access(directory, X_OK) == 0)
			strcpy(started.path, directory);
	}
	free(paths);
	if (started.path[0] != '\0')
		return;
	n = readlink("/proc/self/exe", started.path, PATH_MAX - 1);
	started.path[n > 0 ? n : 0] = '\0';
}

void
handover_remember(int argc, char **argv)
{
	(void)argc;
	started.argv = argv;
	started.path[0] = '\0';
	find_path(argv[0]);
}

static int
fail(struct handover *h, const char *error)
{
	h->error = error;
	return -1;
}

/* The environment, and the variable that tells the new process. */
static char **
environment(void)
{
	size_t n = 0, i, k = 0;
	char **copy;

	while (environ[n] != NULL)
		n++;
	copy = calloc(n + 2, sizeof(*copy));
	if (copy == NULL)
		return NULL;
	for (i = 0; i < n; i++)
		if (strncmp(environ[i], VARIABLE "=", sizeof(VARIABLE)) != 0 &&
		    strncmp(environ[i], "LISTEN_", 7) != 0)
			copy[k++] = environ[i];
	copy[k] = (char *)VARIABLE "=3";
	return copy;
}

static int
spawn(pid_t *child, int fd)
{
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attributes;
	char **env = environment();
	sigset_t ours, usual;
	int error;

	if (env == NULL)
		return ENOMEM;
	/* It looks at them when it serves: none of them may end it before. */
	daemon_signals(&ours);
	sigemptyset(&usual);
	sigaddset(&usual, SIGPIPE);
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, fd, CHILD_FD);
	posix_spawnattr_init(&attributes);
	posix_spawnattr_setsigmask(&attributes, &ours);
	posix_spawnattr_setsigdefault(&attributes, &usual);
	posix_spawnattr_setflags(&attributes,
	    POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
	error = posix_spawn(child, started.path, &actions, &attributes,
	    started.argv, env);
	posix_spawn_file_actions_destroy(&actions);
	posix_spawnattr_destroy(&attributes);
	free(env);
	return error;
}

int
handover_begin(struct handover *h)
{
	int pair[2], high, error, tries;

	*h = (struct handover){.fd = -1};
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return fail(h, strerror(errno));
	/* dup2() of a descriptor onto itself would leave it close-on-exec. */
	high = fcntl(pair[1], F_DUPFD_CLOEXEC, CHILD_FD + 1);
	close(pair[1]);
	if (high < 0) {
		close(pair[0]);
		return fail(h, strerror(errno));
	}
	/* Whoever put it there may not have closed it yet. */
	for (tries = 0;
	     (error = spawn(&h->child, high)) == ETXTBSY && tries < BUSY_TRIES;
	     tries++)
		usleep(BUSY_PAUSE_US);
	close(high);
	if (error != 0) {
		close(pair[0]);
		h->child = 0;
		return fail(h, strerror(error));
	}
	h->fd = pair[0];
	return 0;
}

int
handover_abandon(struct handover *h)
{
	int status = 0;

	if (h->fd >= 0)
		close(h->fd);
	h->fd = -1;
	if (h->child <= 0)
		return 0;
	/* One that is about to end keeps its own status. */
	kill(h->child, SIGKILL);
	while (waitpid(h->child, &status, 0) < 0 && errno == EINTR)
		;
	h->child = 0;
	return status;
}

bool
handover_inherited(struct handover *h)
{
	*h = (struct handover){.fd = -1};
	if (getenv(VARIABLE) == NULL)
		return false;
	unsetenv(VARIABLE);
	h->fd = CHILD_FD;
	fcntl(h->fd, F_SETFD, FD_CLOEXEC);
	return true;
}

/* Whether it can be read or written before the deadline. */
static bool
wait_for(const struct handover *h, short events, uint64_t deadline)
{
	struct pollfd p = {.fd = h->fd, .events = events};
	uint64_t now = loop_clock();
	int ms = -1;

	if (deadline != UINT64_MAX)
		ms = deadline > now ? (int)((deadline - now + 999) / 1000) : 0;
	return poll(&p, 1, ms) > 0;
}

/* Descriptors beside it, or a text behind it. */
static int
put_note(struct handover *h, const struct note *note, const int *fds, size_t n,
    const char *text, uint64_t deadline)
{
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(FDS_BATCH * sizeof(int))];
	} control = {0};
	size_t len = text != NULL ? strlen(text) : 0;
	struct iovec iov[2] = {
	    {(void *)note, sizeof(*note)},
	    {(void *)text, len},
	};
	struct msghdr m = {.msg_iov = iov, .msg_iovlen = 2};
	struct cmsghdr *c;

	if (n > 0) {
		m.msg_control = control.buf;
		m.msg_controllen = CMSG_SPACE(n * sizeof(int));
		c = CMSG_FIRSTHDR(&m);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(n * sizeof(int));
		memcpy(CMSG_DATA(c), fds, n * sizeof(int));
	}
	if (!wait_for(h, POLLOUT, deadline))
		return fail(h, "the new process does not read");
	if (sendmsg(h->fd, &m, MSG_NOSIGNAL) < 0)
		return fail(h,
		    errno == EPIPE || errno == ECONNRESET ?
			"the other process has ended" :
			strerror(errno));
	return 0;
}

/* What nobody asked for is not kept. */
static void
drop_fds(const int *fds, size_t n)
{
	while (n > 0)
		close(fds[--n]);
}

/* What there is to object to in a note; NULL: nothing. */
static const char *
fault_of(struct handover *h, const struct note *note, ssize_t size, int flags)
{
	size_t len;

	if (size < (ssize_t)sizeof(*note))
		return "the other process has ended";
	if ((flags & MSG_CTRUNC) != 0)
		return "out of descriptors";
	if (note->format != HANDOVER_FORMAT)
		return "the other process has another state format";
	if (note->word != NOTE_REFUSED)
		return NULL;
	len = (size_t)size - sizeof(*note);
	h->why[len < sizeof(h->why) ? len : sizeof(h->why) - 1] = '\0';
	return h->why;
}

/* Descriptors go to fds[0..*n); at most FDS_BATCH. */
static int
get_note(struct handover *h, struct note *note, int *fds, size_t *n,
    uint64_t deadline)
{
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(FDS_BATCH * sizeof(int))];
	} control;
	struct iovec iov[2] = {
	    {note, sizeof(*note)},
	    {h->why, sizeof(h->why) - 1},
	};
	struct msghdr m = {
	    .msg_iov = iov,
	    .msg_iovlen = 2,
	    .msg_control = control.buf,
	    .msg_controllen = sizeof(control.buf),
	};
	const char *fault;
	struct cmsghdr *c;
	ssize_t size;

	*n = 0;
	if (!wait_for(h, POLLIN, deadline))
		return fail(h, "no answer in time");
	size = recvmsg(h->fd, &m, MSG_CMSG_CLOEXEC);
	c = size < 0 ? NULL : CMSG_FIRSTHDR(&m);
	if (c != NULL && c->cmsg_type == SCM_RIGHTS) {
		*n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		memcpy(fds, CMSG_DATA(c), *n * sizeof(int));
	}
	fault = fault_of(h, note, size, m.msg_flags);
	if (fault == NULL)
		return 0;
	drop_fds(fds, *n);
	*n = 0;
	return fail(h, fault);
}

int
handover_say(struct handover *h, enum handover_word word)
{
	struct note note = {.format = HANDOVER_FORMAT, .word = word};

	return put_note(h, &note, NULL, 0, NULL, loop_clock() + SECOND);
}

void
handover_refuse(struct handover *h, const char *why)
{
	struct note note = {.format = HANDOVER_FORMAT, .word = NOTE_REFUSED};

	put_note(h, &note, NULL, 0, why, loop_clock() + SECOND);
}

int
handover_await(struct handover *h, enum handover_word word, uint64_t deadline)
{
	int fds[FDS_BATCH];
	struct note note;
	size_t n;

	if (get_note(h, &note, fds, &n, deadline) < 0)
		return -1;
	drop_fds(fds, n);
	return note.word == word ? 0 : fail(h, "an answer out of turn");
}

/*
 * A descriptor of the memory file of an image, of which no more than the image
 * is left.
 */
static int
file_of(const struct image_writer *w)
{
	int fd;

	if (w->data == NULL)
		return memfd_create("port-proxy state", MFD_CLOEXEC);
	fd = fcntl(w->fd, F_DUPFD_CLOEXEC, 0);
	if (fd >= 0 && ftruncate(fd, (off_t)w->len) < 0) {
		close(fd);
		return -1;
	}
	return fd;
}

int
handover_send(struct handover *h, const struct image_writer *w,
    uint64_t deadline)
{
	struct note note = {HANDOVER_FORMAT, NOTE_IMAGE, w->len, w->nfds};
	size_t done, part;
	int fd, result;

	if (w->failed)
		return fail(h, "out of memory");
	fd = file_of(w);
	if (fd < 0)
		return fail(h, strerror(errno));
	result = put_note(h, &note, &fd, 1, NULL, deadline);
	close(fd);
	note.word = NOTE_FDS;
	for (done = 0; result == 0 && done < w->nfds; done += part) {
		part = w->nfds - done < FDS_BATCH ? w->nfds - done : FDS_BATCH;
		note.len = part;
		result =
		    put_note(h, &note, w->fds + done, part, NULL, deadline);
	}
	return result;
}

static int
receive_fds(struct handover *h, struct image_reader *r, size_t all,
    uint64_t deadline)
{
	struct note note;
	size_t n;

	r->fds = calloc(all + FDS_BATCH, sizeof(*r->fds));
	if (r->fds == NULL)
		return fail(h, "out of memory");
	for (r->nfds = 0; r->nfds < all; r->nfds += n) {
		if (get_note(h, &note, r->fds + r->nfds, &n, deadline) < 0)
			return -1;
		if (note.word != NOTE_FDS || n != note.len || n == 0) {
			drop_fds(r->fds + r->nfds, n);
			return fail(h, "descriptors are missing");
		}
	}
	return r->nfds == all ? 0 : fail(h, "too many descriptors");
}

/* The image of a memory file, which was checked for being one. */
static int
map_image(struct handover *h, struct image_reader *r, int fd, uint64_t len)
{
	struct stat file;
	void *data;

	if (fstat(fd, &file) < 0 || (uint64_t)file.st_size < len)
		return fail(h, "the image is cut");
	if (len == 0)
		return 0;
	data = mmap(NULL, len, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0);
	if (data == MAP_FAILED)
		return fail(h, strerror(errno));
	r->begin = r->at = data;
	r->end = r->at + len;
	return 0;
}

int
handover_receive(struct handover *h, struct image_reader *r, uint64_t deadline)
{
	int fds[FDS_BATCH], result;
	struct note note;
	size_t n;

	*r = (struct image_reader){0};
	if (get_note(h, &note, fds, &n, deadline) < 0)
		return -1;
	if (note.word != NOTE_IMAGE || n != 1 || note.nfds > HANDOVER_FDS_MAX)
		result = fail(h, "no image");
	else
		result = map_image(h, r, fds[0], note.len);
	drop_fds(fds, n);
	return result < 0 ? -1 : receive_fds(h, r, note.nfds, deadline);
}

void
handover_release(struct image_reader *r)
{
	size_t i;

	if (r->begin != NULL)
		munmap((void *)r->begin, (size_t)(r->end - r->begin));
	for (i = 0; i < r->nfds; i++)
		if (r->fds[i] >= 0)
			close(r->fds[i]);
	free(r->fds);
	*r = (struct image_reader){0};
}
