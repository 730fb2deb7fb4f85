#include "proxy-server/worker.h"

#include <errno.h>
#include <stdlib.h>

#include "proxy-server/acceptor.h"
#include "proxy-server/arrival.h"
#include "proxy-server/visitor.h"
#include "tunnel/session.h"

static int
worker_init(struct worker *w, struct server *server, unsigned index)
{
	uint64_t seed;

	if (loop_init(&w->loop, &allocator_system) < 0)
		return -1;
	crew_add(&server->crew, &w->member, &w->loop);
	w->server = server;
	w->index = index;
	list_init(&w->acceptors);
	list_init(&w->arrivals);
	list_init(&w->visitors);
	list_init(&w->waiting);
	list_init(&w->sessions);
	driver_random(worker_driver(w), &seed, sizeof(seed));
	hash_init(&w->tunnels, &allocator_system, seed);
	return 0;
}

int
workers_init(struct server *server, unsigned n)
{
	crew_init(&server->crew);
	server->workers = calloc(n, sizeof(*server->workers));
	if (server->workers == NULL)
		return -1;
	for (; server->nworkers < n; server->nworkers++)
		if (worker_init(&server->workers[server->nworkers], server,
			server->nworkers) < 0)
			return -1;
	return 0;
}

static void
end_all(struct worker *w)
{
	acceptors_stop(w);
	arrival_end_all(w);
	session_end_all(&w->sessions, INS_END_SHUTDOWN, "stopping");
	visitor_end_all(w);
}

static void
end_worker(void *context, unsigned worker)
{
	struct server *server = context;

	end_all(&server->workers[worker]);
}

void
workers_stop(struct server *server)
{
	unsigned i;

	crew_run(&server->crew, end_worker, server);
	crew_stop(&server->crew);
	/*
	 * What they still posted to each other has nobody to go to.  What is
	 * delivered may post once more: a tunnel, then a visitor.
	 */
	for (i = 0; i < 4 * server->nworkers; i++)
		loop_drain(&server->workers[i % server->nworkers].loop);
	for (i = 0; i < server->nworkers; i++)
		end_all(&server->workers[i]);
	for (i = 0; i < server->nworkers; i++) {
		loop_close(&server->workers[i].loop);
		hash_close(&server->workers[i].tunnels);
	}
	crew_close(&server->crew);
	free(server->workers);
}
