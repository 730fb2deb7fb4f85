/*
 * The pool, the tables, the log and the allocator.
 */
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/pool.h"
#include "base/table.h"
#include "memory.h"
#include "unit.h"

static void
test_allocator(void)
{
	unsigned char *p = allocator_new(&allocator_system, 1000);
	struct memory m;
	size_t i;

	CU_ASSERT_PTR_NOT_NULL_FATAL(p);
	for (i = 0; i < 1000; i++)
		CU_ASSERT_EQUAL(p[i], 0);
	allocator_free(&allocator_system, p);
	allocator_free(&allocator_system, NULL);
	memory_init(&m);
	memory_fail(&m, 2, 1);
	p = allocator_new(&m.allocator, 10);
	CU_ASSERT(p != NULL && p[9] == 0);
	CU_ASSERT_PTR_NULL(allocator_new(&m.allocator, 10));
	allocator_free(&m.allocator, p);
	CU_ASSERT_EQUAL(m.held, 0);
}

static void
test_pool_sizes(void)
{
	static const size_t wants[] = {0, 1, 4095, 4096, 4097, 8192, 8193,
	    100000, 131072, 131073, 262143, 262144};
	struct buffer *b[12];
	struct memory m;
	struct pool p;
	size_t i, held = 0;

	memory_init(&m);
	pool_init(&p, &m.allocator);
	CU_ASSERT_FALSE(pool_idle(&p));
	for (i = 0; i < 12; i++) {
		b[i] = pool_get(&p, wants[i]);
		CU_ASSERT_PTR_NOT_NULL_FATAL(b[i]);
		CU_ASSERT(b[i]->size >= wants[i] && b[i]->size >= BUFFER_MIN);
		CU_ASSERT(
		    b[i]->size <= BUFFER_MIN || b[i]->size < 2 * wants[i]);
		CU_ASSERT_EQUAL(buffer_room(b[i]), b[i]->size);
		CU_ASSERT_EQUAL(b[i]->len, 0);
		CU_ASSERT_PTR_NULL(b[i]->next);
		/* All of it is ours, headroom included. */
		memset(b[i]->at - BUFFER_HEADROOM, 0xff,
		    BUFFER_HEADROOM + b[i]->size);
		b[i]->at -= 10;
		b[i]->len = 15;
		CU_ASSERT_EQUAL(buffer_room(b[i]), b[i]->size - 5);
		held += b[i]->size;
		CU_ASSERT_EQUAL(p.held, held);
	}
	for (i = 0; i < 12; i++)
		pool_put(&p, b[i]);
	pool_put(&p, NULL);
	CU_ASSERT_EQUAL(p.held, 0);
	/* Four of them are of BUFFER_MIN. */
	CU_ASSERT_EQUAL(m.held, POOL_SLAB == 1 ? 12 : 9);
	/* The one put back last comes first, and is as new. */
	b[0] = pool_get(&p, BUFFER_MAX);
	CU_ASSERT_PTR_EQUAL(b[0], b[11]);
	CU_ASSERT_EQUAL(b[0]->len, 0);
	CU_ASSERT_EQUAL(buffer_room(b[0]), BUFFER_MAX);
	CU_ASSERT_EQUAL(m.asked, m.held);
	memory_fail(&m, 1, 1);
	CU_ASSERT_PTR_NOT_NULL(b[1] = pool_get(&p, 1));
	pool_put(&p, b[0]);
	pool_put(&p, b[1]);
	pool_close(&p);
	CU_ASSERT_EQUAL(m.held, 0);
	memory_fail(&m, 1, 1);
	CU_ASSERT_PTR_NULL(pool_get(&p, 1));
	CU_ASSERT_EQUAL(p.held, 0);
}

