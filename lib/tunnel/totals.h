/*
 * What a daemon has at one moment, counted worker by worker, as a line of the
 * log: `state`, at SIGUSR1.
 */
#ifndef TUNNEL_TOTALS_H
#define TUNNEL_TOTALS_H

#include <stddef.h>

#include "base/log.h"
#include "net/loop.h"
#include "tunnel/budget.h"
#include "tunnel/session.h"

/* Of one worker; its thread. */
void
totals_count(struct session_totals *, const struct list *sessions,
    const struct loop *);

/* Add those of a worker to a sum. */
void
totals_add(struct session_totals *sum, const struct session_totals *);

/* Into a line that was begun. */
void
totals_log(struct log_line *, const struct session_totals *sum,
    const struct budget *process);

#endif
