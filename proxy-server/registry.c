#include "proxy-server/registry.h"

#include <stdlib.h>
#include <string.h>

#include "proxy-server/tunnel.h"

#define ABSENT_LOG_US (60 * (uint64_t)SECOND)

/* Removed or not. */
static struct remote *
lookup(const struct hash *h, const void *name, size_t len)
{
	struct hash_node *n = hash_find(h, name, len);

	return n != NULL ? container_of(n, struct remote, node) : NULL;
}

static struct remote *
find(const struct hash *h, const void *name, size_t len)
{
	struct remote *r = lookup(h, name, len);

	return r != NULL && !r->removed ? r : NULL;
}

static struct remote *
remote_new(const char *name)
{
	struct remote *r = calloc(1, sizeof(*r));

	if (r == NULL)
		goto err0;
	r->name = strdup(name);
	if (r->name == NULL)
		goto err1;
	r->removed = true;
	r->node.key = r->name;
	r->node.len = (uint32_t)strlen(r->name);
	list_init(&r->tunnels);
	return r;

err1:
	free(r);
err0:
	return NULL;
}

static void
remote_free(struct remote *r)
{
	free(r->name);
	free(r);
}

int
registry_prepare(struct server *server, const struct config *c)
{
	const char *name;
	struct remote *r;
	struct hash *h;
	size_t i, len;

	for (i = 0; i < c->nremotes; i++) {
		name = c->remotes[i].name;
		len = strlen(name);
		h = table_lock(&server->remotes, name, len);
		r = lookup(h, name, len);
		if (r == NULL && (r = remote_new(name)) != NULL)
			hash_insert(h, &r->node);
		if (r != NULL)
			r->kept = true;
		table_unlock(&server->remotes, name, len);
		if (r == NULL)
			return -1;
	}
	return 0;
}

void
registry_admit(struct server *server, const struct config *c)
{
	const char *name;
	struct remote *r;
	size_t i, len;

	server->admitted++;
	for (i = 0; i < c->nremotes; i++) {
		name = c->remotes[i].name;
		len = strlen(name);
		r = lookup(table_lock(&server->remotes, name, len), name, len);
		r->admitted = server->admitted;
		r->removed = r->kept = false;
		table_unlock(&server->remotes, name, len);
	}
}

/* Out of the table, when nothing needs it; then it is the caller's to free. */
static bool
take_unused(struct hash *h, struct remote *r)
{
	if (!r->removed || r->kept || r->references > 0)
		return false;
	hash_remove(h, &r->node);
	return true;
}

static bool
dismiss(struct server *server, const char *name)
{
	bool unknown = false, unused = false;
	size_t len = strlen(name);
	struct hash *h = table_lock(&server->remotes, name, len);
	struct remote *r = lookup(h, name, len);
	struct tunnel *t;
	struct list *i;

	if (r != NULL && r->admitted != server->admitted) {
		unknown = r->removed = true;
		r->kept = false;
		for (i = r->tunnels.next; i != &r->tunnels; i = i->next) {
			t = container_of(i, struct tunnel, in_remote);
			tunnel_go_away(t->worker, t->id, INS_END_UNKNOWN_NAME);
		}
		unused = take_unused(h, r);
	}
	table_unlock(&server->remotes, name, len);
	if (unused)
		remote_free(r);
	return unknown;
}

bool
registry_dismiss(struct server *server, const struct config *c)
{
	bool any = false;
	size_t i;

	for (i = 0; i < c->nremotes; i++)
		any |= dismiss(server, c->remotes[i].name);
	return any;
}

void
registry_close(struct server *server)
{
	struct hash_node *n;
	struct hash *h;
	size_t i;

	for (i = 0; i < TABLE_SHARDS; i++) {
		h = &server->remotes.shards[i].hash;
		while ((n = hash_any(h)) != NULL) {
			hash_remove(h, n);
			remote_free(container_of(n, struct remote, node));
		}
	}
}

