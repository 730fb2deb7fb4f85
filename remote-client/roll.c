#include "remote-client/roll.h"

#include <stdlib.h>
#include <string.h>

int
roll_init(struct roll *r, unsigned n)
{
	*r = (struct roll){.n = n};
	pthread_mutex_init(&r->lock, NULL);
	r->entries = calloc(n, sizeof(*r->entries));
	return r->entries != NULL ? 0 : -1;
}

void
roll_close(struct roll *r)
{
	free(r->entries);
	pthread_mutex_destroy(&r->lock);
}

uint64_t
roll_begin(struct roll *r, unsigned i)
{
	uint64_t serial;

	pthread_mutex_lock(&r->lock);
	serial = ++r->serial;
	r->entries[i].unsettled = serial;
	pthread_mutex_unlock(&r->lock);
	return serial;
}

void
roll_settle(struct roll *r, unsigned i)
{
	pthread_mutex_lock(&r->lock);
	if (r->entries[i].session != 0)
		r->up--;
	r->entries[i] = (struct roll_entry){0};
	pthread_mutex_unlock(&r->lock);
}

void
roll_hold(struct roll *r, unsigned i, uint64_t session, const uint8_t *server)
{
	pthread_mutex_lock(&r->lock);
	r->entries[i].unsettled = 0;
	r->entries[i].session = session;
	memcpy(r->entries[i].server, server, INS_INSTANCE_SIZE);
	r->up++;
	r->standby = false;
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
roll_tell(struct roll *r, const uint8_t *server, struct ins_register *g,
    uint8_t *held)
{
	const struct roll_entry *e;
	uint64_t settled;
	unsigned i;

	g->held = (struct ins_bytes){held, 0};
	pthread_mutex_lock(&r->lock);
	settled = r->serial;
	for (i = 0; i < r->n; i++) {
		e = &r->entries[i];
		if (e->unsettled != 0 && e->unsettled <= settled)
			settled = e->unsettled - 1;
		if (e->session != 0 && g->held.len < 8 * INS_HELD_MAX &&
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
