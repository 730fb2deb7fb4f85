/*
 * The local end of a stream: a visitor's or an application's socket today, a
 * leg of another session later.  A stream knows only this interface.
 *
 * Readiness is edge-triggered, as for a carrier: readable and writable are
 * set by the endpoint, which then calls stream_ready(), and are cleared by it
 * when a call would block.  An endpoint is on one worker, that of its stream.
 */
#ifndef TUNNEL_ENDPOINT_H
#define TUNNEL_ENDPOINT_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "instruction.h"

struct stream;

struct endpoint {
	const struct endpoint_ops *ops;
	struct stream *stream;	/* NULL: not attached */
	bool readable, writable;
	bool failed;		/* reset by the other end of the socket */
};

struct endpoint_ops {
	/* As read(2) on a non-blocking socket: 0 is end of file. */
	ssize_t (*read)(struct endpoint *, void *buf, size_t len);
	/* As writev(2) there. */
	ssize_t (*write)(struct endpoint *, const struct iovec *, int n);
	/* No more will be written: pass an end of file on. */
	void (*shut)(struct endpoint *);
	/*
	 * The last three let the endpoint go; it frees itself, and the stream
	 * does not touch it again.  close: deliver what was written.  reset:
	 * tell a reset.  refuse: the open failed with outcome.
	 */
	void (*close)(struct endpoint *);
	void (*reset)(struct endpoint *);
	void (*refuse)(struct endpoint *, enum ins_outcome outcome);
};

#endif
