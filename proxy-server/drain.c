#include "proxy-server/drain.h"

#include "base/daemon.h"
#include "base/log.h"
#include "proxy-server/acceptor.h"
#include "proxy-server/registry.h"
#include "proxy-server/tunnel.h"
#include "proxy-server/visitor.h"

#define LOOK_US (SECOND / 20)

static void
close_listeners(void *context, unsigned worker)
{
	struct server *server = context;

	acceptors_end_visitors(&server->workers[worker]);
}

/* Behind those visitors that were on their way to another worker. */
static void
say_go_away(void *context, unsigned worker)
{
	struct server *server = context;
	struct worker *w = &server->workers[worker];

	visitor_refuse_waiting(w);
	tunnels_go_away(w, INS_END_SHUTDOWN);
}

static void
count_sessions(void *context, unsigned worker)
{
	struct server *server = context;

	if (!list_empty(&server->workers[worker].sessions))
		atomic_fetch_add(&server->undrained, 1);
}

static bool
is_drained(struct server *server)
{
	atomic_store(&server->undrained, 0);
	crew_run(&server->crew, count_sessions, server);
	return atomic_load(&server->undrained) == 0;
}

void
drain(struct server *server)
{
	uint64_t now = loop_clock();
	uint64_t deadline = now + server->config->drain_timeout * MS;
	enum daemon_event event;

	atomic_store(&server->draining, true);
	crew_run(&server->crew, close_listeners, server);
	crew_run(&server->crew, say_go_away, server);
	while (!is_drained(server) && now < deadline) {
		event = daemon_wait(now + LOOK_US);
		if (event == DAEMON_STOP)
			break;
		if (event == DAEMON_UPGRADE)
			daemon_upgrade_dropped("we are stopping");
		now = loop_clock();
	}
}
