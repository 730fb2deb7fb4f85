/*
 * Upgrades: the process of a side is saved, is gone without a word, and its
 * sessions go on in another one, which has the same connections.  What the
 * checks know (wire, ends, attempts) stays as it is.
 */
#include "sim.h"

#include <stdatomic.h>
#include <string.h>

#include "tunnel/session_image.h"
#include "tunnel/session_private.h"

#define PAUSE_MAX (500 * MS) /* in which there is no process that works */
#define ROW_MAX 30

/* An upgrade that is under way. */
struct upgrade {
	struct side *side;
	struct process *process; /* the next one */
	struct session_config config;
	struct session *session;
	struct carrier *carrier; /* shared; NULL: none */
	bool forsake;
	/* Of ends that are in the next process, as they were: by key. */
	bool moved[2 * PAIRS];
	struct endpoint before[2 * PAIRS];
};

static struct end *
end_of(struct world *w, unsigned key)
{
	return &w->pairs[key / 2].end[key % 2];
}

/* Nothing but what gives back is called before a process has begun. */

static struct end *
too_early(struct endpoint *endpoint)
{
	struct end *e = container_of(endpoint, struct end, endpoint);

	world_fail(e->pair->world, "%s: stream %llu is used while it is loaded",
	    side_name(e->side), (unsigned long long)e->pair->identity);
	return e;
}

static ssize_t
early_read(struct endpoint *endpoint, void *buf, size_t len)
{
	(void)buf;
	(void)len;
	too_early(endpoint);
	return 0;
}

static ssize_t
early_write(struct endpoint *endpoint, const struct iovec *iov, int count)
{
	(void)iov;
	(void)count;
	too_early(endpoint);
	return 0;
}

static void
early_over(struct endpoint *endpoint)
{
	too_early(endpoint);
}

static void
early_refuse(struct endpoint *endpoint, enum ins_outcome outcome)
{
	(void)outcome;
	too_early(endpoint);
}

/* One of two descriptors: the other process has the connection still. */
static void
early_reset(struct endpoint *endpoint)
{
	(void)endpoint;
}

static const struct endpoint_ops early_ops = {
    early_read,
    early_write,
    early_over,
    early_over,
    early_reset,
    early_refuse,
};

static void
save_carrier(struct image_writer *image, const struct carrier *c)
{
	(void)c;
	image_put_tag(image, "carr");
}

static void
save_endpoint(struct image_writer *image, const struct stream *st,
    const void *user)
{
	const struct end *e = user;

	(void)st;
	image_put(image, e->key);
}

static struct carrier *
load_carrier(struct image_reader *r, void *context)
{
	struct upgrade *u = context;

	if (!image_take_tag(r, "carr"))
		return NULL;
	if (u->carrier != NULL || u->side->link == NULL) {
		world_fail(u->side->world, "%s: loads a carrier too many",
		    side_name(u->side->index));
		return NULL;
	}
	u->carrier = link_share(u->side->link);
	return u->carrier;
}

static bool
load_endpoint(struct image_reader *r, struct stream *st, void *context)
{
	struct upgrade *u = context;
	struct world *w = u->side->world;
	unsigned key = (unsigned)image_take(r, 2 * (uint64_t)w->npairs);
	struct end *e;

	if (r->failed || key >= 2 * w->npairs)
		return false;
	e = end_of(w, key);
	if (u->moved[key] || !e->attached || e->side != u->side->index ||
	    stream_identity(st) != e->pair->identity) {
		world_fail(w, "%s: loads an end that is not the stream's",
		    side_name(u->side->index));
		return false;
	}
	u->moved[key] = true;
	u->before[key] = e->endpoint;
	e->endpoint = (struct endpoint){.ops = &early_ops};
	stream_attach(st, &e->endpoint, e);
	return true;
}

static void
save_all(struct side *s, struct image_writer *image)
{
	static const struct session_saver saver = {save_carrier, save_endpoint};
	struct session *session;
	struct list *i;

	for (i = s->process->all.next; i != &s->process->all; i = i->next) {
		session = session_of_list(i);
		image_put(image, 1);
		image_put(image, session_has_ended(session));
		session_save(session, &saver, image);
	}
	image_put(image, 0);
}

static bool
load_all(struct upgrade *u, struct image_reader *r)
{
	const struct session_loader loader = {load_carrier, load_endpoint, u,
	    u->forsake};
	struct session_config c;
	struct session *session;
	bool ended;

	while (image_take_bool(r)) {
		ended = image_take_bool(r);
		c = u->config;
		/* What has ended has nobody. */
		c.owner = ended ? NULL : u->side;
		session = session_load(&c, &loader, r);
		if (session == NULL)
			return false;
		if (!ended)
			u->session = session;
	}
	return !r->failed && r->at == r->end;
}

