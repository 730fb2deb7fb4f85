#include "remote-client/tunnel.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "remote-client/application.h"
#include "remote-client/tunnel_private.h"

#define BACKOFF_FIRST (200 * MS)
#define BACKOFF_MAX (20 * (uint64_t)SECOND)
#define BACKOFF_SLOW 5 /* attempts that a refusal counts for: 3.2 s */
#define SHORT_PAUSE (2 * (uint64_t)SECOND)
#define RESUME_CONNECT (2 * (uint64_t)SECOND) /* connect_timeout then */
#define URGENT (120 * (uint64_t)SECOND)
#define STEADY_AFTER (5 * (uint64_t)SECOND) /* up so long: start over */
#define STEADY_RESUMED (1 * (uint64_t)SECOND) /* of one that was parked then */
#define HASTY_PAUSE (10 * MS) /* when it was up for less, and of use */
#define STRAYS_MAX 32 /* of a worker */
#define HOMING_PAUSE (30 * (uint64_t)SECOND)

struct worker *
tunnel_worker(struct tunnel *t)
{
	return t->worker;
}

static struct driver *
driver_of(struct tunnel *t)
{
	return worker_driver(t->worker);
}

/*
 * How long to wait before the next attempt: none before the first, then full
 * jitter, so that the many that one server has lost do not come together.
 */
static uint64_t
backoff(struct tunnel *t)
{
	uint64_t most = BACKOFF_FIRST, random;
	unsigned i;

	if (t->attempts == 0)
		return 0;
	for (i = 1; i < t->attempts && most < BACKOFF_MAX; i++)
		most *= 2;
	if (most > BACKOFF_MAX)
		most = BACKOFF_MAX;
	if (most > SHORT_PAUSE &&
	    (t->session != NULL || roll_is_standby(roll_of(t)) ||
		driver_of(t)->now < t->urgent_until))
		most = SHORT_PAUSE;
	driver_random(driver_of(t), &random, sizeof(random));
	return 1 * MS + random % most;
}

void
tunnel_wait(struct tunnel *t, uint64_t pause)
{
	t->state = TUNNEL_WAITING;
	timer_set(&driver_of(t)->timers, &t->timer, driver_of(t)->now + pause);
}

static void
begin(struct tunnel *t)
{
	const struct config *c = t->worker->config;
	uint64_t connect = c->connect_timeout * MS;

	if (t->server >= c->nservers)
		t->server = 0;
	t->to = c->servers[t->server];
	if (t->session != NULL) {
		t->to = t->with.at;
		if (connect > RESUME_CONNECT)
			connect = RESUME_CONNECT;
	}
	t->serial = roll_begin(roll_of(t), &t->entry);
	t->state = TUNNEL_DIALLING;
	dial_start(&t->dial, &t->to, connect);
	log_event(LOG_DEBUG, "dialling", "server", t->dial.text, NULL);
}

static void
on_timer(struct timer *timer);

struct tunnel *
tunnel_new(struct worker *w, int slot)
{
	struct tunnel *t = calloc(1, sizeof(*t));

	if (t == NULL)
		return NULL;
	t->worker = w;
	t->slot = slot;
	t->home = STRAY;
	t->timer.expired = on_timer;
	dial_init(&t->dial, w, &tunnel_dial_events);
	roll_enter(roll_of(t), &t->entry);
	list_append(&w->tunnels, &t->node);
	return t;
}

void
tunnel_go_on(struct tunnel *t)
{
	if (t->session == NULL || session_is_parked(t->session))
		tunnel_wait(t, 0);
	else
		t->state = TUNNEL_UP;
	if (t->state == TUNNEL_UP && t->server != 0)
		timer_set(&driver_of(t)->timers, &t->timer,
		    driver_of(t)->now + HOMING_PAUSE);
}

void
tunnel_free(struct tunnel *t)
{
	timer_cancel(&driver_of(t)->timers, &t->timer);
	dial_stop(&t->dial);
	roll_leave(roll_of(t), &t->entry);
	list_remove(&t->node);
	free(t);
}

