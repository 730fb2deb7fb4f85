#include "sim.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tunnel/session_image.h"
#include "tunnel/session_private.h"

uint64_t
sim_random(struct sim *s, uint64_t below)
{
	/* splitmix64 */
	uint64_t z = s->random += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return (z ^ z >> 31) % below;
}

static size_t
piece(struct sim *s, size_t n)
{
	size_t most = s->config.piece;

	if (most != 0 && n > 1)
		most = 1 + sim_random(s, most);
	return most != 0 && n > most ? most : n;
}

/* What a key sends is the same but for a sum in each 256 bytes. */
static uint8_t
pattern_base(unsigned key, uint64_t at)
{
	return (uint8_t)(key * 37 + (at >> 8) * 5 + (at >> 16) * 3);
}

static void
pattern_put(unsigned key, uint64_t at, uint8_t *buf, size_t len)
{
	uint8_t base;
	size_t i, n;

	while (len > 0) {
		base = (uint8_t)(pattern_base(key, at) + at);
		n = 256 - at % 256 < len ? 256 - (size_t)at % 256 : len;
		for (i = 0; i < n; i++)
			buf[i] = (uint8_t)(base + i);
		buf += n;
		at += n;
		len -= n;
	}
}

static bool
pattern_is(unsigned key, uint64_t at, const uint8_t *data, size_t len)
{
	uint8_t expected[256];
	size_t n;

	while (len > 0) {
		n = 256 - at % 256 < len ? 256 - (size_t)at % 256 : len;
		pattern_put(key, at, expected, n);
		if (memcmp(data, expected, n) != 0)
			return false;
		data += n;
		at += n;
		len -= n;
	}
	return true;
}

/* The decoder of what is written. */

static uint64_t
number(const uint8_t *p, size_t size)
{
	uint64_t v = 0;

	while (size-- > 0)
		v = v << 8 | *p++;
	return v;
}

/* side is about to write data of a stream, at an offset of its pipe. */
static void
check_data(struct sim *s, unsigned side, uint64_t identity, uint64_t len,
    uint64_t at)
{
	uint64_t n = identity & ~INS_BY_CLIENT;
	unsigned opener = identity & INS_BY_CLIENT ? CLIENT : SERVER;
	struct sim_direction *d;

	if (s->config.dialect == INS_CLASSIC || n > s->max_pairs)
		return;
	d = &s->streams[opener][n][side];
	d->last = at;
	d->sent += len;
	if (d->sent > d->grant && !s->resumed)
		s->overrun = true;
}

static void
check_control(struct sim *s, unsigned side, unsigned ins, const uint8_t *p)
{
	uint64_t identity = number(p, 6), n = identity & ~INS_BY_CLIENT;
	unsigned opener = identity & INS_BY_CLIENT ? CLIENT : SERVER;
	uint64_t v;

	if (n > s->max_pairs)
		return;
	if (ins == INS_OPEN) {
		s->streams[opener][n][side].grant = INS_WINDOW_MIN;
		s->streams[opener][n][!side].grant =
		    s->streams[opener][n][!side].newest = number(p + 8, 8);
	} else if (ins == INS_OPENED || ins == INS_CREDIT) {
		v = number(p + (ins == INS_OPENED ? 7 : 6), 8);
		/* A refused opener may have sent meanwhile. */
		if (v == 0)
			return;
		s->streams[opener][n][!side].grant =
		    s->streams[opener][n][!side].newest = v;
	} else if (ins == INS_LIMIT) {
		v = number(p + 6, 8);
		if (number(p + 14, 8) == s->streams[opener][n][side].newest)
			s->streams[opener][n][side].grant = v;
	}
}

