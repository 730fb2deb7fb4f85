#include "remote-client/dial.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/log.h"
#include "net/tcp.h"
#include "remote-client/application.h"
#include "remote-client/roll.h"
#include "tunnel/handshake.h"
#include "tunnel/session.h"

#define BACKOFF_FIRST (400 * MS) /* the pause is from half of it on */
#define BACKOFF_MAX (20 * (uint64_t)SECOND)
#define BACKOFF_SLOW 3 /* attempts that a refusal counts for: 3.2 s */
#define STANDBY_PAUSE (2 * (uint64_t)SECOND)
#define STEADY_AFTER (5 * (uint64_t)SECOND) /* up so long: start over */
#define DIAL_READ 16384
#define ANSWER_DELAY (1 * MS)

enum dial_state {
	DIAL_IDLE, /* until another dial has a session */
	DIAL_RESOLVING,
	DIAL_CONNECTING,
	DIAL_SHAKING,
	DIAL_UP,
	DIAL_WAITING, /* to dial again */
	DIAL_STOPPED,
};

/* Let go of with tcp_finish(), so by itself; tcp_carrier_take() frees it. */
struct attempt {
	struct tcp tcp; /* first */
	struct dial *dial;
};

struct dial {
	struct client *client;
	struct worker *worker;
	unsigned index;
	enum dial_state state;
	struct timer timer; /* a deadline, or when to dial again */
	struct lookup *lookup;
	struct tcp *tcp; /* CONNECTING, SHAKING */
	struct handshake handshake;
	struct address addresses[RESOLVER_ADDRESSES];
	size_t naddresses, next;
	size_t server; /* of config->servers */
	unsigned attempts; /* failed ones, for the backoff */
	uint64_t serial;
	uint64_t up_since;
	uint8_t server_instance[INS_INSTANCE_SIZE];
	struct session *session;
	char text[HOSTPORT_TEXT_MAX]; /* the server, as configured */
};

struct worker *
dial_worker(struct dial *d)
{
	return d->worker;
}

static struct driver *
driver_of(struct dial *d)
{
	return worker_driver(d->worker);
}

static void
dial_begin(struct dial *d);

/* How long to wait before the next attempt: equal jitter. */
static uint64_t
backoff(struct dial *d)
{
	uint64_t most = BACKOFF_FIRST, random;
	unsigned i;

	for (i = 0; i < d->attempts && most < BACKOFF_MAX; i++)
		most *= 2;
	if (most > BACKOFF_MAX)
		most = BACKOFF_MAX;
	if (roll_is_standby(&d->client->roll) && most > STANDBY_PAUSE)
		most = STANDBY_PAUSE;
	driver_random(driver_of(d), &random, sizeof(random));
	return most / 2 + random % (most / 2);
}

static void
wait_then_dial(struct dial *d, uint64_t pause)
{
	d->state = DIAL_WAITING;
	timer_set(&driver_of(d)->timers, &d->timer, driver_of(d)->now + pause);
}

static void
tcp_gone(struct tcp *t)
{
	free(t);
}

/* Let go of whatever the attempt holds. */
static void
let_go(struct dial *d)
{
	timer_cancel(&driver_of(d)->timers, &d->timer);
	if (d->lookup != NULL)
		lookup_cancel(d->lookup);
	d->lookup = NULL;
	if (d->tcp != NULL)
		tcp_finish(d->tcp, tcp_gone);
	d->tcp = NULL;
	handshake_close(&d->handshake);
}

static void
log_failed(const struct dial *d, const char *reason, uint64_t pause)
{
	struct log_line l;

	if (!log_begin(&l, LOG_WARN, "dial-failed"))
		return;
	log_text(&l, "server", d->text);
	log_text(&l, "reason", reason);
	log_number(&l, "retry_ms", pause / MS);
	log_end(&l);
}

/* The attempt failed: the next server at once, or a pause after the last. */
static void
failed(struct dial *d, const char *reason)
{
	uint64_t pause = 0;
	char text[512];

	/* The reason may lie in what is let go. */
	snprintf(text, sizeof(text), "%s", reason);
	let_go(d);
	roll_settle(&d->client->roll, d->index);
	d->server = (d->server + 1) % d->client->config->nservers;
	if (d->server == 0) {
		pause = backoff(d);
		d->attempts++;
	}
	log_failed(d, text, pause);
	wait_then_dial(d, pause);
}

static void
slow_down(struct dial *d)
{
	if (d->attempts < BACKOFF_SLOW)
		d->attempts = BACKOFF_SLOW;
}