struct tunnel *
tunnel_in_slot(struct worker *w, int slot)
{
	struct tunnel *t;
	struct list *i;

	for (i = w->tunnels.next; i != &w->tunnels; i = i->next) {
		t = container_of(i, struct tunnel, node);
		if (t->slot == slot)
			return t;
	}
	return NULL;
}

/* It has to go: what it carries runs out, without it in the way. */
void
tunnel_run_out(struct tunnel *t, enum ins_end_code code, const char *why)
{
	t->slot = t->home = STRAY;
	if (t->session == NULL) {
		tunnel_free(t);
		return;
	}
	session_go_away(t->session, code, why);
}

/* A tunnel that has a session takes a slot back, or over. */
static void
take_slot(struct tunnel *t)
{
	struct tunnel *other = tunnel_in_slot(t->worker, t->home);

	if (t->home == STRAY)
		return;
	if (other == NULL || session_is_going(t->session) ||
	    t->worker->draining) {
		t->home = STRAY;
		session_go_away(t->session, INS_END_FINISHED,
		    "it is not needed any more");
		return;
	}
	t->slot = t->home;
	t->home = STRAY;
	tunnel_run_out(other, INS_END_FINISHED,
	    "another tunnel takes its place");
}

/* Whoever makes us have many gets no more than that of our memory. */
static void
bound_strays(struct worker *w)
{
	struct tunnel *t, *oldest = NULL;
	unsigned n = 0;
	struct list *i;

	for (i = w->tunnels.next; i != &w->tunnels; i = i->next) {
		t = container_of(i, struct tunnel, node);
		if (t->slot != STRAY || t->session == NULL)
			continue;
		if (oldest == NULL)
			oldest = t;
		n++;
	}
	if (n >= STRAYS_MAX)
		session_end(oldest->session, INS_END_NO_RESOURCES,
		    "too many sessions that only run out");
}

/* A slot's next tunnel, which begins at once, or as the one before would. */
struct tunnel *
tunnel_succeed(struct tunnel *t, size_t server)
{
	struct tunnel *next;

	if (t->slot == STRAY || t->worker->draining)
		return NULL;
	bound_strays(t->worker);
	next = tunnel_new(t->worker, t->slot);
	/* Then the slot waits until this one is over. */
	if (next == NULL)
		return NULL;
	t->slot = STRAY;
	next->server = server % t->worker->config->nservers;
	if (driver_of(t)->now - t->up_since < STEADY_AFTER)
		next->attempts = t->attempts;
	tunnel_wait(next, backoff(next));
	next->attempts++;
	return next;
}

void
tunnel_split(struct tunnel *t, size_t server)
{
	int slot = t->slot;

	/* Nothing is lost with it: its slot simply registers again. */
	if (slot != STRAY && session_is_idle(t->session)) {
		session_end(t->session, INS_END_UNKNOWN_SESSION,
		    "nothing is lost with it");
		return;
	}
	if (tunnel_succeed(t, server) != NULL)
		t->home = slot;
}

static void
log_failed(const struct tunnel *t, const char *reason, uint64_t pause)
{
	/* That it stands by was said, and why. */
	bool standby = roll_is_standby(&t->worker->client->roll);
	struct log_line l;

	if (!log_begin(&l, standby ? LOG_DEBUG : LOG_WARN, "dial-failed"))
		return;
	log_text(&l, "server", t->dial.text);
	log_text(&l, "reason", reason);
	if (t->session != NULL)
		log_number(&l, "session", session_id(t->session));
	log_number(&l, "retry_ms", pause / MS);
	log_end(&l);
}

/* A session that can be resumed waits; visitors should not. */
static void
fall_back(struct tunnel *t)
{
	if (t->worker->config->nservers > 1 && t->attempts >= 2)
		tunnel_split(t, t->server + 1);
}

/* The next server of the list at once, or a pause after the last. */
static uint64_t
next_server(struct tunnel *t)
{
	uint64_t pause;

	t->server = (t->server + 1) % t->worker->config->nservers;
	if (t->server != 0)
		return 0;
	if (t->attempts == 0)
		t->attempts = 1;
	pause = backoff(t);
	t->attempts++;
	return pause;
}

