#ifndef LOAD_BULK_H
#define LOAD_BULK_H

#include "bench/load/base.h"

enum { BULK_STREAMS = 1024 };

struct bulk_result {
	uint64_t start_ns, end_ns, bytes;
	uint64_t by_stream[BULK_STREAMS];
	double cpu_from[BASE_PIDS], cpu_to[BASE_PIDS];
};

/*
 * o->streams streams to o->to.  The measured interval starts at start_ns, or
 * with 0 when all are connected and o->warmup has passed.
 */
void
bulk_measure(const struct options *o, uint64_t start_ns, struct bulk_result *r);

double
bulk_gbit(const struct bulk_result *r);

/* `load bulk` */
void
bulk_run(const struct options *o);

#endif
