#include "base/pool.h"

/* A buffer with its head and the room in front. */
#define STRIDE (sizeof(struct buffer) + BUFFER_HEADROOM + BUFFER_MIN)

struct slab {
	struct list node; /* pool->partial, ->unused; in none: all are used */
	struct buffer *free;
	size_t used;
	size_t cut; /* the others were never used: no page is touched early */
	_Alignas(struct buffer) uint8_t buffers[POOL_SLAB * STRIDE];
};

static unsigned
class_of(size_t want)
{
	unsigned class = 0;

	while (((size_t)BUFFER_MIN << class) < want && class < POOL_CLASSES - 1)
		class ++;
	return class;
}

void
pool_init(struct pool *p, const struct allocator *allocator)
{
	*p = (struct pool){.allocator = allocator};
	list_init(&p->partial);
	list_init(&p->unused);
}

/* Take note that one less is free. */
static void
taken(struct pool *p, unsigned class)
{
	if (--p->count[class] < p->least[class])
		p->least[class] = p->count[class];
}

static struct slab *
slab_new(struct pool *p)
{
	struct slab *s = p->allocator->alloc(p->allocator->context, sizeof(*s));

	if (s == NULL)
		return NULL;
	s->free = NULL;
	s->used = s->cut = 0;
	list_init(&s->node);
	return s;
}

static struct buffer *
slab_get(struct pool *p)
{
	struct buffer *b;
	struct slab *s;

	if (!list_empty(&p->partial))
		s = container_of(p->partial.next, struct slab, node);
	else if (!list_empty(&p->unused)) {
		s = container_of(p->unused.next, struct slab, node);
		taken(p, 0);
	} else {
		s = slab_new(p);
		if (s == NULL)
			return NULL;
	}
	b = s->free;
	if (b != NULL)
		s->free = b->next;
	else {
		b = (struct buffer *)(void *)&s->buffers[s->cut++ * STRIDE];
		b->slab = s;
	}
	if (++s->used == POOL_SLAB)
		list_remove(&s->node);
	else if (s->used == 1) {
		list_remove(&s->node);
		list_prepend(&p->partial, &s->node);
	}
	return b;
}

static void
slab_put(struct pool *p, struct buffer *b)
{
	struct slab *s = b->slab;

	b->next = s->free;
	s->free = b;
	if (--s->used == 0) {
		list_remove(&s->node);
		list_prepend(&p->unused, &s->node);
		p->count[0]++;
	} else if (s->used == POOL_SLAB - 1)
		list_append(&p->partial, &s->node);
}

static void
release(struct pool *p, unsigned class, size_t n)
{
	struct buffer *b;
	struct slab *s;

	for (; n > 0; n--) {
		p->count[class]--;
		if (class == 0) {
			s = container_of(p->unused.prev, struct slab, node);
			list_remove(&s->node);
			allocator_free(p->allocator, s);
		} else {
			b = p->free[class];
			p->free[class] = b->next;
			allocator_free(p->allocator, b);
		}
	}
}

void
pool_close(struct pool *p)
{
	unsigned class;

	for (class = 0; class < POOL_CLASSES; class ++)
		release(p, class, p->count[class]);
}

static struct buffer *
large_get(struct pool *p, unsigned class)
{
	struct buffer *b = p->free[class];

	if (b == NULL)
		return p->allocator->alloc(p->allocator->context,
		    STRIDE - BUFFER_MIN + ((size_t)BUFFER_MIN << class));
	p->free[class] = b->next;
	taken(p, class);
	return b;
}

struct buffer *
pool_get(struct pool *p, size_t want)
{
	unsigned class = class_of(want);
	struct buffer *b = class == 0 ? slab_get(p) : large_get(p, class);
	size_t size = (size_t)BUFFER_MIN << class;

	if (b == NULL)
		return NULL;
	b->next = NULL;
	b->at = (uint8_t *)(b + 1) + BUFFER_HEADROOM;
	b->len = 0;
	b->size = (uint32_t)size;
	b->control = 0;
	p->held += size;
	return b;
}

void
pool_put(struct pool *p, struct buffer *b)
{
	unsigned class;

	if (b == NULL)
		return;
	class = class_of(b->size);
	p->held -= b->size;
	if (class == 0) {
		slab_put(p, b);
		return;
	}
	b->next = p->free[class];
	p->free[class] = b;
	p->count[class]++;
}

int
pool_idle(const struct pool *p)
{
	unsigned class;

	for (class = 0; class < POOL_CLASSES; class ++)
		if (p->count[class] > 0)
			return 1;
	return 0;
}

void
pool_trim(struct pool *p, uint64_t now)
{
	unsigned class;

	if (now - p->trimmed < POOL_IDLE_US)
		return;
	p->trimmed = now;
	for (class = 0; class < POOL_CLASSES; class ++) {
		release(p, class, p->least[class]);
		p->least[class] = p->count[class];
	}
}
