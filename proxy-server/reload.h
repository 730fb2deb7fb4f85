/*
 * Making the server equal to a configuration: the first, or another one while
 * it runs.  The main thread.
 */
#ifndef PROXY_SERVER_RELOAD_H
#define PROXY_SERVER_RELOAD_H

#include "proxy-server/listeners.h"
#include "proxy-server/server.h"

/*
 * Bind and serve what config has.  0: it is the server's, and is used by all
 * workers; the one before is freed.  -1 after the reason was logged: nothing
 * has changed, and config is the caller's still.
 */
int
reload_apply(struct server *, struct listeners *, struct config *config);

/* SIGHUP: read the file again, and apply it when it is good. */
void
reload(struct server *, struct listeners *);

#endif
