/*
 * load: the load of the chaos tests, with every byte checked.
 *
 *	load serve ADDRESS:PORT
 *	load run --connect ADDRESS:PORT [options]
 *
 *	--up N, --down N, --both N	bulk streams
 *	--rate N	bytes per second of each of them, each way
 *	--interactive N	visitors that send a numbered message each interval
 *	--interval MS	that interval (50)
 *	--fresh MS	a fresh visitor each so often (0: none)
 *	--seed N	of the pattern
 *
 * Both read commands, one in each line, and answer with a line of JSON each;
 * serve.c and visitors.c have them.
 */
#include "tests/chaos/load/serve.h"
#include "tests/chaos/load/visitors.h"

#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int
usage(void)
{
	fputs("usage: load serve ADDRESS:PORT\n"
	      "       load run --connect ADDRESS:PORT [options]\n",
	    stderr);
	return 2;
}

static int
run(int argc, char **argv)
{
	static const struct option options[] = {
	    {"connect", required_argument, NULL, 'c'},
	    {"up", required_argument, NULL, 'u'},
	    {"down", required_argument, NULL, 'd'},
	    {"both", required_argument, NULL, 'b'},
	    {"rate", required_argument, NULL, 'r'},
	    {"interactive", required_argument, NULL, 'i'},
	    {"interval", required_argument, NULL, 'n'},
	    {"fresh", required_argument, NULL, 'f'},
	    {"seed", required_argument, NULL, 's'},
	    {NULL, 0, NULL, 0},
	};
	struct visitors_options o = {.rate = 1 << 20, .interval_ms = 50};
	const char *to = NULL;
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		unsigned long number = optarg ? strtoul(optarg, NULL, 10) : 0;

		switch (option) {
		case 'c':
			to = optarg;
			break;
		case 'u':
			o.up = (unsigned)number;
			break;
		case 'd':
			o.down = (unsigned)number;
			break;
		case 'b':
			o.both = (unsigned)number;
			break;
		case 'r':
			o.rate = number;
			break;
		case 'i':
			o.interactive = (unsigned)number;
			break;
		case 'n':
			o.interval_ms = (unsigned)number;
			break;
		case 'f':
			o.fresh_ms = (unsigned)number;
			break;
		case 's':
			o.seed = number;
			break;
		default:
			return usage();
		}
	}
	if (to == NULL || optind != argc || o.interval_ms == 0)
		return usage();
	o.to = base_address(to);
	visitors_run(&o);
}

int
main(int argc, char **argv)
{
	signal(SIGPIPE, SIG_IGN);
	if (argc == 3 && strcmp(argv[1], "serve") == 0)
		serve_run(argv[2]);
	if (argc > 1 && strcmp(argv[1], "run") == 0)
		return run(argc - 1, argv + 1);
	return usage();
}
