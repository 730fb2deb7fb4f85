/*
 * What tunnel.c (slots, sessions, pauses), tunnel_dial.c (what is said to the
 * proxy-server), tunnels.c (all of a worker) and tunnel_image.c share.
 */
#ifndef REMOTE_CLIENT_TUNNEL_PRIVATE_H
#define REMOTE_CLIENT_TUNNEL_PRIVATE_H

#include "remote-client/dial.h"
#include "remote-client/tunnel.h"
#include "tunnel/session.h"

#define STRAY (-1)

enum tunnel_state {
	TUNNEL_IDLE,		/* until another one has a session */
	TUNNEL_DIALLING,
	TUNNEL_UP,
	TUNNEL_WAITING,		/* to dial again */
	TUNNEL_STOPPED,
};

struct tunnel {
	struct list node;		/* worker->tunnels */
	struct worker *worker;
	int slot;			/* or STRAY */
	int home;			/* of a stray: the slot to go back to, or
					 * STRAY */
	bool homing;			/* a stray: tries the first server once,
					 * for the slot home */
	enum tunnel_state state;
	struct timer timer;		/* when to dial again; UP: when to try
					 * the first server */
	struct dial dial;
	size_t server;			/* of config->servers */
	struct hostport to;		/* where it dials */
	unsigned attempts;		/* failed ones, for the backoff */
	bool cut;			/* the last one was, by an upgrade */
	uint64_t urgent_until;		/* us: pauses are short until then */
	uint64_t serial;
	uint64_t up_since, parked_at;	/* us */
	uint8_t nonce[INS_NONCE_SIZE];
	uint8_t server_nonce[INS_NONCE_SIZE];
	uint8_t hello_instance[INS_INSTANCE_SIZE];	/* of this dial */
	uint64_t hello_start;
	struct roll_entry entry;

	struct session *session;	/* NULL: none; parked: to be resumed */
	uint64_t attempt;		/* the last that was made */
	uint64_t asked_offset;		/* what it said of us */
	uint64_t progress;		/* bytes got over and taken, at its last
					 * loss of a carrier */
	struct {
		struct hostport at;	/* where its carrier led */
		uint8_t instance[INS_INSTANCE_SIZE];
		uint64_t start;
		uint8_t secret[INS_SECRET_SIZE];
		uint64_t resume;	/* ms; 0: not resumable */
	} with;
};

static inline struct roll *
roll_of(struct tunnel *t)
{
	return &t->worker->client->roll;
}

/* tunnel.c */

/* NULL when memory ran out. */
struct tunnel *
tunnel_new(struct worker *, int slot);
void
tunnel_free(struct tunnel *);
/* The one that has a slot, or NULL. */
struct tunnel *
tunnel_in_slot(struct worker *, int slot);
/* Dial after a pause (us). */
void
tunnel_wait(struct tunnel *, uint64_t pause);
/*
 * A slot's next tunnel, which begins at once, or after the pause that the one
 * before would make; that one is a stray then.  NULL: it keeps the slot.
 */
struct tunnel *
tunnel_succeed(struct tunnel *, size_t server);
/* It has to go: what it carries runs out.  May free it. */
void
tunnel_run_out(struct tunnel *, enum ins_end_code, const char *why);
/* One from an image: dial where there is no carrier. */
void
tunnel_go_on(struct tunnel *);

/* The attempt failed: the next one after a pause. */
void
tunnel_failed(struct tunnel *, const char *reason);
/* It was cut short, which counts for no failure: once more, at once. */
void
tunnel_again(struct tunnel *);
/* What a code of InsEnd means for the next attempt. */
void
tunnel_heed(struct tunnel *, unsigned code);
/* Pause as after some failures. */
void
tunnel_slow_down(struct tunnel *);
/*
 * Its session can only be resumed at a server that is not to be had now: it
 * becomes a stray, and its slot gets another tunnel, which begins at once with
 * server.
 */
void
tunnel_split(struct tunnel *, size_t server);
/* There is a session, or there is one again. */
void
tunnel_is_up(struct tunnel *, uint64_t id);
extern const struct session_events tunnel_session_events;

/* tunnel_dial.c */

/* Of its session, with what was agreed. */
struct session_config
tunnel_session_config(struct tunnel *, uint64_t id);
extern const struct dial_events tunnel_dial_events;

#endif
