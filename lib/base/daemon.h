/*
 * What both daemons do at their start: command line, configuration file,
 * limits of the process.
 */
#ifndef BASE_DAEMON_H
#define BASE_DAEMON_H

#include <signal.h>

#include "base/config.h"

/*
 * Parse the command line, load the configuration, set the log's level.
 * Returns the configuration, or ends the process: --help, --version and -t
 * with 0, errors with 1.
 */
struct config *
daemon_start(int argc, char **argv, enum config_role role);

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

/* Return when SIGTERM or SIGINT came; log SIGHUP meanwhile. */
void
daemon_wait(void);

#endif
