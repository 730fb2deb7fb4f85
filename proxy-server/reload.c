#include "proxy-server/reload.h"

#include <errno.h>
#include <string.h>

#include "base/daemon.h"
#include "base/log.h"
#include "proxy-server/registry.h"
#include "proxy-server/visitor.h"

/* What the workers get. */
struct change {
	struct server *server;
	struct listeners *listeners;
	const struct config *config;
};

static void
switch_worker(void *context, unsigned worker)
{
	const struct change *c = context;
	struct worker *w = &c->server->workers[worker];

	w->config = c->config;
	listeners_switch(c->listeners, w);
}

static void
refuse_unknown(void *context, unsigned worker)
{
	struct server *server = context;

	visitor_refuse_unknown(&server->workers[worker]);
}

/* New names are there before their visitors, old ones go after theirs. */
static void
switch_all(struct change *c)
{
	struct server *server = c->server;
	const struct config *before = server->config;

	registry_admit(server, c->config);
	crew_run(&server->crew, switch_worker, c);
	if (before != NULL && registry_dismiss(server, before))
		crew_run(&server->crew, refuse_unknown, server);
}

int
reload_apply(struct server *server, struct listeners *ls, struct config *config)
{
	struct change c = {server, ls, config};
	struct listeners_change done;
	struct log_line l;

	if (registry_prepare(server, config) < 0) {
		log_event(LOG_ERROR,
		    server->config == NULL ? "cannot-start" : "reload-failed",
		    "reason", strerror(ENOMEM), NULL);
		goto fail;
	}
	if (listeners_prepare(server, ls, config) < 0)
		goto fail;
	switch_all(&c);
	done = listeners_settle(ls);
	daemon_set_level(config);
	if (server->config != NULL && log_begin(&l, LOG_INFO, "reloaded")) {
		log_number(&l, "added", done.added);
		log_number(&l, "changed", done.changed);
		log_number(&l, "removed", done.removed);
		log_end(&l);
	}
	config_free(server->config);
	server->config = config;
	return 0;

fail:
	if (server->config != NULL)
		registry_admit(server, server->config);
	registry_dismiss(server, config);
	return -1;
}

static void
warn_fixed(const char *setting, uint64_t now, uint64_t wanted)
{
	if (now != wanted)
		log_event(LOG_WARN, "restart-needed", "setting", setting, NULL);
}

void
reload(struct server *server, struct listeners *ls)
{
	struct config *config = daemon_reload();

	if (config == NULL)
		return;
	if (reload_apply(server, ls, config) < 0) {
		config_free(config);
		return;
	}
	warn_fixed("workers", server->fixed.workers, config->workers);
	warn_fixed("memory", server->fixed.memory, config->memory);
	warn_fixed("state_dir", 0,
	    !state_dir_is(&server->state, config->state_dir));
}
