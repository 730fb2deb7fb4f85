#include "proxy-server/image.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proxy-server/arrival.h"
#include "proxy-server/registry.h"
#include "proxy-server/tunnel.h"
#include "proxy-server/visitor.h"
#include "tunnel/session_image.h"

/* The start. */

static void
save_binding(const struct binding *b, struct image_writer *w)
{
	size_t i;

	for (i = 0; i < b->nacceptors; i++) {
		if (b->acceptors[i].watch.fd < 0)
			continue;
		image_put(w, 1);
		image_put_bytes(w, &b->asked, sizeof(b->asked));
		listener_save(b->listener, w);
		image_put_fd(w, b->acceptors[i].watch.fd);
	}
}

void
image_save_start(const struct server *server, const struct listeners *ls,
    struct image_writer *w)
{
	const struct list *i;

	image_put_tag(w, "serv");
	image_put_bytes(w, server->instance, INS_INSTANCE_SIZE);
	image_put(w, server->start);
	image_put_fd(w, server->state.lock);
	for (i = ls->bound.next; i != &ls->bound; i = i->next)
		save_binding(container_of(i, struct binding, node), w);
	image_put(w, 0);
}

static bool
load_bindings(struct listeners *ls, struct image_reader *r)
{
	struct address asked;
	struct listener *l;
	int fd;

	while (image_take_bool(r)) {
		image_take_exact(r, &asked, sizeof(asked));
		l = listener_load(r);
		fd = image_take_fd(r);
		if (l == NULL || fd < 0 ||
		    listeners_inherit(ls, &asked, fd, l) < 0)
			return false;
		listener_release(l);
	}
	return !r->failed;
}

bool
image_load_start(struct server *server, struct listeners *ls,
    const struct config *config, struct image_reader *r, char *error,
    size_t size)
{
	int lock;

	image_take_tag(r, "serv");
	image_take_exact(r, server->instance, INS_INSTANCE_SIZE);
	server->start = image_take(r, UINT64_MAX);
	lock = image_take_fd(r);
	if (lock < 0) {
		snprintf(error, size, "the state cannot be read");
		return false;
	}
	if (state_dir_adopt(&server->state, config->state_dir, lock, error,
		size) < 0)
		return false;
	if (load_bindings(ls, r))
		return true;
	snprintf(error, size, "the listening sockets cannot be taken over: %s",
	    strerror(errno));
	return false;
}

/* Listeners of visitors: each once. */

struct table_of {
	struct listener **at;
	size_t n, room;
};

static void
note_listener(struct table_of *t, struct listener *l, struct image_writer *w)
{
	struct listener **grown;
	size_t i;

	for (i = 0; i < t->n; i++)
		if (t->at[i] == l)
			return;
	if (t->n == t->room) {
		t->room = t->room == 0 ? 64 : 2 * t->room;
		grown = realloc(t->at, t->room * sizeof(struct listener *));
		if (grown == NULL) {
			w->failed = true;
			return;
		}
		t->at = grown;
	}
	t->at[t->n++] = l;
}

static uint64_t
index_of(const struct table_of *t, const struct listener *l)
{
	size_t i;

	for (i = 0; i < t->n; i++)
		if (t->at[i] == l)
			return i;
	return 0;
}

/* The main thread's, for what the savers below are not given. */
static struct table_of known;

static void
note_user(const void *user, struct image_writer *w)
{
	const struct visitor *v = user;

	note_listener(&known, v->listener, w);
}

static void
note_all(struct server *server, struct image_writer *w)
{
	struct hash_node *n;
	struct hash *h;
	struct list *l;
	size_t i, c;

	for (i = 0; i < TABLE_SHARDS; i++) {
		h = &server->connections.shards[i].hash;
		for (c = 0; c < h->nchains; c++)
			for (n = h->chains[c]; n != NULL; n = n->next)
				note_user(container_of(n, struct visitor,
					      connection),
				    w);
		for (n = h->single; n != NULL; n = n->next)
			note_user(container_of(n, struct visitor, connection),
			    w);
	}
	for (i = 0; i < server->nworkers; i++)
		for (l = server->workers[i].visitors.next;
		     l != &server->workers[i].visitors; l = l->next)
			note_user(container_of(l, struct search, node)->visitor,
			    w);
}

static void
save_listeners(struct server *server, struct image_writer *w)
{
	size_t i;

	note_all(server, w);
	image_put(w, known.n);
	for (i = 0; i < known.n; i++)
		listener_save(known.at[i], w);
}

