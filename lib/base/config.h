/*
 * The configuration of both daemons: one schema, one file; each daemon uses
 * its own part.  config_load() reads, checks and fills in every default, so
 * that what it returns needs no further checks.  The result is immutable and
 * may be read by any thread.
 */
#ifndef BASE_CONFIG_H
#define BASE_CONFIG_H

#include <stddef.h>
#include <stdint.h>

#include "base/cidr.h"
#include "base/hostport.h"

enum config_role { CONFIG_SERVER, CONFIG_CLIENT };
enum config_type { CONFIG_TCP, CONFIG_HTTP };
enum config_dialect { CONFIG_EXTENDED, CONFIG_CLASSIC };
enum config_class { CONFIG_AUTO, CONFIG_INTERACTIVE, CONFIG_BULK };
enum config_log { CONFIG_ERROR, CONFIG_WARN, CONFIG_INFO, CONFIG_DEBUG };

/* An entry of port_list. */
struct config_listener {
	enum config_type type;
	struct hostport bind;		/* host "" means every address,
					 * port 0 that the kernel chooses */
	struct hostport target;		/* host "" means the remote-client's
					 * own loopback address */
	enum config_class class;
	unsigned weight;		/* 1 to 100 */
	int line;			/* of the entry, from 1 */
};

/* An entry of proxy. */
struct config_remote {
	char *name;
	struct config_listener *listeners;
	size_t nlisteners;		/* at least 1 */
	int line;
};

struct config {
	/* Both daemons. */
	unsigned workers;		/* threads; 0: one for each core */
	enum config_log log_level;
	uint64_t heartbeat_interval;	/* ms */
	unsigned heartbeat_misses;	/* 2 to 100 */
	uint64_t resume_timeout;	/* ms; 0: sessions are not kept */
	uint64_t resume_memory;		/* bytes of one session */
	uint64_t drain_timeout;		/* ms */
	uint64_t upgrade_timeout;	/* ms */
	uint64_t classic_stall;		/* ms */
	uint64_t stream_window_max;	/* bytes */
	uint64_t session_memory;	/* bytes */
	uint64_t memory;		/* bytes; 0: a quarter of the RAM */

	/* proxy-server. */
	struct hostport bind;		/* host "" means every address */
	struct config_remote *remotes;	/* at least 1 for CONFIG_SERVER */
	size_t nremotes;
	uint64_t wait_for_remote;	/* ms */
	size_t max_waiting;
	uint64_t handshake_timeout;	/* ms */
	char *state_dir;		/* absolute; NULL: the default of
					 * state_dir.h */

	/* remote-client. */
	char *name;			/* never NULL for CONFIG_CLIENT */
	struct hostport *servers;	/* at least 1 for CONFIG_CLIENT */
	size_t nservers;
	enum config_dialect dialect;
	unsigned tunnels;		/* 0: one for each worker */
	struct cidr *allow_targets;	/* at least 1 */
	size_t nallow_targets;
	uint64_t connect_timeout;	/* ms */
};

/*
 * Read the file at path for the daemon role.  Returns the configuration,
 * which the caller frees with config_free(), or NULL; then error[0..size)
 * holds one line "FILE:LINE:COLUMN: KEY: what was expected" (or "FILE: why"
 * when the file cannot be read), cut to fit.  Any thread.
 */
struct config *
config_load(const char *path, enum config_role role, char *error,
    size_t size);

/*
 * The same for the bytes text[0..len) (not NULL), which errors call name.
 * Borrows nothing once it has returned.  Any thread.
 */
struct config *
config_parse(const char *text, size_t len, const char *name,
    enum config_role role, char *error, size_t size);

/* config_free(NULL) does nothing. */
void
config_free(struct config *);

#endif
