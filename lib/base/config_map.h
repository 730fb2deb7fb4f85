/*
 * Reads a mapping of the configuration into a struct by a table of its keys.
 * What the keys are stands in config_schema.c.
 */
#ifndef BASE_CONFIG_MAP_H
#define BASE_CONFIG_MAP_H

#include <stddef.h>
#include <stdint.h>

#include "base/yaml.h"

struct config_key {
	const char *name;
	/*
	 * Reads node into field, which is in the struct at offset.  0, or -1
	 * with the error set.
	 */
	int (*read)(void *context, const struct yaml_node *node,
	    const struct config_key *key, void *field);
	size_t offset;
	unsigned required;		/* bits, 1 << enum config_role */
	const char *what;		/* the value is, for errors */

	/* For numbers and choices: */
	size_t width;			/* sizeof the field, 4 or 8 */
	uint64_t preset;		/* when the key is not there */
	struct yaml_range range;
	const char *const *words;
};

/* A table; it has 32 keys at most. */
struct config_keys {
	const struct config_key *keys;
	size_t count;
};

/*
 * Fill in the presets, then read each key of the mapping node into object, in
 * the file's order; then see to it that each key is there that role requires.
 * context goes to the functions of the table.  0, or -1 with the error set;
 * object may then be filled in part.
 */
int
config_map_read(const struct yaml_node *node, const struct config_keys *,
    unsigned role, void *context, void *object);

/* For the table: what yaml_value_*() of the same name takes. */
int
config_map_integer(void *context, const struct yaml_node *,
    const struct config_key *, void *field);
int
config_map_duration(void *context, const struct yaml_node *,
    const struct config_key *, void *field);
int
config_map_size(void *context, const struct yaml_node *,
    const struct config_key *, void *field);
int
config_map_choice(void *context, const struct yaml_node *,
    const struct config_key *, void *field);

#endif