static void
test_pool_trim(void)
{
	struct buffer *b[10];
	struct memory m;
	struct pool p;
	size_t i;

	memory_init(&m);
	pool_init(&p, &m.allocator);
	pool_trim(&p, POOL_IDLE_US);
	for (i = 0; i < 10; i++)
		b[i] = pool_get(&p, BUFFER_MIN + 1);
	for (i = 0; i < 10; i++)
		pool_put(&p, b[i]);
	CU_ASSERT_TRUE(pool_idle(&p));
	/* None was idle all the time before this. */
	pool_trim(&p, 2 * POOL_IDLE_US);
	CU_ASSERT_EQUAL(m.held, 10);
	/* Three of them are needed now and then. */
	for (i = 0; i < 3; i++)
		b[i] = pool_get(&p, BUFFER_MIN + 1);
	for (i = 0; i < 3; i++)
		pool_put(&p, b[i]);
	pool_trim(&p, 3 * POOL_IDLE_US - 1);
	CU_ASSERT_EQUAL(m.held, 10);
	pool_trim(&p, 3 * POOL_IDLE_US);
	CU_ASSERT_EQUAL(m.held, 3);
	pool_trim(&p, 4 * POOL_IDLE_US);
	CU_ASSERT_EQUAL(m.held, 0);
	CU_ASSERT_FALSE(pool_idle(&p));
	pool_close(&p);
}

/* Buffers of BUFFER_MIN: a slab is kept while any of it is used. */
static void
test_pool_slabs(void)
{
	struct buffer *b[3 * POOL_SLAB];
	struct memory m;
	struct pool p;
	size_t i;

	memory_init(&m);
	pool_init(&p, &m.allocator);
	for (i = 0; i < 3 * POOL_SLAB; i++) {
		b[i] = pool_get(&p, BUFFER_MIN);
		CU_ASSERT_PTR_NOT_NULL_FATAL(b[i]);
		memset(b[i]->at - BUFFER_HEADROOM, (int)i,
		    BUFFER_HEADROOM + BUFFER_MIN);
	}
	CU_ASSERT_EQUAL(m.held, 3);
	for (i = 0; i < 3 * POOL_SLAB; i++)
		CU_ASSERT(b[i]->at[-BUFFER_HEADROOM] == (uint8_t)i &&
		    b[i]->at[BUFFER_MIN - 1] == (uint8_t)i);
	/* All but the last of the second. */
	for (i = 0; i < 3 * POOL_SLAB; i++)
		if (i != 2 * POOL_SLAB - 1)
			pool_put(&p, b[i]);
	CU_ASSERT_EQUAL(m.held, 3);
	pool_trim(&p, POOL_IDLE_US);
	CU_ASSERT_EQUAL(m.held, 3);
	pool_trim(&p, 2 * POOL_IDLE_US);
	CU_ASSERT_EQUAL(m.held, 1);
	CU_ASSERT_FALSE(pool_idle(&p));
	/* What is begun is used up first. */
	for (i = 0; i + 1 < POOL_SLAB; i++)
		b[i] = pool_get(&p, 1);
	CU_ASSERT_EQUAL(m.held, 1);
	b[i++] = pool_get(&p, 1);
	CU_ASSERT_EQUAL(m.held, 2);
	pool_put(&p, b[2 * POOL_SLAB - 1]);
	while (i-- > 0)
		pool_put(&p, b[i]);
	pool_close(&p);
	CU_ASSERT_EQUAL(m.held, 0);
}

struct item {
	struct hash_node node;
	unsigned key;
	bool inside;
};

static void
init_items(struct item *items, unsigned n, unsigned from)
{
	unsigned i;

	for (i = 0; i < n; i++) {
		items[i].key = from + i;
		items[i].inside = false;
		items[i].node.key = &items[i].key;
		items[i].node.len = sizeof(items[i].key);
	}
}

/* Random insertions and removals; with no memory the chains get long. */
static void
hash_model(size_t fail_from, unsigned n, unsigned operations)
{
	struct item *items = malloc(n * sizeof(*items));
	struct hash_node *found;
	struct memory m;
	struct hash h;
	unsigned i, k, count = 0;

	memory_init(&m);
	memory_fail(&m, fail_from, SIZE_MAX);
	hash_init(&h, &m.allocator, 42);
	init_items(items, n, 0);
	srand(1);
	CU_ASSERT_PTR_NULL(hash_any(&h));
	for (i = 0; i < operations; i++) {
		k = (unsigned)rand() % n;
		found = hash_find(&h, &k, sizeof(k));
		CU_ASSERT_FATAL(
		    found == (items[k].inside ? &items[k].node : NULL));
		if (items[k].inside)
			hash_remove(&h, &items[k].node);
		else
			hash_insert(&h, &items[k].node);
		count += items[k].inside ? -1u : 1u;
		items[k].inside = !items[k].inside;
		CU_ASSERT_EQUAL_FATAL(h.count, count);
	}
	while ((found = hash_any(&h)) != NULL)
		hash_remove(&h, found);
	CU_ASSERT_EQUAL(h.count, 0);
	hash_close(&h);
	CU_ASSERT_EQUAL(m.held, 0);
	free(items);
}

