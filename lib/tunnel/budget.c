#include "tunnel/budget.h"

#define STEP_MIN 65536 /* a part of a step is no less */

void
budget_init(struct budget *b, uint64_t total, uint64_t reserve)
{
	uint64_t aside = total / 8 > reserve ? total / 8 : reserve;

	b->limit = total > aside ? total - aside : 0;
	b->aside = aside;
	atomic_init(&b->kept, 0);
	atomic_init(&b->used, 0);
	atomic_init(&b->above, 0);
}

static bool
take(_Atomic uint64_t *used, uint64_t n, uint64_t limit)
{
	uint64_t old = atomic_load(used);

	/* Never above the limit for a moment: others would be refused. */
	do
		if (n > limit || old > limit - n)
			return false;
	while (!atomic_compare_exchange_weak(used, &old, old + n));
	return true;
}

/* What stands above WINDOW_FIRST counts twice: in its half, and in all. */
static bool
take_above(struct budget *b, uint64_t n)
{
	if (!take(&b->above, n, b->limit / 2))
		return false;
	if (take(&b->used, n, b->limit))
		return true;
	atomic_fetch_sub(&b->above, n);
	return false;
}

static void
give_above(struct budget *b, uint64_t n)
{
	atomic_fetch_sub(&b->above, n);
	atomic_fetch_sub(&b->used, n);
}

uint64_t
budget_raise(struct budget *session, struct budget *process, uint64_t window,
    uint64_t goal)
{
	uint64_t n = goal - window;

	if (goal <= window)
		return window;
	do {
		if (take_above(session, n)) {
			if (take_above(process, n))
				return window + n;
			give_above(session, n);
		}
		n /= 2;
	} while (window >= WINDOW_START && n >= STEP_MIN);
	return window;
}

uint64_t
budget_open(struct budget *session, struct budget *process)
{
	if (!take(&session->used, WINDOW_FIRST, session->limit))
		return 0;
	if (!take(&process->used, WINDOW_FIRST, process->limit)) {
		atomic_fetch_sub(&session->used, WINDOW_FIRST);
		return 0;
	}
	return WINDOW_FIRST;
}

static void
adopt(struct budget *b, uint64_t window)
{
	atomic_fetch_add(&b->used, window);
	atomic_fetch_add(&b->above, window - WINDOW_FIRST);
}

void
budget_adopt(struct budget *session, struct budget *process, uint64_t window)
{
	if (window < WINDOW_FIRST)
		return;
	adopt(session, window);
	adopt(process, window);
}

uint64_t
budget_lower(struct budget *session, struct budget *process, uint64_t window)
{
	if (window <= WINDOW_FIRST)
		return window;
	give_above(session, window - WINDOW_FIRST);
	give_above(process, window - WINDOW_FIRST);
	return WINDOW_FIRST;
}

void
budget_close(struct budget *session, struct budget *process, uint64_t window)
{
	if (window == 0)
		return;
	budget_lower(session, process, window);
	atomic_fetch_sub(&session->used, WINDOW_FIRST);
	atomic_fetch_sub(&process->used, WINDOW_FIRST);
}
