/*
 * The state directory, in directories below one of its own in /tmp.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/state_dir.h"
#include "unit.h"

#define NOBODY 65534
#define NOW UINT64_C(1800000000000000)

static char base[64], dir[128], error[1024];

/* dir is then "a/b" below it, which is not there. */
static void
begin(void)
{
	snprintf(base, sizeof(base), "/tmp/port-proxy-state-XXXXXX");
	CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(base));
	snprintf(dir, sizeof(dir), "%s/a/b", base);
	error[0] = '\0';
}

static void
end(void)
{
	char command[128];

	snprintf(command, sizeof(command), "rm -rf %s", base);
	CU_ASSERT_EQUAL(system(command), 0);
}

static int
open_it(struct state_dir *s)
{
	return state_dir_open(s, dir, error, sizeof(error));
}

static int
identity(struct state_dir *s, uint8_t *id, uint64_t *start, uint64_t now)
{
	return state_dir_identity(s, id, start, now, error, sizeof(error));
}

/* The error is "DIR" with name behind it, ": " and text. */
static void
check_error(const char *name, const char *text)
{
	char expected[512];

	snprintf(expected, sizeof(expected), "%s%s: %s", dir, name, text);
	CU_ASSERT_STRING_EQUAL(error, expected);
}

static mode_t
mode_of(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 ? st.st_mode & 07777 : 0;
}

static void
write_file(const char *name, const void *text, size_t len)
{
	char path[256];
	FILE *file;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	file = fopen(path, "w");
	CU_ASSERT_PTR_NOT_NULL_FATAL(file);
	CU_ASSERT_EQUAL(fwrite(text, 1, len, file), len);
	fclose(file);
}

/* Into text, which has room for 256 bytes; its length. */
static size_t
read_instance(char *text)
{
	char path[256];
	size_t len = 0;
	FILE *file;

	snprintf(path, sizeof(path), "%s/instance", dir);
	file = fopen(path, "r");
	if (file != NULL) {
		len = fread(text, 1, 255, file);
		fclose(file);
	}
	text[len] = '\0';
	return len;
}

static void
test_made(void)
{
	static const uint8_t zero[STATE_DIR_ID_SIZE];
	uint8_t id[STATE_DIR_ID_SIZE] = {0};
	char text[256], parent[128];
	struct state_dir s;
	uint64_t start;
	mode_t mask;

	begin();
	mask = umask(022);
	CU_ASSERT_EQUAL_FATAL(open_it(&s), 0);
	umask(mask);
	CU_ASSERT_STRING_EQUAL(s.path, dir);
	snprintf(parent, sizeof(parent), "%s/a", base);
	CU_ASSERT_EQUAL(mode_of(parent), 0755);
	CU_ASSERT_EQUAL(mode_of(dir), 0700);
	CU_ASSERT_EQUAL(read_instance(text), 0);
	CU_ASSERT_EQUAL(identity(&s, id, &start, NOW), 0);
	CU_ASSERT_EQUAL(start, NOW);
	CU_ASSERT_NOT_EQUAL(memcmp(id, zero, sizeof(id)), 0);
	CU_ASSERT_EQUAL(read_instance(text), 32 + 1 + 16 + 1);
	CU_ASSERT_STRING_EQUAL(text + 32, "\n1800000000000000\n");
	CU_ASSERT_EQUAL(strspn(text, "0123456789abcdef"), 32);
	state_dir_close(&s);
	end();
}

/* Another directory is another proxy-server. */
static void
test_reopened(void)
{
	uint8_t id[3][STATE_DIR_ID_SIZE];
	struct state_dir s;
	uint64_t start;
	unsigned i;

	begin();
	for (i = 0; i < 3; i++) {
		CU_ASSERT_EQUAL_FATAL(open_it(&s), 0);
		CU_ASSERT_EQUAL(identity(&s, id[i], &start, NOW + i), 0);
		CU_ASSERT_EQUAL(start, NOW + i);
		state_dir_close(&s);
		if (i == 1)
			strcat(dir, "2");
	}
	CU_ASSERT_EQUAL(memcmp(id[0], id[1], sizeof(id[0])), 0);
	CU_ASSERT_NOT_EQUAL(memcmp(id[0], id[2], sizeof(id[0])), 0);
	end();
}

