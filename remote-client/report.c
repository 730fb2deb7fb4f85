#include "remote-client/report.h"

#include "base/log.h"
#include "tunnel/totals.h"

static void
count(void *context, unsigned worker)
{
	struct client *client = context;
	struct worker *w = &client->workers[worker];

	totals_count(&w->totals, &w->sessions, &w->loop);
}

void
report(struct client *client)
{
	struct session_totals all = {0};
	struct log_line l;
	unsigned i;

	crew_run(&client->crew, count, client);
	for (i = 0; i < client->nworkers; i++)
		totals_add(&all, &client->workers[i].totals);
	if (!log_begin(&l, LOG_INFO, "state"))
		return;
	totals_log(&l, &all, &client->memory);
	log_end(&l);
}
