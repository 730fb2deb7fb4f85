#include "remote-client/report.h"

#include <unistd.h>

#include "base/log.h"

static void
count(void *context, unsigned worker)
{
	struct client *client = context;
	struct worker *w = &client->workers[worker];

	session_count(&w->sessions, &w->totals);
	w->totals.pool = worker_driver(w)->pool.held;
	w->totals.closing = loop_count_at_close(&w->loop);
}

static struct session_totals
sum(const struct client *client)
{
	struct session_totals all = {0};
	const struct session_totals *t;
	unsigned i;

	for (i = 0; i < client->nworkers; i++) {
		t = &client->workers[i].totals;
		all.sessions += t->sessions;
		all.parked += t->parked;
		all.streams += t->streams;
		all.pool += t->pool;
		all.closing += t->closing;
	}
	return all;
}

void
report(struct client *client)
{
	struct session_totals all;
	struct log_line l;

	crew_run(&client->crew, count, client);
	all = sum(client);
	if (!log_begin(&l, LOG_INFO, "state"))
		return;
	log_number(&l, "pid", (uint64_t)getpid());
	log_number(&l, "sessions", all.sessions);
	log_number(&l, "parked", all.parked);
	log_number(&l, "streams", all.streams);
	log_number(&l, "closing", all.closing);
	log_number(&l, "buffers", all.pool);
	log_number(&l, "windows", atomic_load(&client->memory.used));
	log_number(&l, "kept", atomic_load(&client->memory.kept));
	log_end(&l);
}
