/*
 * A session: the relation of one remote-client with the proxy-server, with
 * its streams, in either dialect and either role.  Format and rules:
 * PROTOCOL.md.
 *
 * A session does its work at the end of a turn of its driver, so nothing
 * below calls back at once, except where it says so.  Everything belongs to
 * the worker of the driver.
 */
#ifndef TUNNEL_SESSION_H
#define TUNNEL_SESSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/list.h"
#include "instruction.h"
#include "net/carrier.h"
#include "net/driver.h"
#include "tunnel/budget.h"
#include "tunnel/endpoint.h"

struct session;
struct stream;

enum stream_party {
	PARTY_NONE,
	PARTY_LOCAL,		/* the endpoint */
	PARTY_PEER,		/* the other end of the session */
	PARTY_SESSION,		/* the session itself ended */
};

/* Why a stream's bytes stand still; bits. */
enum stall {
	STALL_CREDIT = 1,	/* the peer granted no more */
	STALL_PATH = 2,		/* enough is unacknowledged: tunnel/path.h */
	STALL_CARRIER = 4,	/* the carrier takes no more */
	STALL_READER = 8,	/* the endpoint does not take what came */
	STALL_MEMORY = 16,	/* no budget for a larger window */
	STALL_PAUSED = 32,	/* a classic carrier waits for a reader */
};
#define STALLS 6
#define STALL_TEXT_MAX 64

/* The names of bits with commas between; buf of STALL_TEXT_MAX. */
const char *
stall_format(unsigned stalls, char *buf);

/* What became of a stream. */
struct stream_report {
	uint64_t identity;
	uint64_t from_local, to_local;	/* bytes */
	uint64_t duration;		/* us */
	unsigned stalls;		/* enum stall, all that there were */
	enum stream_party ended_by;	/* who ended it first */
	const char *why;
	void *user;
};

struct session_events {
	/*
	 * The peer opens a stream.  Call stream_attach() or stream_answer()
	 * before returning.  open borrows; NULL: every open is refused.
	 */
	void (*open)(struct session *, struct stream *,
	    const struct ins_open *open);
	/* A stream is over; it is freed after this. */
	void (*finished)(struct session *, const struct stream_report *);
	/*
	 * The carrier was lost and closed; the session keeps its streams for
	 * config.resume, until session_resume().  NULL: not of interest.
	 */
	void (*parked)(struct session *, const char *why);
	/* The peer said go-away.  NULL: not of interest. */
	void (*going)(struct session *, unsigned code, const char *why);
	/*
	 * The session is over: its carrier is closed, its streams are reset,
	 * but those that are over and still deliver what they got.  The caller
	 * does not touch it again.
	 */
	void (*ended)(struct session *, unsigned code, const char *why);
};

struct session_config {
	enum ins_dialect dialect;
	bool server;			/* we are the proxy-server */
	uint64_t id;
	struct driver *driver;
	struct budget *process;
	uint64_t memory;		/* bytes: session_memory */
	uint64_t window_max;		/* bytes: stream_window_max */
	uint64_t heartbeat;		/* us: heartbeat_interval */
	unsigned misses;		/* heartbeat_misses; 0: 3 */
	/*
	 * us: how long it is kept without a carrier; 0: it ends with it and
	 * nothing is kept.  The same at both ends.
	 */
	uint64_t resume;
	uint64_t resume_memory;		/* bytes */
	uint64_t stall;			/* us: classic_stall */
	/*
	 * us: how long the answer to an open may wait, so that it leaves
	 * together with the first bytes of the application.
	 */
	uint64_t answer_delay;
	const struct session_events *events;
	struct list *all;		/* where the worker keeps its sessions */
	void *owner;
};

/*
 * A session on a carrier whose handshake is over; takes the carrier over on
 * success.  NULL when memory ran out.
 */
struct session *
session_new(const struct session_config *, struct carrier *);

/* Bytes that the handshake read beyond its end; before the first turn ends. */
void
session_input(struct session *, const uint8_t *data, size_t len);

