#include "base/state_dir.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/decimal.h"

#define LOCK "lock"
#define INSTANCE "instance"
#define INSTANCE_NEW "instance.new"

#define ID_DIGITS (2 * STATE_DIR_ID_SIZE)
/* Two lines, the second of at most 20 digits, and a NUL. */
#define INSTANCE_SIZE (ID_DIGITS + 1 + 20 + 1 + 1)

__attribute__((format(printf, 3, 4))) static int
fail(char *error, size_t size, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(error, size, format, arguments);
	va_end(arguments);
	return -1;
}

static int
fail_to_open(const struct state_dir *s, char *error, size_t size)
{
	return fail(error, size,
	    "%s: %s; set `state_dir` to a directory that this user can write",
	    s->path, strerror(errno));
}

static int
fail_at_file(const struct state_dir *s, const char *name, char *error,
    size_t size)
{
	return fail(error, size, "%s/%s: %s", s->path, name, strerror(errno));
}

/* An absolute path from the environment, or NULL. */
static const char *
directory_of(const char *variable)
{
	const char *path = getenv(variable);

	return path != NULL && path[0] == '/' ? path : NULL;
}

/* Into s->path, without slashes at its end. */
static int
find_path(struct state_dir *s, const char *configured, char *error, size_t size)
{
	const char *base, *below = "";
	size_t len;
	int n;

	if (configured != NULL)
		base = configured;
	else if (geteuid() == 0)
		base = "/var/lib/port-proxy";
	else if ((base = directory_of("XDG_STATE_HOME")) != NULL)
		below = "/port-proxy";
	else if ((base = directory_of("HOME")) != NULL)
		below = "/.local/state/port-proxy";
	else
		return fail(error, size,
		    "neither XDG_STATE_HOME nor HOME says where to keep "
		    "state; set `state_dir`");
	n = snprintf(s->path, sizeof(s->path), "%s%s", base, below);
	if (n < 0 || (size_t)n >= sizeof(s->path))
		return fail(error, size,
		    "the path of the state directory is too long; "
		    "set `state_dir`");
	for (len = (size_t)n; len > 1 && s->path[len - 1] == '/'; len--)
		s->path[len - 1] = '\0';
	return 0;
}

/* 0, or -1 with errno. */
static int
make_directories(char *path)
{
	char *slash;
	int made;

	for (slash = strchr(path + 1, '/'); slash != NULL;
	     slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		made = mkdir(path, 0755);
		*slash = '/';
		if (made < 0 && errno != EEXIST)
			return -1;
	}
	return mkdir(path, 0700) < 0 && errno != EEXIST ? -1 : 0;
}

static int
open_directory(struct state_dir *s, const char *configured, char *error,
    size_t size)
{
	const int flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC;

	if (find_path(s, configured, error, size) < 0)
		return -1;
	s->fd = open(s->path, flags);
	if (s->fd < 0 && errno == ENOENT && make_directories(s->path) == 0)
		s->fd = open(s->path, flags);
	return s->fd >= 0 ? 0 : fail_to_open(s, error, size);
}

/* One that has it already gets it again. */
static int
take_lock(const struct state_dir *s, int lock, char *error, size_t size)
{
	if (flock(lock, LOCK_EX | LOCK_NB) == 0)
		return 0;
	if (errno != EWOULDBLOCK)
		return fail_at_file(s, LOCK, error, size);
	return fail(error, size,
	    "%s: another proxy-server uses it; "
	    "set `state_dir` to another directory",
	    s->path);
}

int
state_dir_open(struct state_dir *s, const char *configured, char *error,
    size_t size)
{
	if (open_directory(s, configured, error, size) < 0)
		goto err0;
	s->lock = openat(s->fd, LOCK, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC,
	    0600);
	if (s->lock < 0) {
		fail_to_open(s, error, size);
		goto err1;
	}
	if (take_lock(s, s->lock, error, size) < 0)
		goto err2;
	return 0;

err2:
	close(s->lock);
err1:
	close(s->fd);
err0:
	return -1;
}

static bool
is_lock_of(const struct state_dir *s, int lock)
{
	struct stat given, there;

	return fstat(lock, &given) == 0 &&
	    fstatat(s->fd, LOCK, &there, AT_SYMLINK_NOFOLLOW) == 0 &&
	    given.st_dev == there.st_dev && given.st_ino == there.st_ino;
}

int
state_dir_adopt(struct state_dir *s, const char *configured, int lock,
    char *error, size_t size)
{
	if (open_directory(s, configured, error, size) < 0)
		goto err0;
	if (!is_lock_of(s, lock)) {
		fail(error, size,
		    "%s: the proxy-server before this one used another "
		    "directory; to change `state_dir`, stop that one first",
		    s->path);
		goto err1;
	}
	if (take_lock(s, lock, error, size) < 0)
		goto err1;
	/* It came through an exec; it goes through the next one if asked. */
	if (fcntl(lock, F_SETFD, FD_CLOEXEC) < 0) {
		fail_at_file(s, LOCK, error, size);
		goto err1;
	}
	s->lock = lock;
	return 0;

err1:
	close(s->fd);
err0:
	return -1;
}

