/*
 * An upgrade in place, between processes: one starts the binary that is now
 * where its own was, gives it its state and its descriptors, and is gone.
 * docs/upgrade.md tells the steps.
 *
 *	old					new
 *	handover_begin() ── exec ──►		handover_inherited()
 *	        ── first image ──►		handover_receive()
 *	handover_await(READY)  ◄──		handover_say(READY)
 *	workers stand still
 *	handover_send() ── second image ──►	handover_receive()
 *	handover_await(TAKEN)  ◄──		handover_say(TAKEN)
 *	handover_say(GO)  ──►			handover_await(GO)
 *	_exit()					workers run
 *
 * Until GO the new process touches nothing of what it was given: whenever it
 * fails it just exits, by _exit(), and the old one goes on.
 *
 * The main thread.  Images: base/image.h.  Errors are texts for a person.
 */
#ifndef NET_HANDOVER_H
#define NET_HANDOVER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/image.h"

#define HANDOVER_FORMAT 1	/* of the images: both must say the same */
#define HANDOVER_FDS_MAX 1000000

enum handover_word { HANDOVER_READY = 1, HANDOVER_TAKEN, HANDOVER_GO };

#define HANDOVER_WHY_MAX 256	/* bytes of a reason, with its NUL */

struct handover {
	int fd;
	pid_t child;		/* of the old process; 0: none */
	uint64_t still;		/* us: since when nobody works; upgrade.c */
	const char *error;
	char why[HANDOVER_WHY_MAX];	/* of the other process */
};

/*
 * Remember how this process was started: the path of its binary, its
 * arguments and directory.  At the start, before anything else changes them.
 */
void
handover_remember(int argc, char **argv);

/* Start the binary.  0, or -1 with ->error. */
int
handover_begin(struct handover *);

/*
 * The new process has failed, or is to fail: end it, and reap it.  How it
 * ended, as of waitpid(2): by SIGKILL, when it had not yet.
 */
int
handover_abandon(struct handover *);

/* Whether this process was started by handover_begin(). */
bool
handover_inherited(struct handover *);

/*
 * Each waits until deadline (us of CLOCK_MONOTONIC) at most; UINT64_MAX: as
 * long as the other process lives.
 */
int
handover_send(struct handover *, const struct image_writer *,
    uint64_t deadline);
/* The reader is the caller's to release. */
int
handover_receive(struct handover *, struct image_reader *,
    uint64_t deadline);
/* Let go of the image, and of the descriptors that were not taken. */
void
handover_release(struct image_reader *);
int
handover_say(struct handover *, enum handover_word);
/* In the new process, at any place: it cannot; why becomes their ->error. */
void
handover_refuse(struct handover *, const char *why);
int
handover_await(struct handover *, enum handover_word, uint64_t deadline);

#endif
