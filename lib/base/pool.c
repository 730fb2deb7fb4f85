#include "base/pool.h"

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
}

static void
release(struct pool *p, unsigned class, size_t n)
{
	struct buffer *b;

	while (n-- > 0) {
		b = p->free[class];
		p->free[class] = b->next;
		p->count[class]--;
		allocator_free(p->allocator, b);
	}
}

void
pool_close(struct pool *p)
{
	unsigned class;

	for (class = 0; class < POOL_CLASSES; class ++)
		release(p, class, p->count[class]);
}

struct buffer *
pool_get(struct pool *p, size_t want)
{
	unsigned class = class_of(want);
	struct buffer *b = p->free[class];
	size_t size = (size_t)BUFFER_MIN << class;

	if (b != NULL) {
		p->free[class] = b->next;
		if (--p->count[class] < p->least[class])
			p->least[class] = p->count[class];
	} else {
		b = p->allocator->alloc(p->allocator->context,
		    sizeof(*b) + BUFFER_HEADROOM + size);
		if (b == NULL)
			return NULL;
	}
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
