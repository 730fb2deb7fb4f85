/*
 * SIGUSR1: what there is at this moment, as a line of the log.  The main
 * thread.
 */
#ifndef REMOTE_CLIENT_REPORT_H
#define REMOTE_CLIENT_REPORT_H

#include "remote-client/client.h"

void
report(struct client *);

#endif
