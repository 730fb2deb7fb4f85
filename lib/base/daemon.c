#include "base/daemon.h"

#include <errno.h>
#include <getopt.h>
#include <malloc.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#ifdef HAVE_SYSTEMD
#include <systemd/sd-daemon.h>
#endif

#include "base/log.h"

/* Of daemon_start(), for daemon_reload(). */
static struct {
	enum config_role role;
	char *path;
	bool verbose;
} started;

/* Where there is no libsystemd there is nobody to be told. */
#ifdef HAVE_SYSTEMD
#define NOTIFY(...) sd_notifyf(0, __VA_ARGS__)
#else
#define NOTIFY(...) snprintf(NULL, 0, __VA_ARGS__)
#endif

static const char *
name_of(enum config_role role)
{
	return role == CONFIG_SERVER ? "proxy-server" : "remote-client";
}

static void
usage(FILE *to, enum config_role role)
{
	fprintf(to,
	    "usage: %s [-c FILE] [-t] [-v]...\n"
	    "  -c FILE    configuration; without it ./config.yaml, then\n"
	    "             /etc/port-proxy/config.yaml\n"
	    "  -t         check the configuration and exit\n"
	    "  -v         log debug lines, whatever log_level says\n"
	    "  --help     print this and exit\n"
	    "  --version  print the version and exit\n",
	    name_of(role));
}

static const char *
default_path(void)
{
	static const char *const paths[] = {
	    "./config.yaml",
	    "/etc/port-proxy/config.yaml",
	};

	return access(paths[0], F_OK) == 0 ? paths[0] : paths[1];
}

/*
 * The working directory may be another one when the file is read again.  Its
 * links stay as they are: a file is often replaced by pointing one elsewhere.
 * When that fails the path is as good as it was.
 */
static char *
absolute(const char *path)
{
	char *dir, *whole = NULL;

	if (path[0] == '/')
		return strdup(path);
	dir = getcwd(NULL, 0);
	if (dir == NULL || asprintf(&whole, "%s/%s", dir, path) < 0)
		whole = strdup(path);
	free(dir);
	return whole;
}

void
daemon_set_level(const struct config *c)
{
	static const enum log_level levels[] = {
	    [CONFIG_ERROR] = LOG_ERROR,
	    [CONFIG_WARN] = LOG_WARN,
	    [CONFIG_INFO] = LOG_INFO,
	    [CONFIG_DEBUG] = LOG_DEBUG,
	};

	log_set_level(started.verbose ? LOG_DEBUG : levels[c->log_level]);
}

/* The configuration at the start; a wrong one ends the process. */
static struct config *
load(const char *path, bool test)
{
	struct config *config;
	char error[512];

	if (path == NULL)
		path = default_path();
	config = config_load(path, started.role, error, sizeof(error));
	if (config == NULL) {
		fprintf(stderr, "%s\n", error);
		exit(1);
	}
	if (test) {
		config_free(config);
		exit(0);
	}
	started.path = absolute(path);
	daemon_set_level(config);
	return config;
}

struct config *
daemon_start(int argc, char **argv, enum config_role role)
{
	static const struct option options[] = {
	    {"help", no_argument, NULL, 'h'},
	    {"version", no_argument, NULL, 'V'},
	    {NULL, 0, NULL, 0},
	};
	const char *path = NULL;
	bool test = false;
	int c;

	started.role = role;
	while ((c = getopt_long(argc, argv, "c:tv", options, NULL)) != -1)
		switch (c) {
		case 'c':
			path = optarg;
			break;
		case 't':
			test = true;
			break;
		case 'v':
			started.verbose = true;
			break;
		case 'h':
			usage(stdout, role);
			exit(0);
		case 'V':
			printf("%s %s\n", name_of(role), PORT_PROXY_VERSION);
			exit(0);
		default:
			usage(stderr, role);
			exit(1);
		}
	if (optind < argc) {
		usage(stderr, role);
		exit(1);
	}
	return load(path, test);
}

struct config *
daemon_reload(void)
{
	struct config *config = NULL;
	char error[512] = "out of memory";

	if (started.path != NULL)
		config = config_load(started.path, started.role, error,
		    sizeof(error));
	if (config == NULL)
		log_event(LOG_ERROR, "reload-failed", "reason", error, NULL);
	return config;
}

