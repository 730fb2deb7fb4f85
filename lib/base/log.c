#include "base/log.h"

#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <xxhash.h>

#define REPEAT_SLOTS 64

static _Atomic int log_level = LOG_INFO;

/* Lines written lately, by hash: a small cache, so some repeats may pass. */
static struct {
	uint64_t hash;
	int64_t until; /* ms, CLOCK_MONOTONIC */
	unsigned written; /* since it was first written */
	uint64_t held;
} repeats[REPEAT_SLOTS];
static pthread_mutex_t repeats_lock = PTHREAD_MUTEX_INITIALIZER;

/* Lines of a thread that gathers them. */
static _Thread_local struct {
	bool on;
	size_t len;
	char text[PIPE_BUF]; /* more, and lines in a pipe might mix */
} gathered;

void
log_set_level(enum log_level level)
{
	atomic_store_explicit(&log_level, level, memory_order_relaxed);
}

static void
put(struct log_line *l, const char *data, size_t len)
{
	size_t room = sizeof(l->text) - 1 - l->len; /* 1 for the newline */

	if (len > room)
		len = room;
	memcpy(l->text + l->len, data, len);
	l->len += len;
}

static void
put_string(struct log_line *l, const char *s)
{
	put(l, s, strlen(s));
}

static void
put_time(struct log_line *l, const struct timespec *now)
{
	static _Thread_local time_t second = -1;
	static _Thread_local char text[32]; /* of that second */
	struct tm tm;
	char ms[8];

	if (now->tv_sec != second) {
		gmtime_r(&now->tv_sec, &tm);
		strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &tm);
		second = now->tv_sec;
	}
	put_string(l, text);
	snprintf(ms, sizeof(ms), ".%03uZ ",
	    (unsigned)(now->tv_nsec / 1000000) % 1000);
	put_string(l, ms);
}

bool
log_begin(struct log_line *l, enum log_level level, const char *event)
{
	static const char *const names[] = {"error", "warn", "info", "debug"};
	struct timespec now;

	if ((int)level > atomic_load_explicit(&log_level, memory_order_relaxed))
		return false;
	clock_gettime(CLOCK_REALTIME, &now);
	l->level = level;
	l->len = 0;
	put_time(l, &now);
	l->body = l->len;
	put_string(l, names[level]);
	put_string(l, " ");
	put_string(l, event);
	return true;
}

static bool
plain(const uint8_t *v, size_t len)
{
	size_t i;

	for (i = 0; i < len; i++)
		if (v[i] <= ' ' || v[i] == '"' || v[i] == '\\' || v[i] == '=' ||
		    v[i] >= 0x7f)
			return false;
	return len > 0;
}

void
log_bytes(struct log_line *l, const char *key, const void *value, size_t len)
{
	const uint8_t *v = value;
	char escaped[8];
	size_t i;

	put_string(l, " ");
	put_string(l, key);
	put_string(l, "=");
	if (plain(v, len)) {
		put(l, value, len);
		return;
	}
	put_string(l, "\"");
	for (i = 0; i < len; i++) {
		if (v[i] == '"' || v[i] == '\\')
			snprintf(escaped, sizeof(escaped), "\\%c", v[i]);
		else if (v[i] < ' ' || v[i] == 0x7f)
			snprintf(escaped, sizeof(escaped), "\\x%02x", v[i]);
		else
			snprintf(escaped, sizeof(escaped), "%c", v[i]);
		put_string(l, escaped);
	}
	put_string(l, "\"");
}

void
log_text(struct log_line *l, const char *key, const char *value)
{
	log_bytes(l, key, value, strlen(value));
}

void
log_number(struct log_line *l, const char *key, uint64_t value)
{
	char text[24], *p = text + sizeof(text);

	/* Not printf(): there are some of these for each stream. */
	do
		*--p = (char)('0' + value % 10);
	while ((value /= 10) > 0);
	log_bytes(l, key, p, (size_t)(text + sizeof(text) - p));
}

/*
 * Whether to hold this line back; else *held says how many like it were held
 * back before it.
 */
static bool
repeated(const struct log_line *l, uint64_t *held)
{
	uint64_t hash = XXH3_64bits(l->text + l->body, l->len - l->body);
	size_t slot = hash % REPEAT_SLOTS;
	struct timespec now;
	int64_t ms;
	bool hold;

	clock_gettime(CLOCK_MONOTONIC, &now);
	ms = (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
	*held = 0;
	pthread_mutex_lock(&repeats_lock);
	if (repeats[slot].hash != hash || ms >= repeats[slot].until) {
		if (repeats[slot].hash == hash)
			*held = repeats[slot].held;
		repeats[slot].hash = hash;
		repeats[slot].until = ms + LOG_REPEAT_MS;
		repeats[slot].written = 0;
		repeats[slot].held = 0;
	}
	hold = repeats[slot].written == LOG_REPEAT_BURST;
	if (hold)
		repeats[slot].held++;
	else
		repeats[slot].written++;
	pthread_mutex_unlock(&repeats_lock);
	return hold;
}

static void
emit(const char *text, size_t len)
{
	ssize_t n = write(STDERR_FILENO, text, len);

	(void)n;
}

void
log_end(struct log_line *l)
{
	uint64_t held = 0;

	if (l->level <= LOG_WARN && repeated(l, &held))
		return;
	if (held > 0)
		log_number(l, "repeats", held);
	l->text[l->len++] = '\n';
	if (!gathered.on) {
		emit(l->text, l->len);
		return;
	}
	if (sizeof(gathered.text) - gathered.len < l->len)
		log_flush();
	memcpy(gathered.text + gathered.len, l->text, l->len);
	gathered.len += l->len;
	if (l->level <= LOG_WARN)
		log_flush();
}

void
log_flush(void)
{
	if (gathered.len > 0)
		emit(gathered.text, gathered.len);
	gathered.len = 0;
}

bool
log_waiting(void)
{
	return gathered.len > 0;
}

void
log_gather(bool on)
{
	log_flush();
	gathered.on = on;
}

void
log_event(enum log_level level, const char *event, ...)
{
	const char *key, *value;
	struct log_line l;
	va_list ap;

	if (!log_begin(&l, level, event))
		return;
	va_start(ap, event);
	while ((key = va_arg(ap, const char *)) != NULL) {
		value = va_arg(ap, const char *);
		log_text(&l, key, value);
	}
	va_end(ap);
	log_end(&l);
}