/* One whole instruction, or the head of an InsData; its size, or 0. */
static size_t
decode_one(struct sim *s, unsigned side, uint64_t at)
{
	struct sim_pipe *p = &s->side[side].out;
	struct ins_head h;
	size_t used;

	switch (ins_head_decode(s->config.dialect, p->part, p->part_len, &h,
	    &used)) {
	case INS_MORE:
		return 0;
	case INS_BAD:
		p->bad = true;
		return 0;
	case INS_OK:
		break;
	}
	if (h.number == INS_DATA) {
		p->skip = h.length;
		p->n_data += h.length;
		check_data(s, side, h.identity, h.length, at);
	} else if (p->part_len < used + h.length)
		return 0;
	else
		used += h.length;
	if (p->n[INS_END] > 0)
		p->after_end = true;
	p->n[h.number]++;
	p->last = h.number;
	if (ins_counted(h.number))
		p->counted += used + p->skip;
	if (h.number == INS_END)
		ins_end_decode(p->part + 6, h.length, &p->end);
	if (h.number == INS_ACK) {
		uint64_t v = number(p->part + 6, 8);

		if (v < p->last_ack)
			p->bad = true;
		if (v - p->last_ack > p->ack_max_gap)
			p->ack_max_gap = v - p->last_ack;
		p->last_ack = v;
	}
	if (h.number >= INS_OPEN && h.number <= INS_LIMIT &&
	    (h.number & INS_CARRIER_LOCAL) == 0)
		check_control(s, side, h.number, p->part + 6);
	return used;
}

static void
decode(struct sim *s, unsigned side, const uint8_t *data, size_t len)
{
	struct sim_pipe *p = &s->side[side].out;
	size_t n, used;

	p->total += len;
	if (s->config.by_hand == 1 + (int)side)
		return;
	while (len > 0 && !p->bad) {
		if (p->skip > 0) {
			n = len < p->skip ? len : p->skip;
			p->skip -= n;
			data += n;
			len -= n;
			continue;
		}
		n = sizeof(p->part) - p->part_len;
		/* By little, so that not much is moved back. */
		n = n > len ? len : n;
		n = n > 64 ? 64 : n;
		memcpy(p->part + p->part_len, data, n);
		p->part_len += n;
		data += n;
		len -= n;
		while (p->part_len > 0 &&
		    (used = decode_one(s, side, p->total - len - p->part_len)) >
			0) {
			p->part_len -= used;
			memmove(p->part, p->part + used, p->part_len);
			n = p->part_len < p->skip ? p->part_len : p->skip;
			p->skip -= n;
			p->part_len -= n;
			memmove(p->part, p->part + n, p->part_len);
		}
	}
}

/* The carrier. */

static struct sim *
carrier_sim(struct carrier *c, unsigned *side)
{
	struct sim_side *d = container_of(c, struct sim_side, carrier);
	struct sim *s = d->driver.random_context;

	*side = d == &s->side[CLIENT];
	if (!d->open)
		d->misused = true;
	return s;
}

static ssize_t
carrier_read(struct carrier *c, void *buf, size_t len)
{
	unsigned side;
	struct sim *s = carrier_sim(c, &side);
	struct sim_pipe *p = &s->side[!side].out;
	size_t n = piece(s, len < p->arrived ? len : p->arrived), part;

	if (n == 0 && p->ended && p->len == 0)
		return 0;
	if (n == 0) {
		c->readable = false;
		errno = EAGAIN;
		return -1;
	}
	part = p->cap - p->head < n ? p->cap - p->head : n;
	memcpy(buf, p->data_ring + p->head, part);
	memcpy((uint8_t *)buf + part, p->data_ring, n - part);
	p->head = (p->head + n) % p->cap;
	p->len -= n;
	p->arrived -= n;
	/* An end of file that is in sight is still to be read. */
	if (p->arrived == 0 && !p->ended && sim_random(s, 2) == 0)
		c->readable = false;
	return (ssize_t)n;
}

/* n more bytes set out: decode() has counted them. */
static void
pipe_send(struct sim *s, struct sim_pipe *p, size_t n)
{
	uint64_t at = p->sending_until > s->now ? p->sending_until : s->now;
	size_t i;

	if (s->config.delay == 0 && s->config.rate == 0)
		return;
	if (s->config.rate != 0)
		at += n * SECOND / s->config.rate;
	p->sending_until = at;
	at += s->config.delay;
	i = p->flight + p->nflights;
	if (p->nflights > 0 &&
	    (p->nflights == SIM_FLIGHTS ||
		p->flights[(i - 1) % SIM_FLIGHTS].at == at))
		i--;
	else
		p->nflights++;
	p->flights[i % SIM_FLIGHTS].end = p->total;
	p->flights[i % SIM_FLIGHTS].at = at;
}

