/*
 * Feeds bytes to a session as its peer would.  The first byte chooses
 * dialect, role, whether the handshake comes first, how the endpoints behave,
 * whether carriers are lost and resumed, and whether we go away; the second
 * how the rest is cut.  Nothing may be left at the end.
 */
#include "tunnel/handshake.h"
#include "world.h"

static uint8_t mode;

static void
on_open(struct session *s, struct stream *st, const struct ins_open *open)
{
	struct end *e = new_end(true);

	(void)s;
	if (e == NULL || open->port % 4 == 3) {
		if (e != NULL)
			e->used = false;
		stream_answer(st, INS_REFUSED, "why not");
		return;
	}
	stream_attach(st, &e->endpoint, e);
	if (open->port % 4 == 2)
		e->connecting = st;
	else
		stream_answer(st, INS_CONNECTED, NULL);
}

static void
on_finished(struct session *s, const struct stream_report *r)
{
	struct end *e = r->user;

	(void)s;
	if (e != NULL)
		e->connecting = NULL;
}

static void
on_ended(struct session *s, unsigned code, const char *why)
{
	require(s == session && code != 0 && why != NULL);
	session = NULL;
}

static void
on_parked(struct session *s, const char *why)
{
	require(s == session && why != NULL && !carrier_open);
	require(session_is_parked(s));
}

static void
on_going(struct session *s, unsigned code, const char *why)
{
	require(s == session && session_is_going(s) && why != NULL);
	(void)code;
}

static const struct session_events events = {
    .open = on_open,
    .finished = on_finished,
    .parked = on_parked,
    .going = on_going,
    .ended = on_ended,
};

static void
turn(struct carrier *c)
{
	size_t i;

	driver.now += 3 * MS;
	for (i = 0; i < ENDS; i++) {
		if (!ends[i].used || ends[i].endpoint.stream == NULL)
			continue;
		if (ends[i].room < 1000)
			ends[i].room += 50;
		ends[i].endpoint.writable = true;
		if (ends[i].connecting != NULL && driver.now % 5 == 0) {
			struct stream *st = ends[i].connecting;

			ends[i].connecting = NULL;
			stream_answer(st, INS_CONNECTED, NULL);
		} else if (ends[i].connecting == NULL)
			stream_ready(ends[i].endpoint.stream);
	}
	if (session != NULL && carrier_open) {
		c->readable = input_len > 0;
		c->writable = true;
		c->notify(c->owner);
	}
	timers_run(&driver.timers, driver.now);
	driver_run_work(&driver);
}

/* False when it does not come to a session. */
static bool
shake_hands(bool server, enum ins_dialect *dialect)
{
	struct handshake_event e;
	enum handshake_status status;
	struct handshake h;
	size_t n = 0, rest = 0;
	bool done;

	handshake_init(&h, server, &allocator);
	do {
		status = handshake_step(&h, &e);
		if (status == HANDSHAKE_MORE && n < input_len)
			require(handshake_add(&h, input + n++, 1) == 0);
		else if (status == HANDSHAKE_MORE)
			status = HANDSHAKE_BAD;
	} while (status == HANDSHAKE_MORE || status == HANDSHAKE_HELLO);
	done = status == HANDSHAKE_CLASSIC || status == HANDSHAKE_REGISTER ||
	    status == HANDSHAKE_REGISTERED || status == HANDSHAKE_RESUME ||
	    status == HANDSHAKE_RESUMED;
	/* It came byte by byte, so nothing is behind it. */
	if (done)
		handshake_rest(&h, &rest);
	require(rest == 0);
	handshake_close(&h);
	*dialect = status == HANDSHAKE_CLASSIC ? INS_CLASSIC : INS_EXTENDED;
	input += n;
	input_len -= n;
	return done;
}

