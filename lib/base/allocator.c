#include "base/allocator.h"

#include <stdlib.h>
#include <string.h>

static void *
system_alloc(void *context, size_t size)
{
	(void)context;
	return malloc(size);
}

static void
system_release(void *context, void *memory)
{
	(void)context;
	free(memory);
}

const struct allocator allocator_system = {
    system_alloc,
    system_release,
    NULL,
};

void *
allocator_new(const struct allocator *a, size_t size)
{
	void *memory = a->alloc(a->context, size);

	if (memory != NULL)
		memset(memory, 0, size);
	return memory;
}

void
allocator_free(const struct allocator *a, void *memory)
{
	if (memory != NULL)
		a->release(a->context, memory);
}
