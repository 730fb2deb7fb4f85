#include "memory.h"

#include <stdlib.h>
#include <string.h>

static void *
counting_alloc(void *context, size_t size)
{
	struct memory *m = context;
	void *p;

	m->asked++;
	if (m->fail_from != 0 && m->asked >= m->fail_from &&
	    m->asked - m->fail_from < m->fail_count)
		return NULL;
	p = malloc(size);
	if (p == NULL)
		abort();
	/* Not cleared: what forgets to is to be seen. */
	memset(p, 0xa5, size);
	m->held++;
	return p;
}

static void
counting_release(void *context, void *p)
{
	struct memory *m = context;

	if (p == NULL || m->held == 0)
		abort();
	m->held--;
	free(p);
}

void
memory_init(struct memory *m)
{
	*m = (struct memory){
	    .allocator = {counting_alloc, counting_release, m},
	};
}

void
memory_fail(struct memory *m, size_t n, size_t count)
{
	m->fail_from = n == 0 ? 0 : m->asked + n;
	m->fail_count = count;
}
