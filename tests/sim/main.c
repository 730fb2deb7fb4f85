/*
 * sim: runs seeds, in as many processes as it is told.
 */
#include "sim.h"

#include <errno.h>
#include <getopt.h>
#include <malloc.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/common_interface_defs.h>
#endif

#define STEPS_DEFAULT 4000
#define JOBS_MAX 64
#define FAILURES_MAX 20 /* there is no use in more */
#define HANG 5 /* seconds of one step */
#define USAGE \
	"usage: sim [--seed N] [--seeds COUNT] [--seconds S] [--steps N]\n" \
	"           [--jobs N] [--file SEEDS] [-v]\n"

struct options {
	uint64_t seed, seeds, seconds, steps;
	unsigned jobs;
	const char *file;
	bool one, verbose;
};

/* What the processes share. */
struct board {
	_Atomic uint64_t next; /* seeds given out */
	_Atomic uint64_t passed, failed;
	_Atomic uint64_t totals[sizeof(struct totals) / sizeof(uint64_t)];
};

static struct world world;
static struct board *board;

static uint64_t
seconds_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec;
}

/* Of a process that dies: only what a handler may do. */
static void
print_seed(void)
{
	char text[64] = "\nsim: it happened in --seed ", digits[24];
	size_t n = strlen(text), i = 0;
	uint64_t v = world.seed;

	do
		digits[i++] = (char)('0' + v % 10);
	while ((v /= 10) > 0);
	while (i > 0)
		text[n++] = digits[--i];
	text[n++] = '\n';
	if (write(2, text, n) < 0)
		return;
}

static void
on_death(int number)
{
	print_seed();
	signal(number, SIG_DFL);
	raise(number);
}

/* A step that does not end. */
static void
on_alarm(int number)
{
	static uint64_t seed, steps;

	(void)number;
	if (seed == world.seed && steps == world.steps && seed != 0)
		abort();
	seed = world.seed;
	steps = world.steps;
}

static void
watch(void)
{
	struct itimerval every = {{HANG, 0}, {HANG, 0}};

	signal(SIGALRM, on_alarm);
	setitimer(ITIMER_REAL, &every, NULL);
	signal(SIGABRT, on_death);
#ifdef __SANITIZE_ADDRESS__
	__sanitizer_set_death_callback(print_seed);
#else
	signal(SIGSEGV, on_death);
	signal(SIGBUS, on_death);
	/* Buffers come and go with each seed: not by way of the system. */
	mallopt(M_MMAP_THRESHOLD, 1 << 30);
	mallopt(M_TRIM_THRESHOLD, 1 << 30);
#endif
}

/* Run one and count it. */
static bool
run(uint64_t seed, const struct options *o)
{
	struct totals t = {0};
	uint64_t counts[sizeof(t) / sizeof(uint64_t)];
	bool ok = world_run(&world, seed, o->steps, &t);
	size_t i;

	memcpy(counts, &t, sizeof(t));
	for (i = 0; i < sizeof(t) / sizeof(uint64_t); i++)
		atomic_fetch_add(&board->totals[i], counts[i]);
	atomic_fetch_add(ok ? &board->passed : &board->failed, 1);
	if (!ok)
		fprintf(stderr, "sim: --seed %llu --steps %llu: %s\n",
		    (unsigned long long)seed, (unsigned long long)o->steps,
		    world.what);
	return ok;
}

/* Seeds of a file, each the first word of a line; # begins a comment. */
static void
run_file(const struct options *o)
{
	FILE *f = fopen(o->file, "r");
	char line[1000], *end;
	uint64_t seed;

	if (f == NULL) {
		fprintf(stderr, "sim: %s: %s\n", o->file, strerror(errno));
		exit(2);
	}
	while (fgets(line, sizeof(line), f) != NULL) {
		seed = strtoull(line, &end, 0);
		if (end != line)
			run(seed, o);
	}
	fclose(f);
}

static void
run_some(const struct options *o, uint64_t until)
{
	uint64_t i;

	while (atomic_load(&board->failed) < FAILURES_MAX &&
	    seconds_now() < until) {
		i = atomic_fetch_add(&board->next, 1);
		if (i >= o->seeds)
			return;
		run(o->seed + i, o);
	}
}

