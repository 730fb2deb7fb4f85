#ifndef CHAOS_VISITORS_H
#define CHAOS_VISITORS_H

#include "tests/chaos/load/base.h"

struct visitors_options {
	struct sockaddr_in to;
	unsigned up, down, both, interactive;
	uint64_t rate; /* of each bulk stream and direction, bytes per second */
	uint64_t seed;
	unsigned interval_ms, fresh_ms; /* fresh_ms 0: no fresh visitors */
};

/* `load run`: all the visitors. */
_Noreturn void
visitors_run(const struct visitors_options *options);

#endif
