/*
 * remote-client: the end of the tunnel that dials out.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/daemon.h"
#include "base/log.h"
#include "net/upgrade.h"
#include "remote-client/image.h"
#include "remote-client/report.h"
#include "remote-client/tunnel.h"
#include "remote-client/worker.h"

#define PROCESS_RESERVE 65536
#define DRAIN_LOOK (SECOND / 20)

static void
log_ready(const struct client *client, const struct handover *before)
{
	struct log_line l;

	if (!log_begin(&l, LOG_INFO, before->fd >= 0 ? "upgraded" : "ready"))
		return;
	log_number(&l, "pid", (uint64_t)getpid());
	log_text(&l, "remote", client->config->name);
	log_number(&l, "workers", client->nworkers);
	log_number(&l, "tunnels",
	    tunnels_wanted(client->config, client->nworkers));
	log_text(&l, "version", PORT_PROXY_VERSION);
	upgrade_log(&l, before);
	log_end(&l);
}

static int
client_init(struct client *client, const struct config *config)
{
	unsigned workers;

	client->config = config;
	client->fixed.workers = config->workers;
	client->fixed.memory = config->memory;
	budget_init(&client->memory,
	    config->memory != 0 ? config->memory : daemon_memory(),
	    PROCESS_RESERVE);
	roll_init(&client->roll);
	workers = config->workers != 0 ? config->workers : daemon_cores();
	if (workers_init(client, workers) < 0)
		return -1;
	driver_random(worker_driver(&client->workers[0]), client->instance,
	    sizeof(client->instance));
	return 0;
}

static int
begin_tunnels(struct client *client)
{
	unsigned i;

	for (i = 0; i < client->nworkers; i++)
		if (tunnels_update(&client->workers[i]) < 0)
			return -1;
	return 0;
}

static void
warn_fixed(const char *setting, uint64_t now, uint64_t wanted)
{
	if (now != wanted)
		log_event(LOG_WARN, "restart-needed", "setting", setting, NULL);
}

static void
update_worker(void *context, unsigned worker)
{
	struct client *client = context;
	struct worker *w = &client->workers[worker];

	w->config = client->config;
	if (tunnels_update(w) < 0)
		log_event(LOG_ERROR, "out-of-memory", "reason",
		    "not all tunnels can be made", NULL);
}

static void
reload(struct client *client, struct config **config)
{
	struct config *next = daemon_reload(), *old = *config;

	if (next == NULL)
		return;
	if (strcmp(next->name, old->name) != 0 ||
	    next->dialect != old->dialect) {
		log_event(LOG_ERROR, "reload-failed", "reason",
		    "`name` and `dialect` need a restart to change", NULL);
		config_free(next);
		return;
	}
	warn_fixed("workers", client->fixed.workers, next->workers);
	warn_fixed("memory", client->fixed.memory, next->memory);
	daemon_set_level(next);
	client->config = *config = next;
	crew_run(&client->crew, update_worker, client);
	config_free(old);
	log_event(LOG_INFO, "reloaded", NULL);
}

static void
drain_worker(void *context, unsigned worker)
{
	struct client *client = context;

	tunnels_drain(&client->workers[worker]);
}

/* Let streams finish: until drain_timeout, or the second signal. */
static void
drain(struct client *client)
{
	uint64_t now = loop_clock();
	uint64_t deadline = now + client->config->drain_timeout * MS;
	enum daemon_event event;

	crew_run(&client->crew, drain_worker, client);
	while (roll_sessions(&client->roll) > 0 && now < deadline) {
		event = daemon_wait(now + DRAIN_LOOK);
		if (event == DAEMON_STOP)
			break;
		if (event == DAEMON_UPGRADE)
			daemon_upgrade_dropped("we are stopping");
		now = loop_clock();
	}
}

static void
save_start(void *context, struct image_writer *w)
{
	image_save_start(context, w);
}

static void
save_all(void *context, struct image_writer *w)
{
	image_save_all(context, w);
}

static void
upgrade(struct client *client)
{
	static const struct upgrade_ops ops = {save_start, save_all};

	upgrade_run(&client->crew, client->config->upgrade_timeout * MS, &ops,
	    client);
	daemon_forget_upgrades();
}

/* Until we are to stop. */
static void
serve(struct client *client, struct config **config)
{
	enum daemon_event event;

	while ((event = daemon_wait(UINT64_MAX)) != DAEMON_STOP)
		if (event == DAEMON_RELOAD) {
			daemon_notify_reloading();
			reload(client, config);
			daemon_notify_ready();
		} else if (event == DAEMON_REPORT)
			report(client);
		else if (event == DAEMON_UPGRADE)
			upgrade(client);
	daemon_notify_stopping();
	drain(client);
}

int
main(int argc, char **argv)
{
	static struct resolver names, servers; /* outlive main: resolver.h */
	struct client client = {.names = &names, .servers = &servers};
	struct image_reader image;
	struct handover before;
	const char *refused;
	struct config *config;
	int error;

	daemon_block_signals();
	handover_remember(argc, argv);
	config = daemon_start(argc, argv, CONFIG_CLIENT);
	upgrade_begin(&before, &image);
	daemon_raise_limits();
	resolver_init(&names);
	resolver_init(&servers);
	if (client_init(&client, config) < 0) {
		log_event(LOG_ERROR, "cannot-start", "reason",
		    "out of memory or descriptors", NULL);
		return 1;
	}
	if (before.fd >= 0) {
		refused = image_load_start(&client, &image);
		if (refused != NULL)
			upgrade_refuse(&before, "prepare", refused);
		upgrade_ready(&before, &image);
		upgrade_taken(&before, &image, image_load_all(&client, &image));
	}
	error = begin_tunnels(&client) < 0 ? ENOMEM : crew_start(&client.crew);
	if (error != 0)
		log_event(LOG_ERROR, "cannot-start", "reason", strerror(error),
		    NULL);
	else {
		log_ready(&client, &before);
		daemon_notify_ready();
		serve(&client, &config);
	}
	workers_stop(&client);
	roll_close(&client.roll);
	config_free(config);
	return error != 0;
}