/* Slashes more than there need to be are no other directory. */
static void
test_slashes(void)
{
	char other[256];
	struct state_dir s;

	begin();
	snprintf(other, sizeof(other), "%s//a///b//", base);
	CU_ASSERT_EQUAL_FATAL(state_dir_open(&s, other, error, sizeof(error)),
	    0);
	CU_ASSERT_EQUAL(mode_of(dir), 0700);
	CU_ASSERT_EQUAL(s.path[strlen(s.path) - 1], 'b');
	state_dir_close(&s);
	end();
}

static void
test_start_rises(void)
{
	static const uint64_t clock[] = {NOW, NOW, NOW - 1000, 0, NOW + 2,
	    NOW + 100, UINT64_MAX - 2, NOW};
	static const uint64_t want[] = {NOW, NOW + 1, NOW + 2, NOW + 3, NOW + 4,
	    NOW + 100, UINT64_MAX - 2, UINT64_MAX - 1};
	uint8_t id[STATE_DIR_ID_SIZE];
	struct state_dir s;
	uint64_t start;
	size_t i;
	int rc;

	begin();
	for (i = 0; i < sizeof(clock) / sizeof(clock[0]); i++) {
		CU_ASSERT_EQUAL_FATAL(open_it(&s), 0);
		rc = identity(&s, id, &start, clock[i]);
		CU_ASSERT_EQUAL(rc, 0);
		CU_ASSERT_EQUAL(start, want[i]);
		state_dir_close(&s);
	}
	end();
}

static void
test_locked(void)
{
	struct state_dir s, second;

	begin();
	CU_ASSERT_EQUAL_FATAL(open_it(&s), 0);
	CU_ASSERT_EQUAL(open_it(&second), -1);
	check_error("",
	    "another proxy-server uses it; "
	    "set `state_dir` to another directory");
	state_dir_close(&s);
	CU_ASSERT_EQUAL_FATAL(open_it(&second), 0);
	state_dir_close(&second);
	end();
}

static const char *const damaged[] = {
    "",
    "\n",
    "00112233445566778899aabbccddeeff",
    "00112233445566778899aabbccddeeff\n",
    "00112233445566778899aabbccddeeff\n\n",
    "00112233445566778899aabbccddeeff\n1",
    "00112233445566778899aabbccddeef\n11\n",
    "00112233445566778899aabbccddeeff 1\n",
    "00112233445566778899aabbccddeeff\n-1\n",
    "00112233445566778899aabbccddeeff\n1 \n",
    "00112233445566778899aabbccddeeff\n1\n\n",
    "00112233445566778899aabbccddeeff\n1\n2\n",
    "00112233445566778899aabbccddeeff\n18446744073709551615\n",
    "00112233445566778899aabbccddeeff\n18446744073709551616\n",
    "00112233445566778899aabbccddeeff\n00000000000000000000000001\n",
    "00112233445566778899aabbccddeefg\n1\n",
    "00112233445566778899AABBCCDDEEFF\n1\n",
    " 0112233445566778899aabbccddeeff\n1\n",
};

/* Refused, and left as it is. */
static void
check_damaged(struct state_dir *s, const char *text, size_t len)
{
	uint8_t id[STATE_DIR_ID_SIZE] = {42};
	uint64_t start = 42;
	char after[256];

	write_file("instance", text, len);
	error[0] = '\0';
	CU_ASSERT_EQUAL(identity(s, id, &start, NOW), -1);
	check_error("/instance",
	    "damaged; delete it to have a new identity made");
	CU_ASSERT(id[0] == 42 && start == 42);
	CU_ASSERT_EQUAL(read_instance(after), len);
	CU_ASSERT_EQUAL(memcmp(after, text, len), 0);
}

