/*
 * load: the visitors and the application of the benchmark.
 *
 *	load serve PORT
 *	load bulk --connect A:P --direction down|up [--streams N]
 *	load ping --connect A:P [--size N] [--interval US]
 *	          [--beside N [--beside-direction down|up] [--beside-connect A:P]]
 *	load connect --connect A:P [--visitors N]
 *	load idle --connect A:P --connections N
 *	load stopped --connect A:P --bytes N
 *
 * bulk, ping and connect measure for --seconds S (1) after --warmup S (0.2),
 * take --cpu-pids PID,PID,... to read these processes' CPU clocks at both ends
 * of that interval, and print one line of JSON.  idle and stopped print
 * `ready` and hold until the end of standard input.
 *
 * One thread, and as little work as there can be: what is measured lies
 * between.  Bytes come from a memfd with sendfile() and are dropped within the
 * kernel; one read in 64, at random, is looked at.  A wrong byte or a failed
 * connection ends it with status 1 and a reason on stderr.
 */
#include <arpa/inet.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/load/base.h"
#include "bench/load/bulk.h"
#include "bench/load/ping.h"
#include "bench/load/serve.h"
#include "bench/load/visits.h"

static const struct command {
	const char *name;
	void (*run)(const struct options *o);
} commands[] = {
    {"bulk", bulk_run},
    {"ping", ping_run},
    {"connect", visits_connect},
    {"idle", visits_idle},
    {"stopped", visits_stopped},
};

static _Noreturn void
usage(void)
{
	fputs("usage: load serve PORT\n"
	      "       load bulk|ping|connect|idle|stopped --connect A:P "
	      "[options]; load.c has them all\n",
	    stderr);
	exit(2);
}

static struct sockaddr_in
address(const char *text)
{
	struct sockaddr_in a = {.sin_family = AF_INET};
	const char *colon = strrchr(text, ':');
	char host[64];

	if (colon == NULL || (size_t)(colon - text) >= sizeof(host))
		base_die("%s: not ADDRESS:PORT", text);
	memcpy(host, text, (size_t)(colon - text));
	host[colon - text] = '\0';
	a.sin_port = htons((uint16_t)strtoul(colon + 1, NULL, 10));
	if (inet_pton(AF_INET, host, &a.sin_addr) != 1 || a.sin_port == 0)
		base_die("%s: not ADDRESS:PORT", text);
	return a;
}

static double
number(const char *text, double least, double most)
{
	char *end;
	double value = strtod(text, &end);

	if (end == text || *end != '\0' || !(value >= least && value <= most))
		base_die("%s: not a number from %g to %g", text, least, most);
	return value;
}

static bool
direction(const char *text)
{
	if (strcmp(text, "up") != 0 && strcmp(text, "down") != 0)
		base_die("%s: neither up nor down", text);
	return strcmp(text, "up") == 0;
}

static void
cpu_pids(struct options *o, const char *text)
{
	char *next;

	while (*text != '\0') {
		long pid = strtol(text, &next, 10);

		if (pid <= 0 || (*next != ',' && *next != '\0') ||
		    o->pid_count == BASE_PIDS)
			base_die("%s: not at most %d process ids", text,
			    BASE_PIDS);
		o->pids[o->pid_count++] = (pid_t)pid;
		text = *next == ',' ? next + 1 : next;
	}
}

static void
option(struct options *o, int which, const char *value)
{
	switch (which) {
	case 'a':
		o->to = address(value);
		break;
	case 'A':
		o->beside_to = address(value);
		break;
	case 'd':
		o->up = direction(value);
		break;
	case 'D':
		o->beside_up = direction(value);
		break;
	case 'n':
		o->streams = (long)number(value, 1, 1e6);
		break;
	case 'b':
		o->beside = (long)number(value, 0, BULK_STREAMS);
		break;
	case 's':
		o->seconds = number(value, 0.001, 1e6);
		break;
	case 'w':
		o->warmup = number(value, 0, 1e6);
		break;
	case 'z':
		o->size = (long)number(value, 1, BASE_PERIOD);
		break;
	case 'i':
		o->interval_us = (long)number(value, 0, 1e9);
		break;
	case 'y':
		o->bytes = (uint64_t)number(value, 1, 1e15);
		break;
	case 'p':
		cpu_pids(o, value);
		break;
	default:
		usage();
	}
}

int
main(int argc, char **argv)
{
	static const struct option known[] = {
	    {"connect", required_argument, NULL, 'a'},
	    {"beside-connect", required_argument, NULL, 'A'},
	    {"direction", required_argument, NULL, 'd'},
	    {"beside-direction", required_argument, NULL, 'D'},
	    {"streams", required_argument, NULL, 'n'},
	    {"visitors", required_argument, NULL, 'n'},
	    {"connections", required_argument, NULL, 'n'},
	    {"beside", required_argument, NULL, 'b'},
	    {"seconds", required_argument, NULL, 's'},
	    {"warmup", required_argument, NULL, 'w'},
	    {"size", required_argument, NULL, 'z'},
	    {"interval", required_argument, NULL, 'i'},
	    {"bytes", required_argument, NULL, 'y'},
	    {"cpu-pids", required_argument, NULL, 'p'},
	    {NULL, 0, NULL, 0},
	};
	struct options o = {.streams = 1,
	    .size = 64,
	    .seconds = 1,
	    .warmup = 0.2,
	    .bytes = 1000000000};
	int which;

	while ((which = getopt_long(argc, argv, "", known, NULL)) != -1)
		option(&o, which, optarg);
	signal(SIGPIPE, SIG_IGN);
	base_pattern_open();
	base_raise_files();
	if (optind == argc - 2 && strcmp(argv[optind], "serve") == 0)
		serve_run(argv[optind + 1]);
	if (optind != argc - 1 || o.to.sin_port == 0)
		usage();
	if (o.beside_to.sin_port == 0)
		o.beside_to = o.to;
	for (size_t i = 0; i < sizeof(commands) / sizeof(*commands); i++) {
		if (strcmp(argv[optind], commands[i].name) != 0)
			continue;
		if (commands[i].run == bulk_run && o.streams > BULK_STREAMS)
			base_die("at most %d streams", BULK_STREAMS);
		commands[i].run(&o);
		return 0;
	}
	usage();
}