/* What a code of InsEnd means for the next attempt: PROTOCOL.md, "InsEnd". */
static void
heed(struct dial *d, unsigned code)
{
	switch (code) {
	case INS_END_NAME_IN_USE:
	case INS_END_REPLACED:
		if (roll_stand_by(&d->client->roll))
			log_event(LOG_WARN, "standby", "remote",
			    d->client->config->name, "reason",
			    "another "
			    "remote-client has this name; waiting until it "
			    "is free",
			    NULL);
		slow_down(d);
		break;
	case INS_END_PROTOCOL:
	case INS_END_VERSION:
	case INS_END_UNKNOWN_NAME:
	case INS_END_BAD_NAME:
	case INS_END_NO_RESOURCES:
		slow_down(d);
		break;
	default:
		break;
	}
}

static void
on_ended(struct session *s, unsigned code, const char *why)
{
	struct dial *d = session_owner(s);
	struct log_line l;

	if (log_begin(&l, LOG_WARN, "session-ended")) {
		log_text(&l, "server", d->text);
		log_number(&l, "session", session_id(s));
		log_text(&l, "reason", why);
		log_end(&l);
	}
	d->session = NULL;
	roll_settle(&d->client->roll, d->index);
	if (d->state == DIAL_STOPPED)
		return;
	if (driver_of(d)->now - d->up_since >= STEADY_AFTER)
		d->attempts = 0;
	heed(d, code);
	wait_then_dial(d, backoff(d));
	d->attempts++;
}

static const struct session_events events = {
    .open = application_open,
    .finished = application_finished,
    .ended = on_ended,
};

struct wake_message {
	struct message message;
	struct dial *dial;
};

static void
deliver_wake(struct message *m)
{
	struct wake_message *w = container_of(m, struct wake_message, message);

	if (w->dial->state == DIAL_IDLE)
		dial_begin(w->dial);
	free(w);
}

/* A session is there: the dials that waited for that begin. */
static void
wake_others(struct dial *d)
{
	struct wake_message *w;
	unsigned i;

	for (i = 0; i < d->client->ndials; i++) {
		if (i == d->index)
			continue;
		/* Without a message it begins with the next session. */
		w = malloc(sizeof(*w));
		if (w == NULL)
			continue;
		w->message.deliver = deliver_wake;
		w->dial = &d->client->dials[i];
		loop_post(&w->dial->worker->loop, &w->message);
	}
}

static void
log_registered(const struct dial *d, uint64_t id, bool classic)
{
	struct log_line l;

	if (!log_begin(&l, LOG_INFO, "registered"))
		return;
	log_text(&l, "server", d->text);
	log_text(&l, "remote", d->client->config->name);
	log_text(&l, "dialect", classic ? "classic" : "extended");
	log_number(&l, "session", id);
	log_end(&l);
}

/* The handshake is over: the socket becomes the carrier of a session. */
static void
start_session(struct dial *d, uint64_t id)
{
	const struct config *c = d->client->config;
	bool classic = c->dialect == CONFIG_CLASSIC;
	struct session_config config = {
	    .dialect = classic ? INS_CLASSIC : INS_EXTENDED,
	    .id = id,
	    .driver = driver_of(d),
	    .process = &d->client->memory,
	    .memory = c->session_memory,
	    .window_max = c->stream_window_max,
	    .heartbeat = c->heartbeat_interval * MS,
	    .stall = c->classic_stall * MS,
	    .answer_delay = ANSWER_DELAY,
	    .events = &events,
	    .all = &d->worker->sessions,
	    .owner = d,
	};
	struct carrier *carrier;
	const uint8_t *rest;
	size_t nrest;

	carrier = tcp_carrier_take(d->tcp);
	d->tcp = NULL;
	if (carrier == NULL) {
		failed(d, strerror(errno));
		return;
	}
	d->session = session_new(&config, carrier);
	if (d->session == NULL) {
		carrier->ops->close(carrier);
		failed(d, "out of memory");
		return;
	}
	rest = handshake_rest(&d->handshake, &nrest);
	session_input(d->session, rest, nrest);
	let_go(d);
	d->state = DIAL_UP;
	d->up_since = driver_of(d)->now;
	roll_hold(&d->client->roll, d->index, id, d->server_instance);
	log_registered(d, id, classic);
	wake_others(d);
}

/* An instruction of the handshake: on a fresh socket it fits. */
static bool
say(struct dial *d, const uint8_t *data, size_t len)
{
	ssize_t n = send(d->tcp->watch.fd, data, len, MSG_NOSIGNAL);

	if (n == (ssize_t)len)
		return true;
	failed(d, n < 0 ? strerror(errno) : "the connection takes nothing");
	return false;
}