static void
test_damaged(void)
{
	uint8_t id[STATE_DIR_ID_SIZE] = {42};
	char text[256], path[256];
	struct state_dir s;
	uint64_t start;
	size_t i, len;

	begin();
	CU_ASSERT_EQUAL_FATAL(open_it(&s), 0);
	for (i = 0; i < sizeof(damaged) / sizeof(damaged[0]); i++)
		check_damaged(&s, damaged[i], strlen(damaged[i]));
	/* What is right, cut anywhere, or with one byte as no one writes it. */
	snprintf(text, sizeof(text), "00112233445566778899aabbccddeeff\n7\n");
	len = strlen(text);
	for (i = 0; i < len; i++)
		check_damaged(&s, text, i);
	for (i = 0; i < len; i++) {
		text[i] ^= 0x80;
		check_damaged(&s, text, len);
		text[i] ^= 0x80;
	}
	write_file("instance", text, len);
	CU_ASSERT_EQUAL(identity(&s, id, &start, 1), 0);
	CU_ASSERT(id[0] == 0x00 && id[1] == 0x11 && id[15] == 0xff);
	CU_ASSERT_EQUAL(start, 8);
	/* The way out that the error names. */
	check_damaged(&s, "?", 1);
	snprintf(path, sizeof(path), "%s/instance", dir);
	CU_ASSERT_EQUAL(unlink(path), 0);
	CU_ASSERT_EQUAL(identity(&s, id, &start, 1), 0);
	CU_ASSERT_EQUAL(start, 1);
	state_dir_close(&s);
	end();
}

/* What it would replace stays when the new one cannot be written. */
static void
test_not_written(void)
{
	uint8_t id[STATE_DIR_ID_SIZE], again[STATE_DIR_ID_SIZE];
	struct state_dir s;
	uint64_t start;
	char path[256];

	begin();
	CU_ASSERT_EQUAL_FATAL(open_it(&s), 0);
	CU_ASSERT_EQUAL(identity(&s, id, &start, NOW), 0);
	snprintf(path, sizeof(path), "%s/instance.new", dir);
	CU_ASSERT_EQUAL(mkdir(path, 0700), 0);
	CU_ASSERT_EQUAL(identity(&s, again, &start, NOW), -1);
	check_error("/instance.new", "Is a directory");
	CU_ASSERT_EQUAL(rmdir(path), 0);
	/* As a process that was killed in between leaves it. */
	write_file("instance.new", "half of somethi", 15);
	CU_ASSERT_EQUAL(identity(&s, again, &start, NOW), 0);
	CU_ASSERT_EQUAL(memcmp(id, again, sizeof(id)), 0);
	CU_ASSERT_EQUAL(start, NOW + 1);
	CU_ASSERT_EQUAL(access(path, F_OK), -1);
	/* `instance` is no file. */
	snprintf(path, sizeof(path), "%s/instance", dir);
	CU_ASSERT_EQUAL(unlink(path), 0);
	CU_ASSERT_EQUAL(mkfifo(path, 0600), 0);
	CU_ASSERT_EQUAL(identity(&s, again, &start, NOW), -1);
	check_error("/instance",
	    "damaged; delete it to have a new identity made");
	state_dir_close(&s);
	end();
}