static void
test_hash(void)
{
	hash_model(0, 20000, 200000);
	hash_model(0, 3, 1000);
	hash_model(1, 300, 20000);
	hash_model(3, 300, 20000);
}

/* Keys of bytes of any length, the empty one too. */
static void
test_hash_keys(void)
{
	static char text[] = "abcdefgh";
	struct hash_node nodes[9];
	struct hash h;
	size_t i;

	hash_init(&h, &allocator_system, 1);
	for (i = 0; i < 9; i++) {
		nodes[i] = (struct hash_node){.key = text, .len = i};
		hash_insert(&h, &nodes[i]);
	}
	for (i = 0; i < 9; i++)
		CU_ASSERT_PTR_EQUAL(hash_find(&h, "abcdefgh", i), &nodes[i]);
	CU_ASSERT_PTR_NULL(hash_find(&h, "b", 1));
	hash_close(&h);
}

#define THREADS 4
#define EACH 2000
static struct table table;

static void *
use_table(void *argument)
{
	unsigned from = (unsigned)(size_t)argument * EACH, round, i, other;
	struct item *items = malloc(EACH * sizeof(*items));
	struct hash *h;
	size_t bad = 0;

	init_items(items, EACH, from);
	for (round = 0; round < 3; round++) {
		for (i = 0; i < EACH; i++) {
			h = table_lock(&table, &items[i].key, 4);
			bad += hash_find(h, &items[i].key, 4) != NULL;
			hash_insert(h, &items[i].node);
			table_unlock(&table, &items[i].key, 4);
			/* One of another thread: there or not. */
			other = (from + EACH + i) % (THREADS * EACH);
			h = table_lock(&table, &other, 4);
			hash_find(h, &other, 4);
			table_unlock(&table, &other, 4);
		}
		for (i = 0; i < EACH; i++) {
			h = table_lock(&table, &items[i].key, 4);
			bad += hash_find(h, &items[i].key, 4) != &items[i].node;
			hash_remove(h, &items[i].node);
			table_unlock(&table, &items[i].key, 4);
		}
	}
	free(items);
	return (void *)bad;
}

static void
test_table(void)
{
	pthread_t threads[THREADS];
	void *bad;
	size_t i;

	table_init(&table, &allocator_system, 7);
	for (i = 0; i < THREADS; i++)
		if (pthread_create(&threads[i], NULL, use_table, (void *)i) !=
		    0)
			abort();
	for (i = 0; i < 100; i++)
		CU_ASSERT(table_count(&table) <= THREADS * EACH);
	for (i = 0; i < THREADS; i++) {
		pthread_join(threads[i], &bad);
		CU_ASSERT_PTR_NULL(bad);
	}
	CU_ASSERT_EQUAL(table_count(&table), 0);
	table_close(&table);
}

/* What is written to standard error in between. */
static int saved_stderr, capture[2];

static void
capture_begin(void)
{
	if (pipe2(capture, O_NONBLOCK) < 0)
		abort();
	saved_stderr = dup(STDERR_FILENO);
	dup2(capture[1], STDERR_FILENO);
}

static char *
capture_end(void)
{
	static char text[65536];
	ssize_t n;

	dup2(saved_stderr, STDERR_FILENO);
	close(saved_stderr);
	close(capture[1]);
	n = read(capture[0], text, sizeof(text) - 1);
	text[n > 0 ? n : 0] = '\0';
	close(capture[0]);
	return text;
}