static bool
say_register(struct dial *d, const struct ins_hello *hello)
{
	static const char software[] = "port-proxy " PORT_PROXY_VERSION;
	const char *name = d->client->config->name;
	struct ins_register g = {
	    .name = {(const uint8_t *)name, strlen(name)},
	    .instance = d->client->instance,
	    .serial = d->serial,
	    .software = {(const uint8_t *)software, sizeof(software) - 1},
	};
	uint8_t held[INS_HELD_MAX * 8], buf[6 + INS_REGISTER_MAX];
	size_t n;

	if (hello->version != INS_VERSION) {
		failed(d,
		    "the proxy-server speaks another version; "
		    "update it, or the one that `server` names");
		return false;
	}
	memcpy(d->server_instance, hello->instance, INS_INSTANCE_SIZE);
	roll_tell(&d->client->roll, hello->instance, &g, held);
	n = ins_register_encode(buf, sizeof(buf), &g);
	return say(d, buf, n);
}

static void
refused(struct dial *d, const struct ins_end *end)
{
	char reason[512];

	snprintf(reason, sizeof(reason), "the proxy-server refused: %s%s",
	    ins_end_text(end->code),
	    end->code == INS_END_UNKNOWN_NAME ?
		"; is `name` one of its `remote_name`s?" :
		"");
	heed(d, end->code);
	failed(d, reason);
}

/* The server broke the protocol; it is told so when it would understand. */
static void
broken(struct dial *d, const struct handshake_event *e)
{
	uint8_t buf[INS_ENCODE_MAX];
	size_t n;

	slow_down(d);
	if (d->handshake.extended) {
		n = ins_end_encode(buf, sizeof(buf), (uint16_t)e->code, e->why);
		if (!say(d, buf, n))
			return;
	}
	failed(d, e->why);
}

/* What came of the handshake; false: the attempt is over. */
static bool
step(struct dial *d)
{
	struct handshake_event e;

	for (;;)
		switch (handshake_step(&d->handshake, &e)) {
		case HANDSHAKE_MORE:
			return true;
		case HANDSHAKE_HELLO:
			if (!say_register(d, &e.hello))
				return false;
			break;
		case HANDSHAKE_REGISTERED:
			start_session(d, e.registered.session);
			return false;
		case HANDSHAKE_END:
			refused(d, &e.end);
			return false;
		case HANDSHAKE_CLASSIC:
		case HANDSHAKE_REGISTER:
		case HANDSHAKE_BAD:
			broken(d, &e);
			return false;
		}
}

static const char *
closed_reason(const struct dial *d)
{
	return d->handshake.answered ?
	    "closed in the handshake" :
	    "closed without an answer; if it is a classic proxy-server set "
	    "`dialect: classic`, else check `server`";
}

static void
on_shaking(struct tcp *t)
{
	struct dial *d = container_of(t, struct attempt, tcp)->dial;
	uint8_t *buf = driver_of(d)->scratch;
	ssize_t n;

	while (t->readable) {
		n = tcp_read(t, buf, DIAL_READ);
		if (n < 0 && errno == EAGAIN)
			return;
		if (n <= 0) {
			failed(d,
			    n == 0 || errno == ECONNRESET ? closed_reason(d) :
							    strerror(errno));
			return;
		}
		if (handshake_add(&d->handshake, buf, (size_t)n) < 0) {
			failed(d, "out of memory");
			return;
		}
		if (!step(d))
			return;
	}
}

static void
begin_handshake(struct dial *d)
{
	const struct config *c = d->client->config;
	uint8_t nonce[INS_NONCE_SIZE], buf[INS_ENCODE_MAX];
	struct ins_hello hello = {.version = INS_VERSION, .nonce = nonce};
	size_t n;

	d->state = DIAL_SHAKING;
	d->tcp->notify = on_shaking;
	handshake_init(&d->handshake, false, driver_of(d)->allocator);
	timer_set(&driver_of(d)->timers, &d->timer,
	    driver_of(d)->now + c->handshake_timeout * MS);
	if (c->dialect == CONFIG_CLASSIC) {
		n = ins_initial_remote_encode(buf, sizeof(buf), c->name);
		if (say(d, buf, n))
			start_session(d, d->serial);
		return;
	}
	driver_random(driver_of(d), nonce, sizeof(nonce));
	n = ins_hello_encode(buf, sizeof(buf), &hello);
	if (say(d, buf, n) && d->tcp->readable)
		on_shaking(d->tcp);
}

