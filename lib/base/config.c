#include "base/config.h"

#include <stdlib.h>
#include <string.h>

#include "base/config_schema.h"
#include "base/yaml.h"

/* What a remote-client may connect to when the file does not say. */
static const char *const loopback[] = {"127.0.0.1", "::1"};
#define NLOOPBACK (sizeof(loopback) / sizeof(loopback[0]))

/* 0, or -1 when memory ran out. */
static int
default_targets(struct config *config)
{
	const char *why;
	size_t i;

	if (config->nallow_targets > 0)
		return 0;
	config->allow_targets =
	    calloc(NLOOPBACK, sizeof(*config->allow_targets));
	if (config->allow_targets == NULL)
		return -1;
	config->nallow_targets = NLOOPBACK;
	for (i = 0; i < NLOOPBACK; i++)
		if (cidr_parse(loopback[i], &config->allow_targets[i], &why) !=
		    0)
			abort();
	return 0;
}

static struct config *
read_tree(const struct yaml_tree *tree, enum config_role role)
{
	const struct yaml_node *root = yaml_tree_root(tree);
	struct config *config = calloc(1, sizeof(*config));

	if (config == NULL) {
		yaml_node_nomem(root);
		goto err0;
	}
	if (config_schema_read(root, role, config) != 0)
		goto err1;
	if (default_targets(config) != 0) {
		yaml_node_nomem(root);
		goto err1;
	}
	return config;

err1:
	config_free(config);
err0:
	return NULL;
}

struct config *
config_parse(const char *text, size_t len, const char *name,
    enum config_role role, char *error, size_t size)
{
	struct config *config = NULL;
	struct yaml_tree *tree;

	tree = yaml_tree_parse(text, len, name, error, size);
	if (tree != NULL)
		config = read_tree(tree, role);
	yaml_tree_free(tree);
	return config;
}

struct config *
config_load(const char *path, enum config_role role, char *error, size_t size)
{
	struct config *config = NULL;
	struct yaml_tree *tree;

	tree = yaml_tree_load(path, error, size);
	if (tree != NULL)
		config = read_tree(tree, role);
	yaml_tree_free(tree);
	return config;
}

void
config_free(struct config *config)
{
	size_t i;

	if (config == NULL)
		return;
	for (i = 0; i < config->nremotes; i++) {
		free(config->remotes[i].listeners);
		free(config->remotes[i].name);
	}
	free(config->remotes);
	free(config->state_dir);
	free(config->name);
	free(config->servers);
	free(config->allow_targets);
	free(config);
}
