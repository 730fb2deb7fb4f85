/*
 * The network: connections with a delay and a rate, that are cut at any byte
 * of either direction, and whose ends notice that at times of their own.
 */
#include "sim.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static size_t
piece(struct world *w, uint64_t n)
{
	uint64_t most = w->traits.piece;

	if (most == 0 || n <= 1)
		return (size_t)n;
	most = 1 + draw(w, most);
	return (size_t)(n < most ? n : most);
}

static void
free_if_over(struct link *l)
{
	unsigned i;

	for (i = 0; i < 2; i++)
		if (l->end[i].state != LINK_CLOSED &&
		    l->end[i].state != LINK_NOBODY)
			return;
	for (i = 0; i < 2; i++) {
		timer_cancel(&l->world->timers, &l->end[i].notice);
		timer_cancel(&l->world->timers, &l->end[i].patience);
		timer_cancel(&l->world->timers, &l->pipe[i].timer);
	}
	l->used = false;
}

/* Tell the one who has this end; after that the link may be gone. */
static void
tell(struct link_end *e, bool readable, bool writable)
{
	struct carrier *c;

	if (e->state == LINK_TALKS && readable) {
		daemon_heard(e);
		return;
	}
	if (e->state != LINK_CARRIES)
		return;
	c = &e->port->carrier;
	c->readable |= readable;
	c->writable |= writable;
	c->notify(c->owner);
}

static void
plan(struct pipe *p)
{
	struct world *w = p->link->world;
	uint64_t at = NEVER;

	if (p->nflights > 0)
		at = p->flights[p->flight].at;
	else if (p->fin && !p->fin_landed && p->cut == NEVER)
		at = p->busy_until + p->link->delay;
	if (at == NEVER)
		timer_cancel(&w->timers, &p->timer);
	else
		timer_set(&w->timers, &p->timer, at > w->now ? at : w->now);
}

/* Something arrives. */
static void
on_landing(struct timer *t)
{
	struct pipe *p = container_of(t, struct pipe, timer);
	struct world *w = p->link->world;
	bool fin = p->nflights == 0;

	while (p->nflights > 0 && p->flights[p->flight].at <= w->now) {
		p->landed = p->flights[p->flight].end;
		p->flight = (p->flight + 1) % FLIGHTS;
		p->nflights--;
	}
	if (p->landed > p->cut)
		p->landed = p->cut;
	if (fin)
		p->fin_landed = true;
	plan(p);
	if (fin || p->landed > p->taken)
		tell(&p->link->end[!p->side], true, false);
}

/* n more bytes set out. */
static void
set_out(struct pipe *p, uint64_t n)
{
	struct link *l = p->link;
	uint64_t now = l->world->now, at;
	unsigned i = p->flight + p->nflights;

	if (p->busy_until < now)
		p->busy_until = now;
	if (l->rate != 0)
		p->busy_until += n * SECOND / l->rate;
	at = p->busy_until + l->delay;
	p->total += n;
	if (p->nflights > 0 &&
	    (p->nflights == FLIGHTS || p->flights[(i - 1) % FLIGHTS].at == at))
		i--;
	else
		p->nflights++;
	p->flights[i % FLIGHTS].end = p->total;
	p->flights[i % FLIGHTS].at = at;
	if (!p->timer.set)
		plan(p);
}

static void
put(struct pipe *p, const uint8_t *data, size_t len)
{
	size_t at = (size_t)p->total & (p->cap - 1);
	size_t part = p->cap - at < len ? p->cap - at : len;

	memcpy(p->ring + at, data, part);
	memcpy(p->ring, data + part, len - part);
	set_out(p, len);
}

static void
get(struct pipe *p, uint8_t *buf, size_t len)
{
	size_t at = (size_t)p->taken & (p->cap - 1);
	size_t part = p->cap - at < len ? p->cap - at : len;

	memcpy(buf, p->ring + at, part);
	memcpy(buf + part, p->ring, len - part);
	p->taken += len;
}

static struct link_end *
end_of(struct carrier *c)
{
	return container_of(c, struct port, carrier)->end;
}

