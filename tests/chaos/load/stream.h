/*
 * One connection at either end: pattern bytes outwards up to a limit, then a
 * trailer and an end of file; inwards the same, every byte of it checked.
 */
#ifndef CHAOS_STREAM_H
#define CHAOS_STREAM_H

#include "tests/chaos/load/base.h"

enum stream_status {
	STREAM_GOES_ON,
	STREAM_ENDED, /* the peer's end of file, with everything before it */
	STREAM_BROKEN, /* errno has why */
	STREAM_CUT, /* an end of file without the totals that belong there */
	STREAM_WRONG, /* a byte or a total is not what it should be */
};

struct stream {
	int fd;
	uint32_t watched;
	bool blocked; /* the socket takes nothing at present */

	/* Outwards: head, pattern up to tx_limit; when `ending` is set, the
	 * trailer and an end of file. */
	char head[REQUEST];
	size_t head_pos, head_len;
	uint64_t tx_seed, tx_pos, tx_limit, rate;
	uint64_t allowed_ns; /* when tx_limit was last raised */
	char last[TRAILER];
	size_t last_pos, last_len;
	bool ending, shut;

	/* Inwards: pattern; with `trailed` the last bytes are a trailer, so as
	 * many are always held back. */
	uint64_t rx_seed, rx_pos;
	bool trailed, eof;
	uint8_t tail[TRAILER];
	size_t tail_len;
	uint64_t rx_ns, gap_ns; /* last byte; longest time without one */
};

/* The rest is zero. */
void
stream_init(struct stream *s, int fd);

/* Raise tx_limit as the rate permits; what was not used is not saved up. */
void
stream_allow(struct stream *s, uint64_t now);

/* End our direction behind what may be sent now; trailer: with the totals. */
void
stream_end(struct stream *s, bool trailer);

/* As much as the socket takes and the limit permits. */
enum stream_status
stream_send(struct stream *s);

/* One read.  At the end of file it checks a trailer against what came. */
enum stream_status
stream_receive(struct stream *s);

/* Ask epoll for what the stream waits for. */
void
stream_watch(struct stream *s, bool reading, void *what);

/* The totals that the peer's trailer tells: what it sent, what it received. */
bool
stream_totals(const struct stream *s, uint64_t *sent, uint64_t *received);

/* The longest time without a byte; a new count begins. */
uint64_t
stream_gap(struct stream *s, uint64_t now);

void
stream_close(struct stream *s, bool reset);

#endif
