#include "tunnel/totals.h"

#include <unistd.h>

void
totals_count(struct session_totals *t, const struct list *sessions,
    const struct loop *loop)
{
	session_count(sessions, t);
	t->pool = loop->driver.pool.held;
	t->closing = loop_count_at_close(loop);
}

void
totals_add(struct session_totals *sum, const struct session_totals *t)
{
	sum->sessions += t->sessions;
	sum->parked += t->parked;
	sum->streams += t->streams;
	sum->pool += t->pool;
	sum->closing += t->closing;
}

void
totals_log(struct log_line *l, const struct session_totals *sum,
    const struct budget *process)
{
	log_number(l, "pid", (uint64_t)getpid());
	log_number(l, "sessions", sum->sessions);
	log_number(l, "parked", sum->parked);
	log_number(l, "streams", sum->streams);
	log_number(l, "closing", sum->closing);
	log_number(l, "buffers", sum->pool);
	log_number(l, "windows", atomic_load(&process->used));
	log_number(l, "kept", atomic_load(&process->kept));
}
