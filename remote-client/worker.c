#include "remote-client/worker.h"

#include <errno.h>
#include <stdlib.h>

#include "remote-client/tunnel.h"
#include "tunnel/session.h"

int
workers_init(struct client *client, unsigned n)
{
	struct worker *w;

	crew_init(&client->crew);
	client->workers = calloc(n, sizeof(*client->workers));
	if (client->workers == NULL)
		return -1;
	for (; client->nworkers < n; client->nworkers++) {
		w = &client->workers[client->nworkers];
		if (loop_init(&w->loop, &allocator_system) < 0)
			return -1;
		crew_add(&client->crew, &w->member, &w->loop);
		w->client = client;
		w->index = client->nworkers;
		w->config = client->config;
		list_init(&w->tunnels);
		list_init(&w->sessions);
	}
	return 0;
}

static void
end_all(struct worker *w)
{
	tunnels_stop(w);
	session_end_all(&w->sessions, INS_END_SHUTDOWN, "stopping");
	tunnels_free(w);
}

static void
end_worker(void *context, unsigned worker)
{
	struct client *client = context;

	end_all(&client->workers[worker]);
}

void
workers_stop(struct client *client)
{
	unsigned i;

	crew_run(&client->crew, end_worker, client);
	crew_stop(&client->crew);
	for (i = 0; i < client->nworkers; i++) {
		loop_drain(&client->workers[i].loop);
		end_all(&client->workers[i]);
	}
	/* Now that every lookup is cancelled, and before the loops go. */
	resolver_close(client->names);
	resolver_close(client->servers);
	for (i = 0; i < client->nworkers; i++)
		loop_close(&client->workers[i].loop);
	crew_close(&client->crew);
	free(client->workers);
}
