/*
 * Feeds bytes to the loaders of an image, and lets what they have loaded work
 * with what it believes.
 *
 * The first byte chooses the loader, and of a session the dialect, the role,
 * whether it can be resumed and has its state from an image at all; the second
 * how the endpoints behave.  What a loader has not taken of the rest is the
 * peer's, or for HTTP the visitor's and the application's.  An image that is
 * refused leaves nothing behind.
 */
#include "../../proxy-server/http_private.h"
#include "proxy-server/listener.h"
#include "proxy-server/registry.h"
#include "remote-client/roll.h"
#include "tunnel/session_image.h"
#include "tunnel/session_private.h"
#include "world.h"

#define NOW (1000 * (uint64_t)SECOND)

static struct carrier carrier;
static uint8_t mode;

static void
on_open(struct session *s, struct stream *st, const struct ins_open *open)
{
	struct end *e = new_end(false);

	(void)s;
	if (e == NULL || open->port % 4 == 3) {
		if (e != NULL)
			e->used = false;
		stream_answer(st, INS_REFUSED, "why not");
		return;
	}
	stream_attach(st, &e->endpoint, e);
	stream_answer(st, INS_CONNECTED, NULL);
}

static void
on_finished(struct session *s, const struct stream_report *r)
{
	(void)s;
	(void)r;
}

static void
on_ended(struct session *s, unsigned code, const char *why)
{
	require(s == session && why != NULL);
	(void)code;
	session = NULL;
}

static const struct session_events events = {
    .open = on_open,
    .finished = on_finished,
    .ended = on_ended,
};

static struct carrier *
load_carrier(struct image_reader *r, void *context)
{
	(void)context;
	if (!image_take_tag(r, "carr"))
		return NULL;
	carrier = (struct carrier){
	    .ops = &carrier_ops,
	    .readable = true,
	    .writable = true,
	};
	carrier_open = true;
	return &carrier;
}

static bool
load_end(struct image_reader *r, struct stream *st, void *context)
{
	struct end *e = new_end(false);

	(void)context;
	image_take(r, UINT64_MAX);
	if (e == NULL)
		return false;
	stream_attach(st, &e->endpoint, e);
	return !r->failed;
}

/* What the peer opened and nobody has answered. */
static void
answer(struct stream *st)
{
	if (!st->connected &&
	    (st->state == STREAM_CONNECTING ||
		st->state == STREAM_CONNECTING_DONE ||
		st->state == STREAM_OVER))
		stream_answer(st, mode & 8 ? INS_REFUSED : INS_CONNECTED, NULL);
	else
		stream_ready(st);
}

static void
turn(void)
{
	size_t i;

	driver.now += 3 * MS;
	for (i = 0; i < ENDS; i++) {
		if (!ends[i].used)
			continue;
		if (ends[i].room < 1000)
			ends[i].room += 50;
		ends[i].endpoint.readable = ends[i].endpoint.writable = true;
		if (ends[i].endpoint.stream != NULL)
			answer(ends[i].endpoint.stream);
		/* It was refused, which is no call. */
		if (ends[i].endpoint.stream == NULL)
			ends[i].used = false;
	}
	if (session != NULL && carrier_open) {
		carrier.readable = input_len > 0;
		carrier.writable = true;
		carrier.notify(carrier.owner);
	}
	timers_run(&driver.timers, driver.now);
	driver_run_work(&driver);
}

static void
work(void)
{
	struct ins_open open = {.form = INS_FORM_PORT, .port = 5};
	struct end *e;
	unsigned i;

	e = new_end(false);
	if (session != NULL && e != NULL &&
	    (session->config.server || session_extended(session)) &&
	    session_open(session, &open, &e->endpoint, NULL) == NULL)
		e->used = false;
	for (i = 0; i < 40; i++) {
		turn();
		/* Every timer is to have its time. */
		if (i % 4 == 3)
			driver.now += 700 * MS * (i / 4);
	}
	/* Another carrier, at any place where it can be. */
	if (session != NULL && session->config.resume > 0 &&
	    session_resumable(session, session->tx.queue.acked)) {
		session_let_go(session);
		carrier.ops = &carrier_ops;
		carrier_open = true;
		session_resume(session, &carrier, session->tx.queue.acked);
	}
	for (i = 0; i < 10; i++)
		turn();
}

static void
fuzz_session(uint8_t kind, const uint8_t *data, size_t len)
{
	const struct session_loader loader = {
	    .carrier = load_carrier,
	    .endpoint = load_end,
	};
	struct image_reader r = {.at = data, .end = data + len};
	struct session_config config = {0};
	struct budget process;
	struct list all;
	size_t i;

	memset(ends, 0, sizeof(ends));
	carrier_open = false;
	held = asked = 0;
	require(driver_init(&driver, &allocator) == 0);
	driver.now = NOW;
	list_init(&all);
	budget_init(&process, 64 << 20, 0);
	config.dialect = kind & 1 ? INS_EXTENDED : INS_CLASSIC;
	config.server = kind & 2;
	config.resume = kind & 4 ? 20 * SECOND : 0;
	config.resume_memory = 1 << 20;
	config.driver = &driver;
	config.process = &process;
	config.memory = 2 << 20;
	config.window_max = 1 << 20;
	config.heartbeat = SECOND;
	config.stall = 3 * SECOND;
	config.events = &events;
	config.all = &all;
	session = session_load(&config, &loader, &r);
	/* A buffer for each of a few bytes, a stream for not many more. */
	require(asked <= (size_t)(1 << 20) + 256 * len);
	if (session != NULL) {
		if (session_has_ended(session))
			session = NULL;
		input = r.at;
		input_len = (size_t)(r.end - r.at);
		work();
		session_end_all(&all, INS_END_SHUTDOWN, "stop");
	} else
		require(r.failed);
	require(session == NULL && list_empty(&all) && !carrier_open);
	for (i = 0; i < ENDS; i++)
		require(!ends[i].used);
	require(driver.pool.held == 0 && process.used == 0);
	require(process.above == 0 && process.kept == 0);
	require(driver.timers.root == NULL && !driver_has_work(&driver));
	driver_close(&driver);
	require(held == 0);
}

