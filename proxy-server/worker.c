#include "proxy-server/worker.h"

#include <errno.h>
#include <stdlib.h>

#include "proxy-server/arrival.h"
#include "proxy-server/listener.h"
#include "proxy-server/visitor.h"
#include "tunnel/session.h"

static int
worker_init(struct worker *w, struct server *server, unsigned index)
{
	uint64_t seed;

	if (loop_init(&w->loop, &allocator_system) < 0)
		return -1;
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
	server->workers = calloc(n, sizeof(*server->workers));
	if (server->workers == NULL)
		return -1;
	for (; server->nworkers < n; server->nworkers++)
		if (worker_init(&server->workers[server->nworkers], server,
			server->nworkers) < 0)
			return -1;
	return 0;
}

static void *
worker_main(void *argument)
{
	struct worker *w = argument;

	loop_run(&w->loop);
	return NULL;
}

int
workers_start(struct server *server)
{
	unsigned i;
	int error;

	for (i = 0; i < server->nworkers; i++) {
		error = pthread_create(&server->workers[i].thread, NULL,
		    worker_main, &server->workers[i]);
		if (error != 0)
			return error;
		server->workers[i].running = true;
	}
	return 0;
}

struct stop_message {
	struct message message;
	struct worker *worker;
};

static void
end_all(struct worker *w)
{
	listeners_stop(w);
	arrival_end_all(w);
	session_end_all(&w->sessions, INS_END_SHUTDOWN, "stopping");
	visitor_end_all(w);
}

static void
deliver_stop(struct message *m)
{
	struct worker *w =
	    container_of(m, struct stop_message, message)->worker;

	end_all(w);
	loop_stop(&w->loop);
}

void
workers_stop(struct server *server)
{
	struct stop_message *stops;
	unsigned i;

	stops = calloc(server->nworkers + 1, sizeof(*stops));
	if (stops == NULL)
		abort();
	for (i = 0; i < server->nworkers; i++) {
		stops[i].message.deliver = deliver_stop;
		stops[i].worker = &server->workers[i];
		if (server->workers[i].running)
			loop_post(&server->workers[i].loop, &stops[i].message);
	}
	for (i = 0; i < server->nworkers; i++)
		if (server->workers[i].running)
			pthread_join(server->workers[i].thread, NULL);
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
	free(stops);
	free(server->workers);
}
