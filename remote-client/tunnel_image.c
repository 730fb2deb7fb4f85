/*
 * Tunnels as parts of an image: docs/upgrade.md.  A dial that is under way is
 * not moved but made again; it counts for no failure.
 */
#include <stdlib.h>
#include <string.h>

#include "remote-client/application.h"
#include "remote-client/tunnel_private.h"
#include "tunnel/session_image.h"

static void
save_carrier(struct image_writer *w, const struct carrier *carrier)
{
	image_put_fd(w, tcp_carrier_fd(carrier));
}

static void
save_endpoint(struct image_writer *w, const struct stream *st, const void *user)
{
	(void)st;
	application_save(user, w);
}

static const struct session_saver saver = {save_carrier, save_endpoint};

static struct carrier *
load_carrier(struct image_reader *r, void *context)
{
	struct worker *w = context;
	int fd = image_take_fd(r);

	return fd < 0 ? NULL : tcp_carrier_new(&w->loop, fd);
}

static bool
load_endpoint(struct image_reader *r, struct stream *st, void *context)
{
	return application_load(context, st, r);
}

static struct session *
load_session(struct worker *w, const struct session_config *config,
    struct image_reader *r)
{
	struct session_loader loader = {load_carrier, load_endpoint, w, true};

	return session_load(config, &loader, r);
}

static void
save_with(const struct tunnel *t, struct image_writer *w)
{
	image_put(w, session_id(t->session));
	image_put(w, t->attempt);
	image_put_text(w, t->with.at.host);
	image_put(w, t->with.at.port);
	image_put_bytes(w, t->with.instance, INS_INSTANCE_SIZE);
	image_put(w, t->with.start);
	image_put_bytes(w, t->with.secret, INS_SECRET_SIZE);
	image_put(w, t->with.resume);
	session_save(t->session, &saver, w);
}

static void
save_tunnel(const struct tunnel *t, struct image_writer *w)
{
	image_put_tag(w, "tunl");
	image_put(w, (uint64_t)t->slot + 1);
	image_put(w, (uint64_t)t->home + 1);
	image_put(w, t->server);
	image_put(w, t->attempts);
	image_put(w, t->urgent_until);
	image_put(w, t->up_since);
	image_put(w, t->parked_at);
	image_put_text(w, t->dial.text);
	image_put(w, t->session != NULL);
	if (t->session != NULL)
		save_with(t, w);
}

void
tunnels_save(struct worker *w, struct image_writer *image)
{
	const struct tunnel *t;
	struct list *i;

	for (i = w->tunnels.next; i != &w->tunnels; i = i->next) {
		t = container_of(i, struct tunnel, node);
		if (t->homing)
			continue;
		image_put(image, 1);
		save_tunnel(t, image);
	}
	image_put(image, 0);
}

static bool
load_with(struct tunnel *t, struct image_reader *r)
{
	uint64_t id = image_take(r, UINT64_MAX);
	struct session_config config;

	t->attempt = image_take(r, UINT64_MAX);
	image_take_text(r, t->with.at.host, sizeof(t->with.at.host));
	t->with.at.port = (uint16_t)image_take(r, UINT16_MAX);
	image_take_exact(r, t->with.instance, INS_INSTANCE_SIZE);
	t->with.start = image_take(r, UINT64_MAX);
	image_take_exact(r, t->with.secret, INS_SECRET_SIZE);
	t->with.resume = image_take(r, INS_RESUME_MS_MAX);
	if (r->failed)
		return false;
	config = tunnel_session_config(t, id);
	t->session = load_session(t->worker, &config, r);
	if (t->session == NULL)
		return false;
	roll_hold(roll_of(t), &t->entry, id, t->with.instance, t->with.start);
	if (session_is_parked(t->session)) {
		session_hold_on(t->session, false);
		roll_park(roll_of(t), &t->entry);
	}
	return true;
}

/* Of a slot, where tunnels_update() looks for it: workers may be others now. */
static struct worker *
place_of(struct worker *w, int slot, int home)
{
	struct client *client = w->client;

	if (slot == STRAY)
		slot = home;
	return slot == STRAY ?
	    w :
	    &client->workers[(unsigned)slot % client->nworkers];
}

static bool
load_tunnel(struct worker *w, struct image_reader *r)
{
	bool standby = roll_is_standby(&w->client->roll);
	struct tunnel *t;
	int slot, home;

	image_take_tag(r, "tunl");
	slot = (int)image_take(r, UINT16_MAX) - 1;
	home = (int)image_take(r, UINT16_MAX) - 1;
	w = place_of(w, slot, home);
	t = tunnel_new(w, slot);
	if (t == NULL)
		return false;
	t->home = home;
	t->server = image_take(r, SIZE_MAX) % w->config->nservers;
	t->attempts = (unsigned)image_take(r, UINT32_MAX);
	t->urgent_until = image_take(r, UINT64_MAX);
	t->up_since = image_take(r, UINT64_MAX);
	t->parked_at = image_take(r, UINT64_MAX);
	image_take_text(r, t->dial.text, sizeof(t->dial.text));
	if (image_take_bool(r) && !load_with(t, r))
		return false;
	if (standby)
		roll_stand_by(&w->client->roll);
	tunnel_go_on(t);
	return !r->failed;
}

bool
tunnels_load(struct worker *w, struct image_reader *r)
{
	while (image_take_bool(r))
		if (!load_tunnel(w, r))
			return false;
	return !r->failed;
}

void
tunnel_save_ended(const struct session *s, struct image_writer *w)
{
	image_put(w, session_dialect(s));
	image_put(w, session_id(s));
	session_save(s, &saver, w);
}

bool
tunnel_load_ended(struct worker *w, struct image_reader *r)
{
	enum ins_dialect dialect =
	    (enum ins_dialect)image_take(r, INS_EXTENDED);
	uint64_t id = image_take(r, UINT64_MAX);
	struct tunnel none = {.worker = w};
	struct session_config config = tunnel_session_config(&none, id);

	config.dialect = dialect;
	config.owner = NULL;
	return load_session(w, &config, r) != NULL;
}