/* What the visitor sends, then what the application does, in turns. */
static void
fuzz_http(const uint8_t *data, size_t len)
{
	struct image_reader r = {.at = data, .end = data + len};
	struct http *h = http_load(&r);
	struct image_writer w = {0}, again = {0};
	struct image_reader back;
	size_t used, made, n, step = 1 + mode % 64;
	uint8_t out[100];
	unsigned i;

	if (h == NULL)
		return;
	/* What was taken is what would be given. */
	http_save(h, &w);
	back = (struct image_reader){.at = w.data, .end = w.data + w.len};
	http_free(h);
	h = http_load(&back);
	require(h != NULL && back.at == back.end);
	http_save(h, &again);
	require(w.len == again.len && memcmp(w.data, again.data, w.len) == 0);
	image_free(&again);
	image_free(&w);
	for (i = 0; i < 200; i++) {
		n = (size_t)(r.end - r.at) < step ? (size_t)(r.end - r.at) :
						    step;
		http_request(h, r.at, n, &used, out, 1 + i % sizeof(out),
		    &made);
		require(used <= n && made <= 1 + i % sizeof(out));
		r.at += used;
		n = (size_t)(r.end - r.at) < step ? (size_t)(r.end - r.at) :
						    step;
		if (i % 3 == 2 && n > 0) {
			http_response(h, r.at, n);
			require(http_response_whole(h) <= n);
			r.at += n;
		}
		http_request_plain(h);
		http_request_pending(h);
		http_request_partial(h);
		http_bad_code(h);
	}
	http_response_end(h);
	http_free(h);
}

static void
fuzz_listener(const uint8_t *data, size_t len)
{
	struct image_reader r = {.at = data, .end = data + len};
	struct listener *l;

	while ((l = listener_load(&r)) != NULL)
		listener_release(l);
	require(r.failed);
}

static void
fuzz_roll(const uint8_t *data, size_t len)
{
	struct image_reader r = {.at = data, .end = data + len};
	struct roll roll;

	roll_init(&roll);
	roll_load(&roll, &r);
	roll_close(&roll);
}

static void
fuzz_registry(const uint8_t *data, size_t len)
{
	struct image_reader r = {.at = data, .end = data + len};
	static struct server server;

	table_init(&server.remotes, &allocator_system, 1);
	registry_load(&server, &r);
	registry_close(&server);
	table_close(&server.remotes);
}

/* Each byte of the first part says what is taken. */
static void
fuzz_takes(const uint8_t *data, size_t len)
{
	size_t n = len / 4, i, got;
	struct image_reader r = {.at = data + n, .end = data + len};
	int fds[4] = {10, 11, 12, 13};
	const uint8_t *p;
	uint8_t buf[256];
	uint64_t v;

	r.fds = fds;
	r.nfds = 4;
	for (i = 0; i < n; i++) {
		switch (data[i] % 7) {
		case 0:
			v = image_take(&r, data[i]);
			require(v <= data[i]);
			break;
		case 1:
			image_take_bool(&r);
			break;
		case 2:
			p = image_take_bytes(&r, &got);
			require(got == 0 ||
			    (p >= data + n && p + got <= data + len));
			break;
		case 3:
			image_take_exact(&r, buf, data[i]);
			break;
		case 4:
			image_take_text(&r, (char *)buf, 1 + data[i] / 2);
			require(strlen((char *)buf) <= data[i] / 2);
			break;
		case 5:
			require(image_take_fd(&r) < 14);
			break;
		default:
			image_take_tag(&r, "work");
		}
		require(r.at <= r.end && (!r.failed || r.at == r.end));
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static void (*const others[])(const uint8_t *, size_t) = {
	    fuzz_http,
	    fuzz_http,
	    fuzz_http,
	    fuzz_http,
	    fuzz_listener,
	    fuzz_roll,
	    fuzz_registry,
	    fuzz_takes,
	};
	uint8_t *copy;

	if (len < 2 || len > 65536)
		return 0;
	mode = data[1];
	carrier_takes_little = mode & 1;
	ends_take_little = mode & 2;
	ends_end = mode & 4;
	len -= 2;
	copy = malloc(len > 0 ? len : 1);
	require(copy != NULL);
	memcpy(copy, data + 2, len);
	if (data[0] & 0x80)
		fuzz_session(data[0], copy, len);
	else
		others[data[0] % 8](copy, len);
	free(copy);
	return 0;
}
