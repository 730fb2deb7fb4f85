/*
 * A dial: one attempt to reach a proxy-server and to shake hands with it.
 * What is said there, and what comes of it, is the matter of its owner, a
 * tunnel (tunnel.h).
 *
 * Embedded; everything on its worker's thread.
 */
#ifndef REMOTE_CLIENT_DIAL_H
#define REMOTE_CLIENT_DIAL_H

#include "net/connector.h"
#include "net/tcp.h"
#include "remote-client/client.h"
#include "tunnel/handshake.h"

struct dial;

enum dial_failure {
	DIAL_FAILED,
	DIAL_CUT,	/* closed in the midst of the handshake, without a
			 * word: by a process that gave way to the next */
	DIAL_BROKEN,	/* the server does not keep to the protocol */
};

/*
 * Each is the last call of its attempt, but for connected and hello; before
 * the last ones but registered and resumed everything was let go already.
 */
struct dial_events {
	/* Say the first instruction, by dial_say(). */
	void (*connected)(struct dial *);
	/*
	 * The server's hello: answer it by dial_say(), and true.  false: it
	 * was answered by dial_stop(), and the dial may be gone.
	 */
	bool (*hello)(struct dial *, const struct ins_hello *);
	/* The carrier is to be had by dial_take(). */
	void (*registered)(struct dial *, const struct ins_registered *);
	void (*resumed)(struct dial *, const struct ins_resumed *);
	void (*refused)(struct dial *, unsigned code);
	void (*failed)(struct dial *, const char *reason, enum dial_failure);
};

struct dial {
	struct worker *worker;
	const struct dial_events *events;
	struct connector connector;
	struct timer deadline;		/* of the handshake */
	struct tcp *tcp;		/* NULL: not connected */
	struct handshake handshake;
	const char *failure;		/* a failure that is still to be told */
	char text[HOSTPORT_TEXT_MAX];	/* the server */
};

void
dial_init(struct dial *, struct worker *, const struct dial_events *);

/* Begin; connect bounds each attempt to connect (us).  Never calls back. */
void
dial_start(struct dial *, const struct hostport *server, uint64_t connect);

/* Let go of everything; no call follows. */
void
dial_stop(struct dial *);

/* Instructions of the handshake; failed is called later when it fails. */
void
dial_say(struct dial *, const uint8_t *data, size_t len);

/*
 * The connection as a carrier; then the bytes that were read beyond the
 * handshake, which are the dial's until dial_stop().  NULL with errno.
 */
struct carrier *
dial_take(struct dial *);
const uint8_t *
dial_rest(const struct dial *, size_t *len);

#endif
