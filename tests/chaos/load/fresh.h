/*
 * Fresh visitors: a connection each second that says one message, takes the
 * echo and ends, to see from when on new visitors are served.
 */
#ifndef CHAOS_FRESH_H
#define CHAOS_FRESH_H

#include "tests/chaos/load/base.h"

/* What a pointer of the loop has to be to belong here. */
bool
fresh_is(const void *what);
void
fresh_ready(void *what);

/* Begins one when it is time, and gives up those that wait for too long. */
void
fresh_tick(const struct sockaddr_in *to, unsigned each_ms, uint64_t now);

/* Those that wait for more than a second. */
unsigned
fresh_behind(uint64_t now);

/* Those that have not ended. */
unsigned
fresh_open(void);

/* `"fresh": {...}` of what ended since the last one. */
void
fresh_print(uint64_t now);

#endif