/* Bytes of the pipe that have arrived by now. */
static size_t
pipe_due(struct sim *s, struct sim_pipe *p)
{
	if (s->config.delay == 0 && s->config.rate == 0)
		return p->len;
	while (p->nflights > 0 && p->flights[p->flight].at <= s->now) {
		p->landed = p->flights[p->flight].end;
		p->flight = (p->flight + 1) % SIM_FLIGHTS;
		p->nflights--;
	}
	return (size_t)(p->landed + p->len - p->total);
}

static void
pipe_write(struct sim *s, unsigned side, const uint8_t *data, size_t n)
{
	struct sim_pipe *p = &s->side[side].out;
	size_t tail = (p->head + p->len) % p->cap;
	size_t part = p->cap - tail < n ? p->cap - tail : n;

	if (n == 0)
		return;
	decode(s, side, data, n);
	pipe_send(s, p, n);
	memcpy(p->data_ring + tail, data, part);
	memcpy(p->data_ring, data + part, n - part);
	p->len += n;
}

static ssize_t
swallow(const struct iovec *iov, int count)
{
	size_t n = 0;

	while (count-- > 0)
		n += iov++->iov_len;
	return (ssize_t)n;
}

static ssize_t
carrier_write(struct carrier *c, const struct iovec *iov, int count)
{
	unsigned side;
	struct sim *s = carrier_sim(c, &side);
	struct sim_pipe *p = &s->side[side].out;
	size_t room = piece(s, p->cap - p->len), n, done = 0;
	int i;

	if (p->broken) {
		errno = EPIPE;
		return -1;
	}
	if (p->swallowed)
		return swallow(iov, count);
	if (p->len == p->cap) {
		c->writable = false;
		errno = EAGAIN;
		return -1;
	}
	for (i = 0; i < count && room > 0; i++) {
		n = iov[i].iov_len < room ? iov[i].iov_len : room;
		pipe_write(s, side, iov[i].iov_base, n);
		done += n;
		room -= n;
	}
	if (p->len == p->cap && sim_random(s, 2) == 0)
		c->writable = false;
	return (ssize_t)done;
}

static void
carrier_close(struct carrier *c)
{
	unsigned side;
	struct sim *s = carrier_sim(c, &side);

	if (s->side[side].moving)
		return;
	s->side[side].open = false;
	s->side[side].out.ended = true;
	/* It lingers: what still comes is taken, and lost. */
	s->side[!side].out.swallowed = true;
	s->side[!side].out.len = s->side[!side].out.arrived = 0;
	s->side[!side].out.nflights = 0;
	s->side[!side].out.landed = s->side[!side].out.total;
}

static const struct carrier_ops carrier_ops = {
    carrier_read,
    carrier_write,
    carrier_close,
};

/* Endpoints. */

static struct sim_end *
end_of(struct endpoint *e)
{
	struct sim_end *n = container_of(e, struct sim_end, endpoint);

	if (n->over != SIM_OPEN)
		n->misused = true;
	return n;
}

static ssize_t
end_read(struct endpoint *endpoint, void *buf, size_t len)
{
	struct sim_end *e = end_of(endpoint);
	unsigned key = e->echo ? e->key ^ 1 : e->key;
	size_t n;

	if (e->fail) {
		errno = ECONNRESET;
		return -1;
	}
	if (e->most != 0 && len > e->most)
		len = e->most;
	n = piece(e->sim, len < e->supply ? len : (size_t)e->supply);
	if (n == 0 && e->eof) {
		e->eof_read = true;
		return 0;
	}
	if (n == 0) {
		endpoint->readable = false;
		errno = EAGAIN;
		return -1;
	}
	pattern_put(key, e->sent, buf, n);
	e->sent += n;
	e->supply -= n;
	if (e->supply == 0 && !e->eof && !e->lazy)
		endpoint->readable = false;
	return (ssize_t)n;
}

