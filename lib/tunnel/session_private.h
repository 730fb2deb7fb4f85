/*
 * The insides of sessions and streams, for session*.c and stream.c alone.
 */
#ifndef TUNNEL_SESSION_PRIVATE_H
#define TUNNEL_SESSION_PRIVATE_H

#include "base/table.h"
#include "tunnel/path.h"
#include "tunnel/send_queue.h"
#include "tunnel/session.h"

#define CLASSIC_PROGRESS 65536	/* taken within classic_stall: not stalled */
#define CLASSIC_BEAT	SECOND
#define CLASSIC_SILENCE	(5 * SECOND)
#define ACK_BYTES	65536
#define ACK_PAUSE	(1 * MS)
#define ACK_LATEST	(100 * MS)
#define LIMIT_AFTER	(10 * SECOND)
#define ANSWERS_MAX	(1 << 20)	/* PROTOCOL.md, "What a peer may cost" */
#define ANSWERS_STREAM	64
#define OPENS_MAX	(1 << 20)	/* bytes, above what is kept of data */
#define PARTIAL_MAX	INS_ENCODE_MAX
#define LOCAL_MAX	512	/* an ack, a ping, a pong and an InsEnd */
#define MARKS		64
#define READ_FIRST	BUFFER_MIN

enum stream_state {
	STREAM_OPENING,		/* we opened; no answer yet */
	STREAM_CONNECTING,	/* they opened; we have not answered */
	STREAM_CONNECTING_DONE,	/* ... and they ended their direction */
	STREAM_OPEN,
	STREAM_PEER_DONE,	/* they ended their direction */
	STREAM_OVER,		/* for the peer; we may still deliver */
};

struct stream {
	struct session *session;
	struct hash_node node;		/* in session->streams, until over */
	uint64_t identity;
	struct endpoint *endpoint;
	void *user;

	const char *why;
	uint8_t state;			/* enum stream_state */
	uint8_t ended_by;		/* enum stream_party */
	uint8_t stalls;			/* enum stall: every one so far */
	uint8_t class;			/* enum ins_class */
	uint8_t weight;
	bool local_done : 1;		/* we ended our direction */
	bool connected : 1;		/* the endpoint takes data */
	bool shut : 1;			/* the endpoint was told the end */
	bool emptied : 1;		/* the last read left nothing behind */
	bool short_of_memory : 1;	/* its window could not be raised */

	/* To the peer: scheduler.c. */
	struct list ready;		/* session->fresh, ->express, ->bulk */
	struct list active;		/* session->active, or ->over */
	uint32_t read_size;
	int32_t deficit;		/* bytes left of its turn, or owed */
	uint32_t metered;		/* bytes since metered_at */
	uint32_t queued;		/* bytes in queue */
	uint32_t metered_at, sent_at;	/* ms, modulo 2^32 */
	uint64_t tx_sent, tx_limit;	/* data bytes */

	/* From the peer. */
	struct list waiting;		/* session->credits, or (of a classic
					 * one) ->blocked */
	struct buffer *queue, **tail;	/* taken, not yet delivered */
	uint64_t rx_received, rx_delivered, rx_granted, window;
	/* us, and rx_delivered then: where a window's epoch began; of a
	 * blocked classic one when it is a stall, and what it had then. */
	uint64_t mark_at, mark;

	uint64_t opened_at;
};

struct session {
	struct session_config config;
	struct list node;		/* config.all */
	struct driver *driver;
	struct carrier *carrier;	/* NULL: parked, or ended */
	struct work run;
	struct budget budget;
	size_t alive;			/* streams, those over included */
	bool ended;
	bool closing;			/* torn down at this moment */
	bool peer_ended;		/* InsEnd came: it is not answered */
	bool lost;			/* the carrier failed: park */
	bool going;			/* a go-away was sent or came */
	bool going_said;		/* ... was sent */
	bool held_on;			/* session_hold_on() */

	unsigned end_code;		/* not 0: end at the end of the turn */
	char end_why[160];

	struct hash streams;		/* by identity; not over */
	uint64_t opened_ours, opened_theirs;	/* highest used, without the
						 * bit that tells whose */

