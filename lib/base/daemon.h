/*
 * What both daemons do at their start: command line, configuration file,
 * limits of the process; and the signals that they wait for then.
 */
#ifndef BASE_DAEMON_H
#define BASE_DAEMON_H

#include <signal.h>
#include <sys/types.h>
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
 * Tell a service manager that asked for it (systemd, Type=notify): we serve;
 * we read our configuration; we stop; another process takes our place.
 */
void
daemon_notify_ready(void);
void
daemon_notify_reloading(void);
void
daemon_notify_stopping(void);
void
daemon_notify_successor(pid_t);

/* How many listening sockets a service manager has opened for us, from *first. */
int
daemon_activated(int *first);

/* Those that daemon_wait() waits for. */
void
daemon_signals(sigset_t *);

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
	DAEMON_REPORT,		/* SIGUSR1 */
	DAEMON_TIMEOUT,		/* the deadline is there */
};

/*
 * Wait for a signal, until deadline_us of CLOCK_MONOTONIC at most; UINT64_MAX:
 * for ever.  A signal that came before the call counts.
 */
enum daemon_event
daemon_wait(uint64_t deadline_us);

/* Drop SIGUSR2 that came while one was served, with a line of the log. */
void
daemon_forget_upgrades(void);
/* The line, for one that is dropped for another reason. */
void
daemon_upgrade_dropped(const char *reason);

/* Give the other signals that came, and were not waited for, to a process. */
void
daemon_pass_signals(pid_t);

#endif
