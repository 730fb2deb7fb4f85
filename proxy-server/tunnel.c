#include "proxy-server/tunnel.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "net/tcp.h"
#include "proxy-server/image.h"
#include "proxy-server/registry.h"
#include "proxy-server/visitor.h"
#include "tunnel/proof.h"

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
on_parked(struct session *s, const char *why)
{
	struct tunnel *t = session_owner(s);

	t->parked_at = worker_driver(t->worker)->now;
	registry_set_parked(t->worker->server, t, true);
	log_tunnel(LOG_WARN, "session-parked", t, why);
}

static void
on_going(struct session *s, unsigned code, const char *why)
{
	struct tunnel *t = session_owner(s);

	(void)code;
	registry_set_going(t->worker->server, t);
	log_tunnel(LOG_INFO, "going-away", t, why);
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
    .parked = on_parked,
    .going = on_going,
    .ended = on_ended,
};

/* The answer to the registration: on a fresh socket it fits. */
static int
tell_registered(const struct tunnel *t)
{
	struct ins_registered g = {t->id, t->resume, t->secret};
	uint8_t buf[INS_ENCODE_MAX];
	size_t n = ins_registered_encode(buf, sizeof(buf), &g);

	if (t->classic)
		return 0;
	return send(t->fd, buf, n, MSG_NOSIGNAL) == (ssize_t)n ? 0 : -1;
}

static struct session_config
config_of(struct tunnel *t)
{
	struct worker *w = t->worker;
	const struct config *c = w->config;

	return (struct session_config){
	    .dialect = t->classic ? INS_CLASSIC : INS_EXTENDED,
	    .server = true,
	    .id = t->id,
	    .driver = worker_driver(w),
	    .process = &w->server->memory,
	    .memory = c->session_memory,
	    .window_max = c->stream_window_max,
	    .heartbeat = c->heartbeat_interval * MS,
	    .misses = c->heartbeat_misses,
	    .resume = t->resume * MS,
	    .resume_memory = c->resume_memory,
	    .stall = c->classic_stall * MS,
	    .events = &events,
	    .all = &w->sessions,
	    .owner = t,
	};
}

