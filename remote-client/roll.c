#include "remote-client/roll.h"

#include <string.h>

void
roll_init(struct roll *r)
{
	*r = (struct roll){0};
	pthread_mutex_init(&r->lock, NULL);
	list_init(&r->entries);
}

void
roll_close(struct roll *r)
{
	pthread_mutex_destroy(&r->lock);
}

void
roll_enter(struct roll *r, struct roll_entry *e)
{
	pthread_mutex_lock(&r->lock);
	*e = (struct roll_entry){0};
	list_append(&r->entries, &e->node);
	pthread_mutex_unlock(&r->lock);
}

/* With the lock, as all set_ functions. */
static void
set_up(struct roll *r, struct roll_entry *e, bool up)
{
	if (e->up != up)
		r->up += up ? 1 : -1u;
	e->up = up;
}

static void
set_session(struct roll *r, struct roll_entry *e, uint64_t session)
{
	if ((e->session != 0) != (session != 0))
		r->sessions += session != 0 ? 1 : -1u;
	e->session = session;
}

void
roll_leave(struct roll *r, struct roll_entry *e)
{
	pthread_mutex_lock(&r->lock);
	set_up(r, e, false);
	set_session(r, e, 0);
	list_remove(&e->node);
	pthread_mutex_unlock(&r->lock);
}

uint64_t
roll_begin(struct roll *r, struct roll_entry *e)
{
	uint64_t serial;

	pthread_mutex_lock(&r->lock);
	serial = ++r->serial;
	e->unsettled = serial;
	pthread_mutex_unlock(&r->lock);
	return serial;
}

void
roll_settle(struct roll *r, struct roll_entry *e)
{
	pthread_mutex_lock(&r->lock);
	e->unsettled = 0;
	pthread_mutex_unlock(&r->lock);
}

void
roll_hold(struct roll *r, struct roll_entry *e, uint64_t session,
    const uint8_t *server, uint64_t start)
{
	pthread_mutex_lock(&r->lock);
	e->unsettled = 0;
	memcpy(e->server, server, INS_INSTANCE_SIZE);
	e->start = start;
	set_session(r, e, session);
	set_up(r, e, true);
	r->standby = false;
	pthread_mutex_unlock(&r->lock);
}

void
roll_park(struct roll *r, struct roll_entry *e)
{
	pthread_mutex_lock(&r->lock);
	set_up(r, e, false);
	pthread_mutex_unlock(&r->lock);
}

void
roll_drop(struct roll *r, struct roll_entry *e)
{
	pthread_mutex_lock(&r->lock);
	set_up(r, e, false);
	set_session(r, e, 0);
	pthread_mutex_unlock(&r->lock);
}

static void
put_u64(uint8_t *p, uint64_t v)
{
	int i;

	for (i = 0; i < 8; i++)
		p[i] = (uint8_t)(v >> (56 - 8 * i));
}

void
roll_tell(struct roll *r, const uint8_t *server, uint64_t start,
    struct ins_register *g, uint8_t *held)
{
	const struct roll_entry *e;
	const struct list *i;
	uint64_t settled;

	g->held = (struct ins_bytes){held, 0};
	pthread_mutex_lock(&r->lock);
	settled = r->serial;
	for (i = r->entries.next; i != &r->entries; i = i->next) {
		e = container_of(i, struct roll_entry, node);
		if (e->unsettled != 0 && e->unsettled <= settled)
			settled = e->unsettled - 1;
		if (e->session != 0 && e->start == start &&
		    g->held.len < 8 * INS_HELD_MAX &&
		    memcmp(e->server, server, INS_INSTANCE_SIZE) == 0) {
			put_u64(held + g->held.len, e->session);
			g->held.len += 8;
		}
	}
	g->settled = settled;
	g->standby = r->standby;
	pthread_mutex_unlock(&r->lock);
}

bool
roll_stand_by(struct roll *r)
{
	bool news;

	pthread_mutex_lock(&r->lock);
	news = !r->standby;
	r->standby = true;
	pthread_mutex_unlock(&r->lock);
	return news;
}

bool
roll_is_standby(struct roll *r)
{
	bool standby;

	pthread_mutex_lock(&r->lock);
	standby = r->standby;
	pthread_mutex_unlock(&r->lock);
	return standby;
}

unsigned
roll_up(struct roll *r)
{
	unsigned up;

	pthread_mutex_lock(&r->lock);
	up = r->up;
	pthread_mutex_unlock(&r->lock);
	return up;
}

unsigned
roll_sessions(struct roll *r)
{
	unsigned n;

	pthread_mutex_lock(&r->lock);
	n = r->sessions;
	pthread_mutex_unlock(&r->lock);
	return n;
}

void
roll_save(const struct roll *r, struct image_writer *w)
{
	image_put(w, r->serial);
	image_put(w, r->standby);
}

void
roll_load(struct roll *r, struct image_reader *image)
{
	r->serial = image_take(image, UINT64_MAX);
	r->standby = image_take_bool(image);
}