bool
state_dir_is(const struct state_dir *s, const char *configured)
{
	struct state_dir other;
	char error[1];

	return find_path(&other, configured, error, sizeof(error)) == 0 &&
	    strcmp(other.path, s->path) == 0;
}

static int
digit_value(char c)
{
	return c >= '0' && c <= '9' ? c - '0' :
	    c >= 'a' && c <= 'f'    ? c - 'a' + 10 :
				      -1;
}

/* False: it is not what write_instance() writes. */
static bool
parse_instance(const char *text, size_t len, uint8_t *id, uint64_t *last)
{
	int high, low;
	size_t i;

	if (len < ID_DIGITS + 3 || text[ID_DIGITS] != '\n' ||
	    text[len - 1] != '\n')
		return false;
	for (i = 0; i < STATE_DIR_ID_SIZE; i++) {
		high = digit_value(text[2 * i]);
		low = digit_value(text[2 * i + 1]);
		if (high < 0 || low < 0)
			return false;
		id[i] = (uint8_t)(high << 4 | low);
	}
	/* One less than the largest: there has to be a next one. */
	return decimal_parse(text + ID_DIGITS + 1, len - ID_DIGITS - 2,
		   UINT64_MAX - 1, last) == 0;
}

/* 1: it was read; 0: there is none; -1: error is set. */
static int
read_instance(const struct state_dir *s, uint8_t *id, uint64_t *last,
    char *error, size_t size)
{
	/* Whatever it is, opening and reading it does not block. */
	int fd = openat(s->fd, INSTANCE, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	char text[INSTANCE_SIZE];
	ssize_t len;

	if (fd < 0 && errno == ENOENT)
		return 0;
	if (fd < 0)
		return fail_at_file(s, INSTANCE, error, size);
	len = read(fd, text, sizeof(text));
	if (len < 0)
		fail_at_file(s, INSTANCE, error, size);
	close(fd);
	if (len < 0)
		return -1;
	if (!parse_instance(text, (size_t)len, id, last))
		return fail(error, size,
		    "%s/%s: damaged; delete it to have a new identity made",
		    s->path, INSTANCE);
	return 1;
}

/* 0, or -1 with errno. */
static int
write_new(const struct state_dir *s, const char *text, size_t len)
{
	int fd, saved;
	ssize_t n;

	fd = openat(s->fd, INSTANCE_NEW,
	    O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return -1;
	n = write(fd, text, len);
	if (n >= 0 && (size_t)n < len) {
		errno = ENOSPC;
		n = -1;
	}
	if (n < 0 || fsync(fd) < 0) {
		saved = errno;
		close(fd);
		errno = saved;
		return -1;
	}
	return close(fd);
}

/* All of it or nothing, whenever the power goes.  0, or -1 with errno. */
static int
write_instance(const struct state_dir *s, const uint8_t *id, uint64_t start)
{
	char text[INSTANCE_SIZE];
	size_t i;
	int n;

	for (i = 0; i < STATE_DIR_ID_SIZE; i++)
		snprintf(text + 2 * i, 3, "%02x", id[i]);
	n = snprintf(text + ID_DIGITS, sizeof(text) - ID_DIGITS,
	    "\n%" PRIu64 "\n", start);
	if (write_new(s, text, ID_DIGITS + (size_t)n) < 0 ||
	    renameat(s->fd, INSTANCE_NEW, s->fd, INSTANCE) < 0)
		return -1;
	return fsync(s->fd);
}

int
state_dir_identity(struct state_dir *s, uint8_t id[STATE_DIR_ID_SIZE],
    uint64_t *start, uint64_t now_us, char *error, size_t size)
{
	uint8_t known[STATE_DIR_ID_SIZE] = {0};
	uint64_t last = 0, next;
	int there;

	there = read_instance(s, known, &last, error, size);
	if (there < 0)
		return -1;
	if (there == 0 &&
	    getrandom(known, sizeof(known), 0) != (ssize_t)sizeof(known))
		return fail(error, size, "%s/%s: no random bytes: %s", s->path,
		    INSTANCE, strerror(errno));
	next = now_us > last ? now_us : last + 1;
	if (write_instance(s, known, next) < 0)
		return fail_at_file(s, INSTANCE_NEW, error, size);
	memcpy(id, known, sizeof(known));
	*start = next;
	return 0;
}

void
state_dir_close(struct state_dir *s)
{
	close(s->lock);
	close(s->fd);
}