/* Now and then there is no memory for the next one. */
static void
starve(struct heap *h)
{
	if (!one_in(h->world, 4))
		return;
	h->mode = one_in(h->world, 2) ? HEAP_EACH : HEAP_RANDOM;
	h->n = 1 + draw_wide(h->world, 60);
}

static bool
begin(struct upgrade *u, struct side *s)
{
	struct process *next = &s->processes[s->process == s->processes];
	struct budget *old = &s->process->budget;
	struct session_config config = s->config;

	*u = (struct upgrade){
	    .side = s,
	    .process = next,
	    .forsake = one_in(s->world, 2),
	};
	/* It may read another configuration. */
	if (one_in(s->world, 4) && !s->world->calm)
		traits_redraw(s);
	u->config = s->config;
	s->config = config;
	u->config.driver = &next->driver;
	u->config.process = &next->budget;
	u->config.all = &next->all;
	next->budget.limit = old->limit;
	next->budget.aside = old->aside;
	atomic_init(&next->budget.used, 0);
	atomic_init(&next->budget.above, 0);
	/* Other sessions go along. */
	atomic_init(&next->budget.kept, s->others_kept);
	heap_init(&next->heap, s->world);
	starve(&next->heap);
	return world_process(s->world, next);
}

static void
require(struct side *s, bool ok, const char *what)
{
	if (!ok)
		world_fail(s->world, "%s: after an upgrade %s",
		    side_name(s->index), what);
}

/* What nobody but an administrator sees of a stream, or who is beside it. */
static void
check_stream(struct side *s, const struct stream *old, const struct stream *new)
{
	require(s, new->class == old->class &&new->weight == old->weight,
	    "a stream is of another class or weight");
	require(s, new->ended_by == old->ended_by,
	    "a stream was ended by somebody else");
	require(s, (new->stalls & old->stalls) == old->stalls,
	    "a stream never stalled");
	require(s, new->opened_at == old->opened_at,
	    "a stream was opened at another time");
	require(s, new->deficit == old->deficit &&new->sent_at == old->sent_at,
	    "a stream has another turn");
	require(s, new->window >= old->window, "a window is smaller");
}

static void
check_session(struct side *s, const struct session *old,
    const struct session *new)
{
	struct session_offsets was = session_offsets(old),
			       is = session_offsets(new);

	require(s, memcmp(&was, &is, sizeof(was)) == 0, "offsets are others");
	require(s, session_streams(old) == session_streams(new),
	    "streams are more or less");
	require(s, session_is_parked(old) == session_is_parked(new),
	    "a carrier is there or not");
	require(s, session_is_going(old) == session_is_going(new),
	    "a go-away is forgotten, or made up");
	require(s, strcmp(old->end_why, new->end_why) == 0,
	    "it ends for another reason");
	require(s, !old->limit.set || new->limit.at == old->limit.at,
	    "grants are looked at at another time");
	require(s,
	    new->tx.ping_due == old->tx.ping_due &&new->tx.ping_stamp ==
		    old->tx.ping_stamp &&new->tx.pong_due == old->tx.pong_due &&
		(!old->tx.pong_due || new->tx.pong_stamp == old->tx.pong_stamp),
	    "a ping or the answer to one is forgotten");
	require(s,
	    new->tx.path.rate == old->tx.path.rate &&new->tx.path.rtt ==
		old->tx.path.rtt &&new->tx.path.rtt_min == old->tx.path.rtt_min,
	    "the path is another one");
}

static void
check_next(struct upgrade *u)
{
	struct side *s = u->side;
	struct process *old = s->process, *new = u->process;
	struct end *e;
	unsigned key;

	require(s, (u->session == NULL) == (s->session == NULL),
	    "a session is missing, or made up");
	if (u->session != NULL && s->session != NULL)
		check_session(s, s->session, u->session);
	for (key = 0; key < 2 * s->world->npairs; key++) {
		e = end_of(s->world, key);
		if (u->moved[key])
			check_stream(s, u->before[key].stream,
			    e->endpoint.stream);
		else
			require(s, !e->attached || e->side != s->index,
			    "a stream is missing");
	}
	require(s, new->budget.kept <= old->budget.kept, "more is kept");
	/* The spare buffer may have been in use. */
	require(s, new->driver.pool.held <= old->driver.pool.held + BUFFER_MIN,
	    "more buffers are held");
}