	struct {
		uint64_t counted;	/* taken out of the carrier */
		uint64_t acked;		/* told the peer */
		uint64_t acked_at;	/* us */
		uint64_t last;		/* us: when any byte came */
		uint32_t data_left;	/* of the InsData at hand */
		uint32_t skip_left;	/* of an unknown instruction */
		bool skip_counted;
		struct stream *stream;	/* of data_left; NULL: over */
		uint8_t partial[PARTIAL_MAX];
		size_t partial_len;
	} rx;

	struct {
		struct send_queue queue;
		struct path path;
		uint64_t answers;	/* control bytes ever queued */
		uint64_t answers_acked;
		struct {
			uint64_t offset, answers;
		} marks[MARKS];
		size_t nmarks;
		uint8_t local[LOCAL_MAX];
		size_t local_len, local_sent;
		size_t patient;		/* all that is queued may wait */
		bool ack_due, ping_due, pong_due;
		uint64_t pong_stamp;
		uint64_t ping_stamp;	/* of ours; 0: it is answered */
	} tx;

	/* Streams that may be read: interactive; of that class but with more
	 * than that at hand; all others. */
	struct list fresh, express, bulk;
	uint64_t interactive_at;	/* us: when one was last read */
	uint64_t ahead;			/* bytes sent since a turn of bulk */
	struct list credits;		/* streams that are due a credit */
	struct list active;		/* streams whose grant may be limited */
	struct list over;		/* streams that only deliver */
	struct list blocked;		/* streams that pause a classic carrier */
	struct timer ack, heartbeat, limit, stall, answer;
	struct timer resume;		/* when it ends without a carrier */
};

/* Milliseconds of the clock since a time in them. */
static inline uint32_t
since_ms(const struct session *s, uint32_t at)
{
	return (uint32_t)(s->driver->now / MS) - at;
}

static inline bool
session_extended(const struct session *s)
{
	return s->config.dialect == INS_EXTENDED;
}

