/*
 * A carrier: the connection that a session uses at this moment.  A session
 * knows only this interface; TCP is one implementation (tcp.h), tests have
 * one in memory, TLS can be one.
 *
 * Readiness is edge-triggered: readable and writable are set by the carrier
 * and cleared by it when a call would block.  notify is called after one of
 * them was set, never from inside read or write.
 */
#ifndef NET_CARRIER_H
#define NET_CARRIER_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include <sys/uio.h>

struct carrier {
	const struct carrier_ops *ops;
	bool readable, writable;
	void (*notify)(void *owner);
	void *owner;
};

struct carrier_ops {
	/* As read(2) on a non-blocking socket: 0 is end of file. */
	ssize_t (*read)(struct carrier *, void *buf, size_t len);
	/* As writev(2) there. */
	ssize_t (*write)(struct carrier *, const struct iovec *, int n);
	/*
	 * Let go; frees the carrier.  What was written is still delivered as
	 * far as the other side takes it.
	 */
	void (*close)(struct carrier *);
};

#endif
