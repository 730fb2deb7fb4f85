/*
 * An image of a process's state, as one process writes it and the next one
 * reads it: docs/upgrade.md.  Numbers are 8 bytes, big-endian; bytes have
 * their length before them; a descriptor is its index in the table that is
 * sent beside the image; a tag stands before each object, so that a reader
 * that has lost its way notices.  What is written is in a memory file from the
 * beginning, so that it is not copied to be handed over.
 *
 * A writer or a reader that has failed stays so; ask once at the end.  What a
 * reader gives is bounded by what it is asked for, whatever the bytes say.
 * Not thread-safe.
 */
#ifndef BASE_IMAGE_H
#define BASE_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct image_writer {
	uint8_t *data;		/* NULL: empty */
	int fd;			/* the memory file that data is mapped from */
	size_t len, room;
	int *fds;		/* the caller's descriptors; not duplicated */
	size_t nfds, fds_room;
	bool failed;		/* out of memory */
};

struct image_reader {
	const uint8_t *at, *end;
	const uint8_t *lost;	/* where it failed first */
	int *fds;		/* those taken are -1 */
	size_t nfds;
	bool failed;		/* the image is not what it should be */
	const uint8_t *begin;	/* of it, for who mapped it */
};

/* Zeroed is empty.  Frees what it holds; no descriptor is closed. */
void
image_free(struct image_writer *);

void
image_put(struct image_writer *, uint64_t);
void
image_put_bytes(struct image_writer *, const void *, size_t len);
void
image_put_text(struct image_writer *, const char *);
void
image_put_fd(struct image_writer *, int fd);
void
image_put_tag(struct image_writer *, const char tag[4]);

/* A number of at most max; 0 when it fails. */
uint64_t
image_take(struct image_reader *, uint64_t max);
bool
image_take_bool(struct image_reader *);

/* Bytes, borrowed from the image; *len 0 when it fails. */
const uint8_t *
image_take_bytes(struct image_reader *, size_t *len);

/* Exactly len of them into buf; zeros when it fails. */
void
image_take_exact(struct image_reader *, void *buf, size_t len);

/* A text of less than size bytes, without NUL; "" when it fails. */
void
image_take_text(struct image_reader *, char *buf, size_t size);

/* The caller's to close; -1 when it fails. */
int
image_take_fd(struct image_reader *);

/* False, and failed, when another one stands there. */
bool
image_take_tag(struct image_reader *, const char tag[4]);

/* Say that it is not what it should be. */
void
image_fail(struct image_reader *);

#endif
