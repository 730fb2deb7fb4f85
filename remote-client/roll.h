/*
 * The roll: what every InsRegister and InsResume has to tell of the other
 * dials and sessions of this process (PROTOCOL.md, "Handshake"), and whether
 * we are standby.  Any thread; each call takes its lock.
 */
#ifndef REMOTE_CLIENT_ROLL_H
#define REMOTE_CLIENT_ROLL_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/image.h"
#include "base/list.h"
#include "instruction.h"

struct roll {
	pthread_mutex_t lock;
	struct list entries;
	uint64_t serial;		/* the last that was given out */
	unsigned up;			/* sessions that have a carrier */
	unsigned sessions;		/* with or without one */
	bool standby;			/* we were replaced */
};

/* Of one tunnel; embedded in it. */
struct roll_entry {
	struct list node;
	uint64_t unsettled;		/* a serial, or 0 */
	uint64_t session;		/* or 0 */
	uint8_t server[INS_INSTANCE_SIZE];	/* and its start: */
	uint64_t start;
	bool up;
};

void
roll_init(struct roll *);
void
roll_close(struct roll *);

void
roll_enter(struct roll *, struct roll_entry *);
void
roll_leave(struct roll *, struct roll_entry *);

/* A dial begins: its serial. */
uint64_t
roll_begin(struct roll *, struct roll_entry *);

/* It came to nothing. */
void
roll_settle(struct roll *, struct roll_entry *);

/* It has brought a session, or one back; clears standby. */
void
roll_hold(struct roll *, struct roll_entry *, uint64_t session,
    const uint8_t *server, uint64_t start);

/* The session has lost its carrier. */
void
roll_park(struct roll *, struct roll_entry *);

/* The session is over. */
void
roll_drop(struct roll *, struct roll_entry *);

/*
 * Fill in settled, held and standby for a server instance and start;
 * held[0..INS_HELD_MAX * 8) is the room for the list.
 */
void
roll_tell(struct roll *, const uint8_t *server, uint64_t start,
    struct ins_register *, uint8_t *held);

/* Another instance has the name.  True when this is news. */
bool
roll_stand_by(struct roll *);
bool
roll_is_standby(struct roll *);

/* Sessions that have a carrier; all sessions. */
unsigned
roll_up(struct roll *);
unsigned
roll_sessions(struct roll *);

/* For an upgrade in place: but for the entries. */
void
roll_save(const struct roll *, struct image_writer *);
void
roll_load(struct roll *, struct image_reader *);

#endif
