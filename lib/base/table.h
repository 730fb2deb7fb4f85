/*
 * Hash tables with their nodes inside what they hold.
 *
 * struct hash is a plain one, for one thread.  struct table is the locked
 * kind: shards, each a struct hash with a mutex.  Both hash keys of bytes with
 * XXH3 and a random seed, so that nobody outside can aim at one chain.
 * A table never allocates when a node is put in, but to grow its array of
 * chains; when that fails the chains get longer and nothing else happens.
 */
#ifndef BASE_TABLE_H
#define BASE_TABLE_H

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

#include "base/allocator.h"

struct hash_node {
	struct hash_node *next;
	const void *key;	/* the caller's, unchanged while inside */
	uint32_t len;
	uint32_t hash;		/* the low half */
};

struct hash {
	const struct allocator *allocator;
	uint64_t seed;
	struct hash_node **chains;
	size_t nchains;		/* a power of two, or 0 before the first node */
	size_t count;
	size_t any;		/* chains below it are empty: hash_any() */
	struct hash_node *single;	/* the chain while nchains is 0 */
};

void
hash_init(struct hash *, const struct allocator *, uint64_t seed);

/* The nodes are the caller's and are left alone. */
void
hash_close(struct hash *);

struct hash_node *
hash_find(const struct hash *, const void *key, size_t len);

/* node->key and node->len are set by the caller; the key must be new. */
void
hash_insert(struct hash *, struct hash_node *node);

/* node must be inside. */
void
hash_remove(struct hash *, struct hash_node *node);

/* Any node, or NULL when empty: for emptying. */
struct hash_node *
hash_any(struct hash *);

#define TABLE_SHARDS 16

struct table {
	uint64_t seed;
	struct table_shard {
		pthread_mutex_t lock;
		struct hash hash;
	} shards[TABLE_SHARDS];
};

void
table_init(struct table *, const struct allocator *, uint64_t seed);
void
table_close(struct table *);

/*
 * Lock the shard of a key and return its hash, to be used until
 * table_unlock().  Any thread.  Lock order: a thread holds one shard of one
 * table at most, and takes no other lock but that of an inbox under it (a resolver's lock
 * likewise).
 */
struct hash *
table_lock(struct table *, const void *key, size_t len);
void
table_unlock(struct table *, const void *key, size_t len);

/* Nodes in all shards; each shard is locked in its turn. */
size_t
table_count(struct table *);

#endif