static ssize_t
end_write(struct endpoint *endpoint, const struct iovec *iov, int count)
{
	struct sim_end *e = end_of(endpoint);
	const struct sim_end *other =
	    &e->sim->pairs[e->key / 2].end[~e->key & 1];
	unsigned key = other->echo ? e->key : e->key ^ 1;
	uint64_t room = e->room;
	size_t n, done = 0;
	int i;

	if (!e->connected || e->shut)
		e->misused = true;
	if (e->broken) {
		errno = EPIPE;
		return -1;
	}
	if (room == 0) {
		endpoint->writable = false;
		errno = EAGAIN;
		return -1;
	}
	room = piece(e->sim, room > (1 << 20) ? 1 << 20 : (size_t)room);
	for (i = 0; i < count && room > 0; i++) {
		n = iov[i].iov_len < room ? iov[i].iov_len : (size_t)room;
		if (!pattern_is(key, e->got, iov[i].iov_base, n))
			e->corrupt = true;
		e->got += n;
		room -= n;
		done += n;
	}
	if (e->room != SIM_UNLIMITED)
		e->room -= done;
	if (e->echo)
		e->supply += done;
	return (ssize_t)done;
}

static void
end_shut(struct endpoint *endpoint)
{
	struct sim_end *e = end_of(endpoint);

	if (e->shut)
		e->misused = true;
	e->shut = true;
	if (e->echo)
		e->eof = true;
}

static void
let_go(struct endpoint *endpoint, enum sim_over how)
{
	struct sim_end *e = end_of(endpoint);

	if (e->sim->side[e->side].moving)
		return;
	e->over = how;
	e->attached = false;
}

static void
end_close(struct endpoint *e)
{
	let_go(e, SIM_CLOSED);
}

static void
end_reset(struct endpoint *e)
{
	let_go(e, SIM_RESET);
}

static void
end_refuse(struct endpoint *e, enum ins_outcome outcome)
{
	end_of(e)->outcome = outcome;
	let_go(e, SIM_REFUSED);
}

static const struct endpoint_ops end_ops = {
    end_read,
    end_write,
    end_shut,
    end_close,
    end_reset,
    end_refuse,
};

/* Readiness, as an edge. */
static bool
end_turn(struct sim *s, struct sim_pair *p, int i)
{
	struct sim_end *e = &p->end[i];
	bool edge = false;

	(void)s;
	if (!e->attached || !e->connected || e->endpoint.stream == NULL)
		return false;
	if (!e->endpoint.readable &&
	    (e->supply > 0 || (e->eof && !e->eof_read) || e->fail))
		edge = e->endpoint.readable = true;
	if (!e->endpoint.writable && (e->room > 0 || e->broken))
		edge = e->endpoint.writable = true;
	if (edge)
		stream_ready(e->endpoint.stream);
	return edge;
}

/* Events. */

static void
init_end(struct sim *s, struct sim_pair *p, unsigned i, unsigned side)
{
	unsigned index = (unsigned)(p - s->pairs);

	p->end[i] = (struct sim_end){
	    .endpoint.ops = &end_ops,
	    .sim = s,
	    .side = side,
	    .key = 2 * index + i,
	    .lazy = index % 2 == 1,
	    .room = SIM_UNLIMITED,
	};
}

static struct sim_pair *
new_pair(struct sim *s, unsigned opener, enum sim_answer answer)
{
	struct sim_pair *p = &s->pairs[s->npairs];

	if (s->npairs == s->max_pairs)
		abort();
	*p = (struct sim_pair){.answer = answer, .outcome = INS_REFUSED};
	init_end(s, p, 0, opener);
	init_end(s, p, 1, !opener);
	s->npairs++;
	return p;
}

static void
on_open(struct session *session, struct stream *st, const struct ins_open *open)
{
	struct sim_side *d = session_owner(session);
	struct sim *s = d->driver.random_context;
	unsigned side = d == &s->side[CLIENT];
	struct sim_pair *p;
	struct sim_end *e;

	if (open->port >= 1 && open->port <= s->npairs &&
	    !s->pairs[open->port - 1].arrived &&
	    s->config.by_hand != 2 - (int)side)
		p = &s->pairs[open->port - 1];
	else
		p = new_pair(s, !side, s->config.answer);
	e = &p->end[1];
	p->arrived = true;
	p->open = *open;
	p->stream[1] = st;
	e->identity = stream_identity(st);
	if (p->answer == SIM_REFUSE) {
		p->stream[1] = NULL;
		stream_answer(st, p->outcome, "because");
		return;
	}
	if (p->answer == SIM_NO_ENDPOINT) {
		/* As one whose name is looked up. */
		stream_attach(st, &e->endpoint, e);
		e->attached = true;
		return;
	}
	stream_attach(st, &e->endpoint, e);
	e->attached = true;
	if (p->answer == SIM_NOW)
		sim_answer(s, p, INS_CONNECTED);
}

