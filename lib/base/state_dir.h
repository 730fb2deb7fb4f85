/*
 * The state directory of a proxy-server: who it is, over restarts.
 *
 *	lock		locked (flock) while a proxy-server uses the directory
 *	instance	16 random bytes as hexadecimal digits and the last start
 *			as a decimal number, a line each
 *
 * Only the proxy-server's main thread may call these.  All but
 * state_dir_close() return 0, or -1 with error[0..size) set to one line for
 * the operator that names the path, cut to fit.
 */
#ifndef BASE_STATE_DIR_H
#define BASE_STATE_DIR_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define STATE_DIR_ID_SIZE 16

struct state_dir {
	int fd;			/* the directory */
	int lock;		/* the lock belongs to its open file
				 * description: whoever inherits that holds it
				 * too */
	char path[PATH_MAX];
};

/*
 * Open the directory configured, an absolute path, or (NULL) the default:
 * /var/lib/port-proxy for root, else $XDG_STATE_HOME/port-proxy, or else
 * $HOME/.local/state/port-proxy.  It is made where it is not there, and so
 * are its parents.  Fails when another process holds the lock.
 */
int
state_dir_open(struct state_dir *, const char *configured, char *error,
    size_t size);

/*
 * The same with the lock of the process before this one, which goes on with
 * what that one did.  Takes ownership of lock on success only.  Fails when it
 * is not that of this directory.
 */
int
state_dir_adopt(struct state_dir *, const char *configured, int lock,
    char *error, size_t size);

/* Whether configured names the directory that is open. */
bool
state_dir_is(const struct state_dir *, const char *configured);

/*
 * Who this is, made when the directory does not know, and the start: now_us
 * (microseconds of CLOCK_REALTIME), or one more than the last one when the
 * clock went back.  Both are on disk when this returns.  An `instance` that
 * cannot be read is an error: replacing it would end every session that could
 * be resumed, and hide that the directory is not what it was.
 */
int
state_dir_identity(struct state_dir *, uint8_t id[STATE_DIR_ID_SIZE],
    uint64_t *start, uint64_t now_us, char *error, size_t size);

/* Of one that is open. */
void
state_dir_close(struct state_dir *);

#endif