/* Run test in a process without root's rights; its exit code. */
static int
unprivileged(int (*test)(void))
{
	int status = -1;
	pid_t pid = fork();

	if (pid == 0) {
		if (geteuid() == 0 && setresuid(NOBODY, NOBODY, NOBODY) < 0)
			_exit(100);
		_exit(test());
	}
	waitpid(pid, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static int
open_unwritable(void)
{
	struct state_dir s;
	char want[512];

	snprintf(want, sizeof(want),
	    "%s: Permission denied; set `state_dir` to a directory that "
	    "this user can write",
	    dir);
	if (open_it(&s) == 0)
		return 1;
	return strcmp(error, want) == 0 ? 0 : 2;
}

static void
test_unwritable(void)
{
	struct state_dir s;

	begin();
	/* It cannot be made; then it is there, but not for this user. */
	CU_ASSERT_EQUAL(chmod(base, 0555), 0);
	CU_ASSERT_EQUAL(unprivileged(open_unwritable), 0);
	CU_ASSERT_EQUAL(chmod(base, 0755), 0);
	CU_ASSERT_EQUAL_FATAL(open_it(&s), 0);
	state_dir_close(&s);
	CU_ASSERT_EQUAL(chmod(dir, 0555), 0);
	if (geteuid() == 0)
		CU_ASSERT_EQUAL(unprivileged(open_unwritable), 0);
	CU_ASSERT_EQUAL(chmod(dir, 0700), 0);
	/* What it would be in is no directory. */
	write_file("file", "", 0);
	strcat(dir, "/file/c");
	CU_ASSERT_EQUAL(open_it(&s), -1);
	check_error("",
	    "Not a directory; set `state_dir` to a directory that "
	    "this user can write");
	end();
}

/* In a process of its own: the environment changes. */
static int
open_default(void)
{
	char path[256];
	struct state_dir s;

	snprintf(path, sizeof(path), "%s/xdg", base);
	setenv("XDG_STATE_HOME", path, 1);
	setenv("HOME", base, 1);
	strcat(path, "/port-proxy");
	if (state_dir_open(&s, NULL, error, sizeof(error)) < 0 ||
	    strcmp(s.path, path) != 0)
		return 1;
	/* One that is not absolute counts as not set. */
	setenv("XDG_STATE_HOME", "xdg", 1);
	snprintf(path, sizeof(path), "%s/.local/state/port-proxy", base);
	if (state_dir_open(&s, NULL, error, sizeof(error)) < 0 ||
	    strcmp(s.path, path) != 0)
		return 2;
	setenv("XDG_STATE_HOME", "", 1);
	unsetenv("HOME");
	if (state_dir_open(&s, NULL, error, sizeof(error)) == 0 ||
	    strstr(error, "set `state_dir`") == NULL)
		return 3;
	return 0;
}

static void
test_default(void)
{
	begin();
	CU_ASSERT_EQUAL(chmod(base, 0777), 0);
	CU_ASSERT_EQUAL(unprivileged(open_default), 0);
	end();
}

/* It goes on with the lock that it was given, until it is told to end. */
static void
adopter(int lock, int from, int to)
{
	uint8_t id[STATE_DIR_ID_SIZE];
	struct state_dir s;
	uint64_t start = 0;
	char c = 'x';

	if (state_dir_adopt(&s, dir, lock, error, sizeof(error)) == 0 &&
	    identity(&s, id, &start, NOW) == 0 && start == NOW + 1 &&
	    (fcntl(lock, F_GETFD) & FD_CLOEXEC) != 0)
		c = 'y';
	if (write(to, &c, 1) != 1 || read(from, &c, 1) != 1)
		_exit(1);
	state_dir_close(&s);
	_exit(0);
}

/* The lock belongs to the open file description: a child keeps it. */
static void
test_fork(void)
{
	uint8_t id[STATE_DIR_ID_SIZE];
	int to[2], from[2], status;
	struct state_dir s, second;
	uint64_t start;
	char c = 0;
	pid_t pid;

	begin();
	CU_ASSERT_EQUAL_FATAL(open_it(&s), 0);
	CU_ASSERT_EQUAL(identity(&s, id, &start, NOW), 0);
	CU_ASSERT_EQUAL_FATAL(pipe(to) | pipe(from), 0);
	pid = fork();
	if (pid == 0) {
		fcntl(s.lock, F_SETFD, 0);
		adopter(s.lock, to[0], from[1]);
	}
	CU_ASSERT_EQUAL(read(from[0], &c, 1), 1);
	CU_ASSERT_EQUAL(c, 'y');
	state_dir_close(&s);
	CU_ASSERT_EQUAL(open_it(&second), -1);
	CU_ASSERT_PTR_NOT_NULL(strstr(error, "another proxy-server uses it"));
	CU_ASSERT_EQUAL(write(to[1], "", 1), 1);
	CU_ASSERT_EQUAL(waitpid(pid, &status, 0), pid);
	CU_ASSERT_EQUAL(status, 0);
	CU_ASSERT_EQUAL(open_it(&second), 0);
	state_dir_close(&second);
	close(to[0]);
	close(to[1]);
	close(from[0]);
	close(from[1]);
	end();
}

/* Of another directory, of a file that was replaced, and of nothing. */
static void
test_adopt_refused(void)
{
	struct state_dir s, other;
	char path[256];
	int lock;

	begin();
	CU_ASSERT_EQUAL_FATAL(open_it(&s), 0);
	lock = s.lock;
	strcat(dir, "2");
	CU_ASSERT_EQUAL(state_dir_adopt(&other, dir, lock, error,
			    sizeof(error)),
	    -1);
	check_error("",
	    "the proxy-server before this one used another directory; "
	    "to change `state_dir`, stop that one first");
	dir[strlen(dir) - 1] = '\0';
	CU_ASSERT_EQUAL(state_dir_adopt(&other, dir, -1, error, sizeof(error)),
	    -1);
	/* Somebody else's description of the right file. */
	snprintf(path, sizeof(path), "%s/lock", dir);
	lock = open(path, O_RDWR | O_CLOEXEC);
	CU_ASSERT_EQUAL(state_dir_adopt(&other, dir, lock, error,
			    sizeof(error)),
	    -1);
	CU_ASSERT_PTR_NOT_NULL(strstr(error, "another proxy-server uses it"));
	/* It is still ours to close. */
	CU_ASSERT_EQUAL(close(lock), 0);
	CU_ASSERT_EQUAL(unlink(path), 0);
	CU_ASSERT_EQUAL(state_dir_adopt(&other, dir, s.lock, error,
			    sizeof(error)),
	    -1);
	CU_ASSERT_TRUE(fcntl(s.lock, F_GETFD) >= 0);
	state_dir_close(&s);
	end();
}

/* What fails leaves no descriptor open. */
static void
test_descriptors(void)
{
	uint8_t id[STATE_DIR_ID_SIZE];
	struct state_dir s, second;
	uint64_t start;
	unsigned before;

	begin();
	CU_ASSERT_EQUAL_FATAL(open_it(&s), 0);
	before = unit_descriptors();
	CU_ASSERT_EQUAL(open_it(&second), -1);
	CU_ASSERT_EQUAL(state_dir_adopt(&second, base, s.lock, error,
			    sizeof(error)),
	    -1);
	CU_ASSERT_EQUAL(identity(&s, id, &start, NOW), 0);
	write_file("instance", "?", 1);
	CU_ASSERT_EQUAL(identity(&s, id, &start, NOW), -1);
	CU_ASSERT_EQUAL(unit_descriptors(), before);
	state_dir_close(&s);
	end();
}

static const struct unit_test tests[] = {
    {"made", test_made},
    {"reopened", test_reopened},
    {"slashes", test_slashes},
    {"the start rises", test_start_rises},
    {"locked twice", test_locked},
    {"damaged", test_damaged},
    {"not written", test_not_written},
    {"unwritable", test_unwritable},
    {"default", test_default},
    {"fork holds the lock", test_fork},
    {"adopt: refused", test_adopt_refused},
    {"descriptors", test_descriptors},
    {NULL, NULL},
};

const struct unit_suite suite_state = {"state", tests};