static ssize_t
carrier_read(struct carrier *c, void *buf, size_t len)
{
	struct link_end *e = end_of(c);
	struct link *l = e->link;
	struct pipe *p = &l->pipe[!e->side];
	struct link_end *writer = &l->end[!e->side];
	uint64_t n = e->noticed && e->dropped ? 0 : p->landed - p->taken;

	if (n == 0 && e->noticed) {
		errno = e->error;
		return e->error == 0 ? 0 : -1;
	}
	if (n == 0 && p->fin_landed)
		return 0;
	if (n == 0) {
		c->readable = false;
		errno = EAGAIN;
		return -1;
	}
	n = piece(l->world, n < len ? n : len);
	get(p, buf, (size_t)n);
	l->world->side[e->side].heard_at = l->world->now;
	/* An end of file that is in sight is still to be read. */
	if (p->taken == p->landed && !p->fin_landed && !e->noticed &&
	    one_in(l->world, 2))
		c->readable = false;
	if (writer->state == LINK_CARRIES && !writer->port->carrier.writable)
		tell(writer, false, true);
	return (ssize_t)n;
}

static ssize_t
carrier_write(struct carrier *c, const struct iovec *iov, int count)
{
	struct link_end *e = end_of(c);
	struct world *w = e->link->world;
	struct pipe *p = &e->link->pipe[e->side];
	size_t room = (size_t)(p->cap - (p->total - p->taken)), n, done = 0;
	int i;

	if (e->noticed) {
		errno = EPIPE;
		return -1;
	}
	if (room == 0) {
		c->writable = false;
		errno = EAGAIN;
		return -1;
	}
	room = piece(w, room);
	for (i = 0; i < count && room > 0; i++) {
		n = iov[i].iov_len < room ? iov[i].iov_len : room;
		wire_said(&w->side[e->side], iov[i].iov_base, n);
		put(p, iov[i].iov_base, n);
		done += n;
		room -= n;
	}
	if (p->total - p->taken == p->cap && one_in(w, 2))
		c->writable = false;
	return (ssize_t)done;
}

static void
carrier_close(struct carrier *c)
{
	struct port *port = container_of(c, struct port, carrier);
	struct link_end *e = port->end;
	struct world *w = e->link->world;

	free(port);
	w->ports--;
	/* Of a process that did not come: another one has it still. */
	if (port != e->port)
		return;
	e->port = NULL;
	if (w->side[e->side].link == e)
		w->side[e->side].link = NULL;
	link_close(e);
}

static const struct carrier_ops carrier_ops = {
    carrier_read,
    carrier_write,
    carrier_close,
};

static struct port *
port_new(struct link_end *e)
{
	struct pipe *in = &e->link->pipe[!e->side];
	struct port *port = malloc(sizeof(*port));

	if (port == NULL)
		abort();
	*port = (struct port){
	    .carrier =
		{
		    .ops = &carrier_ops,
		    .readable =
			e->noticed || in->fin_landed || in->landed > in->taken,
		    .writable = true,
		},
	    .end = e,
	};
	e->link->world->ports++;
	return port;
}

struct carrier *
link_carry(struct link_end *e)
{
	struct world *w = e->link->world;

	timer_cancel(&w->timers, &e->patience);
	e->port = port_new(e);
	e->state = LINK_CARRIES;
	w->side[e->side].link = e;
	w->side[e->side].heard_at = w->now;
	return &e->port->carrier;
}

struct carrier *
link_share(struct link_end *e)
{
	struct port *port = port_new(e);

	/* It may have some: as a daemon tries. */
	port->carrier.readable |= one_in(e->link->world, 2);
	return &port->carrier;
}

void
link_shared(struct link_end *e, struct carrier *c, bool taken)
{
	struct port *port = container_of(c, struct port, carrier), *old;

	old = taken ? e->port : port;
	if (taken)
		e->port = port;
	free(old);
	e->link->world->ports--;
}

void
link_close(struct link_end *e)
{
	struct link *l = e->link;
	struct pipe *in = &l->pipe[!e->side], *out = &l->pipe[e->side];

	timer_cancel(&l->world->timers, &e->notice);
	timer_cancel(&l->world->timers, &e->patience);
	e->state = LINK_CLOSED;
	out->fin = true;
	if (!out->timer.set)
		plan(out);
	/* What still comes is lost; now and then who sends it is told. */
	if (in->cut > in->landed)
		in->cut = in->landed;
	if (!l->cut && one_in(l->world, 2))
		world_after(l->world, &l->end[!e->side].notice, 2 * l->delay);
	free_if_over(l);
}

