/*
 * The proofs of resuming: HMAC-SHA-256 (RFC 2104, FIPS 180-4) under the
 * session's secret, over all that the attempt depends on.  PROTOCOL.md,
 * "Resuming", has the layout.
 *
 * Pure; any thread.
 */
#ifndef TUNNEL_PROOF_H
#define TUNNEL_PROOF_H

#include <stdbool.h>
#include <stdint.h>

#include "instruction.h"

/* Of the server, or of the client; 0, or -1 when memory ran out. */
int
proof_make(const uint8_t secret[INS_SECRET_SIZE], bool server,
    const struct ins_proof *, uint8_t proof[INS_PROOF_SIZE]);

/* Whether proof is that; in constant time. */
bool
proof_check(const uint8_t secret[INS_SECRET_SIZE], bool server,
    const struct ins_proof *, const uint8_t *proof);

#endif
