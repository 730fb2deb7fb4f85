/*
 * Connects to a host by whichever of its addresses answers first, as RFC 8305
 * has it: families alternate, beginning with that of the first address; the
 * next attempt begins CONNECTOR_PACE_US after the one before, or at once when
 * that one failed; the first that is connected wins, and the others are
 * closed.
 *
 * Embedded in what needs the connection.  Loop's thread only.
 */
#ifndef NET_CONNECTOR_H
#define NET_CONNECTOR_H

#include <stddef.h>
#include <stdint.h>

#include "base/hostport.h"
#include "net/address.h"
#include "net/loop.h"
#include "net/resolver.h"

#define CONNECTOR_PACE_US 250000
#define CONNECTOR_ATTEMPTS 4	/* at the same time */

/*
 * Called once.  fd is a connected socket, as address_connect() makes it, that
 * belongs to the callee now, and address is what it is connected to; why is
 * NULL.  Or fd is -1, and why (for a person) and address are of the attempt
 * that says most; address is NULL when none was made.  Both are borrowed.
 * The connector is the caller's again: it may be started or freed.
 */
typedef void connector_done(void *context, int fd,
    const struct address *address, const char *why);

struct connector_attempt {
	struct connector *connector;
	const struct address *address;	/* NULL: none runs here */
	struct watch watch;
	struct timer deadline;
};

/* Zeroed, or after done, or cancelled: nothing runs. */
struct connector {
	struct loop *loop;		/* NULL: nothing runs */
	connector_done *done;
	void *context;
	uint64_t timeout;		/* us */
	struct lookup *lookup;		/* NULL: none runs */
	struct work first;		/* begins the first attempt */
	struct timer pace;		/* begins the others */
	uint64_t due;			/* the next one, from this time on */
	struct address addresses[RESOLVER_ADDRESSES];
	size_t naddresses, next;
	struct connector_attempt attempts[CONNECTOR_ATTEMPTS];
	const struct connector_attempt *newest;
	int error;			/* that says most; 0: none yet */
	const struct address *failed;	/* where */
};

/*
 * Connect a connector of which nothing runs to the host, which is looked up
 * with the resolver (not NULL) unless it is a numeric address.  Each attempt
 * has timeout_us; the lookup has the resolver's own time.  done is called
 * later, never from here.  0, or -1 with errno, and done is not called:
 * EINVAL, the host is empty; EAGAIN, too many names are being looked up.
 */
int
connector_start(struct connector *, struct loop *, struct resolver *,
    const struct hostport *, uint64_t timeout_us, connector_done *,
    void *context);

/*
 * The same for addresses that are known; they are copied, and those beyond
 * RESOLVER_ADDRESSES left out.  EINVAL: there is none.
 */
int
connector_start_addresses(struct connector *, struct loop *,
    const struct address *, size_t n, uint64_t timeout_us, connector_done *,
    void *context);

/*
 * Let go of everything; done is not called.  Harmless when nothing runs.
 * While something does, it has to come before the loop is closed.
 */
void
connector_cancel(struct connector *);

#endif