static bool
load_listeners(struct image_reader *r)
{
	size_t n = image_take(r, (size_t)(r->end - r->at)), i;

	known.at = calloc(n + 1, sizeof(struct listener *));
	if (known.at == NULL)
		return false;
	for (i = 0; i < n; i++) {
		known.at[i] = listener_load(r);
		if (known.at[i] == NULL || known.at[i]->remote == NULL)
			return false;
		known.n++;
	}
	return !r->failed;
}

static void
forget_listeners(bool release)
{
	size_t i;

	for (i = 0; release && i < known.n; i++)
		listener_release(known.at[i]);
	free(known.at);
	known = (struct table_of){0};
}

/* Visitors. */

static void
save_visitor(const struct visitor *v, struct image_writer *w)
{
	image_put(w, index_of(&known, v->listener));
	visitor_save(v, w);
}

static struct visitor *
load_visitor(struct worker *w, struct image_reader *r)
{
	size_t i = image_take(r, SIZE_MAX);

	if (r->failed || i >= known.n)
		return NULL;
	return visitor_load(w, known.at[i], r);
}

/* Sessions. */

static void
save_carrier(struct image_writer *w, const struct carrier *carrier)
{
	image_put_fd(w, tcp_carrier_fd(carrier));
}

static void
save_endpoint(struct image_writer *w, const struct stream *st, const void *user)
{
	(void)st;
	save_visitor(user, w);
}

static const struct session_saver saver = {save_carrier, save_endpoint};

/* Where a session is loaded to. */
struct place {
	struct worker *worker;
	uint64_t session;
};

static struct carrier *
load_carrier(struct image_reader *r, void *context)
{
	const struct place *p = context;
	int fd = image_take_fd(r);

	return fd < 0 ? NULL : tcp_carrier_new(&p->worker->loop, fd);
}

static bool
load_endpoint(struct image_reader *r, struct stream *st, void *context)
{
	const struct place *p = context;
	struct visitor *v = load_visitor(p->worker, r);

	if (v == NULL)
		return false;
	visitor_take_up(v, p->session, st);
	return true;
}

struct session *
image_load_session(struct worker *w, const struct session_config *config,
    struct image_reader *r)
{
	struct place place = {w, config->id};
	struct session_loader loader = {
	    load_carrier,
	    load_endpoint,
	    &place,
	    true,
	};

	return session_load(config, &loader, r);
}

void
image_save_session(const struct session *s, struct image_writer *w)
{
	session_save(s, &saver, w);
}

/* Workers. */

static void
save_sessions(struct worker *w, struct image_writer *image)
{
	struct session *s;
	struct list *i;

	for (i = w->sessions.next; i != &w->sessions; i = i->next) {
		s = session_of_list(i);
		image_put(image, 1);
		tunnel_save(s, image);
	}
	image_put(image, 0);
}

static void
save_worker(struct worker *w, struct image_writer *image)
{
	struct list *i;

	image_put_tag(image, "work");
	save_sessions(w, image);
	for (i = w->visitors.next; i != &w->visitors; i = i->next) {
		image_put(image, 1);
		save_visitor(container_of(i, struct search, node)->visitor,
		    image);
	}
	image_put(image, 0);
	arrival_save_all(w, image);
	tcp_save_finished(&w->loop, image);
}

static bool
load_worker(struct worker *w, struct image_reader *r)
{
	image_take_tag(r, "work");
	while (image_take_bool(r))
		if (!tunnel_load(w, r))
			return false;
	while (image_take_bool(r))
		if (load_visitor(w, r) == NULL)
			return false;
	return !r->failed && arrival_load_all(w, r) &&
	    tcp_load_finished(&w->loop, r);
}

void
image_save_all(struct server *server, struct image_writer *w)
{
	unsigned i;

	image_put_tag(w, "all ");
	image_put(w, atomic_load(&server->next_session));
	registry_save(server, w);
	save_listeners(server, w);
	image_put(w, server->nworkers);
	for (i = 0; i < server->nworkers; i++)
		save_worker(&server->workers[i], w);
	forget_listeners(false);
}

bool
image_load_all(struct server *server, struct image_reader *r)
{
	uint64_t workers, i;

	image_take_tag(r, "all ");
	atomic_store(&server->next_session, image_take(r, UINT64_MAX));
	if (!registry_load(server, r) || !load_listeners(r))
		return false;
	workers = image_take(r, UINT16_MAX);
	for (i = 0; i < workers; i++)
		if (!load_worker(&server->workers[i % server->nworkers], r))
			return false;
	forget_listeners(true);
	return !r->failed;
}