void
sim_answer(struct sim *s, struct sim_pair *p, enum ins_outcome outcome)
{
	struct stream *st = p->stream[1];

	(void)s;
	if (st == NULL)
		return;
	if (outcome == INS_CONNECTED)
		p->end[1].connected = p->end[1].endpoint.writable = true;
	else {
		p->stream[1] = NULL;
		p->end[1].attached = false;
	}
	stream_answer(st, outcome, NULL);
}

static void
on_finished(struct session *session, const struct stream_report *r)
{
	struct sim_end *e = r->user;
	struct sim_side *d = session_owner(session);
	struct sim *s = d->driver.random_context;
	unsigned index;

	if (e == NULL)
		return;
	index = e->key / 2;
	if (e->finished)
		e->misused = true;
	e->finished = true;
	e->report = *r;
	s->pairs[index].stream[e->key & 1] = NULL;
}

static void
on_ended(struct session *session, unsigned code, const char *why)
{
	struct sim_side *d = session_owner(session);

	d->session = NULL;
	d->ended++;
	d->end_code = code;
	snprintf(d->end_why, sizeof(d->end_why), "%s", why);
}

static const struct session_events events = {
    .open = on_open,
    .finished = on_finished,
    .ended = on_ended,
};
static const struct session_events events_no_open = {
    .finished = on_finished,
    .ended = on_ended,
};

static void
sim_random_bytes(void *context, void *buf, size_t len)
{
	struct sim *s = context;
	uint8_t *p = buf;

	while (len-- > 0)
		*p++ = (uint8_t)sim_random(s, 256);
}

#define OR(value, other) ((value) != 0 ? (value) : (other))

struct sim *
sim_bare(const struct sim_config *config)
{
	struct sim *s = calloc(1, sizeof(*s));
	struct sim_side *d;

	if (s == NULL)
		abort();
	s->max_pairs = OR(config->pairs, SIM_PAIRS);
	s->pairs = calloc(s->max_pairs, sizeof(s->pairs[0]));
	s->streams[0] = calloc(s->max_pairs + 1, sizeof(*s->streams[0]));
	s->streams[1] = calloc(s->max_pairs + 1, sizeof(*s->streams[1]));
	if (s->pairs == NULL || s->streams[0] == NULL || s->streams[1] == NULL)
		abort();
	s->config = *config;
	s->random = config->seed;
	s->now = 1000 * (uint64_t)SECOND;
	for (d = s->side; d < s->side + 2; d++) {
		memory_init(&d->memory);
		if (driver_init(&d->driver, &d->memory.allocator) < 0)
			abort();
		d->driver.now = s->now;
		d->driver.random = sim_random_bytes;
		d->driver.random_context = s;
		budget_init(&d->process, OR(config->process, 1 << 30), 0);
		list_init(&d->all);
		d->out.cap = OR(config->capacity, 65536);
		d->out.data_ring = malloc(d->out.cap);
		d->open = true;
		d->carrier = (struct carrier){
		    .ops = &carrier_ops,
		    .writable = true,
		};
	}
	return s;
}

static struct session_config
config_of(struct sim *s, unsigned side)
{
	struct sim_side *d = &s->side[side];

	return (struct session_config){
	    .dialect = s->config.dialect,
	    .server = side == SERVER,
	    .id = 7,
	    .driver = &d->driver,
	    .process = &d->process,
	    .memory = OR(s->config.memory, 64 << 20),
	    .window_max = OR(s->config.window_max, WINDOW_START),
	    .heartbeat = OR(s->config.heartbeat, 5 * SECOND),
	    .stall = OR(s->config.stall, 30 * SECOND),
	    .resume = s->config.resume,
	    .resume_memory = 16 << 20,
	    .events = s->config.refuse_opens ? &events_no_open : &events,
	    .all = &d->all,
	    .owner = d,
	};
}