bool
registry_knows(struct server *server, const char *name)
{
	size_t len = strlen(name);
	bool known;

	known =
	    find(table_lock(&server->remotes, name, len), name, len) != NULL;
	table_unlock(&server->remotes, name, len);
	return known;
}

static bool
was_replaced(const struct remote *r, const uint8_t *instance)
{
	size_t i;

	for (i = 0; i < r->nreplaced && i < REGISTRY_REPLACED; i++)
		if (memcmp(r->replaced[i], instance, INS_INSTANCE_SIZE) == 0)
			return true;
	return false;
}

static void
remember_replaced(struct remote *r, const uint8_t *instance)
{
	if (was_replaced(r, instance))
		return;
	memcpy(r->replaced[r->nreplaced++ % REGISTRY_REPLACED], instance,
	    INS_INSTANCE_SIZE);
}

/* It holds the name again: its next dials are no standby's. */
static void
forget_replaced(struct remote *r, const uint8_t *instance)
{
	size_t i;

	for (i = 0; i < r->nreplaced && i < REGISTRY_REPLACED; i++)
		if (memcmp(r->replaced[i], instance, INS_INSTANCE_SIZE) == 0)
			memset(r->replaced[i], 0, INS_INSTANCE_SIZE);
}

static bool
same_instance(const struct tunnel *t, const struct claim *c)
{
	return !t->classic && !c->classic &&
	    memcmp(t->instance, c->registration->instance, INS_INSTANCE_SIZE) ==
	    0;
}

static void
expel(struct tunnel *t, enum ins_end_code code)
{
	list_remove(&t->in_remote);
	tunnel_end(t->worker, t->id, code);
}

static bool
is_held(const struct ins_register *g, uint64_t id)
{
	size_t i;

	for (i = 0; i < g->held.len / 8; i++)
		if (ins_held(&g->held, i) == id)
			return true;
	return false;
}

/*
 * Whether the claim may have the name; then everybody who must go for it is
 * gone.
 */
static bool
make_room(struct remote *r, const struct claim *c)
{
	const struct ins_register *g = c->registration;
	struct list *i, *next;
	struct tunnel *t;
	bool standby, others = false;

	for (i = r->tunnels.next; i != &r->tunnels; i = i->next) {
		t = container_of(i, struct tunnel, in_remote);
		if (!same_instance(t, c) && !t->going)
			others = true;
	}
	standby = !c->classic && (g->standby || was_replaced(r, g->instance));
	if (others && standby)
		return false;
	for (i = r->tunnels.next; i != &r->tunnels; i = next) {
		next = i->next;
		t = container_of(i, struct tunnel, in_remote);
		if (!same_instance(t, c)) {
			/* One under go-away is only finished. */
			if (t->going)
				continue;
			if (!t->classic)
				remember_replaced(r, t->instance);
			expel(t, INS_END_REPLACED);
		} else if (t->serial <= g->settled && !is_held(g, t->id))
			expel(t, INS_END_NOT_HELD);
	}
	if (standby)
		forget_replaced(r, g->instance);
	return true;
}

/* The worker with the fewest tunnels of r; the asking one when equal. */
static struct worker *
choose_worker(const struct remote *r, struct worker *asking)
{
	struct server *server = asking->server;
	unsigned count[256] = {0}, i, n = server->nworkers, best;
	const struct list *l;

	for (l = r->tunnels.next; l != &r->tunnels; l = l->next)
		count[container_of(l, struct tunnel, in_remote)
			  ->worker->index]++;
	best = asking->index;
	for (i = 0; i < n; i++)
		if (count[i] < count[best])
			best = i;
	return &server->workers[best];
}

static size_t
count_tunnels(const struct remote *r)
{
	const struct list *i;
	size_t n = 0;

	for (i = r->tunnels.next; i != &r->tunnels; i = i->next)
		n++;
	return n;
}

