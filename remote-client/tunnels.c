/*
 * All tunnels of a worker: as many as the configuration wants, at the servers
 * that it names; and their end.
 */
#include <string.h>

#include "remote-client/tunnel_private.h"

unsigned
tunnels_wanted(const struct config *c, unsigned workers)
{
	/* Each one more would replace the one before it. */
	if (c->dialect == CONFIG_CLASSIC)
		return 1;
	if (c->tunnels != 0)
		return c->tunnels;
	return workers < 64 ? workers : 64;
}

/* The place of a server in the list; c->nservers: it is not there. */
static size_t
place_of(const struct config *c, const struct hostport *server)
{
	size_t i;

	for (i = 0; i < c->nservers; i++)
		if (c->servers[i].port == server->port &&
		    strcmp(c->servers[i].host, server->host) == 0)
			break;
	return i;
}

/* One without a session begins with the list as it is now. */
static void
begin_again(struct tunnel *t)
{
	t->server = 0;
	if (t->state != TUNNEL_DIALLING)
		return;
	dial_stop(&t->dial);
	roll_settle(roll_of(t), &t->entry);
	tunnel_wait(t, 0);
}

/*
 * What is not wanted any more runs out: strays, too, that would take a slot
 * back.
 */
static void
dismiss(struct tunnel *t, unsigned wanted)
{
	int slot = t->slot != STRAY ? t->slot : t->home;

	if (slot == STRAY)
		return;
	if (t->homing || (unsigned)slot >= wanted) {
		tunnel_run_out(t, INS_END_FINISHED, "fewer tunnels");
		return;
	}
	if (t->session == NULL) {
		begin_again(t);
		return;
	}
	t->server = place_of(t->worker->config, &t->with.at);
	if (t->server < t->worker->config->nservers)
		return;
	if (t->slot == STRAY || tunnel_succeed(t, 0) != NULL)
		tunnel_run_out(t, INS_END_FINISHED,
		    "another server is configured");
}

int
tunnels_update(struct worker *w)
{
	unsigned n = w->client->nworkers, i;
	unsigned wanted = tunnels_wanted(w->config, n);
	struct list *l, *next;
	struct tunnel *t;

	for (l = w->tunnels.next; l != &w->tunnels; l = next) {
		next = l->next;
		dismiss(container_of(l, struct tunnel, node), wanted);
	}
	for (i = w->index; i < wanted; i += n) {
		if (tunnel_in_slot(w, (int)i) != NULL)
			continue;
		t = tunnel_new(w, (int)i);
		if (t == NULL)
			return -1;
		if (i == 0 || roll_up(&w->client->roll) > 0)
			tunnel_wait(t, 0);
	}
	return 0;
}

void
tunnels_drain(struct worker *w)
{
	struct list *l, *next;
	struct tunnel *t;

	w->draining = true;
	for (l = w->tunnels.next; l != &w->tunnels; l = next) {
		next = l->next;
		t = container_of(l, struct tunnel, node);
		if (t->session == NULL)
			tunnel_free(t);
		else
			session_go_away(t->session, INS_END_SHUTDOWN,
			    "stopping");
	}
}

void
tunnels_stop(struct worker *w)
{
	struct tunnel *t;
	struct list *l;

	for (l = w->tunnels.next; l != &w->tunnels; l = l->next) {
		t = container_of(l, struct tunnel, node);
		t->state = TUNNEL_STOPPED;
		timer_cancel(&worker_driver(t->worker)->timers, &t->timer);
		dial_stop(&t->dial);
	}
}

void
tunnels_free(struct worker *w)
{
	while (!list_empty(&w->tunnels))
		tunnel_free(container_of(w->tunnels.next, struct tunnel, node));
}
