/*
 * What a tunnel says to the proxy-server, and what it makes of the answers:
 * PROTOCOL.md, "Handshake" and "Resuming".
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "remote-client/tunnel_private.h"
#include "tunnel/proof.h"

#define ANSWER_DELAY (1 * MS)

static struct tunnel *
of(struct dial *d)
{
	return container_of(d, struct tunnel, dial);
}

static bool
is_classic(const struct tunnel *t)
{
	return t->worker->config->dialect == CONFIG_CLASSIC;
}

static struct ins_proof
proof_of(const struct tunnel *t)
{
	const char *name = t->worker->config->name;

	return (struct ins_proof){
	    .client_instance = t->worker->client->instance,
	    .server_instance = t->with.instance,
	    .server_start = t->with.start,
	    .name = {(const uint8_t *)name, strlen(name)},
	    .session = session_id(t->session),
	    .client_nonce = t->nonce,
	    .server_nonce = t->server_nonce,
	    .attempt = t->attempt,
	    .client_offset = t->asked_offset,
	};
}

static struct ins_register
who(const struct tunnel *t)
{
	static const char software[] = "port-proxy " PORT_PROXY_VERSION;
	const struct config *c = t->worker->config;

	return (struct ins_register){
	    .name = {(const uint8_t *)c->name, strlen(c->name)},
	    .instance = t->worker->client->instance,
	    .serial = t->serial,
	    .software = {(const uint8_t *)software, sizeof(software) - 1},
	    .resume = c->resume_timeout,
	};
}

static bool
say_register(struct tunnel *t)
{
	uint8_t held[INS_HELD_MAX * 8], buf[6 + INS_REGISTER_MAX];
	struct ins_register g = who(t);

	roll_tell(roll_of(t), t->hello_instance, t->hello_start, &g, held);
	dial_say(&t->dial, buf, ins_register_encode(buf, sizeof(buf), &g));
	return true;
}

static bool
say_resume(struct tunnel *t)
{
	uint8_t held[INS_HELD_MAX * 8], buf[6 + INS_REGISTER_MAX];
	uint8_t proof[INS_PROOF_SIZE];
	struct ins_resume m = {.who = who(t), .proof = proof};
	struct ins_proof in;

	t->attempt++;
	t->asked_offset = session_offsets(t->session).received;
	roll_tell(roll_of(t), t->with.instance, t->with.start, &m.who, held);
	m.who.standby = false;
	m.who.resume = 0;
	m.session = session_id(t->session);
	m.attempt = t->attempt;
	m.offset = t->asked_offset;
	in = proof_of(t);
	if (proof_make(t->with.secret, false, &in, proof) < 0) {
		dial_stop(&t->dial);
		tunnel_failed(t, "out of memory");
		return false;
	}
	/* From here on the proxy-server may have let go of the old carrier. */
	session_hold_on(t->session, true);
	dial_say(&t->dial, buf, ins_resume_encode(buf, sizeof(buf), &m));
	return true;
}

/* It does not know our session any more: its process is another one. */
static void
on_restarted(struct tunnel *t)
{
	dial_stop(&t->dial);
	roll_settle(roll_of(t), &t->entry);
	t->attempts = 0;
	session_end(t->session, INS_END_SILENT,
	    "the proxy-server was restarted");
}

/* Another proxy-server has that address now: there too, meanwhile. */
static void
on_other_server(struct tunnel *t)
{
	tunnel_split(t, t->server);
	dial_stop(&t->dial);
	tunnel_failed(t, "another proxy-server answers there");
}

static void
on_other_version(struct tunnel *t)
{
	dial_stop(&t->dial);
	tunnel_slow_down(t);
	tunnel_failed(t,
	    "the proxy-server speaks another version; "
	    "update it, or the one that `server` names");
}

/* An answer to what was not asked. */
static void
on_misplaced(struct tunnel *t, const char *why)
{
	uint8_t buf[INS_ENCODE_MAX];

	dial_say(&t->dial, buf,
	    ins_end_encode(buf, sizeof(buf), INS_END_PROTOCOL, why));
	dial_stop(&t->dial);
	tunnel_slow_down(t);
	tunnel_failed(t, why);
}

static bool
on_hello(struct dial *d, const struct ins_hello *hello)
{
	struct tunnel *t = of(d);

	memcpy(t->hello_instance, hello->instance, INS_INSTANCE_SIZE);
	memcpy(t->server_nonce, hello->nonce, INS_NONCE_SIZE);
	t->hello_start = hello->start;
	if (hello->version != INS_VERSION)
		on_other_version(t);
	else if (t->session == NULL)
		return say_register(t);
	else if (memcmp(hello->instance, t->with.instance, INS_INSTANCE_SIZE) !=
	    0)
		on_other_server(t);
	else if (hello->start != t->with.start)
		on_restarted(t);
	else
		return say_resume(t);
	return false;
}

struct session_config
tunnel_session_config(struct tunnel *t, uint64_t id)
{
	struct worker *w = t->worker;
	const struct config *c = w->config;

	return (struct session_config){
	    .dialect = is_classic(t) ? INS_CLASSIC : INS_EXTENDED,
	    .id = id,
	    .driver = worker_driver(w),
	    .process = &w->client->memory,
	    .memory = c->session_memory,
	    .window_max = c->stream_window_max,
	    .heartbeat = c->heartbeat_interval * MS,
	    .misses = c->heartbeat_misses,
	    .resume = t->with.resume * MS,
	    .resume_memory = c->resume_memory,
	    .stall = c->classic_stall * MS,
	    .answer_delay = ANSWER_DELAY,
	    .events = &tunnel_session_events,
	    .all = &w->sessions,
	    .owner = t,
	};
}

