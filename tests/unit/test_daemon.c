/*
 * What daemons wait for, and the file that they read again.
 */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "base/daemon.h"
#include "base/log.h"
#include "unit.h"

static uint64_t
now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static void
test_wait(void)
{
	static const struct {
		int signal;
		enum daemon_event event;
	} cases[] = {
	    {SIGHUP, DAEMON_RELOAD},
	    {SIGUSR2, DAEMON_UPGRADE},
	    {SIGTERM, DAEMON_STOP},
	    {SIGINT, DAEMON_STOP},
	};
	uint64_t begin;
	sigset_t before;
	size_t i;

	pthread_sigmask(SIG_BLOCK, NULL, &before);
	daemon_block_signals();
	log_set_level(LOG_ERROR);
	CU_ASSERT_EQUAL(daemon_wait(0), DAEMON_TIMEOUT);
	begin = now_us();
	CU_ASSERT_EQUAL(daemon_wait(begin + 20000), DAEMON_TIMEOUT);
	CU_ASSERT(now_us() >= begin + 20000);
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		kill(getpid(), cases[i].signal);
		CU_ASSERT_EQUAL(daemon_wait(i % 2 != 0 ? 0 : UINT64_MAX),
		    cases[i].event);
	}
	CU_ASSERT_EQUAL(daemon_wait(0), DAEMON_TIMEOUT);
	log_set_level(LOG_INFO);
	signal(SIGPIPE, SIG_DFL);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
}

static void
write_file(const char *path, const char *level)
{
	FILE *f = fopen(path, "w");

	if (f == NULL)
		abort();
	fprintf(f, "name: me\nserver: 127.0.0.1:1\nlog_level: %s\n", level);
	fclose(f);
}

static bool
level_is_written(enum log_level level)
{
	struct log_line l;

	return log_begin(&l, level, "never-ended");
}

/* The file's path was relative, and the directory is another one since. */
static void
test_reload(void)
{
	char dir[] = "/tmp/port-proxy-unit-XXXXXX", back[4096], path[64];
	char program[] = "remote-client", option[] = "-c", file[] = "a.yaml";
	char *argv[] = {program, option, file, NULL};
	struct config *c;

	if (mkdtemp(dir) == NULL || getcwd(back, sizeof(back)) == NULL ||
	    chdir(dir) < 0)
		abort();
	snprintf(path, sizeof(path), "%s/a.yaml", dir);
	write_file(path, "error");
	c = daemon_start(3, argv, CONFIG_CLIENT);
	CU_ASSERT_PTR_NOT_NULL_FATAL(c);
	CU_ASSERT_FALSE(level_is_written(LOG_WARN));
	config_free(c);
	CU_ASSERT_EQUAL_FATAL(chdir(back), 0);

	write_file(path, "warn");
	c = daemon_reload();
	CU_ASSERT_PTR_NOT_NULL_FATAL(c);
	CU_ASSERT_STRING_EQUAL(c->name, "me");
	/* Not before the caller is content with all of it. */
	CU_ASSERT_FALSE(level_is_written(LOG_WARN));
	daemon_set_level(c);
	CU_ASSERT_TRUE(level_is_written(LOG_WARN));
	CU_ASSERT_FALSE(level_is_written(LOG_INFO));
	config_free(c);

	unlink(path);
	rmdir(dir);
	log_set_level(LOG_INFO);
}

static const struct unit_test tests[] = {
    {"wait", test_wait},
    {"reload", test_reload},
    {NULL, NULL},
};

const struct unit_suite suite_daemon = {"daemon", tests};
