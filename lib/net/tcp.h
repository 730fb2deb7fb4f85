/*
 * A TCP socket on a loop, as a carrier and for whoever needs the parts:
 * edge-triggered readiness, reads and writes that keep it, and a close that
 * loses nothing.
 */
#ifndef NET_TCP_H
#define NET_TCP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "base/image.h"
#include "net/carrier.h"
#include "net/loop.h"

struct tcp {
	struct loop *loop;
	struct watch watch;
	union {
		void (*notify)(struct tcp *);	/* a flag has changed */
		struct lingering *lingering;	/* after tcp_finish() */
	};
	bool readable, writable;	/* as far as known */
	bool hung_up;		/* the end of file or an error is in sight:
				 * read until it comes */
	bool urgent;		/* a read may stop short at a mark */
	bool failed;		/* EPOLLERR: tcp_error() tells why */
	bool ended;		/* the end of file was read */
	bool finished;		/* tcp_finish() was called */
};

/*
 * Watch a connected or connecting socket; takes fd over on success.  0, or
 * -1 with errno.  Loop's thread, as all below.
 */
int
tcp_open(struct tcp *, struct loop *, int fd, void (*notify)(struct tcp *));

/* Watch again, after loop_unwatch() or on another loop (set ->loop first). */
int
tcp_watch(struct tcp *);

ssize_t
tcp_read(struct tcp *, void *buf, size_t len);
ssize_t
tcp_write(struct tcp *, const struct iovec *, int n);

/* Send a FIN behind what was written. */
void
tcp_shut(struct tcp *);

/* The pending error, as errno; 0: none.  Asking takes it. */
int
tcp_error(struct tcp *);

/*
 * Close so that all that was written arrives: a socket that is closed with
 * unread bytes in it would send a reset over them.  Sends a FIN, discards
 * what comes until the other end closes (at most TCP_LINGER_US), then closes
 * and calls gone, maybe at once: t is the caller's again.  notify is not
 * called any more.  When memory is out it closes at once; then what the other
 * end did not read yet may be lost.
 */
#define TCP_LINGER_US 5000000
#define TCP_LINGER_BYTES (1 << 20)
void
tcp_finish(struct tcp *, void (*gone)(struct tcp *));

/* Close at once; reset: with an RST, what was not delivered is dropped. */
void
tcp_close(struct tcp *, bool reset);

/* Stop watching and give the descriptor away. */
int
tcp_release(struct tcp *);

/*
 * A carrier over a connected socket; takes fd over on success.  NULL with
 * errno.
 */
struct carrier *
tcp_carrier_new(struct loop *, int fd);

/*
 * The same for the socket of t, which was allocated by itself with malloc()
 * and is gone in any case.
 */
struct carrier *
tcp_carrier_take(struct tcp *t);

/* The descriptor of a carrier of these two; it stays the carrier's. */
int
tcp_carrier_fd(const struct carrier *);

/*
 * For an upgrade: the sockets of a loop that were given to tcp_finish() and
 * are not closed yet, and the same in the next process.  false: the image is
 * not right, or memory ran out.
 */
void
tcp_save_finished(const struct loop *, struct image_writer *);
bool
tcp_load_finished(struct loop *, struct image_reader *);

#endif