/* End it at the end of this turn; code and why are told to the peer. */
void
session_end(struct session *, enum ins_end_code code, const char *why);

/* Whether it has no carrier. */
bool
session_is_parked(const struct session *);

/*
 * Say go-away, once: no stream is opened by this end or asked of the other
 * any more, those that are there go on.  The proxy-server's session ends by
 * itself when the last is over and all of it has arrived.
 */
void
session_go_away(struct session *, enum ins_end_code code, const char *why);
/* Whether either end said it. */
bool
session_is_going(const struct session *);

/*
 * Resuming, in this order: whether the peer can have counted up to offset of
 * what we sent; let go of the carrier, if there is one, and tell how far we
 * have counted; go on with a carrier whose peer stands at offset.  Between
 * the last two nothing else is called; without the last it stays parked.
 */
bool
session_resumable(const struct session *, uint64_t offset);
uint64_t
session_let_go(struct session *);
void
session_resume(struct session *, struct carrier *, uint64_t offset);

/*
 * While on, config.resume may pass without ending the session: the outcome of
 * an attempt is not known.
 */
void
session_hold_on(struct session *, bool on);

/*
 * End at once every session of a worker's list, and every stream that still
 * delivers: nothing of them is left after this.
 */
void
session_end_all(struct list *all, enum ins_end_code code, const char *why);

/* What a worker has, for whoever asks. */
struct session_totals {
	size_t sessions;		/* that have not ended */
	size_t parked;			/* of those */
	size_t streams;			/* with those that only deliver */
	size_t pool;			/* bytes of buffers given out */
	size_t closing;			/* sockets: tcp_finish() */
};

/* Of the sessions of a list; pool and closing stay as they are. */
void
session_count(const struct list *all, struct session_totals *);

/* The session of an entry of config.all. */
struct session *
session_of_list(struct list *);

/* Whether it has ended, and only streams are left that deliver. */
bool
session_has_ended(const struct session *);

void *
session_owner(const struct session *);
uint64_t
session_id(const struct session *);
enum ins_dialect
session_dialect(const struct session *);

/*
 * Whether nothing of it is left that anybody could miss: no stream, and all
 * that we sent is acknowledged.
 */
bool
session_is_idle(const struct session *);

/* Streams that are not over. */
size_t
session_streams(const struct session *);

/* Counted bytes, for tests: PROTOCOL.md, "Offsets and acknowledgements". */
struct session_offsets {
	uint64_t sent, acknowledged, received, acknowledged_to_peer;
};
struct session_offsets
session_offsets(const struct session *);

/*
 * Open a stream to the peer's target for a local endpoint.  open->identity
 * and open->window are filled in here.  Attaches the endpoint on success.
 * NULL with errno: ENOBUFS (no budget), ENOMEM, EPROTONOSUPPORT (a classic
 * peer knows no such target), ECONNRESET (the session is ending).
 */
struct stream *
session_open(struct session *, struct ins_open *open, struct endpoint *,
    void *user);

/* Give a stream that the peer opened its endpoint, which may be connecting. */
void
stream_attach(struct stream *, struct endpoint *, void *user);

/*
 * The outcome of what the peer opened.  INS_CONNECTED: the endpoint is
 * connected.  Anything else: the stream is over and lets go of its endpoint,
 * if it had one, without a call.  May free the stream; the endpoint may be
 * closed by this.
 */
void
stream_answer(struct stream *, enum ins_outcome, const char *reason);

/*
 * The endpoint's readable, writable or failed was set.  May let the endpoint
 * go: the caller does not touch it after this.
 */
void
stream_ready(struct stream *);

/*
 * End a stream from this side, for a reason that is no end of file; the
 * endpoint is reset.
 */
void
stream_abort(struct stream *, enum ins_reset_reason, const char *why);

uint64_t
stream_identity(const struct stream *);

/* What holds it up at this moment, enum stall; 0: nothing. */
unsigned
stream_stalls(const struct stream *);

/* Bytes that its receiver may leave undelivered, for tests. */
uint64_t
stream_window(const struct stream *);

#endif