static int
start(struct tunnel *t)
{
	struct worker *w = t->worker;
	const struct config *c = w->config;
	struct session_config config = config_of(t);
	struct carrier *carrier;

	if (tell_registered(t) < 0)
		return -1;
	if (!t->classic)
		address_watch_carrier(t->fd,
		    c->heartbeat_interval * c->heartbeat_misses);
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

struct tunnel *
tunnel_find(struct worker *w, uint64_t id)
{
	struct hash_node *n = hash_find(&w->tunnels, &id, sizeof(id));

	return n != NULL ? container_of(n, struct tunnel, node) : NULL;
}

static struct ins_proof
proof_of(const struct tunnel *t, const struct comeback *c)
{
	const struct server *server = t->worker->server;

	return (struct ins_proof){
	    .client_instance = t->instance,
	    .server_instance = server->instance,
	    .server_start = server->start,
	    .name = {(const uint8_t *)t->remote->name, strlen(t->remote->name)},
	    .session = t->id,
	    .client_nonce = c->client_nonce,
	    .server_nonce = c->server_nonce,
	    .attempt = c->resume->attempt,
	    .client_offset = c->resume->offset,
	};
}

static bool
may_resume(const struct tunnel *t, const struct comeback *c)
{
	struct ins_proof in = proof_of(t, c);

	return t->resume > 0 &&
	    memcmp(t->instance, c->resume->who.instance, INS_INSTANCE_SIZE) ==
	    0 &&
	    proof_check(t->secret, false, &in, c->resume->proof) &&
	    c->resume->attempt > t->attempt &&
	    session_resumable(t->session, c->resume->offset);
}

/* On a fresh socket it fits. */
static int
tell_resumed(const struct tunnel *t, const struct comeback *c, uint64_t offset)
{
	uint8_t proof[INS_PROOF_SIZE], buf[INS_ENCODE_MAX];
	struct ins_resumed m = {offset, proof};
	struct ins_proof in = proof_of(t, c);
	size_t n;

	in.server_offset = offset;
	if (proof_make(t->secret, true, &in, proof) < 0)
		return -1;
	n = ins_resumed_encode(buf, sizeof(buf), &m);
	return send(c->fd, buf, n, MSG_NOSIGNAL) == (ssize_t)n ? 0 : -1;
}

static void
log_resumed(const struct tunnel *t)
{
	struct log_line l;

	if (!log_begin(&l, LOG_INFO, "resumed"))
		return;
	log_text(&l, "remote", t->remote->name);
	log_text(&l, "peer", t->peer);
	log_number(&l, "session", t->id);
	log_number(&l, "streams", session_streams(t->session));
	log_number(&l, "attempt", t->attempt);
	if (t->parked)
		log_number(&l, "ms",
		    (worker_driver(t->worker)->now - t->parked_at) / MS);
	log_end(&l);
}

unsigned
tunnel_resume(struct tunnel *t, const struct comeback *c)
{
	const struct config *config = t->worker->config;
	struct carrier *carrier;
	uint64_t offset;
	const char *why;

	if (!may_resume(t, c))
		return INS_END_NOT_RESUMED;
	carrier = tcp_carrier_new(&t->worker->loop, c->fd);
	if (carrier == NULL)
		return INS_END_NO_RESOURCES;
	t->attempt = c->resume->attempt;
	strcpy(t->peer, c->peer);
	offset = session_let_go(t->session);
	if (tell_resumed(t, c, offset) < 0) {
		/* Gone already: it stays parked, and the peer tries again. */
		why = strerror(errno);
		carrier->ops->close(carrier);
		if (!t->parked)
			on_parked(t->session, why);
		return 0;
	}
	address_watch_carrier(c->fd,
	    config->heartbeat_interval * config->heartbeat_misses);
	session_resume(t->session, carrier, c->resume->offset);
	log_resumed(t);
	session_input(t->session, c->rest, c->nrest);
	registry_settle(t->worker->server, t, &c->resume->who);
	registry_set_parked(t->worker->server, t, false);
	visitor_remote_up(t->worker->server, t->remote->name);
	return 0;
}

struct end_message {
	struct message message;
	struct worker *worker;
	uint64_t id;
	enum ins_end_code code;
	bool away;
};

static void
go_away(struct tunnel *t, enum ins_end_code code)
{
	registry_set_going(t->worker->server, t);
	session_go_away(t->session, code, ins_end_text(code));
}

void
tunnels_go_away(struct worker *w, enum ins_end_code code)
{
	struct hash_node *n;
	size_t c;

	for (c = 0; c < w->tunnels.nchains; c++)
		for (n = w->tunnels.chains[c]; n != NULL; n = n->next)
			go_away(container_of(n, struct tunnel, node), code);
	for (n = w->tunnels.single; n != NULL; n = n->next)
		go_away(container_of(n, struct tunnel, node), code);
}

static void
deliver_end(struct message *m)
{
	struct end_message *e = container_of(m, struct end_message, message);
	struct tunnel *t = tunnel_find(e->worker, e->id);

	if (t != NULL && e->away)
		go_away(t, e->code);
	else if (t != NULL)
		session_end(t->session, e->code, ins_end_text(e->code));
	free(e);
}

static void
post_end(struct worker *w, uint64_t id, enum ins_end_code code, bool away)
{
	struct end_message *e = malloc(sizeof(*e));

	/* Then it stays until its carrier ends; nobody finds it any more. */
	if (e == NULL)
		return;
	e->message.deliver = deliver_end;
	e->worker = w;
	e->id = id;
	e->code = code;
	e->away = away;
	loop_post(&w->loop, &e->message);
}

void
tunnel_end(struct worker *w, uint64_t id, enum ins_end_code code)
{
	post_end(w, id, code, false);
}

void
tunnel_go_away(struct worker *w, uint64_t id, enum ins_end_code code)
{
	post_end(w, id, code, true);
}

/* For an upgrade in place. */

static void
save_fields(const struct tunnel *t, struct image_writer *w)
{
	image_put_text(w, t->remote->name);
	image_put(w, t->id);
	image_put(w, t->classic);
	image_put_bytes(w, t->instance, INS_INSTANCE_SIZE);
	image_put(w, t->serial);
	image_put(w, t->parked);
	image_put(w, t->going);
	image_put(w, t->resume);
	image_put_bytes(w, t->secret, INS_SECRET_SIZE);
	image_put(w, t->attempt);
	image_put(w, t->parked_at);
	image_put_text(w, t->peer);
	/* One that was expelled: its end is told by its session. */
	image_put(w, !list_empty(&t->in_remote));
}

void
tunnel_save(const struct session *s, struct image_writer *w)
{
	bool ended = session_has_ended(s);

	image_put_tag(w, "tunl");
	image_put(w, ended);
	if (ended) {
		image_put(w, session_dialect(s));
		image_put(w, session_id(s));
	} else
		save_fields(session_owner(s), w);
	image_save_session(s, w);
}

static void
load_fields(struct tunnel *t, struct image_reader *r)
{
	t->id = image_take(r, UINT64_MAX);
	t->classic = image_take_bool(r);
	image_take_exact(r, t->instance, INS_INSTANCE_SIZE);
	t->serial = image_take(r, UINT64_MAX);
	t->parked = image_take_bool(r);
	t->going = image_take_bool(r);
	t->resume = image_take(r, INS_RESUME_MS_MAX);
	image_take_exact(r, t->secret, INS_SECRET_SIZE);
	t->attempt = image_take(r, UINT64_MAX);
	t->parked_at = image_take(r, UINT64_MAX);
	image_take_text(r, t->peer, sizeof(t->peer));
}

static bool
load_ended(struct worker *w, struct image_reader *r)
{
	struct tunnel none = {.worker = w};
	struct session_config config;

	none.classic = image_take(r, INS_EXTENDED) == INS_CLASSIC;
	none.id = image_take(r, UINT64_MAX);
	config = config_of(&none);
	config.owner = NULL;
	return image_load_session(w, &config, r) != NULL;
}

static bool
load_tunnel(struct worker *w, struct image_reader *r)
{
	struct tunnel *t = calloc(1, sizeof(*t));
	char name[INS_NAME_MAX + 1];
	struct session_config config;
	bool in_remote;

	if (t == NULL)
		return false;
	t->worker = w;
	t->fd = -1;
	t->node.key = &t->id;
	t->node.len = sizeof(t->id);
	list_init(&t->in_remote);
	image_take_text(r, name, sizeof(name));
	load_fields(t, r);
	in_remote = image_take_bool(r);
	if (r->failed || !registry_adopt(w->server, t, name))
		return false;
	if (!in_remote)
		list_remove(&t->in_remote);
	config = config_of(t);
	t->session = image_load_session(w, &config, r);
	if (t->session == NULL)
		return false;
	hash_insert(&w->tunnels, &t->node);
	return true;
}

bool
tunnel_load(struct worker *w, struct image_reader *r)
{
	image_take_tag(r, "tunl");
	return image_take_bool(r) ? load_ended(w, r) : load_tunnel(w, r);
}
