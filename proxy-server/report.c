#include "proxy-server/report.h"

#include "base/log.h"
#include "tunnel/totals.h"

static void
count(void *context, unsigned worker)
{
	struct server *server = context;
	struct worker *w = &server->workers[worker];

	totals_count(&w->totals, &w->sessions, &w->loop);
}

void
report(struct server *server)
{
	struct session_totals all = {0};
	struct log_line l;
	unsigned i;

	crew_run(&server->crew, count, server);
	for (i = 0; i < server->nworkers; i++)
		totals_add(&all, &server->workers[i].totals);
	if (!log_begin(&l, LOG_INFO, "state"))
		return;
	totals_log(&l, &all, &server->memory);
	log_number(&l, "visitors", table_count(&server->connections));
	log_number(&l, "waiting", atomic_load(&server->waiting));
	log_end(&l);
}
