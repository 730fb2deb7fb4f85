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
#include <stdbool.h>
#include <stdint.h>

#define WINDOW_FIRST	16384	/* what every stream gets */
#define WINDOW_START	262144	/* what it gets while there is room */

struct budget {
	uint64_t limit;		/* for windows, bytes */
	_Atomic uint64_t used;	/* granted, all of it */
	_Atomic uint64_t above;	/* granted above WINDOW_FIRST */
	uint64_t aside;		/* for what is kept until acknowledged */
	_Atomic uint64_t kept;	/* of that, all sessions together */
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

/* Take a window that was granted by the process before, room or not. */
void
budget_adopt(struct budget *session, struct budget *process,
    uint64_t window);

/* Give back all of a window, or what it has above WINDOW_FIRST. */
void
budget_close(struct budget *session, struct budget *process,
    uint64_t window);
uint64_t
budget_lower(struct budget *session, struct budget *process,
    uint64_t window);

/* Bytes are kept until they are acknowledged, and are no more. */
static inline void
budget_keep(struct budget *process, uint64_t n)
{
	atomic_fetch_add_explicit(&process->kept, n, memory_order_relaxed);
}

static inline void
budget_unkeep(struct budget *process, uint64_t n)
{
	atomic_fetch_sub_explicit(&process->kept, n, memory_order_relaxed);
}

/* Whether all that was set aside for them is used up. */
static inline bool
budget_kept_all(struct budget *process)
{
	return atomic_load_explicit(&process->kept, memory_order_relaxed) >=
	    process->aside;
}

#endif