/* The one line that was written, without its time. */
static const char *
capture_line(void)
{
	char *text = capture_end();
	unsigned y, mo, d, h, mi, s, ms;
	char z;

	CU_ASSERT_EQUAL(sscanf(text, "%4u-%2u-%2uT%2u:%2u:%2u.%3u%c ", &y, &mo,
			    &d, &h, &mi, &s, &ms, &z),
	    8);
	CU_ASSERT_EQUAL(z, 'Z');
	return strlen(text) > 25 ? text + 25 : "";
}

static void
test_log_values(void)
{
	struct log_line l;

	capture_begin();
	log_event(LOG_ERROR, "e1", "plain", "a-b/c:1", "empty", "", "space",
	    "a b", "quote", "a\"b", "slash", "a\\b", "equal", "a=b", NULL);
	CU_ASSERT_STRING_EQUAL(capture_line(),
	    "error e1 plain=a-b/c:1 "
	    "empty=\"\" space=\"a b\" quote=\"a\\\"b\" slash=\"a\\\\b\" "
	    "equal=\"a=b\"\n");
	capture_begin();
	if (log_begin(&l, LOG_WARN, "e2")) {
		log_bytes(&l, "nul", "a\0b", 3);
		log_bytes(&l, "line", "\n\r\x1b\x7f", 4);
		log_text(&l, "utf8", "\xc3\xbc");
		log_number(&l, "n", UINT64_MAX);
		log_end(&l);
	}
	CU_ASSERT_STRING_EQUAL(capture_line(),
	    "warn e2 nul=\"a\\x00b\" "
	    "line=\"\\x0a\\x0d\\x1b\\x7f\" utf8=\"\xc3\xbc\" "
	    "n=18446744073709551615\n");
}

static void
test_log_levels(void)
{
	static const char *const names[] = {"l0", "l1", "l2", "l3"};
	struct log_line l;
	int level, line, n;
	const char *text;

	for (level = LOG_ERROR; level <= LOG_DEBUG; level++) {
		log_set_level((enum log_level)level);
		CU_ASSERT_EQUAL(log_begin(&l, LOG_DEBUG, "x"),
		    level == LOG_DEBUG);
		capture_begin();
		for (line = LOG_ERROR; line <= LOG_DEBUG; line++)
			log_event((enum log_level)line, names[level], NULL);
		text = capture_end();
		for (n = 0; (text = strchr(text, '\n')) != NULL; text++)
			n++;
		CU_ASSERT_EQUAL(n, level + 1);
	}
	log_set_level(LOG_INFO);
}

static void
test_log_long(void)
{
	char value[2 * LOG_LINE_MAX];
	const char *text;

	memset(value, 'v', sizeof(value));
	value[sizeof(value) - 1] = '\0';
	capture_begin();
	log_event(LOG_INFO, "long", "key", value, "more", "x", NULL);
	text = capture_end();
	CU_ASSERT(strlen(text) <= LOG_LINE_MAX);
	CU_ASSERT(strlen(text) > LOG_LINE_MAX - 10);
	CU_ASSERT_EQUAL(text[strlen(text) - 1], '\n');
}

/* The same warning again and again is held back; nothing else is. */
static void
test_log_repeats(void)
{
	const char *text, *p;
	char other[16];
	int i, same = 0, others = 0, events = 0;

	capture_begin();
	for (i = 0; i < 100; i++) {
		log_event(LOG_WARN, "again", "key", "value", NULL);
		snprintf(other, sizeof(other), "%d", i);
		log_event(LOG_WARN, "other", "n", other, NULL);
		log_event(LOG_INFO, "event", "key", "value", NULL);
	}
	text = capture_end();
	for (p = text; (p = strstr(p, "again")) != NULL; p++)
		same++;
	for (p = text; (p = strstr(p, "other")) != NULL; p++)
		others++;
	for (p = text; (p = strstr(p, "event")) != NULL; p++)
		events++;
	/* Others take its place in the cache now and then. */
	CU_ASSERT(same >= LOG_REPEAT_BURST && same < 50);
	CU_ASSERT_EQUAL(others, 100);
	CU_ASSERT_EQUAL(events, 100);
}

static void
info(unsigned n)
{
	char text[16];

	snprintf(text, sizeof(text), "%u", n);
	log_event(LOG_INFO, "gathered", "n", text, NULL);
}

