#include "net/driver.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>

static void
system_random(void *context, void *buf, size_t len)
{
	uint8_t *p = buf;
	ssize_t n;

	(void)context;
	while (len > 0) {
		n = getrandom(p, len, 0);
		if (n < 0 && errno == EINTR)
			continue;
		/* Without randomness nothing here is safe to go on. */
		if (n <= 0)
			abort();
		p += n;
		len -= (size_t)n;
	}
}

int
driver_init(struct driver *d, const struct allocator *allocator)
{
	*d = (struct driver){.allocator = allocator, .random = system_random};
	list_init(&d->work);
	pool_init(&d->pool, allocator);
	d->scratch = allocator->alloc(allocator->context, DRIVER_SCRATCH);
	return d->scratch != NULL ? 0 : -1;
}

void
driver_close(struct driver *d)
{
	pool_close(&d->pool);
	allocator_free(d->allocator, d->scratch);
}

void
work_init(struct work *w, void (*run)(struct work *))
{
	list_init(&w->node);
	w->run = run;
}

void
driver_defer(struct driver *d, struct work *w)
{
	if (list_empty(&w->node))
		list_append(&d->work, &w->node);
}

void
driver_run_work(struct driver *d)
{
	struct list batch;
	struct work *w;

	list_init(&batch);
	list_take(&batch, &d->work);
	while (!list_empty(&batch)) {
		w = container_of(batch.next, struct work, node);
		list_remove(&w->node);
		w->run(w);
	}
}

void
driver_random(struct driver *d, void *buf, size_t len)
{
	d->random(d->random_context, buf, len);
}
