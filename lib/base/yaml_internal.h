/*
 * What yaml.c, which builds the tree, and yaml_node.c, which reads it, share.
 */
#ifndef BASE_YAML_INTERNAL_H
#define BASE_YAML_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>

#include "base/yaml.h"

enum yaml_kind { YAML_SCALAR, YAML_LIST, YAML_MAP, YAML_KEY };

struct yaml_node {
	struct yaml_tree *tree;
	struct yaml_node *allocated;	/* the one before it */
	struct yaml_node *parent;
	struct yaml_node *first, *last, *next;
	const struct yaml_node *key;
	enum yaml_kind kind;
	bool plain;			/* without quotes and tag */
	int line, column;		/* from 1 */
	size_t count;			/* of the nodes from first */
	size_t index;			/* in the parent */
	char text[];			/* of YAML_SCALAR and YAML_KEY */
};

struct yaml_tree {
	struct yaml_node *allocated;	/* every node */
	struct yaml_node *root;
	const char *name;
	char *error;
	size_t size;
};

/*
 * Set the error to the tree's name and the formatted text, cut to fit: for
 * what concerns no node.  Returns -1.
 */
int
yaml_tree_error(struct yaml_tree *, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#endif
