/*
 * Budgets of memory, one for the process and one for each session, from which
 * the windows of streams are granted.  Rules: PROTOCOL.md, "What a peer may
 * cost".
 *
 * Any thread.
 */
#ifndef TUNNEL_BUDGET_H
#define TUNNEL_BUDGET_H

#include <stdatomic.h>
#include <stdint.h>

#define WINDOW_FIRST	16384	/* what every stream gets */
#define WINDOW_START	262144	/* what it gets while there is room */

struct budget {
	uint64_t limit;		/* for windows, bytes */
	_Atomic uint64_t used;	/* granted, all of it */
	_Atomic uint64_t above;	/* granted above WINDOW_FIRST */
};

/*
 * Of total bytes an eighth, at least reserve, is set aside for retained bytes
 * and control instructions.
 */
void
budget_init(struct budget *, uint64_t total, uint64_t reserve);

/* Grant WINDOW_FIRST from both; 0 when it does not fit. */
uint64_t
budget_open(struct budget *session, struct budget *process);

/*
 * Raise a window to goal; from WINDOW_START on also by a half, a quarter, ...
 * of what lacks, as there is room for it in both.  The window that there is
 * now.
 */
uint64_t
budget_raise(struct budget *session, struct budget *process,
    uint64_t window, uint64_t goal);

/* Give back all of a window, or what it has above WINDOW_FIRST. */
void
budget_close(struct budget *session, struct budget *process,
    uint64_t window);
uint64_t
budget_lower(struct budget *session, struct budget *process,
    uint64_t window);

#endif