bool
sim_start(struct sim *s, unsigned side)
{
	struct session_config c = config_of(s, side);
	struct sim_side *d = &s->side[side];

	d->session = session_new(&c, &d->carrier);
	return d->session != NULL;
}

struct sim *
sim_new(const struct sim_config *config)
{
	struct sim *s = sim_bare(config);
	unsigned side;

	for (side = 0; side < 2; side++)
		if (config->by_hand != 1 + (int)side && !sim_start(s, side))
			abort();
	return s;
}

static bool
complain(bool wrong, const char *what, const struct sim *s, unsigned side,
    uint64_t value)
{
	if (wrong)
		fprintf(stderr, "\nsim: seed %llu, side %u: %s (%llu)\n",
		    (unsigned long long)s->config.seed, side, what,
		    (unsigned long long)value);
	return !wrong;
}

static bool
check_side(struct sim *s, unsigned side)
{
	struct sim_side *d = &s->side[side];
	struct sim_pipe *p = &d->out;
	bool ok = true;

	ok &= complain(d->driver.pool.held != 0, "buffers are left", s, side,
	    d->driver.pool.held);
	ok &= complain(d->process.used != 0, "budget is left", s, side,
	    d->process.used);
	ok &= complain(d->process.above != 0, "budget above is left", s, side,
	    d->process.above);
	ok &= complain(!list_empty(&d->all), "sessions are left", s, side, 0);
	ok &= complain(driver_has_work(&d->driver), "work is left", s, side, 0);
	ok &= complain(d->driver.timers.root != NULL, "timers are left", s,
	    side, 0);
	ok &= complain(d->misused, "carrier used after close", s, side, 0);
	ok &= complain(p->bad, "wrote what does not decode", s, side, p->last);
	ok &= complain(p->after_end, "wrote after InsEnd", s, side, p->last);
	driver_close(&d->driver);
	ok &= complain(d->memory.held != 0, "allocations are left", s, side,
	    d->memory.held);
	return ok;
}

static bool
check_end(struct sim *s, const struct sim_end *e)
{
	bool ok = true;

	ok &= complain(e->corrupt, "wrong bytes", s, e->side, e->key);
	ok &= complain(e->misused, "endpoint misused", s, e->side, e->key);
	ok &= complain(e->attached, "endpoint not let go", s, e->side, e->key);
	return ok;
}

bool
sim_free(struct sim *s)
{
	bool ok = true;
	unsigned side;
	size_t i;

	for (side = 0; side < 2; side++)
		session_end_all(&s->side[side].all, INS_END_SHUTDOWN, "stop");
	for (side = 0; side < 2; side++)
		ok &= check_side(s, side);
	for (i = 0; i < s->npairs; i++) {
		ok &= check_end(s, &s->pairs[i].end[0]);
		ok &= check_end(s, &s->pairs[i].end[1]);
	}
	ok &= complain(s->overrun, "a sender passed its grant", s, 0, 0);
	free(s->side[0].out.data_ring);
	free(s->side[1].out.data_ring);
	free(s->streams[0]);
	free(s->streams[1]);
	free(s->pairs);
	free(s);
	return ok;
}

/* Deliver, and tell the carriers' owners. */
static bool
pipe_turn(struct sim *s, unsigned side)
{
	struct sim_pipe *p = &s->side[side].out;
	struct sim_side *from = &s->side[side], *to = &s->side[!side];
	bool happened = false, edge;
	size_t n;

	if (!p->hold && p->arrived < pipe_due(s, p)) {
		n = pipe_due(s, p) - p->arrived;
		p->arrived += s->config.piece != 0 ? 1 + sim_random(s, n) : n;
		if (to->session != NULL && to->open) {
			to->carrier.readable = true;
			to->carrier.notify(to->carrier.owner);
		}
		happened = true;
	}
	edge = to->open && !to->carrier.readable && !p->hold &&
	    (p->arrived > 0 || (p->ended && p->len == 0));
	if (edge && to->session != NULL) {
		to->carrier.readable = true;
		to->carrier.notify(to->carrier.owner);
		happened = true;
	}
	edge = from->open && !from->carrier.writable &&
	    (p->len < p->cap || p->broken || p->swallowed);
	if (edge && from->session != NULL) {
		from->carrier.writable = true;
		from->carrier.notify(from->carrier.owner);
		happened = true;
	}
	return happened;
}