/* The smaller of both ends'. */
static uint64_t
resumable_for(struct worker *w, const struct ins_register *g)
{
	uint64_t ours = w->config->resume_timeout;

	return ours < g->resume ? ours : g->resume;
}

unsigned
registry_claim(struct worker *w, const struct claim *c, struct tunnel *t)
{
	struct server *server = w->server;
	unsigned refused = 0;
	struct remote *r;
	struct hash *h;

	h = table_lock(&server->remotes, c->name.data, c->name.len);
	r = find(h, c->name.data, c->name.len);
	if (atomic_load(&server->draining))
		refused = INS_END_SHUTDOWN;
	else if (r == NULL)
		refused = INS_END_UNKNOWN_NAME;
	else if (!make_room(r, c))
		refused = INS_END_NAME_IN_USE;
	else if (count_tunnels(r) >= REGISTRY_TUNNELS)
		refused = INS_END_NO_RESOURCES;
	else {
		t->remote = r;
		r->references++;
		t->classic = c->classic;
		if (!c->classic) {
			memcpy(t->instance, c->registration->instance,
			    INS_INSTANCE_SIZE);
			t->serial = c->registration->serial;
			t->resume = resumable_for(w, c->registration);
		}
		t->worker = choose_worker(r, w);
		list_append(&r->tunnels, &t->in_remote);
		/*
		 * Under the lock, so that whoever finds t in the list can
		 * only post to its worker behind this.
		 */
		loop_post(&t->worker->loop, &t->message);
	}
	table_unlock(&server->remotes, c->name.data, c->name.len);
	return refused;
}

struct worker *
registry_locate(struct server *server, const struct ins_resume *m)
{
	const struct ins_bytes *name = &m->who.name;
	struct hash *h = table_lock(&server->remotes, name->data, name->len);
	struct remote *r = lookup(h, name->data, name->len);
	struct worker *w = NULL;
	struct tunnel *t;
	struct list *i;

	if (r != NULL)
		for (i = r->tunnels.next; i != &r->tunnels; i = i->next) {
			t = container_of(i, struct tunnel, in_remote);
			if (t->id == m->session)
				w = t->worker;
		}
	table_unlock(&server->remotes, name->data, name->len);
	return w;
}

void
registry_settle(struct server *server, struct tunnel *t,
    const struct ins_register *g)
{
	struct claim c = {.registration = g};
	const char *name = t->remote->name;
	struct list *i, *next;
	struct tunnel *other;

	table_lock(&server->remotes, name, strlen(name));
	t->serial = g->serial;
	for (i = t->remote->tunnels.next; i != &t->remote->tunnels; i = next) {
		next = i->next;
		other = container_of(i, struct tunnel, in_remote);
		if (other != t && same_instance(other, &c) &&
		    other->serial <= g->settled && !is_held(g, other->id))
			expel(other, INS_END_NOT_HELD);
	}
	table_unlock(&server->remotes, name, strlen(name));
}

void
registry_set_parked(struct server *server, struct tunnel *t, bool parked)
{
	const char *name = t->remote->name;

	table_lock(&server->remotes, name, strlen(name));
	t->parked = parked;
	table_unlock(&server->remotes, name, strlen(name));
}

void
registry_set_going(struct server *server, struct tunnel *t)
{
	const char *name = t->remote->name;

	table_lock(&server->remotes, name, strlen(name));
	t->going = true;
	table_unlock(&server->remotes, name, strlen(name));
}

void
registry_release(struct server *server, struct tunnel *t)
{
	struct remote *r = t->remote;
	size_t len = strlen(r->name);
	struct hash *h = table_lock(&server->remotes, r->name, len);
	bool unused;

	list_remove(&t->in_remote);
	r->references--;
	unused = take_unused(h, r);
	table_unlock(&server->remotes, r->name, len);
	if (unused)
		remote_free(r);
}

