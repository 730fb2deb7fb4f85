#include "base/table.h"

#include <string.h>
#include <xxhash.h>

void
hash_init(struct hash *h, const struct allocator *allocator, uint64_t seed)
{
	*h = (struct hash){.allocator = allocator, .seed = seed};
}

void
hash_close(struct hash *h)
{
	allocator_free(h->allocator, h->chains);
	h->chains = NULL;
	h->nchains = 0;
}

static uint32_t
hash_of(const struct hash *h, const void *key, size_t len)
{
	return (uint32_t)XXH3_64bits_withSeed(key, len, h->seed);
}

static struct hash_node **
chain_of(const struct hash *h, uint32_t hash)
{
	if (h->nchains == 0)
		return (struct hash_node **)&h->single;
	return &h->chains[hash & (h->nchains - 1)];
}

struct hash_node *
hash_find(const struct hash *h, const void *key, size_t len)
{
	uint32_t hash = hash_of(h, key, len);
	struct hash_node *n;

	for (n = *chain_of(h, hash); n != NULL; n = n->next)
		if (n->hash == hash && n->len == len &&
		    memcmp(n->key, key, len) == 0)
			return n;
	return NULL;
}

static void
grow(struct hash *h)
{
	size_t nchains = h->nchains == 0 ? 8 : 2 * h->nchains;
	struct hash_node **chains, *n, *next;
	size_t i;

	chains = allocator_new(h->allocator, nchains * sizeof(*chains));
	if (chains == NULL)
		return;
	for (i = 0; i < (h->nchains == 0 ? 1 : h->nchains); i++)
		for (n = h->nchains == 0 ? h->single : h->chains[i]; n != NULL;
		     n = next) {
			next = n->next;
			n->next = chains[n->hash & (nchains - 1)];
			chains[n->hash & (nchains - 1)] = n;
		}
	allocator_free(h->allocator, h->chains);
	h->chains = chains;
	h->nchains = nchains;
	h->single = NULL;
}

void
hash_insert(struct hash *h, struct hash_node *node)
{
	struct hash_node **chain;

	if (h->count >= (h->nchains == 0 ? 4 : h->nchains))
		grow(h);
	node->hash = hash_of(h, node->key, node->len);
	chain = chain_of(h, node->hash);
	node->next = *chain;
	*chain = node;
	h->any = 0;
	h->count++;
}

void
hash_remove(struct hash *h, struct hash_node *node)
{
	struct hash_node **p = chain_of(h, node->hash);

	while (*p != node)
		p = &(*p)->next;
	*p = node->next;
	h->count--;
}

struct hash_node *
hash_any(struct hash *h)
{
	if (h->nchains == 0)
		return h->single;
	for (; h->any < h->nchains; h->any++)
		if (h->chains[h->any] != NULL)
			return h->chains[h->any];
	return NULL;
}

void
table_init(struct table *t, const struct allocator *allocator, uint64_t seed)
{
	size_t i;

	t->seed = ~seed;
	for (i = 0; i < TABLE_SHARDS; i++) {
		pthread_mutex_init(&t->shards[i].lock, NULL);
		hash_init(&t->shards[i].hash, allocator, seed);
	}
}

void
table_close(struct table *t)
{
	size_t i;

	for (i = 0; i < TABLE_SHARDS; i++) {
		hash_close(&t->shards[i].hash);
		pthread_mutex_destroy(&t->shards[i].lock);
	}
}

static struct table_shard *
shard_of(struct table *t, const void *key, size_t len)
{
	return &t->shards[XXH3_64bits_withSeed(key, len, t->seed) %
	    TABLE_SHARDS];
}

struct hash *
table_lock(struct table *t, const void *key, size_t len)
{
	struct table_shard *s = shard_of(t, key, len);

	pthread_mutex_lock(&s->lock);
	return &s->hash;
}

void
table_unlock(struct table *t, const void *key, size_t len)
{
	pthread_mutex_unlock(&shard_of(t, key, len)->lock);
}

size_t
table_count(struct table *t)
{
	size_t i, n = 0;

	for (i = 0; i < TABLE_SHARDS; i++) {
		pthread_mutex_lock(&t->shards[i].lock);
		n += t->shards[i].hash.count;
		pthread_mutex_unlock(&t->shards[i].lock);
	}
	return n;
}