void
daemon_raise_limits(void)
{
	struct rlimit r;

	if (getrlimit(RLIMIT_NOFILE, &r) == 0) {
		r.rlim_cur = r.rlim_max;
		setrlimit(RLIMIT_NOFILE, &r);
	}
	/*
	 * A fixed threshold: large buffers that the pools give back go to the
	 * system at once.  By default it grows with the first one freed.
	 */
	mallopt(M_MMAP_THRESHOLD, 64 * 1024);
}

unsigned
daemon_cores(void)
{
	long n = sysconf(_SC_NPROCESSORS_ONLN);

	return n < 1 ? 1 : n > 256 ? 256 : (unsigned)n;
}

uint64_t
daemon_memory(void)
{
	long pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGESIZE);

	if (pages <= 0 || size <= 0)
		return UINT64_C(256) << 20;
	return (uint64_t)pages * (uint64_t)size / 4;
}

void
daemon_signals(sigset_t *set)
{
	sigemptyset(set);
	sigaddset(set, SIGTERM);
	sigaddset(set, SIGINT);
	sigaddset(set, SIGHUP);
	sigaddset(set, SIGUSR1);
	sigaddset(set, SIGUSR2);
}

void
daemon_block_signals(void)
{
	sigset_t set;

	daemon_signals(&set);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
}

/* The time left until deadline_us; nothing when it is over. */
static struct timespec
left(uint64_t deadline_us)
{
	struct timespec now, t = {0};
	uint64_t us;

	clock_gettime(CLOCK_MONOTONIC, &now);
	us = (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
	if (us < deadline_us) {
		t.tv_sec = (time_t)((deadline_us - us) / 1000000);
		t.tv_nsec = (long)((deadline_us - us) % 1000000 * 1000);
	}
	return t;
}

/* The signal, or 0 at the deadline. */
static int
wait_signal(uint64_t deadline_us)
{
	struct timespec t;
	sigset_t set;
	int signal;

	daemon_signals(&set);
	for (;;) {
		t = left(deadline_us);
		signal = deadline_us == UINT64_MAX ?
		    sigwaitinfo(&set, NULL) :
		    sigtimedwait(&set, NULL, &t);
		if (signal > 0)
			return signal;
		if (errno == EAGAIN)
			return 0;
	}
}

enum daemon_event
daemon_wait(uint64_t deadline_us)
{
	int signal = wait_signal(deadline_us);

	switch (signal) {
	case 0:
		return DAEMON_TIMEOUT;
	case SIGHUP:
		return DAEMON_RELOAD;
	case SIGUSR1:
		return DAEMON_REPORT;
	case SIGUSR2:
		return DAEMON_UPGRADE;
	default:
		log_event(LOG_INFO, "stopping", "signal",
		    signal == SIGTERM ? "SIGTERM" : "SIGINT", NULL);
		return DAEMON_STOP;
	}
}

void
daemon_notify_ready(void)
{
	NOTIFY("READY=1");
}

void
daemon_notify_reloading(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	NOTIFY("RELOADING=1\nMONOTONIC_USEC=%lld",
	    (long long)now.tv_sec * 1000000 + now.tv_nsec / 1000);
}

void
daemon_notify_stopping(void)
{
	NOTIFY("STOPPING=1");
}

void
daemon_notify_successor(pid_t pid)
{
	NOTIFY("MAINPID=%ld", (long)pid);
}

int
daemon_activated(int *first)
{
#ifdef HAVE_SYSTEMD
	int n = sd_listen_fds(1);

	*first = SD_LISTEN_FDS_START;
	return n > 0 ? n : 0;
#else
	*first = 0;
	return 0;
#endif
}

void
daemon_upgrade_dropped(const char *reason)
{
	log_event(LOG_WARN, "upgrade-dropped", "reason", reason, NULL);
}

void
daemon_forget_upgrades(void)
{
	struct timespec none = {0};
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	while (sigtimedwait(&set, NULL, &none) == SIGUSR2)
		daemon_upgrade_dropped("another one was being tried");
}

void
daemon_pass_signals(pid_t pid)
{
	struct timespec none = {0};
	sigset_t set;
	int signal;

	daemon_signals(&set);
	/* Another upgrade was asked of the process that is gone. */
	sigdelset(&set, SIGUSR2);
	while ((signal = sigtimedwait(&set, NULL, &none)) > 0)
		kill(pid, signal);
}