/* A fault that ends the session; format and arguments as printf(). */
void
session_fail(struct session *, enum ins_end_code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/*
 * The carrier failed: the session is parked at the end of this turn, or ends
 * when it cannot be resumed.
 */
void
session_lose(struct session *, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* The peer's InsGoAway came. */
void
session_told_to_go(struct session *, const struct ins_end *);

/* One without a carrier that was never told anything: for an image. */
struct session *
session_bare(const struct session_config *);
/* Take a carrier, but for what is to be done on it. */
void
session_hook(struct session *, struct carrier *);
/* Let go of it and of its streams without a word to anybody. */
void
session_discard(struct session *);

/* Do the session's work at the end of this turn. */
void
session_wake(struct session *);

/* Free it when it has ended and its last stream is gone. */
void
session_reap(struct session *);

/* session_rx.c */

/* Forget what belonged to the carrier that is gone. */
void
session_rx_park(struct session *);
/* One read of the carrier, and all that is in it. */
void
session_receive(struct session *);
/* Of an unpaused classic session: go on reading. */
void
session_unblock(struct session *, struct stream *);

/* credit.c */

/* Give a new stream's window what it begins with, while there is room. */
void
credit_open(struct stream *);
/* Bytes reached the endpoint: the window may grow, a credit be due. */
void
credit_delivered(struct stream *);
/* What a credit would say now; false: none is due. */
bool
credit_due(struct stream *, uint64_t *offset);

/* stall.c: at the end of a stream, for the debug log. */
void
stall_log(const struct stream *);

/* scheduler.c */

/* Put a stream that may be read where it belongs. */
void
scheduler_add(struct session *, struct stream *);
/* Read interactive streams into the queue, those that wait now once each. */
void
scheduler_fresh(struct session *);
/* Read one frame's worth of the others; false: none may be read now. */
bool
scheduler_bulk(struct session *);
/* Whether bulk was passed over for long enough to go first. */
bool
scheduler_bulk_due(const struct session *);
/* The carrier takes nothing: remember it of who is first in turn. */
void
scheduler_stalled(struct session *);
/* Whether a further turn would read anything, if the carrier takes it. */
bool
scheduler_has_work(const struct session *);

/* session_tx.c */
/* 0, or -1 when memory ran out. */
int
session_tx_init(struct session *);
void
session_tx_close(struct session *);
/* Forget what belonged to the carrier that is gone. */
void
session_tx_park(struct session *);
/* There is another one, whose peer has all up to offset. */
void
session_tx_resume(struct session *, uint64_t offset);
/* Whether as much is kept or queued as may be: nothing is read then. */
bool
session_tx_full(const struct session *);
/* Whether there is so much besides that nothing more is opened, either. */
bool
session_tx_swamped(const struct session *);
/* Have what may be sent read from endpoints, and write. */
void
session_transmit(struct session *);
/* Write what is queued, as far as the carrier takes it. */
void
session_flush(struct session *);
/* Put n bytes of the stream's data, read to b->at, into the queue. */
void
session_queue_data(struct session *, struct stream *, struct buffer *b,
    size_t n);
/* Have the stream's grant lowered when it sends nothing for LIMIT_AFTER. */
void
session_watch_grant(struct session *, struct stream *);
/* Take InsData of an identity out of the queue, but for what was begun. */
void
session_forget(struct session *, uint64_t identity);
/* Put InsEnd in, behind what was begun. */
void
session_tx_end(struct session *, unsigned code, const char *why);
/* The peer acknowledged up to offset; false: it cannot have. */
bool
session_acknowledged(struct session *, uint64_t offset);
/*
 * Room for one control instruction of at most size bytes in the queue, to be
 * filled and said by session_control_done(); NULL: the session is ending.
 */
uint8_t *
session_control(struct session *, size_t size);
void
session_control_done(struct session *, size_t len);
/*
 * The same for an answer to an open: the peer can have us make as many as it
 * likes, so those that it does not acknowledge are bounded.  And for one that
 * may wait for others, at most config.answer_delay.
 */
void
session_answer_done(struct session *, size_t len);
void
session_answer_patient(struct session *, size_t len);

/* stream.c */

/* NULL with errno: ENOBUFS (no budget for its window) or ENOMEM. */
struct stream *
stream_new(struct session *, const struct ins_open *open,
    enum stream_state);
/* The same without a window: for an image.  NULL: memory ran out. */
struct stream *
stream_bare(struct session *, const struct ins_open *open,
    enum stream_state);
struct stream *
stream_find(struct session *, uint64_t identity);
/* The peer has nothing more to do with it. */
void
stream_over(struct stream *);
/* Put data behind what is queued; false when memory ran out. */
bool
stream_enqueue(struct stream *, const uint8_t *data, size_t len);
/* Reset and free it without a report: of an image that is not right. */
void
stream_discard(struct stream *);

enum stream_event {
	PEER_OPENED,
	PEER_DATA,
	PEER_HALF_CLOSE,
	PEER_RESET,
	PEER_CLOSE,
	PEER_CREDIT,
	PEER_LIMIT,
};
/* Move to the state that follows; false: the event is not legal here. */
bool
stream_step(struct stream *, enum stream_event);
void
stream_opened(struct stream *, const struct ins_opened *);
/* len bytes of data; may free the stream. */
void
stream_data(struct stream *, const uint8_t *data, size_t len);
void
stream_half_closed(struct stream *);
void
stream_reset(struct stream *, unsigned reason);
void
stream_closed(struct stream *);
/* Put it among those to be read when it can be. */
void
stream_want(struct stream *);
/* The endpoint's end of file was read. */
void
stream_local_end(struct stream *);
/* The endpoint failed with error (errno). */
void
stream_local_failure(struct stream *, int error);
/* Remember a reason for which it stands still. */
static inline void
stream_stalled(struct stream *st, enum stall why)
{
	st->stalls |= (uint8_t)why;
}
/* The session ended. */
void
stream_orphan(struct stream *);
/* Reset and free, whatever it was doing, without a word to the peer. */
void
stream_drop(struct stream *);

#endif
