/*
 * What the fuzzers of sessions have in common: memory that is counted, a
 * carrier that gives the input, and endpoints.  For one file each, so all of
 * it is static.
 */
#ifndef FUZZ_WORLD_H
#define FUZZ_WORLD_H

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "tunnel/session.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

#define ENDS 64

static size_t held; /* allocations */
static size_t asked; /* bytes of them, ever */

static void *
counting_alloc(void *context, size_t size)
{
	(void)context;
	held++;
	asked += size;
	return malloc(size);
}

static void
counting_release(void *context, void *p)
{
	(void)context;
	held--;
	free(p);
}

static const struct allocator allocator = {
    counting_alloc,
    counting_release,
    NULL,
};

struct end {
	struct endpoint endpoint;
	size_t reads, room;
	struct stream *connecting;
	bool used;
};

static struct end ends[ENDS];
static struct driver driver;
static struct session *session;
static bool carrier_open, carrier_fails;
static bool carrier_takes_little, ends_take_little, ends_end;
static const uint8_t *input;
static size_t input_len;

static void
require(bool ok)
{
	if (!ok)
		abort();
}

/* The carrier: it gives what there is, and takes all or little. */
static ssize_t
carrier_read(struct carrier *c, void *buf, size_t len)
{
	size_t n = len < input_len ? len : input_len;

	require(carrier_open);
	c->readable = false;
	if (carrier_fails)
		return 0;
	if (n == 0) {
		errno = EAGAIN;
		return -1;
	}
	memcpy(buf, input, n);
	input += n;
	input_len -= n;
	return (ssize_t)n;
}

static ssize_t
carrier_write(struct carrier *c, const struct iovec *iov, int n)
{
	size_t sum = 0;

	require(carrier_open && n > 0);
	while (n-- > 0)
		sum += iov++->iov_len;
	require(sum > 0);
	if (!carrier_takes_little)
		return (ssize_t)sum;
	c->writable = false;
	return (ssize_t)(sum > 5 ? 5 : sum);
}

static void
carrier_close(struct carrier *c)
{
	(void)c;
	require(carrier_open);
	carrier_open = false;
}

static const struct carrier_ops carrier_ops = {
    carrier_read,
    carrier_write,
    carrier_close,
};

/* Endpoints. */
static struct end *
end_of(struct endpoint *e)
{
	struct end *n = container_of(e, struct end, endpoint);

	require(n->used);
	return n;
}

static ssize_t
end_read(struct endpoint *endpoint, void *buf, size_t len)
{
	struct end *e = end_of(endpoint);

	if (e->reads == 0) {
		endpoint->readable = false;
		if (ends_end)
			return 0;
		errno = EAGAIN;
		return -1;
	}
	e->reads--;
	memset(buf, 'x', len);
	return (ssize_t)len;
}

static ssize_t
end_write(struct endpoint *endpoint, const struct iovec *iov, int n)
{
	struct end *e = end_of(endpoint);
	size_t sum = 0;

	while (n-- > 0)
		sum += iov++->iov_len;
	if (sum > e->room)
		sum = e->room;
	if (sum == 0) {
		endpoint->writable = false;
		errno = EAGAIN;
		return -1;
	}
	e->room -= sum;
	return (ssize_t)sum;
}

static void
end_shut(struct endpoint *e)
{
	end_of(e);
}

static void
end_gone(struct endpoint *e)
{
	end_of(e)->used = false;
}

static void
end_refuse(struct endpoint *e, enum ins_outcome outcome)
{
	(void)outcome;
	end_gone(e);
}

static const struct endpoint_ops end_ops = {
    end_read,
    end_write,
    end_shut,
    end_gone,
    end_gone,
    end_refuse,
};

/* ready: as a socket that has something and takes something. */
static struct end *
new_end(bool ready)
{
	size_t i;

	for (i = 0; i < ENDS; i++)
		if (!ends[i].used) {
			ends[i] = (struct end){
			    .endpoint =
				{
				    .ops = &end_ops,
				    .readable = ready,
				    .writable = ready,
				},
			    .reads = 3,
			    .used = true,
			    .room = ends_take_little ? 100 : SIZE_MAX,
			};
			return &ends[i];
		}
	return NULL;
}

#endif