/* The sockets are watched anew: what is ready shows, sooner or later. */
static void
watch(struct upgrade *u)
{
	struct world *w = u->side->world;
	uint64_t pause = u->side->back_at - w->now;
	struct end *e;
	unsigned key;

	for (key = 0; key < 2 * w->npairs; key++) {
		if (!u->moved[key])
			continue;
		e = end_of(w, key);
		e->endpoint.ops = u->before[key].ops;
		world_after(w, &e->tick,
		    pause +
			draw_wide(w,
			    one_in(w, 8) && !w->calm ? 2 * SECOND : 5 * MS));
	}
}

static void
go_on(struct upgrade *u)
{
	struct side *s = u->side;
	struct world *w = s->world;
	struct process *old = s->process;
	struct heap *h = &u->process->heap;

	check_next(u);
	h->asked = old->heap.asked;
	h->failed = old->heap.failed;
	h->mode = old->heap.mode;
	h->n = old->heap.n;
	if (u->carrier != NULL)
		link_shared(s->link, u->carrier, true);
	heap_forget(&old->heap);
	memset(old, 0xdd, sizeof(*old));
	s->process = u->process;
	s->config = u->config;
	s->session = u->session;
	timer_cancel(&w->timers, &s->turn);
	s->back_at = w->now;
	if (!one_in(w, 3))
		s->back_at += draw_wide(w, w->calm ? 5 * MS : PAUSE_MAX);
	watch(u);
	check_deeply(w);
	daemon_replaced(s);
	w->totals->replaced++;
}

/* Only where memory ran out; and the one before is as it was. */
static void
stay(struct upgrade *u)
{
	struct side *s = u->side;
	struct process *p = u->process;
	unsigned key;

	if (p->heap.failed == 0)
		world_fail(s->world, "%s: an image is refused",
		    side_name(s->index));
	for (key = 0; key < 2 * s->world->npairs; key++)
		if (u->moved[key])
			end_of(s->world, key)->endpoint = u->before[key];
	if (u->forsake && u->carrier != NULL)
		link_shared(s->link, u->carrier, false);
	s->world->totals->not_replaced++;
}

static void
check_given_back(struct upgrade *u)
{
	struct process *p = u->process;

	require(u->side,
	    list_empty(&p->all) && p->driver.pool.held == 0 &&
		!driver_has_work(&p->driver) && p->driver.timers.root == NULL &&
		p->budget.used == 0 && p->budget.above == 0 &&
		p->budget.kept == u->side->others_kept,
	    "that failed something is left");
}

static void
replace(struct side *s)
{
	static struct upgrade upgrade;
	struct upgrade *u = &upgrade;
	struct image_writer image = {0};
	struct image_reader r;
	bool begun;

	if (s->world->failed || list_empty(&s->process->all))
		return;
	save_all(s, &image);
	r = (struct image_reader){
	    .at = image.data,
	    .end = image.data + image.len,
	};
	begun = begin(u, s);
	if (begun && load_all(u, &r)) {
		TRACE(s->world, "%s: another process", side_name(s->index));
		go_on(u);
	} else {
		TRACE(s->world, "%s: no other process", side_name(s->index));
		stay(u);
		if (begun && !u->forsake)
			check_given_back(u);
		heap_forget(&u->process->heap);
	}
	image_free(&image);
}

static void
replace_drawn(struct world *w)
{
	uint64_t which = draw(w, 5);

	/* Both at once, now and then. */
	if (which % 3 != SERVER)
		replace(&w->side[CLIENT]);
	if (which % 3 != CLIENT)
		replace(&w->side[SERVER]);
}

static void
on_upgrade(struct timer *t)
{
	struct world *w = container_of(t, struct world, upgrades);

	replace_drawn(w);
	if (w->nupgrades-- > 1)
		world_after(w, t,
		    draw_wide(w,
			w->calm          ? SECOND :
			    one_in(w, 2) ? 100 * MS :
					   1 * MS));
}

static void
in_a_row(struct world *w, unsigned n)
{
	w->nupgrades = n;
	w->upgrades.expired = on_upgrade;
	world_after(w, &w->upgrades, 0);
}

void
replace_some(struct world *w)
{
	in_a_row(w, one_in(w, 3) ? 1 + (unsigned)draw_wide(w, ROW_MAX) : 1);
}

void
replace_more(struct world *w)
{
	in_a_row(w, w->nupgrades + 1 + (unsigned)draw(w, 4));
}
