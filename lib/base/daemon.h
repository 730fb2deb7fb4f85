/*
 * What both daemons do at their start: command line, configuration file,
 * limits of the process; and the signals that they wait for then.
 */
#ifndef BASE_DAEMON_H
#define BASE_DAEMON_H

#include <signal.h>
#include <stdint.h>

#include "base/config.h"

/*
 * Parse the command line, load the configuration, set the log's level.
 * Returns the configuration, or ends the process: --help, --version and -t
 * with 0, errors with 1.
 */
struct config *
daemon_start(int argc, char **argv, enum config_role role);

/*
 * Read the file of daemon_start() once more, for the same role.  NULL when it
 * cannot be used: then that was logged as `reload-failed`, with the place in
 * the file.  The main thread.
 */
struct config *
daemon_reload(void);

/* Log as much as c says; -v wins.  Any thread. */
void
daemon_set_level(const struct config *c);

/* As many file descriptors as the system lets us have. */
void
daemon_raise_limits(void);

/* Threads to use when the configuration says 0: one for each core. */
unsigned
daemon_cores(void);

/* Bytes to use when the configuration says 0: a quarter of the RAM. */
uint64_t
daemon_memory(void);

/*
 * Block the signals that daemon_wait() waits for, before any thread is
 * started, and ignore SIGPIPE.
 */
void
daemon_block_signals(void);

enum daemon_event {
	DAEMON_STOP,		/* SIGTERM or SIGINT; logged as `stopping` */
	DAEMON_RELOAD,		/* SIGHUP */
	DAEMON_UPGRADE,		/* SIGUSR2 */
	DAEMON_TIMEOUT,		/* the deadline is there */
};

/*
 * Wait for a signal, until deadline_us of CLOCK_MONOTONIC at most; UINT64_MAX:
 * for ever.  A signal that came before the call counts.
 */
enum daemon_event
daemon_wait(uint64_t deadline_us);

#endif