void
tunnel_failed(struct tunnel *t, const char *reason)
{
	uint64_t pause;

	roll_settle(roll_of(t), &t->entry);
	if (t->homing || (t->session == NULL && t->worker->draining)) {
		tunnel_free(t);
		return;
	}
	if (t->session == NULL)
		pause = next_server(t);
	else {
		t->attempts++;
		pause = backoff(t);
	}
	log_failed(t, reason, pause);
	tunnel_wait(t, pause);
	if (t->session == NULL)
		return;
	fall_back(t);
	/* Last: it may be over now. */
	session_hold_on(t->session, false);
}

void
tunnel_again(struct tunnel *t)
{
	roll_settle(roll_of(t), &t->entry);
	tunnel_wait(t, 0);
	if (t->session != NULL)
		session_hold_on(t->session, false);
}

void
tunnel_slow_down(struct tunnel *t)
{
	if (t->attempts < BACKOFF_SLOW)
		t->attempts = BACKOFF_SLOW;
}

void
tunnel_heed(struct tunnel *t, unsigned code)
{
	switch (code) {
	case INS_END_NAME_IN_USE:
	case INS_END_REPLACED:
		if (roll_stand_by(roll_of(t)))
			log_event(LOG_WARN, "standby", "remote",
			    t->worker->config->name, "reason",
			    "another "
			    "remote-client has this name; waiting until it "
			    "is free",
			    NULL);
		tunnel_slow_down(t);
		break;
	case INS_END_PROTOCOL:
	case INS_END_VERSION:
	case INS_END_UNKNOWN_NAME:
	case INS_END_BAD_NAME:
	case INS_END_NO_RESOURCES:
		tunnel_slow_down(t);
		break;
	default:
		break;
	}
}

/* Sessions. */

struct wake_message {
	struct message message;
	struct worker *worker;
};

static void
deliver_wake(struct message *m)
{
	struct wake_message *wake =
	    container_of(m, struct wake_message, message);
	struct list *i;
	struct tunnel *t;

	for (i = wake->worker->tunnels.next; i != &wake->worker->tunnels;
	     i = i->next) {
		t = container_of(i, struct tunnel, node);
		if (t->state == TUNNEL_IDLE)
			begin(t);
	}
	free(wake);
}

/* A session is there: the tunnels that waited for that begin. */
static void
wake_others(struct client *client)
{
	struct wake_message *wake;
	unsigned i;

	for (i = 0; i < client->nworkers; i++) {
		/* Without a message they begin with the next session. */
		wake = malloc(sizeof(*wake));
		if (wake == NULL)
			continue;
		wake->message.deliver = deliver_wake;
		wake->worker = &client->workers[i];
		loop_post(&wake->worker->loop, &wake->message);
	}
}

static void
log_registered(struct tunnel *t, uint64_t id)
{
	const struct config *c = t->worker->config;
	struct log_line l;

	if (!log_begin(&l, LOG_INFO, "registered"))
		return;
	log_text(&l, "server", t->dial.text);
	log_text(&l, "remote", c->name);
	log_text(&l, "dialect",
	    c->dialect == CONFIG_CLASSIC ? "classic" : "extended");
	log_number(&l, "session", id);
	log_end(&l);
}

void
tunnel_is_up(struct tunnel *t, uint64_t id)
{
	uint64_t now = driver_of(t)->now;

	roll_hold(roll_of(t), &t->entry, id, t->with.instance, t->with.start);
	if (t->state != TUNNEL_UP && t->parked_at == 0)
		log_registered(t, id);
	t->state = TUNNEL_UP;
	t->parked_at = 0;
	t->up_since = now;
	t->urgent_until = 0;
	t->homing = t->cut = false;
	take_slot(t);
	if (t->slot != STRAY && t->server != 0)
		timer_set(&driver_of(t)->timers, &t->timer, now + HOMING_PAUSE);
	wake_others(t->worker->client);
	if (t->worker->draining)
		session_go_away(t->session, INS_END_SHUTDOWN, "stopping");
}

/*
 * At once, as a rule.  But something may end each carrier, maybe always at the
 * same byte: do not spin.
 */
