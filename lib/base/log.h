/*
 * The log: one line an event on standard error, "time level event key=value".
 * Any thread; lines never mix.  A line is one write(2), but on a thread that
 * gathers them (log_gather()), where those of info and debug wait for
 * log_flush(): a write for each stream that ends would cost as much as a
 * tenth of the stream.  So lines of different threads may come some
 * milliseconds out of the order of their times, and a crash loses those that
 * wait.  A failing write loses what it was given, and nothing else.
 *
 *	struct log_line l;
 *
 *	if (log_begin(&l, LOG_INFO, "registered")) {
 *		log_text(&l, "remote", name);
 *		log_number(&l, "session", id);
 *		log_end(&l);
 *	}
 *
 * The same warning or error (time aside) is written LOG_REPEAT_BURST times in
 * LOG_REPEAT_MS; how many more were held back is said, as repeats=N, when it
 * comes again after that.
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LOG_REPEAT_MS	10000
#define LOG_REPEAT_BURST 5
#define LOG_LINE_MAX	2048	/* a longer line is cut */

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

struct log_line {
	enum log_level level;
	char text[LOG_LINE_MAX];
	size_t len;
	size_t body;		/* where the part after the time begins */
};

/* Lines above level are dropped.  The default is LOG_INFO. */
void
log_set_level(enum log_level level);

/* False when this level is not written; then do not go on. */
bool
log_begin(struct log_line *, enum log_level, const char *event);

/* The value is quoted and escaped where it needs to be. */
void
log_text(struct log_line *, const char *key, const char *value);
void
log_bytes(struct log_line *, const char *key, const void *value, size_t len);
void
log_number(struct log_line *, const char *key, uint64_t value);

void
log_end(struct log_line *);

/*
 * Whether this thread gathers its lines.  They are written when there are
 * enough of them, before a warning or error, by log_flush(), and by
 * log_gather(false).
 */
void
log_gather(bool on);
void
log_flush(void);
/* Whether this thread has lines that wait. */
bool
log_waiting(void);

/* A whole line of texts: key, value, ..., NULL. */
void
log_event(enum log_level, const char *event, ...)
    __attribute__((sentinel));

#endif
