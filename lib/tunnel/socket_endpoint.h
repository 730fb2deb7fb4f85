/*
 * The plain endpoint: a TCP socket, as it is.
 */
#ifndef TUNNEL_SOCKET_ENDPOINT_H
#define TUNNEL_SOCKET_ENDPOINT_H

#include "net/tcp.h"
#include "tunnel/endpoint.h"

/* Embedded in its owner, who opens tcp and sets the rest. */
struct socket_endpoint {
	struct endpoint endpoint;
	struct tcp tcp;		/* watch.fd -1: there is no socket */
	/* The socket is closed, and nothing here is used any more. */
	void (*gone)(struct socket_endpoint *);
};

extern const struct endpoint_ops socket_endpoint_ops;

/* tcp_finish(), then gone. */
void
socket_endpoint_finish(struct socket_endpoint *);

/* tcp_close() where there is a socket, then gone. */
void
socket_endpoint_close(struct socket_endpoint *, bool reset);

/* Take the socket's readiness over. */
void
socket_endpoint_sync(struct socket_endpoint *);

/* A notify for tcp while a stream is attached. */
void
socket_endpoint_ready(struct tcp *);

#endif