static void
on_notice(struct timer *t)
{
	struct link_end *e = container_of(t, struct link_end, notice);
	struct world *w = e->link->world;

	e->noticed = true;
	e->dropped = one_in(w, 2);
	e->error = one_in(w, 3) ? 0 : one_in(w, 2) ? ECONNRESET : ETIMEDOUT;
	if (e->state == LINK_TALKS)
		daemon_lost(e);
	else
		tell(e, true, true);
}

static void
on_patience(struct timer *t)
{
	daemon_lost(container_of(t, struct link_end, patience));
}

static void
init_pipe(struct link *l, unsigned side)
{
	struct pipe *p = &l->pipe[side];
	uint8_t *ring = p->ring;

	if (ring == NULL)
		ring = malloc(PIPE_MAX);
	if (ring == NULL)
		abort();
	p->ring = ring;
	p->cap = l->world->calm ? 65536 : l->world->traits.cap;
	p->total = p->landed = p->taken = 0;
	p->cut = NEVER;
	p->busy_until = 0;
	p->fin = p->fin_landed = false;
	p->flight = p->nflights = 0;
	p->timer = (struct timer){.expired = on_landing};
	p->link = l;
	p->side = side;
}

struct link *
link_new(struct world *w)
{
	struct link *l = w->links;
	unsigned i;

	while (l < w->links + LINKS && l->used)
		l++;
	if (l == w->links + LINKS)
		return NULL;
	l->world = w;
	l->used = true;
	l->cut = false;
	l->number = ++w->nlinks;
	l->delay = w->calm ? draw(w, 1000) : draw(w, w->traits.delay + 1);
	l->rate = w->calm ? 0 : w->traits.rate;
	for (i = 0; i < 2; i++) {
		init_pipe(l, i);
		l->end[i] = (struct link_end){
		    .link = l,
		    .side = i,
		    .state = LINK_TALKS,
		    .notice.expired = on_notice,
		    .patience.expired = on_patience,
		};
	}
	return l;
}

void
link_say(struct link_end *e, const void *data, size_t len)
{
	struct pipe *p = &e->link->pipe[e->side];

	if (!e->noticed && p->cap - (p->total - p->taken) >= len)
		put(p, data, len);
}

size_t
link_take(struct link_end *e, void *buf, size_t len)
{
	struct pipe *p = &e->link->pipe[!e->side];
	uint64_t n = p->landed - p->taken;

	if (n > len)
		n = len;
	get(p, buf, (size_t)n);
	return (size_t)n;
}

static void
cut_pipe(struct pipe *p)
{
	struct world *w = p->link->world;
	uint64_t in_flight = p->total - p->landed, at = p->landed;

	if (one_in(w, 3))
		at += draw(w, in_flight + 1);
	else if (one_in(w, 2))
		at += in_flight + draw_wide(w, 300000);
	if (at < p->cut)
		p->cut = at;
	plan(p);
}

void
link_cut(struct link *l, bool silent)
{
	struct world *w = l->world;
	unsigned i, only = (unsigned)draw(w, 8);

	l->cut = true;
	TRACE(w, "link %llu is cut%s", (unsigned long long)l->number,
	    silent ? ", silently" : "");
	for (i = 0; i < 2; i++) {
		/* Now and then one direction goes on. */
		if (only != i)
			cut_pipe(&l->pipe[i]);
		if (l->end[i].state == LINK_CLOSED ||
		    l->end[i].state == LINK_NOBODY || silent || one_in(w, 8))
			continue;
		world_after(w, &l->end[i].notice,
		    one_in(w, 3) ? 0 : draw_wide(w, 2 * SECOND));
	}
}

void
link_calm(struct link *l)
{
	unsigned i;

	l->delay = draw(l->world, 1000);
	l->rate = 0;
	for (i = 0; i < 2; i++)
		if (l->cut && !l->end[i].noticed &&
		    (l->end[i].state == LINK_TALKS ||
			l->end[i].state == LINK_CARRIES) &&
		    one_in(l->world, 2))
			world_after(l->world, &l->end[i].notice, 0);
}

void
link_lose_all(struct world *w)
{
	struct link *l;
	unsigned i;

	for (l = w->links; l < w->links + LINKS; l++)
		for (i = 0; i < 2 && l->used; i++)
			l->pipe[i].cut = l->pipe[i].landed;
}

void
links_free(struct world *w)
{
	struct link *l;
	unsigned i;

	for (l = w->links; l < w->links + LINKS; l++)
		for (i = 0; i < 2 && l->used; i++)
			if (l->end[i].state == LINK_TALKS)
				link_close(&l->end[i]);
}
