/*
 * remote-client: the end of the tunnel that dials out.
 */
#include <stdlib.h>
#include <string.h>

#include "base/daemon.h"
#include "base/log.h"
#include "remote-client/dial.h"
#include "remote-client/roll.h"
#include "remote-client/worker.h"

#define PROCESS_RESERVE 65536

static void
log_ready(const struct client *client)
{
	struct log_line l;

	if (!log_begin(&l, LOG_INFO, "ready"))
		return;
	log_text(&l, "remote", client->config->name);
	log_number(&l, "workers", client->nworkers);
	log_number(&l, "tunnels", client->ndials);
	log_text(&l, "version", PORT_PROXY_VERSION);
	log_end(&l);
}

/* Each tunnel more would replace the one before it in the classic dialect. */
static unsigned
tunnels(const struct config *c, unsigned workers)
{
	if (c->dialect == CONFIG_CLASSIC)
		return 1;
	if (c->tunnels != 0)
		return c->tunnels;
	return workers < 64 ? workers : 64;
}

static int
client_init(struct client *client, const struct config *config)
{
	unsigned workers;

	client->config = config;
	budget_init(&client->memory,
	    config->memory != 0 ? config->memory : daemon_memory(),
	    PROCESS_RESERVE);
	workers = config->workers != 0 ? config->workers : daemon_cores();
	if (workers_init(client, workers) < 0)
		return -1;
	driver_random(worker_driver(&client->workers[0]), client->instance,
	    sizeof(client->instance));
	if (dials_init(client, tunnels(config, workers)) < 0)
		return -1;
	return roll_init(&client->roll, client->ndials);
}

/* Until we are to stop. */
static void
serve(void)
{
	enum daemon_event event;

	while ((event = daemon_wait(UINT64_MAX)) != DAEMON_STOP)
		if (event == DAEMON_RELOAD)
			log_event(LOG_WARN, "reload", "reason",
			    "this version does "
			    "not reload; restart it to use a changed file",
			    NULL);
		else if (event == DAEMON_UPGRADE)
			log_event(LOG_WARN, "upgrade", "reason",
			    "not supported yet", NULL);
}

int
main(int argc, char **argv)
{
	static struct resolver names, servers; /* outlive main: resolver.h */
	struct config *config = daemon_start(argc, argv, CONFIG_CLIENT);
	struct client client = {.names = &names, .servers = &servers};
	int error;

	daemon_raise_limits();
	daemon_block_signals();
	resolver_init(&names);
	resolver_init(&servers);
	if (client_init(&client, config) < 0) {
		log_event(LOG_ERROR, "cannot-start", "reason",
		    "out of memory or descriptors", NULL);
		return 1;
	}
	dials_start(&client);
	error = crew_start(&client.crew);
	if (error != 0)
		log_event(LOG_ERROR, "cannot-start", "reason", strerror(error),
		    NULL);
	else {
		log_ready(&client);
		serve();
	}
	workers_stop(&client);
	dials_free(&client);
	roll_close(&client.roll);
	config_free(config);
	return error != 0;
}
