#include "proxy-server/listener.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "instruction.h"

struct listener *
listener_new(const struct config_remote *remote,
    const struct config_listener *config)
{
	struct listener *l = calloc(1, sizeof(*l));

	if (l == NULL)
		goto err0;
	atomic_init(&l->references, 1);
	if (remote == NULL)
		return l;
	l->remote = strdup(remote->name);
	if (l->remote == NULL)
		goto err1;
	l->type = config->type;
	l->class = config->class;
	l->weight = config->weight;
	l->target = config->target;
	if (config->target.host[0] == '\0')
		snprintf(l->target_text, sizeof(l->target_text), "127.0.0.1:%u",
		    config->target.port);
	else
		hostport_format(&config->target, l->target_text,
		    sizeof(l->target_text));
	return l;

err1:
	free(l);
err0:
	return NULL;
}

void
listener_set_address(struct listener *l, const struct address *a)
{
	l->address = *a;
	address_format(a, l->bind, sizeof(l->bind));
}

struct listener *
listener_hold(struct listener *l)
{
	atomic_fetch_add_explicit(&l->references, 1, memory_order_relaxed);
	return l;
}

void
listener_release(struct listener *l)
{
	/* What the others did with it comes before its end. */
	if (l == NULL ||
	    atomic_fetch_sub_explicit(&l->references, 1, memory_order_acq_rel) >
		1)
		return;
	free(l->remote);
	free(l);
}

bool
listener_same(const struct listener *a, const struct listener *b)
{
	if (a->remote == NULL || b->remote == NULL)
		return a->remote == b->remote;
	return strcmp(a->remote, b->remote) == 0 && a->type == b->type &&
	    a->class == b->class && a->weight == b->weight &&
	    a->target.port == b->target.port &&
	    strcmp(a->target.host, b->target.host) == 0;
}

void
listener_log(const char *event, const struct listener *l)
{
	if (l->remote == NULL)
		log_event(LOG_INFO, event, "for", "tunnel", "bind", l->bind,
		    NULL);
	else
		log_event(LOG_INFO, event, "for", "visitors", "remote",
		    l->remote, "type", l->type == CONFIG_HTTP ? "http" : "tcp",
		    "bind", l->bind, "target", l->target_text, NULL);
}

void
listener_save(const struct listener *l, struct image_writer *w)
{
	image_put_bytes(w, &l->address, sizeof(l->address));
	image_put(w, l->remote != NULL);
	if (l->remote == NULL)
		return;
	image_put_text(w, l->remote);
	image_put(w, l->type);
	image_put(w, l->class);
	image_put(w, l->weight);
	image_put_text(w, l->target.host);
	image_put(w, l->target.port);
}

static struct listener *
load_for_visitors(struct image_reader *r)
{
	char name[INS_NAME_MAX + 1];
	struct config_remote remote = {.name = name};
	struct config_listener config = {0};

	image_take_text(r, name, sizeof(name));
	config.type = (enum config_type)image_take(r, CONFIG_HTTP);
	config.class = (enum config_class)image_take(r, CONFIG_BULK);
	config.weight = (unsigned)image_take(r, INS_WEIGHT_MAX);
	image_take_text(r, config.target.host, sizeof(config.target.host));
	config.target.port = (uint16_t)image_take(r, UINT16_MAX);
	return r->failed ? NULL : listener_new(&remote, &config);
}

struct listener *
listener_load(struct image_reader *r)
{
	struct address address;
	struct listener *l;

	image_take_exact(r, &address, sizeof(address));
	l = image_take_bool(r) ? load_for_visitors(r) :
	    r->failed          ? NULL :
				 listener_new(NULL, NULL);
	if (l != NULL)
		listener_set_address(l, &address);
	return l;
}
