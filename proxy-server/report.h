/*
 * SIGUSR1: what there is at this moment, as a line of the log.  The main
 * thread.
 */
#ifndef PROXY_SERVER_REPORT_H
#define PROXY_SERVER_REPORT_H

#include "proxy-server/server.h"

void
report(struct server *);

#endif
