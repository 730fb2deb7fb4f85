/*
 * proxy-server: the end of the tunnel that can be reached.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/daemon.h"
#include "base/log.h"
#include "net/upgrade.h"
#include "proxy-server/drain.h"
#include "proxy-server/image.h"
#include "proxy-server/listeners.h"
#include "proxy-server/registry.h"
#include "proxy-server/reload.h"
#include "proxy-server/report.h"
#include "proxy-server/visitor.h"
#include "proxy-server/worker.h"

#define PROCESS_RESERVE 65536

static void
log_ready(const struct server *server, const struct handover *before)
{
	struct log_line l;

	if (!log_begin(&l, LOG_INFO, before->fd >= 0 ? "upgraded" : "ready"))
		return;
	log_number(&l, "pid", (uint64_t)getpid());
	log_number(&l, "workers", server->nworkers);
	log_text(&l, "version", PORT_PROXY_VERSION);
	upgrade_log(&l, before);
	log_end(&l);
}

/* Who this is, from the state directory; 0, or -1 with the reason logged. */
static int
server_identify(struct server *server, const struct config *config)
{
	char error[LOG_LINE_MAX];
	struct timespec now;
	uint64_t us;

	if (state_dir_open(&server->state, config->state_dir, error,
		sizeof(error)) < 0)
		goto err0;
	clock_gettime(CLOCK_REALTIME, &now);
	us = (uint64_t)now.tv_sec * SECOND + (uint64_t)now.tv_nsec / 1000;
	if (state_dir_identity(&server->state, server->instance, &server->start,
		us, error, sizeof(error)) < 0)
		goto err1;
	return 0;

err1:
	state_dir_close(&server->state);
err0:
	log_event(LOG_ERROR, "cannot-start", "reason", error, NULL);
	return -1;
}

/* Everything that the workers share; 0, or -1. */
static int
server_init(struct server *server, const struct config *config)
{
	unsigned workers;
	uint64_t seed;

	server->fixed.workers = config->workers;
	server->fixed.memory = config->memory;
	atomic_init(&server->next_session, 1);
	budget_init(&server->memory,
	    config->memory != 0 ? config->memory : daemon_memory(),
	    PROCESS_RESERVE);
	workers = config->workers != 0 ? config->workers : daemon_cores();
	if (workers_init(server, workers) < 0)
		return -1;
	driver_random(worker_driver(&server->workers[0]), &seed, sizeof(seed));
	table_init(&server->remotes, &allocator_system, seed);
	table_init(&server->connections, &allocator_system, seed);
	return 0;
}

/* What both sides of an upgrade work on. */
struct whole {
	struct server *server;
	struct listeners *listeners;
};

static void
save_start(void *context, struct image_writer *w)
{
	const struct whole *all = context;

	image_save_start(all->server, all->listeners, w);
}

static void
save_all(void *context, struct image_writer *w)
{
	const struct whole *all = context;

	image_save_all(all->server, w);
}

static void
upgrade(struct server *server, struct listeners *listeners)
{
	static const struct upgrade_ops ops = {save_start, save_all};
	struct whole all = {server, listeners};

	upgrade_run(&server->crew, server->config->upgrade_timeout * MS, &ops,
	    &all);
	daemon_forget_upgrades();
}

/* Until we are to stop. */
static void
serve(struct server *server, struct listeners *listeners)
{
	enum daemon_event event;

	while ((event = daemon_wait(UINT64_MAX)) != DAEMON_STOP)
		if (event == DAEMON_RELOAD) {
			daemon_notify_reloading();
			reload(server, listeners);
			daemon_notify_ready();
		} else if (event == DAEMON_REPORT)
			report(server);
		else if (event == DAEMON_UPGRADE)
			upgrade(server, listeners);
	daemon_notify_stopping();
	drain(server);
}

/* Who we are: the process before us, or the state directory tells. */
static int
begin(struct server *server, struct listeners *listeners,
    const struct config *config, struct handover *before,
    struct image_reader *image)
{
	char error[LOG_LINE_MAX];

	if (before->fd < 0) {
		listeners_activated(listeners);
		return server_identify(server, config);
	}
	if (!image_load_start(server, listeners, config, image, error,
		sizeof(error)))
		upgrade_refuse(before, "prepare", error);
	return 0;
}

/* Who waits for a name that the process before us knew. */
static void
refuse_unknown(struct server *server)
{
	unsigned i;

	for (i = 0; i < server->nworkers; i++)
		visitor_refuse_unknown(&server->workers[i]);
}

int
main(int argc, char **argv)
{
	struct listeners listeners;
	struct server server = {0};
	struct image_reader image;
	struct handover before;
	struct config *config;
	int status = 1, error;

	daemon_block_signals();
	handover_remember(argc, argv);
	config = daemon_start(argc, argv, CONFIG_SERVER);
	upgrade_begin(&before, &image);
	daemon_raise_limits();
	listeners_init(&listeners);
	if (begin(&server, &listeners, config, &before, &image) < 0)
		goto free;
	if (server_init(&server, config) < 0) {
		log_event(LOG_ERROR, "cannot-start", "reason",
		    "out of memory or descriptors", NULL);
		return 1;
	}
	if (reload_apply(&server, &listeners, config) < 0) {
		if (before.fd >= 0)
			upgrade_refuse(&before, "prepare",
			    "the configuration cannot be served; why was "
			    "logged before this");
		config_free(config);
		goto stop;
	}
	if (before.fd >= 0) {
		upgrade_ready(&before, &image);
		upgrade_taken(&before, &image, image_load_all(&server, &image));
	}
	listeners_listen(&server, &listeners);
	if (before.fd >= 0)
		refuse_unknown(&server);
	error = crew_start(&server.crew);
	if (error != 0) {
		log_event(LOG_ERROR, "cannot-start", "reason", strerror(error),
		    NULL);
		goto stop;
	}
	log_ready(&server, &before);
	daemon_notify_ready();
	serve(&server, &listeners);
	status = 0;

stop:
	workers_stop(&server);
	listeners_close(&listeners);
	registry_close(&server);
	table_close(&server.remotes);
	table_close(&server.connections);
	state_dir_close(&server.state);
	config_free(server.config);
	return status;

free:
	config_free(config);
	return status;
}
