/*
 * The counted instructions of one direction, from the moment that they are
 * made until the peer has acknowledged them: those to be written, and before
 * them those that were written and may have to be sent again on another
 * carrier.  PROTOCOL.md, "Offsets and acknowledgements" and "Resuming".
 *
 * One list of buffers, each of whole instructions; a cursor in it parts what
 * was written from what was not.  Buffers are kept as they are: nothing is
 * copied to be kept.
 *
 * No I/O.  Not thread-safe: it belongs to the worker of its pool.
 */
#ifndef TUNNEL_SEND_QUEUE_H
#define TUNNEL_SEND_QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/image.h"
#include "base/pool.h"
#include "instruction.h"
#include "tunnel/budget.h"

struct send_queue {
	struct pool *pool;
	struct budget *process;	/* where what is held is counted; or NULL */
	bool keep;		/* what was written, until acknowledged */
	struct buffer *first, *last;
	struct buffer *head;	/* the first not written whole; NULL: all are */
	uint32_t head_at;	/* bytes of it that were written */
	bool begun;		/* maybe in the middle of an instruction */
	struct buffer *spare;	/* for when memory ran out */
	uint64_t base;		/* offset of the first byte of first */
	uint64_t sent;		/* offset of the cursor */
	uint64_t fixed;		/* the highest that sent ever was */
	uint64_t acked;
	size_t queued;		/* bytes behind the cursor */
	size_t held;		/* room of all buffers */
	uint64_t answers;	/* control bytes in buffers written whole */
};

/* 0, or -1 when memory ran out.  process: NULL when nothing is kept. */
int
send_queue_init(struct send_queue *, struct pool *, struct budget *process);
void
send_queue_close(struct send_queue *);

/*
 * Room for size bytes behind the last instruction, to be filled and told by
 * send_queue_added(); NULL when memory ran out.  A little room is always
 * there once: the spare.
 */
uint8_t *
send_queue_room(struct send_queue *, size_t size);

/* len bytes of whole instructions were put there; control: as answers. */
void
send_queue_added(struct send_queue *, size_t len, bool control);

/* Whole instructions in a buffer, which is the queue's now. */
void
send_queue_append(struct send_queue *, struct buffer *);

/*
 * What to write next, with local[0..nlocal) at the next place where an
 * instruction ends; partial: a part of local was written already.  The
 * entries used of iov[0..max), max at least 2.
 */
size_t
send_queue_gather(const struct send_queue *, struct iovec *iov, size_t max,
    const struct iovec *local, bool partial);

/* n bytes behind the cursor were written; those of n that lie beyond. */
size_t
send_queue_wrote(struct send_queue *, size_t n);

/* Of the buffer at the cursor alone, when it is begun. */
size_t
send_queue_wrote_begun(struct send_queue *, size_t n);

/* The peer has all up to offset; false: it cannot have. */
bool
send_queue_acknowledge(struct send_queue *, uint64_t offset);

/*
 * A new carrier: go back to offset, which the peer has.  Only when
 * send_queue_acknowledge() would take it.
 */
void
send_queue_rewind(struct send_queue *, uint64_t offset);

/* Take InsData of an identity out, as far as it was not begun (classic). */
void
send_queue_forget(struct send_queue *, enum ins_dialect, uint64_t identity);

/* Let go of all but what has to be finished before an InsEnd. */
void
send_queue_drop(struct send_queue *);

/*
 * For an upgrade.  Into one that was only initialised; false when the image is
 * not right or memory ran out: then it can only be closed.
 */
void
send_queue_save(const struct send_queue *, struct image_writer *);
bool
send_queue_load(struct send_queue *, struct image_reader *);

#endif