bool
registry_pick(struct worker *w, const char *name, struct session **session,
    struct worker **other)
{
	size_t len = strlen(name), streams, fewest = SIZE_MAX;
	struct hash *h = table_lock(&w->server->remotes, name, len);
	struct remote *r = find(h, name, len);
	struct tunnel *t;
	struct list *i;

	*session = NULL;
	*other = NULL;
	if (r == NULL)
		goto out;
	for (i = r->tunnels.next; i != &r->tunnels; i = i->next) {
		t = container_of(i, struct tunnel, in_remote);
		if (t->parked || t->going)
			continue;
		if (t->worker != w)
			*other = t->worker;
		else if (t->session != NULL) {
			streams = session_streams(t->session);
			if (streams < fewest) {
				fewest = streams;
				*session = t->session;
			}
		}
	}
	/* Others take turns, so that one worker does not get them all. */
	if (*session == NULL && *other != NULL) {
		i = r->tunnels.next;
		list_remove(i);
		list_append(&r->tunnels, i);
	}
out:
	table_unlock(&w->server->remotes, name, len);
	return *session != NULL || *other != NULL;
}

bool
registry_log_absent(struct server *server, const char *name, uint64_t now)
{
	size_t len = strlen(name);
	struct hash *h = table_lock(&server->remotes, name, len);
	struct remote *r = find(h, name, len);
	bool log;

	log = r != NULL &&
	    (!r->absent_was_logged || now >= r->absent_logged + ABSENT_LOG_US);
	if (log) {
		r->absent_was_logged = true;
		r->absent_logged = now;
	}
	table_unlock(&server->remotes, name, len);
	return log;
}

static void
save_remote(const struct remote *r, struct image_writer *w)
{
	size_t n =
	    r->nreplaced < REGISTRY_REPLACED ? r->nreplaced : REGISTRY_REPLACED;

	image_put(w, 1);
	image_put_text(w, r->name);
	image_put(w, n);
	image_put_bytes(w, r->replaced, n * INS_INSTANCE_SIZE);
}

void
registry_save(struct server *server, struct image_writer *w)
{
	const struct hash_node *n;
	const struct hash *h;
	size_t i, c;

	for (i = 0; i < TABLE_SHARDS; i++) {
		h = &server->remotes.shards[i].hash;
		for (c = 0; c < h->nchains; c++)
			for (n = h->chains[c]; n != NULL; n = n->next)
				save_remote(container_of(n, struct remote,
						node),
				    w);
		for (n = h->single; n != NULL; n = n->next)
			save_remote(container_of(n, struct remote, node), w);
	}
	image_put(w, 0);
}

/* A name that the configuration does not have is there, as removed. */
static struct remote *
have_remote(struct server *server, const char *name)
{
	size_t len = strlen(name);
	struct hash *h = table_lock(&server->remotes, name, len);
	struct remote *r = lookup(h, name, len);

	if (r == NULL && (r = remote_new(name)) != NULL)
		hash_insert(h, &r->node);
	table_unlock(&server->remotes, name, len);
	return r;
}

bool
registry_load(struct server *server, struct image_reader *r)
{
	char name[INS_NAME_MAX + 1];
	struct remote *remote;

	while (image_take_bool(r)) {
		image_take_text(r, name, sizeof(name));
		remote = r->failed ? NULL : have_remote(server, name);
		if (remote == NULL)
			return false;
		remote->nreplaced = image_take(r, REGISTRY_REPLACED);
		image_take_exact(r, remote->replaced,
		    remote->nreplaced * INS_INSTANCE_SIZE);
	}
	return !r->failed;
}

bool
registry_adopt(struct server *server, struct tunnel *t, const char *name)
{
	struct remote *r = have_remote(server, name);

	if (r == NULL)
		return false;
	t->remote = r;
	r->references++;
	list_append(&r->tunnels, &t->in_remote);
	if (r->removed)
		tunnel_go_away(t->worker, t->id, INS_END_UNKNOWN_NAME);
	return true;
}
