/*
 * A tunnel: a registered session of a remote-client, on its worker.
 */
#ifndef PROXY_SERVER_TUNNEL_H
#define PROXY_SERVER_TUNNEL_H

#include "base/image.h"
#include "proxy-server/server.h"
#include "tunnel/session.h"

struct remote;

struct tunnel {
	struct message message;		/* carries it to its worker */
	struct list in_remote;		/* under the shard's lock */
	struct hash_node node;		/* in worker->tunnels */
	struct worker *worker;
	struct remote *remote;
	uint64_t id;
	bool classic;
	uint8_t instance[INS_INSTANCE_SIZE];
	uint64_t serial;		/* under the shard's lock */
	bool parked, going;		/* under the shard's lock: no visitors */
	uint64_t resume;		/* ms; 0: not resumable */
	uint8_t secret[INS_SECRET_SIZE];
	uint64_t attempt;		/* the last resume that was taken */
	uint64_t parked_at;		/* us */
	char peer[ADDRESS_TEXT_MAX];
	struct session *session;	/* its worker only; NULL before */
	int fd;				/* until the session is made */
	uint8_t *rest;			/* what the handshake read beyond */
	size_t nrest;
};

/* Takes fd and a copy of rest on success; NULL when memory ran out. */
struct tunnel *
tunnel_new(struct server *, int fd, const char *peer, const uint8_t *rest,
    size_t nrest);
void
tunnel_free(struct tunnel *);

/* The message of tunnel_new(): start the session.  Its worker's thread. */
void
tunnel_adopt(struct message *);

/* A remote-client that comes back, and its new connection. */
struct comeback {
	const struct ins_resume *resume;
	const uint8_t *client_nonce, *server_nonce;
	int fd;
	const char *peer;
	const uint8_t *rest;		/* what was read beyond */
	size_t nrest;
};

/* A tunnel of this worker by its session's id, or NULL. */
struct tunnel *
tunnel_find(struct worker *, uint64_t id);

/*
 * Go on with a session on another connection, in one step.  0, and fd is
 * taken; or the code to refuse with: then nothing has changed.
 */
unsigned
tunnel_resume(struct tunnel *, const struct comeback *);

/* End a tunnel of another worker, or of this one; any thread. */
void
tunnel_end(struct worker *, uint64_t id, enum ins_end_code);

/* The same, but its streams go on to their ends: InsGoAway. */
void
tunnel_go_away(struct worker *, uint64_t id, enum ins_end_code);

/* The same for all of a worker; its thread. */
void
tunnels_go_away(struct worker *, enum ins_end_code);

/*
 * For an upgrade in place: a session with its tunnel, or one that has ended
 * and only delivers.  false: the image is not right, or memory ran out; then
 * the process ends.
 */
void
tunnel_save(const struct session *, struct image_writer *);
bool
tunnel_load(struct worker *, struct image_reader *);

#endif