/* What was agreed, and with whom. */
static void
note_server(struct tunnel *t, const struct ins_registered *g)
{
	uint64_t ours = t->worker->config->resume_timeout;

	t->with.resume = g->resume < ours ? g->resume : ours;
	t->with.at = t->to;
	memcpy(t->with.instance, t->hello_instance, INS_INSTANCE_SIZE);
	t->with.start = t->hello_start;
	if (g->secret != NULL)
		memcpy(t->with.secret, g->secret, INS_SECRET_SIZE);
	t->attempt = 0;
}

static void
on_registered(struct dial *d, const struct ins_registered *g)
{
	struct tunnel *t = of(d);
	const struct config *c = t->worker->config;
	struct session_config config;
	struct carrier *carrier;
	const uint8_t *rest;
	size_t nrest;

	if (t->session != NULL) {
		on_misplaced(t, "InsRegistered as an answer to InsResume");
		return;
	}
	note_server(t, g);
	config = tunnel_session_config(t, g->session);
	if (!is_classic(t))
		address_watch_carrier(d->tcp->watch.fd,
		    c->heartbeat_interval * c->heartbeat_misses);
	carrier = dial_take(d);
	if (carrier != NULL)
		t->session = session_new(&config, carrier);
	if (t->session == NULL) {
		if (carrier != NULL)
			carrier->ops->close(carrier);
		dial_stop(d);
		tunnel_failed(t, "out of memory");
		return;
	}
	rest = dial_rest(d, &nrest);
	session_input(t->session, rest, nrest);
	dial_stop(d);
	tunnel_is_up(t, g->session);
}

static void
log_resumed(struct tunnel *t)
{
	struct log_line l;

	if (!log_begin(&l, LOG_INFO, "resumed"))
		return;
	log_text(&l, "server", t->dial.text);
	log_number(&l, "session", session_id(t->session));
	log_number(&l, "streams", session_streams(t->session));
	log_number(&l, "attempt", t->attempt);
	log_number(&l, "ms",
	    (worker_driver(t->worker)->now - t->parked_at) / MS);
	log_end(&l);
}

static void
on_resumed(struct dial *d, const struct ins_resumed *m)
{
	struct tunnel *t = of(d);
	const struct config *c = t->worker->config;
	struct ins_proof in;
	struct carrier *carrier;
	const uint8_t *rest;
	size_t nrest;

	if (t->session == NULL) {
		on_misplaced(t, "InsResumed as an answer to InsRegister");
		return;
	}
	in = proof_of(t);
	in.server_offset = m->offset;
	if (!proof_check(t->with.secret, true, &in, m->proof) ||
	    !session_resumable(t->session, m->offset)) {
		dial_stop(d);
		tunnel_failed(t, "its answer to the resume proves nothing");
		return;
	}
	address_watch_carrier(d->tcp->watch.fd,
	    c->heartbeat_interval * c->heartbeat_misses);
	carrier = dial_take(d);
	if (carrier == NULL) {
		dial_stop(d);
		tunnel_failed(t, strerror(errno));
		return;
	}
	session_resume(t->session, carrier, m->offset);
	log_resumed(t);
	rest = dial_rest(d, &nrest);
	session_input(t->session, rest, nrest);
	dial_stop(d);
	tunnel_is_up(t, session_id(t->session));
}

static void
on_refused(struct dial *d, unsigned code)
{
	struct tunnel *t = of(d);
	char reason[512];

	snprintf(reason, sizeof(reason), "the proxy-server refused: %s%s",
	    ins_end_text(code),
	    code == INS_END_UNKNOWN_NAME ?
		"; is `name` one of its `remote_name`s?" :
		"");
	/* Nothing proves it: go on trying, but do not wait for that. */
	if (t->session != NULL &&
	    (code == INS_END_UNKNOWN_SESSION || code == INS_END_NOT_RESUMED))
		tunnel_split(t, t->server);
	else
		tunnel_heed(t, code);
	tunnel_failed(t, reason);
}

static void
on_connected(struct dial *d)
{
	struct tunnel *t = of(d);
	struct ins_hello hello = {.version = INS_VERSION, .nonce = t->nonce};
	struct ins_registered classic = {.session = t->serial};
	uint8_t buf[INS_ENCODE_MAX];
	size_t n;

	if (is_classic(t)) {
		n = ins_initial_remote_encode(buf, sizeof(buf),
		    t->worker->config->name);
		dial_say(d, buf, n);
		on_registered(d, &classic);
		return;
	}
	driver_random(worker_driver(t->worker), t->nonce, sizeof(t->nonce));
	n = ins_hello_encode(buf, sizeof(buf), &hello);
	dial_say(d, buf, n);
}

static void
on_failed(struct dial *d, const char *reason, enum dial_failure how)
{
	struct tunnel *t = of(d);

	if (how == DIAL_BROKEN)
		tunnel_slow_down(t);
	if (how == DIAL_CUT && !t->cut && !t->homing) {
		t->cut = true;
		tunnel_again(t);
		return;
	}
	tunnel_failed(t, reason);
}

const struct dial_events tunnel_dial_events = {
    .connected = on_connected,
    .hello = on_hello,
    .registered = on_registered,
    .resumed = on_resumed,
    .refused = on_refused,
    .failed = on_failed,
};
