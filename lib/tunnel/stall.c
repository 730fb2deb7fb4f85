/*
 * Why streams stand still: enum stall.
 */
#include "tunnel/session_private.h"

#include <stdio.h>

#include "base/log.h"

unsigned
stream_stalls(const struct stream *st)
{
	const struct session *s = st->session;
	unsigned stalls = 0;

	if (st->queue != NULL && st->connected)
		stalls |= STALL_READER;
	if (!session_extended(s) && !list_empty(&st->waiting))
		stalls |= STALL_PAUSED;
	if (st->short_of_memory)
		stalls |= STALL_MEMORY;
	if (st->state == STREAM_OVER || st->local_done ||
	    !st->endpoint->readable)
		return stalls;
	if (st->tx_limit == st->tx_sent)
		stalls |= STALL_CREDIT;
	if (!list_empty(&st->ready) && !scheduler_has_work(s))
		stalls |= STALL_PATH;
	if (!list_empty(&st->ready) &&
	    (s->carrier == NULL || !s->carrier->writable))
		stalls |= STALL_CARRIER;
	return stalls;
}

const char *
stall_format(unsigned stalls, char *buf)
{
	static const char *const names[STALLS] = {"credit", "path", "carrier",
	    "reader", "memory", "paused"};
	char *p = buf;
	int i;

	*p = '\0';
	for (i = 0; i < STALLS; i++)
		if ((stalls & 1u << i) != 0)
			p += sprintf(p, "%s%s", p == buf ? "" : ",", names[i]);
	return buf;
}

void
stall_log(const struct stream *st)
{
	char text[STALL_TEXT_MAX];
	struct log_line l;

	if (st->stalls == 0 || !log_begin(&l, LOG_DEBUG, "stalls"))
		return;
	log_number(&l, "session", st->session->config.id);
	log_number(&l, "identity", st->identity);
	log_number(&l, "window", st->window);
	log_text(&l, "stalled_by", stall_format(st->stalls, text));
	log_end(&l);
}
