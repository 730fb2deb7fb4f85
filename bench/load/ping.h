#ifndef LOAD_PING_H
#define LOAD_PING_H

#include "bench/load/base.h"

/* `load ping` */
void
ping_run(const struct options *o);

#endif
