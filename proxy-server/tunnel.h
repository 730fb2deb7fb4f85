/*
 * A tunnel: a registered session of a remote-client, on its worker.
 */
#ifndef PROXY_SERVER_TUNNEL_H
#define PROXY_SERVER_TUNNEL_H

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
	uint64_t serial;
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

/* End a tunnel of another worker, or of this one; any thread. */
void
tunnel_end(struct worker *, uint64_t id, enum ins_end_code);

#endif
