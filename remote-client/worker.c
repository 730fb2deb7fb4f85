#include "remote-client/worker.h"

#include <errno.h>
#include <stdlib.h>

#include "remote-client/dial.h"
#include "tunnel/session.h"

int
workers_init(struct client *client, unsigned n)
{
	struct worker *w;

	client->workers = calloc(n, sizeof(*client->workers));
	if (client->workers == NULL)
		return -1;
	for (; client->nworkers < n; client->nworkers++) {
		w = &client->workers[client->nworkers];
		if (loop_init(&w->loop, &allocator_system) < 0)
			return -1;
		w->client = client;
		w->index = client->nworkers;
		list_init(&w->sessions);
	}
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
workers_start(struct client *client)
{
	unsigned i;
	int error;

	for (i = 0; i < client->nworkers; i++) {
		error = pthread_create(&client->workers[i].thread, NULL,
		    worker_main, &client->workers[i]);
		if (error != 0)
			return error;
		client->workers[i].running = true;
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
	dials_stop(w);
	session_end_all(&w->sessions, INS_END_SHUTDOWN, "stopping");
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
workers_stop(struct client *client)
{
	struct stop_message *stops;
	unsigned i;

	stops = calloc(client->nworkers + 1, sizeof(*stops));
	if (stops == NULL)
		abort();
	for (i = 0; i < client->nworkers; i++) {
		stops[i].message.deliver = deliver_stop;
		stops[i].worker = &client->workers[i];
		if (client->workers[i].running)
			loop_post(&client->workers[i].loop, &stops[i].message);
	}
	for (i = 0; i < client->nworkers; i++)
		if (client->workers[i].running)
			pthread_join(client->workers[i].thread, NULL);
	for (i = 0; i < client->nworkers; i++) {
		loop_drain(&client->workers[i].loop);
		end_all(&client->workers[i]);
	}
	/* Now that every lookup is cancelled, and before the loops go. */
	resolver_close(client->names);
	resolver_close(client->servers);
	for (i = 0; i < client->nworkers; i++)
		loop_close(&client->workers[i].loop);
	free(stops);
	free(client->workers);
}
