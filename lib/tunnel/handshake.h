/*
 * What is said on a carrier before its session: PROTOCOL.md, "Which dialect"
 * and "Handshake".  Takes bytes, gives events; no I/O.  Not thread-safe.
 */
#ifndef TUNNEL_HANDSHAKE_H
#define TUNNEL_HANDSHAKE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/allocator.h"
#include "base/image.h"
#include "instruction.h"

struct handshake {
	const struct allocator *allocator;
	bool server;
	bool hello;		/* the other side's InsHello was taken */
	bool extended;		/* the other side knows InsEnd */
	bool answered;		/* any byte came */
	uint8_t *data;		/* allocated when the first byte comes */
	size_t len, room, used;
};

enum handshake_status {
	HANDSHAKE_MORE,
	HANDSHAKE_CLASSIC,	/* server: a classic registration: name */
	HANDSHAKE_HELLO,	/* answer it: hello */
	HANDSHAKE_REGISTER,	/* server: registration */
	HANDSHAKE_REGISTERED,	/* client: registered */
	HANDSHAKE_RESUME,	/* server: resume */
	HANDSHAKE_RESUMED,	/* client: resumed */
	HANDSHAKE_END,		/* client: refused: end */
	HANDSHAKE_BAD,		/* code and why; no more calls */
};

/* What came; pieces are borrowed until the next call. */
struct handshake_event {
	struct ins_bytes name;
	struct ins_hello hello;
	struct ins_register registration;
	struct ins_registered registered;
	struct ins_resume resume;
	struct ins_resumed resumed;
	struct ins_end end;
	enum ins_end_code code;
	const char *why;
};

void
handshake_init(struct handshake *, bool server, const struct allocator *);
void
handshake_close(struct handshake *);

/* Add bytes that came; 0, or -1 when memory ran out. */
int
handshake_add(struct handshake *, const uint8_t *data, size_t len);

/* The next event in what was added. */
enum handshake_status
handshake_step(struct handshake *, struct handshake_event *);

/* After the last event: the bytes behind it, which are the session's. */
const uint8_t *
handshake_rest(const struct handshake *, size_t *len);

/*
 * For an upgrade, when everything in it was stepped through.  Into one that
 * was only initialised; false when the image is not right or memory ran out.
 */
void
handshake_save(const struct handshake *, struct image_writer *);
bool
handshake_load(struct handshake *, struct image_reader *);

#endif