/* Whether text has the lines from..to, each once and in order, and no other. */
static bool
has_lines(const char *text, unsigned from, unsigned to)
{
	unsigned n;

	for (; from <= to; from++) {
		text = strstr(text, " info gathered n=");
		if (text == NULL ||
		    sscanf(text, " info gathered n=%u\n", &n) != 1 || n != from)
			return false;
		text += strlen(" info gathered");
	}
	return strstr(text, "gathered") == NULL;
}

static void
test_log_gathers(void)
{
	const char *text;

	log_gather(true);
	capture_begin();
	CU_ASSERT_FALSE(log_waiting());
	info(1);
	info(2);
	CU_ASSERT_TRUE(log_waiting());
	CU_ASSERT_STRING_EQUAL(capture_end(), "");
	capture_begin();
	log_flush();
	CU_ASSERT_FALSE(log_waiting());
	CU_ASSERT_TRUE(has_lines(capture_end(), 1, 2));
	capture_begin();
	log_flush();
	CU_ASSERT_STRING_EQUAL(capture_end(), "");
	/* Before a warning, and with it. */
	info(3);
	info(4);
	capture_begin();
	log_event(LOG_WARN, "gathered-warning", NULL);
	CU_ASSERT_FALSE(log_waiting());
	text = capture_end();
	CU_ASSERT_PTR_NOT_NULL(strstr(text, "n=4\n"));
	CU_ASSERT_PTR_NOT_NULL(strstr(text, "n=3\n"));
	CU_ASSERT(strstr(text, "n=4\n") < strstr(text, "gathered-warning"));
	CU_ASSERT(strstr(text, "n=3\n") < strstr(text, "n=4\n"));
	info(5);
	capture_begin();
	log_gather(false);
	CU_ASSERT_TRUE(has_lines(capture_end(), 5, 5));
	capture_begin();
	info(6);
	CU_ASSERT_FALSE(log_waiting());
	CU_ASSERT_TRUE(has_lines(capture_end(), 6, 6));
}

/* Written by itself when there is much of it; nothing is lost or split. */
static void
test_log_gathers_much(void)
{
	static char all[1 << 16];
	unsigned n, writes = 0;
	const char *text;
	size_t len = 0;

	log_gather(true);
	for (n = 1; n <= 1000; n++) {
		capture_begin();
		info(n);
		if (n == 1000)
			log_flush();
		text = capture_end();
		writes += *text != '\0';
		/* Whole lines. */
		CU_ASSERT(*text == '\0' || text[strlen(text) - 1] == '\n');
		memcpy(all + len, text, strlen(text));
		len += strlen(text);
	}
	log_gather(false);
	CU_ASSERT_TRUE(has_lines(all, 1, 1000));
	CU_ASSERT(writes > 1 && writes < 100);
}

static void *
gathers(void *unused)
{
	(void)unused;
	log_gather(true);
	info(1);
	CU_ASSERT_TRUE(log_waiting());
	log_gather(false);
	return NULL;
}

/* Each thread by itself. */
static void
test_log_gathers_of_a_thread(void)
{
	pthread_t thread;

	capture_begin();
	CU_ASSERT_EQUAL_FATAL(pthread_create(&thread, NULL, gathers, NULL), 0);
	pthread_join(thread, NULL);
	info(2);
	CU_ASSERT_FALSE(log_waiting());
	CU_ASSERT_TRUE(has_lines(capture_end(), 1, 2));
}

static const struct unit_test tests[] = {
    {"allocator", test_allocator},
    {"pool: sizes", test_pool_sizes},
    {"pool: trim", test_pool_trim},
    {"pool: slabs", test_pool_slabs},
    {"hash", test_hash},
    {"hash: keys", test_hash_keys},
    {"table: threads", test_table},
    {"log: values", test_log_values},
    {"log: levels", test_log_levels},
    {"log: long line", test_log_long},
    {"log: repeats", test_log_repeats},
    {"log: gathers", test_log_gathers},
    {"log: gathers much", test_log_gathers_much},
    {"log: gathers of a thread", test_log_gathers_of_a_thread},
    {NULL, NULL},
};

const struct unit_suite suite_base = {"base", tests};
