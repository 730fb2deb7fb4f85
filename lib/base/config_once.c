#include "base/config_once.h"

#include <search.h>
#include <stdlib.h>
#include <string.h>

/* What stood where. */
struct place {
	const void *what;
	int line;
};

static int
compare_names(const void *a, const void *b)
{
	const struct place *x = a, *y = b;

	return strcmp(x->what, y->what);
}

static int
compare_binds(const void *a, const void *b)
{
	const struct place *x = a, *y = b;

	return hostport_compare(x->what, y->what);
}

/* Refuses what is in the tree already; keeps it, borrowed, if it is not. */
static int
once(void **root, int (*compare)(const void *, const void *),
    const struct yaml_node *node, const void *what, const char *noun)
{
	struct place *place = malloc(sizeof(*place));
	struct place **found;
	int line;

	if (place == NULL)
		goto err0;
	place->what = what;
	place->line = yaml_node_line(node);
	found = tsearch(place, root, compare);
	if (found == NULL)
		goto err1;
	if (*found == place)
		return 0;
	line = (*found)->line;
	free(place);
	return yaml_node_error(node, "duplicate %s, first at line %d", noun,
	    line);

err1:
	free(place);
err0:
	return yaml_node_nomem(node);
}

int
config_once_name(struct config_once *o, const struct yaml_node *node,
    const char *name)
{
	return once(&o->names, compare_names, node, name, "remote");
}

int
config_once_bind(struct config_once *o, const struct yaml_node *node,
    const struct hostport *bind)
{
	return once(&o->binds, compare_binds, node, bind, "listener");
}

void
config_once_free(struct config_once *o)
{
	tdestroy(o->names, free);
	tdestroy(o->binds, free);
	o->names = NULL;
	o->binds = NULL;
}