/* Another carrier, whose peer stands anywhere that it may. */
static void
resume(struct carrier *c, unsigned i)
{
	struct session_offsets at = session_offsets(session);
	uint64_t offset =
	    at.acknowledged + i * 37 % (at.sent - at.acknowledged + 1);

	require(session_resumable(session, offset));
	require(!session_resumable(session, at.sent + 1));
	require(session_let_go(session) == at.received && !carrier_open);
	*c = (struct carrier){.ops = &carrier_ops, .writable = true};
	carrier_open = true;
	session_resume(session, c, offset);
}

/* The carrier is lost; or it is not, and the peer comes back all the same. */
static void
lose(struct carrier *c, unsigned i)
{
	carrier_fails = i % 3 != 0;
	if (carrier_fails) {
		c->readable = true;
		c->notify(c->owner);
		driver_run_work(&driver);
		carrier_fails = false;
	}
	if (session != NULL &&
	    session_resumable(session, session_offsets(session).acknowledged))
		resume(c, i);
}

static void
converse(const struct session_config *config, uint8_t cut)
{
	struct ins_open open = {.form = INS_FORM_PORT, .port = 5};
	static struct carrier c; /* until the session lets it go */
	const uint8_t *end = input + input_len;
	size_t piece = cut == 0 ? input_len : cut;
	unsigned i;

	c = (struct carrier){.ops = &carrier_ops, .writable = true};
	carrier_open = true;
	session = session_new(config, &c);
	require(session != NULL);
	for (i = 0;
	     i < 2 && (config->server || config->dialect == INS_EXTENDED); i++)
		require(session_open(session, &open, &new_end(true)->endpoint,
			    NULL) != NULL);
	for (i = 0; i < 300 && session != NULL && input < end; i++) {
		input_len = (size_t)(end - input) < piece ?
		    (size_t)(end - input) :
		    piece;
		turn(&c);
		if (i % 16 == 15)
			driver.now += 600 * MS;
		if (i == 2 && session != NULL && mode & 128)
			session_go_away(session, INS_END_SHUTDOWN, "going");
		if (i % 5 == 4 && session != NULL && mode & 64)
			lose(&c, i);
	}
	input_len = (size_t)(end - input);
	for (i = 0; i < 5; i++)
		turn(&c);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct session_config config = {0};
	struct budget process;
	struct list all;
	size_t i;

	if (len < 2 || len > 65536)
		return 0;
	mode = data[0];
	carrier_takes_little = mode & 8;
	ends_take_little = mode & 16;
	ends_end = mode & 32;
	input = data + 2;
	input_len = len - 2;
	memset(ends, 0, sizeof(ends));
	require(driver_init(&driver, &allocator) == 0);
	driver.now = 1000 * (uint64_t)SECOND;
	list_init(&all);
	budget_init(&process, 4 << 20, 0);
	config.dialect = mode & 1 ? INS_EXTENDED : INS_CLASSIC;
	config.server = mode & 2;
	config.driver = &driver;
	config.process = &process;
	config.memory = 2 << 20;
	config.window_max = 1 << 20;
	config.heartbeat = SECOND;
	config.stall = 3 * SECOND;
	if (mode & 64) {
		config.resume = 20 * SECOND;
		config.resume_memory = 1 << 18;
	}
	config.events = &events;
	config.all = &all;
	carrier_open = carrier_fails = false;
	if ((mode & 4) == 0 || shake_hands(config.server, &config.dialect)) {
		/* A classic session ends with its carrier. */
		if (config.dialect == INS_CLASSIC)
			config.resume = 0;
		converse(&config, data[1]);
	}
	session_end_all(&all, INS_END_SHUTDOWN, "stop");
	require(session == NULL && list_empty(&all) && !carrier_open);
	for (i = 0; i < ENDS; i++)
		require(!ends[i].used);
	require(driver.pool.held == 0 && process.used == 0);
	require(process.kept == 0);
	require(driver.timers.root == NULL && !driver_has_work(&driver));
	driver_close(&driver);
	require(held == 0);
	return 0;
}
