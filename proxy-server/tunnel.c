#include "proxy-server/tunnel.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "net/tcp.h"
#include "proxy-server/registry.h"
#include "proxy-server/visitor.h"

struct tunnel *
tunnel_new(struct server *server, int fd, const char *peer, const uint8_t *rest,
    size_t nrest)
{
	struct tunnel *t = calloc(1, sizeof(*t));

	if (t == NULL)
		goto err0;
	if (nrest > 0) {
		t->rest = malloc(nrest);
		if (t->rest == NULL)
			goto err1;
		memcpy(t->rest, rest, nrest);
		t->nrest = nrest;
	}
	t->message.deliver = tunnel_adopt;
	t->id = atomic_fetch_add(&server->next_session, 1);
	t->node.key = &t->id;
	t->node.len = sizeof(t->id);
	t->fd = fd;
	strcpy(t->peer, peer);
	list_init(&t->in_remote);
	return t;

err1:
	free(t);
err0:
	return NULL;
}

void
tunnel_free(struct tunnel *t)
{
	if (t == NULL)
		return;
	free(t->rest);
	free(t);
}

static void
log_tunnel(enum log_level level, const char *event, const struct tunnel *t,
    const char *reason)
{
	struct log_line l;

	if (!log_begin(&l, level, event))
		return;
	log_text(&l, "remote", t->remote->name);
	log_text(&l, "peer", t->peer);
	if (reason == NULL)
		log_text(&l, "dialect", t->classic ? "classic" : "extended");
	log_number(&l, "session", t->id);
	if (reason == NULL)
		log_number(&l, "worker", t->worker->index);
	else
		log_text(&l, "reason", reason);
	log_end(&l);
}

static void
on_finished(struct session *s, const struct stream_report *r)
{
	/* The tunnel may be gone: some streams still deliver after it. */
	(void)s;
	visitor_finished(r);
}

static void
on_ended(struct session *s, unsigned code, const char *why)
{
	struct tunnel *t = session_owner(s);
	struct server *server = t->worker->server;

	log_tunnel(code == INS_END_PROTOCOL || code == INS_END_UNREAD ?
		LOG_WARN :
		LOG_INFO,
	    "session-ended", t, why);
	registry_release(server, t);
	hash_remove(&t->worker->tunnels, &t->node);
	tunnel_free(t);
}

static const struct session_events events = {
    .open = NULL,
    .finished = on_finished,
    .ended = on_ended,
};

/* The answer to the registration: on a fresh socket it fits. */
static int
tell_registered(const struct tunnel *t)
{
	struct ins_registered g = {.session = t->id};
	uint8_t buf[INS_ENCODE_MAX];
	size_t n = ins_registered_encode(buf, sizeof(buf), &g);

	if (t->classic)
		return 0;
	return send(t->fd, buf, n, MSG_NOSIGNAL) == (ssize_t)n ? 0 : -1;
}

static int
start(struct tunnel *t)
{
	struct worker *w = t->worker;
	const struct config *c = w->server->config;
	struct session_config config = {
	    .dialect = t->classic ? INS_CLASSIC : INS_EXTENDED,
	    .server = true,
	    .id = t->id,
	    .driver = worker_driver(w),
	    .process = &w->server->memory,
	    .memory = c->session_memory,
	    .window_max = c->stream_window_max,
	    .heartbeat = c->heartbeat_interval * MS,
	    .stall = c->classic_stall * MS,
	    .events = &events,
	    .all = &w->sessions,
	    .owner = t,
	};
	struct carrier *carrier;

	if (tell_registered(t) < 0)
		return -1;
	carrier = tcp_carrier_new(&w->loop, t->fd);
	if (carrier == NULL)
		return -1;
	t->fd = -1;
	t->session = session_new(&config, carrier);
	if (t->session == NULL) {
		carrier->ops->close(carrier);
		errno = ENOMEM;
		return -1;
	}
	return 0;
}

void
tunnel_adopt(struct message *m)
{
	struct tunnel *t = container_of(m, struct tunnel, message);
	struct server *server = t->worker->server;
	uint8_t *rest = t->rest;

	if (start(t) < 0) {
		log_tunnel(LOG_WARN, "session-ended", t, strerror(errno));
		registry_release(server, t);
		if (t->fd >= 0)
			close(t->fd);
		tunnel_free(t);
		return;
	}
	hash_insert(&t->worker->tunnels, &t->node);
	log_tunnel(LOG_INFO, "registered", t, NULL);
	t->rest = NULL;
	session_input(t->session, rest, t->nrest);
	free(rest);
	visitor_remote_up(server, t->remote->name);
}

struct end_message {
	struct message message;
	struct worker *worker;
	uint64_t id;
	enum ins_end_code code;
};

static void
deliver_end(struct message *m)
{
	struct end_message *e = container_of(m, struct end_message, message);
	struct hash_node *n;

	n = hash_find(&e->worker->tunnels, &e->id, sizeof(e->id));
	if (n != NULL)
		session_end(container_of(n, struct tunnel, node)->session,
		    e->code, ins_end_text(e->code));
	free(e);
}

void
tunnel_end(struct worker *w, uint64_t id, enum ins_end_code code)
{
	struct end_message *e = malloc(sizeof(*e));

	/* Then it stays until its carrier ends; nobody finds it any more. */
	if (e == NULL)
		return;
	e->message.deliver = deliver_end;
	e->worker = w;
	e->id = id;
	e->code = code;
	loop_post(&w->loop, &e->message);
}