/* Each in a process of its own, so that one that dies is only one. */
static void
run_jobs(const struct options *o, uint64_t until)
{
	unsigned i;
	int status;
	pid_t pid;

	for (i = 0; i < o->jobs; i++) {
		pid = fork();
		if (pid < 0)
			exit(2);
		if (pid == 0) {
			watch();
			if (o->file != NULL && i == 0)
				run_file(o);
			run_some(o, until);
			exit(0);
		}
	}
	while (wait(&status) > 0)
		if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
			atomic_fetch_add(&board->failed, 1);
}

static void
print_totals(uint64_t seconds)
{
	struct totals t;
	uint64_t counts[sizeof(t) / sizeof(uint64_t)];
	size_t i;

	for (i = 0; i < sizeof(t) / sizeof(uint64_t); i++)
		counts[i] = atomic_load(&board->totals[i]);
	memcpy(&t, counts, sizeof(t));
	if (seconds == 0)
		seconds = 1;
	printf("%llu steps (%llu a second), %llu streams, %llu MB; carriers "
	       "lost %llu times, resumed %llu, refused %llu; %llu sessions "
	       "ended, %llu not resumed in time, %llu finished; %llu "
	       "processes replaced, %llu could not be; %llu allocations "
	       "failed\n",
	    (unsigned long long)t.steps,
	    (unsigned long long)(t.steps / seconds),
	    (unsigned long long)t.streams, (unsigned long long)(t.bytes >> 20),
	    (unsigned long long)t.parked, (unsigned long long)t.resumed,
	    (unsigned long long)t.refused, (unsigned long long)t.ended,
	    (unsigned long long)t.timed_out, (unsigned long long)t.finished,
	    (unsigned long long)t.replaced, (unsigned long long)t.not_replaced,
	    (unsigned long long)t.starved);
	printf("sim: %llu passed, %llu failed\n",
	    (unsigned long long)atomic_load(&board->passed),
	    (unsigned long long)atomic_load(&board->failed));
}

static uint64_t
number(const char *text)
{
	char *end;
	uint64_t v = strtoull(text, &end, 0);

	if (end == text || *end != '\0') {
		fputs(USAGE, stderr);
		exit(2);
	}
	return v;
}

static void
read_options(struct options *o, int argc, char **argv)
{
	static const struct option names[] = {
	    {"seed", required_argument, NULL, 's'},
	    {"seeds", required_argument, NULL, 'n'},
	    {"seconds", required_argument, NULL, 't'},
	    {"steps", required_argument, NULL, 'c'},
	    {"jobs", required_argument, NULL, 'j'},
	    {"file", required_argument, NULL, 'f'},
	    {NULL, 0, NULL, 0},
	};
	int c;

	while ((c = getopt_long(argc, argv, "v", names, NULL)) != -1) {
		if (c == 's') {
			o->seed = number(optarg);
			o->one = true;
		} else if (c == 'n')
			o->seeds = number(optarg);
		else if (c == 't')
			o->seconds = number(optarg);
		else if (c == 'c')
			o->steps = number(optarg);
		else if (c == 'j')
			o->jobs = (unsigned)number(optarg);
		else if (c == 'f')
			o->file = optarg;
		else if (c == 'v')
			o->verbose = true;
		else {
			fputs(USAGE, stderr);
			exit(2);
		}
	}
}

int
main(int argc, char **argv)
{
	struct options o = {.steps = STEPS_DEFAULT, .jobs = 1};
	uint64_t began = seconds_now();

	read_options(&o, argc, argv);
	if (!o.one && getrandom(&o.seed, sizeof(o.seed), 0) < 0)
		return 2;
	/* A seed alone is that one; time alone is as many as fit. */
	if (o.seeds == 0 && (o.seconds > 0 || o.file == NULL))
		o.seeds = o.seconds > 0 ? UINT64_MAX : 1;
	if (o.jobs < 1 || o.jobs > JOBS_MAX)
		o.jobs = 1;
	board = mmap(NULL, sizeof(*board), PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (board == MAP_FAILED)
		return 2;
	world.verbose = o.verbose;
	printf("sim: seeds from %llu on\n", (unsigned long long)o.seed);
	fflush(stdout);
	run_jobs(&o, o.seconds > 0 ? began + o.seconds : UINT64_MAX);
	print_totals(seconds_now() - began);
	return atomic_load(&board->failed) > 0;
}