bool
sim_turn(struct sim *s)
{
	bool happened = false;
	struct driver *d;
	unsigned side;
	size_t i;

	for (side = 0; side < 2; side++)
		happened |= pipe_turn(s, side);
	for (i = 0; i < s->npairs; i++) {
		happened |= end_turn(s, &s->pairs[i], 0);
		happened |= end_turn(s, &s->pairs[i], 1);
	}
	for (side = 0; side < 2; side++) {
		d = &s->side[side].driver;
		d->now = s->now;
		if (timers_next(&d->timers) <= s->now) {
			timers_run(&d->timers, s->now);
			happened = true;
		}
		happened |= driver_has_work(d);
		driver_run_work(d);
	}
	return happened;
}

void
sim_settle(struct sim *s)
{
	unsigned turns = 0;

	while (sim_turn(s))
		if (++turns == 50000000)
			abort();
}

/* When a timer runs or something arrives, on either side. */
static uint64_t
next_event(struct sim *s)
{
	uint64_t next = UINT64_MAX, at;
	const struct sim_pipe *p;
	unsigned side;

	for (side = 0; side < 2; side++) {
		at = timers_next(&s->side[side].driver.timers);
		if (at < next)
			next = at;
		p = &s->side[side].out;
		if (p->nflights > 0 && !p->hold &&
		    p->flights[p->flight].at < next)
			next = p->flights[p->flight].at;
	}
	return next;
}

void
sim_pass(struct sim *s, uint64_t us)
{
	uint64_t until = s->now + us, next;

	sim_settle(s);
	while ((next = next_event(s)) <= until) {
		if (next > s->now)
			s->now = next;
		sim_settle(s);
	}
	s->now = until;
	sim_settle(s);
}

void
sim_tick(struct sim *s)
{
	uint64_t next = next_event(s);

	if (next != UINT64_MAX && next > s->now)
		s->now = next;
}

void
sim_step(struct sim *s)
{
	sim_settle(s);
	sim_tick(s);
	sim_settle(s);
}

struct sim_pair *
sim_open(struct sim *s, unsigned side, enum sim_answer answer)
{
	return sim_open_as(s, side, answer, INS_CLASS_AUTO, INS_WEIGHT_DEFAULT);
}

struct sim_pair *
sim_open_as(struct sim *s, unsigned side, enum sim_answer answer,
    enum ins_class class, unsigned weight)
{
	struct ins_open open = {
	    .class = (uint8_t) class,
	    .weight = (uint8_t)weight,
	    .form = INS_FORM_PORT,
	};
	struct sim_pair *p;
	struct stream *st;

	if (s->side[side].session == NULL) {
		errno = ENOTCONN;
		return NULL;
	}
	p = new_pair(s, side, answer);
	open.port = (uint16_t)s->npairs;
	p->end[0].connected = p->end[0].endpoint.writable = true;
	st = session_open(s->side[side].session, &open, &p->end[0].endpoint,
	    &p->end[0]);
	if (st == NULL) {
		p->arrived = true; /* its port is void */
		return NULL;
	}
	p->end[0].attached = true;
	p->end[0].identity = open.identity;
	p->stream[0] = st;
	return p;
}

/* Another process. */

static void
save_carrier(struct image_writer *w, const struct carrier *c)
{
	(void)c;
	image_put_tag(w, "carr");
}

static void
save_end(struct image_writer *w, const struct stream *st, const void *user)
{
	const struct sim_end *e = user;

	(void)st;
	image_put(w, e->key);
}

static struct carrier *
load_carrier(struct image_reader *r, void *context)
{
	struct sim_side *d = context;

	if (!image_take_tag(r, "carr"))
		return NULL;
	d->carrier.readable = d->carrier.writable = true;
	return &d->carrier;
}

static bool
load_end(struct image_reader *r, struct stream *st, void *context)
{
	struct sim_side *d = context;
	struct sim *s = d->driver.random_context;
	uint64_t key = image_take(r, 2 * s->npairs);
	struct sim_end *e;

	if (r->failed || s->npairs == 0 || key / 2 >= s->npairs)
		return false;
	e = &s->pairs[key / 2].end[key & 1];
	if (e->side != d - s->side || e->over != SIM_OPEN)
		return false;
	/* As sockets that are watched anew: the next turn tells. */
	e->endpoint.readable = e->endpoint.writable = false;
	s->pairs[key / 2].stream[key & 1] = st;
	stream_attach(st, &e->endpoint, e);
	return true;
}

