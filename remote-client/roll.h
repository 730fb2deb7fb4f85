/*
 * The roll of dials: see client.h.  Any thread.
 */
#ifndef REMOTE_CLIENT_ROLL_H
#define REMOTE_CLIENT_ROLL_H

#include "remote-client/client.h"

/* 0, or -1 when memory ran out. */
int
roll_init(struct roll *, unsigned ndials);
void
roll_close(struct roll *);

/* Dial i begins: its serial. */
uint64_t
roll_begin(struct roll *, unsigned i);

/* Dial i came to nothing, or its session ended. */
void
roll_settle(struct roll *, unsigned i);

/* Dial i has a session; clears standby. */
void
roll_hold(struct roll *, unsigned i, uint64_t session,
    const uint8_t *server);

/*
 * Fill in settled, held and standby for a registration of dial i with the
 * server instance; held[0..INS_HELD_MAX * 8) is the room for the list.
 */
void
roll_tell(struct roll *, const uint8_t *server, struct ins_register *,
    uint8_t *held);

/* Another instance has the name.  True when this is news. */
bool
roll_stand_by(struct roll *);
bool
roll_is_standby(struct roll *);

/* Sessions that are up. */
unsigned
roll_up(struct roll *);

#endif
