#ifndef LOAD_VISITS_H
#define LOAD_VISITS_H

#include "bench/load/base.h"

/* `load connect`, `load idle` and `load stopped` */
void
visits_connect(const struct options *o);
void
visits_idle(const struct options *o);
void
visits_stopped(const struct options *o);

#endif