/* The next address of the name, or the end of the attempt. */
static void
connect_next(struct dial *d, const char *reason);

static void
on_connecting(struct tcp *t)
{
	struct dial *d = container_of(t, struct attempt, tcp)->dial;
	int error;

	if (!t->writable && !t->failed)
		return;
	error = tcp_error(t);
	if (error == 0 && !t->failed) {
		begin_handshake(d);
		return;
	}
	tcp_close(t, false);
	free(t);
	d->tcp = NULL;
	connect_next(d, strerror(error));
}

static int
connect_to(struct dial *d, const struct address *address)
{
	struct attempt *a = calloc(1, sizeof(*a));
	bool connected;
	int fd, saved;

	if (a == NULL)
		goto err0;
	fd = address_connect(address, &connected);
	if (fd < 0)
		goto err1;
	if (tcp_open(&a->tcp, &d->worker->loop, fd, on_connecting) < 0) {
		saved = errno;
		tcp_close(&a->tcp, false);
		errno = saved;
		goto err1;
	}
	a->dial = d;
	d->tcp = &a->tcp;
	return 0;

err1:
	saved = errno;
	free(a);
	errno = saved;
err0:
	return -1;
}

static void
connect_next(struct dial *d, const char *reason)
{
	d->state = DIAL_CONNECTING;
	timer_set(&driver_of(d)->timers, &d->timer,
	    driver_of(d)->now + d->client->config->connect_timeout * MS);
	while (d->next < d->naddresses) {
		if (connect_to(d, &d->addresses[d->next++]) == 0)
			return;
		reason = strerror(errno);
	}
	failed(d, reason);
}

static void
on_resolved(void *context, const struct address *addresses, size_t n,
    const char *why)
{
	struct dial *d = context;

	d->lookup = NULL;
	memcpy(d->addresses, addresses, n * sizeof(*addresses));
	d->naddresses = n;
	d->next = 0;
	connect_next(d, why);
}

static void
on_timer(struct timer *t)
{
	struct dial *d = container_of(t, struct dial, timer);

	switch (d->state) {
	case DIAL_CONNECTING:
		tcp_close(d->tcp, false);
		free(d->tcp);
		d->tcp = NULL;
		connect_next(d, "no answer within connect_timeout");
		break;
	case DIAL_SHAKING:
		failed(d,
		    d->handshake.answered ?
			"handshake not finished in time" :
			"no answer; if it is "
			"a classic proxy-server set `dialect: classic`, else "
			"check `server`");
		break;
	case DIAL_WAITING:
		/* One failure is enough to know of: only the first retries. */
		if (d->index > 0 && roll_up(&d->client->roll) == 0)
			d->state = DIAL_IDLE;
		else
			dial_begin(d);
		break;
	default:
		break;
	}
}

static void
dial_begin(struct dial *d)
{
	const struct hostport *server = &d->client->config->servers[d->server];
	struct address numeric;

	hostport_format(server, d->text, sizeof(d->text));
	d->serial = roll_begin(&d->client->roll, d->index);
	log_event(LOG_DEBUG, "dialling", "server", d->text, NULL);
	if (address_numeric(server->host, server->port, &numeric)) {
		on_resolved(d, &numeric, 1, NULL);
		return;
	}
	d->state = DIAL_RESOLVING;
	d->lookup = resolver_start(d->client->servers, &d->worker->loop,
	    server->host, server->port, on_resolved, d);
	if (d->lookup == NULL)
		failed(d, "too many names are being looked up");
}

int
dials_init(struct client *client, unsigned n)
{
	struct dial *d;
	unsigned i;

	client->dials = calloc(n, sizeof(*client->dials));
	if (client->dials == NULL)
		return -1;
	client->ndials = n;
	for (i = 0; i < n; i++) {
		d = &client->dials[i];
		d->client = client;
		d->worker = &client->workers[i % client->nworkers];
		d->index = i;
		d->timer.expired = on_timer;
		handshake_init(&d->handshake, false, driver_of(d)->allocator);
	}
	return 0;
}

void
dials_free(struct client *client)
{
	free(client->dials);
}

void
dials_start(struct client *client)
{
	dial_begin(&client->dials[0]);
}

void
dials_stop(struct worker *w)
{
	struct client *client = w->client;
	unsigned i;

	for (i = 0; i < client->ndials; i++)
		if (client->dials[i].worker == w) {
			client->dials[i].state = DIAL_STOPPED;
			let_go(&client->dials[i]);
		}
}
