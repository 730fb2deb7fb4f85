#include "base/daemon.h"

#include <errno.h>
#include <getopt.h>
#include <malloc.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/log.h"

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

static void
set_level(const struct config *c, bool verbose)
{
	static const enum log_level levels[] = {
	    [CONFIG_ERROR] = LOG_ERROR,
	    [CONFIG_WARN] = LOG_WARN,
	    [CONFIG_INFO] = LOG_INFO,
	    [CONFIG_DEBUG] = LOG_DEBUG,
	};

	log_set_level(verbose ? LOG_DEBUG : levels[c->log_level]);
}

struct config *
daemon_start(int argc, char **argv, enum config_role role)
{
	static const struct option options[] = {
	    {"help", no_argument, NULL, 'h'},
	    {"version", no_argument, NULL, 'V'},
	    {NULL, 0, NULL, 0},
	};
	bool test = false, verbose = false;
	const char *path = NULL;
	struct config *config;
	char error[512];
	int c;

	while ((c = getopt_long(argc, argv, "c:tv", options, NULL)) != -1)
		switch (c) {
		case 'c':
			path = optarg;
			break;
		case 't':
			test = true;
			break;
		case 'v':
			verbose = true;
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
	config = config_load(path != NULL ? path : default_path(), role, error,
	    sizeof(error));
	if (config == NULL) {
		fprintf(stderr, "%s\n", error);
		exit(1);
	}
	if (test) {
		config_free(config);
		exit(0);
	}
	set_level(config, verbose);
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

static void
signals(sigset_t *set)
{
	sigemptyset(set);
	sigaddset(set, SIGTERM);
	sigaddset(set, SIGINT);
	sigaddset(set, SIGHUP);
}

void
daemon_block_signals(void)
{
	sigset_t set;

	signals(&set);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
}

static int
wait_signal(void)
{
	sigset_t set;
	int signal;

	signals(&set);
	while (sigwait(&set, &signal) != 0)
		;
	return signal;
}

void
daemon_wait(void)
{
	int signal;

	while ((signal = wait_signal()) == SIGHUP)
		log_event(LOG_WARN, "reload", "reason",
		    "this version does "
		    "not reload; restart it to use a changed file",
		    NULL);
	log_event(LOG_INFO, "stopping", "signal",
	    signal == SIGTERM ? "SIGTERM" : "SIGINT", NULL);
}
