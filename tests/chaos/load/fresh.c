#include "tests/chaos/load/fresh.h"
#include "tests/chaos/load/stream.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { FRESH = 256, PATIENCE_S = 90 };

struct fresh {
	struct stream s;
	bool used;
	uint64_t start_ns;
};

static struct fresh all[FRESH];
static uint64_t next_ns, counter;
static struct {
	unsigned ok, failed;
	uint64_t longest_ns;
} marked;

bool
fresh_is(const void *what)
{
	return (const char *)what >= (const char *)all &&
	    (const char *)what < (const char *)(all + FRESH);
}

static void
failed(const struct fresh *f, const char *why)
{
	marked.failed++;
	base_say("{\"event\": \"fresh-failed\", \"why\": \"%s\", "
		 "\"after_ms\": %.1f, \"received\": %" PRIu64 "}",
	    why, (double)(base_now() - f->start_ns) / MILLISECOND, f->s.rx_pos);
}

static void
fresh_end(struct fresh *f, const char *why)
{
	uint64_t took = base_now() - f->start_ns;

	if (why != NULL) {
		failed(f, why);
	} else {
		marked.ok++;
		if (took > marked.longest_ns)
			marked.longest_ns = took;
	}
	stream_close(&f->s, why != NULL);
	f->used = false;
}

static void
fresh_begin(const struct sockaddr_in *to, uint64_t now)
{
	struct fresh *f = all;
	int fd;

	while (f < all + FRESH && f->used)
		f++;
	if (f == all + FRESH)
		return;
	fd = base_dial(to);
	stream_init(&f->s, fd);
	f->start_ns = now;
	if (fd < 0) {
		failed(f, strerror(errno));
		return;
	}
	f->used = true;
	f->s.tx_seed = f->s.rx_seed = base_seed(UINT64_MAX / 2 + counter++);
	f->s.head_len = REQUEST;
	memset(f->s.head, ' ', REQUEST);
	f->s.head[snprintf(f->s.head, REQUEST, "echo %" PRIu64, f->s.tx_seed)] =
	    ' ';
	f->s.tx_limit = MESSAGE;
	f->s.blocked = true;
	stream_watch(&f->s, true, f);
}

void
fresh_ready(void *what)
{
	struct fresh *f = what;
	enum stream_status status;

	if (!f->used)
		return;
	status = stream_receive(&f->s);
	if (status == STREAM_ENDED) {
		fresh_end(f, f->s.rx_pos == MESSAGE ? NULL : "end of file");
		return;
	}
	if (status == STREAM_GOES_ON) {
		if (f->s.rx_pos == MESSAGE)
			stream_end(&f->s, false);
		status = stream_send(&f->s);
	}
	if (status == STREAM_WRONG)
		fresh_end(f, "wrong byte");
	else if (status == STREAM_BROKEN)
		fresh_end(f, strerror(errno));
	else
		stream_watch(&f->s, true, f);
}

void
fresh_tick(const struct sockaddr_in *to, unsigned each_ms, uint64_t now)
{
	for (struct fresh *f = all; f < all + FRESH; f++)
		if (f->used &&
		    now - f->start_ns > PATIENCE_S * (uint64_t)SECOND)
			fresh_end(f, "no answer");
	if (each_ms == 0 || now < next_ns)
		return;
	next_ns = now + (uint64_t)each_ms * MILLISECOND;
	fresh_begin(to, now);
}

unsigned
fresh_open(void)
{
	unsigned count = 0;

	for (struct fresh *f = all; f < all + FRESH; f++)
		count += f->used;
	return count;
}

unsigned
fresh_behind(uint64_t now)
{
	unsigned count = 0;

	for (struct fresh *f = all; f < all + FRESH; f++)
		count += f->used && now - f->start_ns > SECOND;
	return count;
}

void
fresh_print(uint64_t now)
{
	uint64_t longest = marked.longest_ns;

	for (struct fresh *f = all; f < all + FRESH; f++)
		if (f->used && now - f->start_ns > longest)
			longest = now - f->start_ns;
	printf("\"fresh\": {\"ok\": %u, \"failed\": %u, \"longest_ms\": %.1f}",
	    marked.ok, marked.failed, (double)longest / MILLISECOND);
	memset(&marked, 0, sizeof(marked));
}