static uint64_t
pause_after_loss(struct tunnel *t)
{
	struct session_offsets o = session_offsets(t->session);
	uint64_t got = o.received + o.acknowledged, pause = 0;

	if (driver_of(t)->now - t->up_since >= STEADY_RESUMED)
		t->attempts = 0;
	else if (got != t->progress) {
		t->attempts = 0;
		pause = HASTY_PAUSE;
	}
	t->progress = got;
	if (t->attempts > 0)
		pause = backoff(t);
	t->attempts++;
	return pause;
}

static void
on_parked(struct session *s, const char *why)
{
	struct tunnel *t = session_owner(s);
	struct log_line l;

	if (log_begin(&l, LOG_WARN, "session-parked")) {
		log_text(&l, "server", t->dial.text);
		log_number(&l, "session", session_id(s));
		log_number(&l, "streams", session_streams(s));
		log_text(&l, "reason", why);
		log_end(&l);
	}
	roll_park(roll_of(t), &t->entry);
	t->parked_at = driver_of(t)->now;
	if (t->state == TUNNEL_STOPPED)
		return;
	tunnel_wait(t, pause_after_loss(t));
}

/* The server finishes it: its slot goes elsewhere, or waits for the next. */
static void
on_going(struct session *s, unsigned code, const char *why)
{
	struct tunnel *t = session_owner(s), *next;
	struct log_line l;

	if (log_begin(&l, LOG_INFO, "going-away")) {
		log_text(&l, "server", t->dial.text);
		log_number(&l, "session", session_id(s));
		log_text(&l, "reason", why);
		log_end(&l);
	}
	if (t->state == TUNNEL_STOPPED)
		return;
	next = tunnel_succeed(t, t->server + 1);
	if (next == NULL)
		return;
	next->urgent_until = driver_of(t)->now + URGENT;
	tunnel_heed(next, code);
}

static void
log_ended(struct tunnel *t, struct session *s, unsigned code, const char *why)
{
	struct log_line l;

	if (!log_begin(&l, code == INS_END_FINISHED ? LOG_INFO : LOG_WARN,
		"session-ended"))
		return;
	log_text(&l, "server", t->dial.text);
	log_number(&l, "session", session_id(s));
	log_text(&l, "reason", why);
	log_end(&l);
}

static void
on_ended(struct session *s, unsigned code, const char *why)
{
	struct tunnel *t = session_owner(s);

	log_ended(t, s, code, why);
	t->session = NULL;
	t->parked_at = 0;
	roll_drop(roll_of(t), &t->entry);
	roll_settle(roll_of(t), &t->entry);
	if (t->state == TUNNEL_STOPPED)
		return;
	dial_stop(&t->dial);
	if (t->slot == STRAY || t->worker->draining) {
		tunnel_free(t);
		return;
	}
	if (t->state == TUNNEL_UP &&
	    driver_of(t)->now - t->up_since >= STEADY_AFTER)
		t->attempts = 0;
	tunnel_heed(t, code);
	tunnel_wait(t, backoff(t));
	t->attempts++;
}

const struct session_events tunnel_session_events = {
    .open = application_open,
    .finished = application_finished,
    .parked = on_parked,
    .going = on_going,
    .ended = on_ended,
};

/* Is the first server of the list back?  Nothing is lost by asking. */
static void
try_home(struct tunnel *t)
{
	struct tunnel *n;

	timer_set(&driver_of(t)->timers, &t->timer,
	    driver_of(t)->now + HOMING_PAUSE);
	if (t->server == 0 || t->slot == STRAY)
		return;
	n = tunnel_new(t->worker, STRAY);
	if (n == NULL)
		return;
	n->home = t->slot;
	n->homing = true;
	begin(n);
}

static void
on_timer(struct timer *timer)
{
	struct tunnel *t = container_of(timer, struct tunnel, timer);

	if (t->state == TUNNEL_UP)
		try_home(t);
	/* One failure is enough to know of: only the first retries. */
	else if (t->slot > 0 && t->session == NULL && roll_up(roll_of(t)) == 0)
		t->state = TUNNEL_IDLE;
	else
		begin(t);
}
