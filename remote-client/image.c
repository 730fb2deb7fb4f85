#include "remote-client/image.h"

#include <string.h>

#include "net/tcp.h"
#include "remote-client/tunnel.h"
#include "tunnel/session.h"

static void
save_worker(struct worker *w, struct image_writer *image)
{
	struct session *s;
	struct list *i;

	image_put_tag(image, "work");
	tunnels_save(w, image);
	/* Those that have ended and only deliver belong to no tunnel. */
	for (i = w->sessions.next; i != &w->sessions; i = i->next) {
		s = session_of_list(i);
		if (!session_has_ended(s))
			continue;
		image_put(image, 1);
		tunnel_save_ended(s, image);
	}
	image_put(image, 0);
	tcp_save_finished(&w->loop, image);
}

static bool
load_worker(struct worker *w, struct image_reader *r)
{
	image_take_tag(r, "work");
	if (!tunnels_load(w, r))
		return false;
	while (image_take_bool(r))
		if (!tunnel_load_ended(w, r))
			return false;
	return !r->failed && tcp_load_finished(&w->loop, r);
}

void
image_save_start(const struct client *client, struct image_writer *w)
{
	image_put_tag(w, "clnt");
	image_put_text(w, client->config->name);
	image_put(w, client->config->dialect);
}

const char *
image_load_start(const struct client *client, struct image_reader *r)
{
	char name[INS_NAME_MAX + 1];
	uint64_t dialect;

	image_take_tag(r, "clnt");
	image_take_text(r, name, sizeof(name));
	dialect = image_take(r, CONFIG_CLASSIC);
	if (r->failed)
		return "the state cannot be read";
	/* Sessions are of one name and one dialect. */
	if (strcmp(name, client->config->name) != 0)
		return "`name` needs a restart to change";
	if (dialect != client->config->dialect)
		return "`dialect` needs a restart to change";
	return NULL;
}

void
image_save_all(struct client *client, struct image_writer *w)
{
	unsigned i;

	image_put_tag(w, "all ");
	image_put_bytes(w, client->instance, INS_INSTANCE_SIZE);
	roll_save(&client->roll, w);
	image_put(w, client->nworkers);
	for (i = 0; i < client->nworkers; i++)
		save_worker(&client->workers[i], w);
}

bool
image_load_all(struct client *client, struct image_reader *r)
{
	uint64_t workers, i;

	image_take_tag(r, "all ");
	image_take_exact(r, client->instance, INS_INSTANCE_SIZE);
	roll_load(&client->roll, r);
	workers = image_take(r, UINT16_MAX);
	for (i = 0; i < workers; i++)
		if (!load_worker(&client->workers[i % client->nworkers], r))
			return false;
	return !r->failed;
}