void
sim_save(struct sim *s, unsigned side, struct image_writer *image)
{
	static const struct session_saver saver = {save_carrier, save_end};
	struct sim_side *d = &s->side[side];
	const struct list *i;

	for (i = d->all.next; i != &d->all; i = i->next) {
		image_put(image, 1);
		session_save(session_of_list((struct list *)i), &saver, image);
	}
	image_put(image, 0);
}

static bool
load(struct sim *s, unsigned side, const uint8_t *image, size_t len)
{
	struct session_config c = config_of(s, side);
	struct sim_side *d = &s->side[side];
	struct session_loader loader = {
	    .carrier = load_carrier,
	    .endpoint = load_end,
	    .context = d,
	};
	struct image_reader r = {.at = image, .end = image + len};
	struct session *session;

	while (image_take_bool(&r)) {
		session = session_load(&c, &loader, &r);
		if (session == NULL)
			return false;
		if (!session_has_ended(session))
			d->session = session;
	}
	return !r.failed && r.at == r.end;
}

/* What a process that is gone leaves behind: nothing. */
static void
forget_all(struct sim_side *d)
{
	d->moving = true;
	while (!list_empty(&d->all))
		session_discard(session_of_list(d->all.next));
	d->moving = false;
	d->session = NULL;
}

static bool
is_empty(const struct sim_side *d)
{
	return d->driver.pool.held == 0 && d->process.used == 0 &&
	    d->process.above == 0 && d->process.kept == 0 &&
	    d->driver.timers.root == NULL && !driver_has_work(&d->driver);
}

bool
sim_move(struct sim *s, unsigned side, struct image_writer *image)
{
	*image = (struct image_writer){0};
	sim_save(s, side, image);
	forget_all(&s->side[side]);
	return is_empty(&s->side[side]) &&
	    load(s, side, image->data, image->len);
}

bool
sim_try(struct sim *s, unsigned side, const uint8_t *image, size_t len)
{
	struct sim_side *d = &s->side[side];
	struct image_writer good = {0};
	bool loaded, empty;

	sim_save(s, side, &good);
	forget_all(d);
	d->moving = true;
	loaded = load(s, side, image, len);
	d->moving = false;
	forget_all(d);
	empty = is_empty(d);
	memory_fail(&d->memory, 0, 0);
	if (!empty || !load(s, side, good.data, good.len))
		abort();
	image_free(&good);
	return loaded;
}

static void
drain_pipe(struct sim_pipe *p)
{
	p->ended = p->swallowed = p->broken = false;
	p->head = p->len = p->arrived = 0;
	p->flight = p->nflights = 0;
	p->landed = p->total;
	p->part_len = 0;
	p->skip = 0;
	p->last_ack = 0;
}

void
sim_part(struct sim *s)
{
	unsigned side;

	s->resumed = true;
	for (side = 0; side < 2; side++)
		session_let_go(s->side[side].session);
	for (side = 0; side < 2; side++)
		drain_pipe(&s->side[side].out);
}

void
sim_join(struct sim *s)
{
	struct session_offsets o[2];
	struct sim_side *d;
	unsigned side;

	for (side = 0; side < 2; side++)
		o[side] = session_offsets(s->side[side].session);
	for (side = 0; side < 2; side++) {
		d = &s->side[side];
		d->open = true;
		d->carrier.readable = d->carrier.writable = true;
		session_resume(d->session, &d->carrier, o[!side].received);
	}
}

void
sim_inject(struct sim *s, const void *data, size_t len)
{
	unsigned side = (unsigned)s->config.by_hand - 1;
	struct sim_pipe *p = &s->side[side].out;
	const uint8_t *at = data;
	size_t n;

	while (len > 0 && !p->swallowed) {
		n = p->cap - p->len < len ? p->cap - p->len : len;
		pipe_write(s, side, at, n);
		at += n;
		len -= n;
		sim_settle(s);
	}
}
