#include "base/config_map.h"

#include <stdbool.h>
#include <string.h>

/* Into an unsigned, an enum, a size_t or a uint64_t; the ranges see that it
 * fits. */
static void
store(const struct config_key *key, void *field, uint64_t value)
{
	uint32_t narrow = (uint32_t)value;

	if (key->width == sizeof(narrow))
		memcpy(field, &narrow, sizeof(narrow));
	else
		memcpy(field, &value, sizeof(value));
}

int
config_map_integer(void *context, const struct yaml_node *node,
    const struct config_key *key, void *field)
{
	uint64_t value;

	(void)context;
	if (yaml_value_integer(node, &key->range, &value) != 0)
		return -1;
	store(key, field, value);
	return 0;
}

int
config_map_duration(void *context, const struct yaml_node *node,
    const struct config_key *key, void *field)
{
	uint64_t value;

	(void)context;
	if (yaml_value_duration(node, &key->range, &value) != 0)
		return -1;
	store(key, field, value);
	return 0;
}

int
config_map_size(void *context, const struct yaml_node *node,
    const struct config_key *key, void *field)
{
	uint64_t value;

	(void)context;
	if (yaml_value_size(node, &key->range, &value) != 0)
		return -1;
	store(key, field, value);
	return 0;
}

int
config_map_choice(void *context, const struct yaml_node *node,
    const struct config_key *key, void *field)
{
	uint64_t value;

	(void)context;
	if (yaml_value_choice(node, key->words, key->what, &value) != 0)
		return -1;
	store(key, field, value);
	return 0;
}

/* One character put in, left out, replaced, or swapped with the next. */
static bool
one_edit(const char *a, const char *b)
{
	while (*a != '\0' && *a == *b) {
		a++;
		b++;
	}
	if (*a == '\0' || *b == '\0')
		return strlen(a) + strlen(b) == 1;
	if (a[0] == b[1] && a[1] == b[0] && strcmp(a + 2, b + 2) == 0)
		return true;
	return strcmp(a + 1, b) == 0 || strcmp(a, b + 1) == 0 ||
	    strcmp(a + 1, b + 1) == 0;
}

static int
unknown_key(const struct yaml_node *key, const struct config_keys *table)
{
	const char *name = yaml_node_text(key);
	size_t i;

	for (i = 0; i < table->count; i++)
		if (one_edit(name, table->keys[i].name))
			return yaml_node_error(key,
			    "unknown key (did you mean \"%s\"?)",
			    table->keys[i].name);
	return yaml_node_error(key, "unknown key");
}

/* The key's place in the table; table->count when it is not there. */
static size_t
find_key(const struct config_keys *table, const char *name)
{
	size_t i;

	for (i = 0; i < table->count; i++)
		if (strcmp(table->keys[i].name, name) == 0)
			break;
	return i;
}

int
config_map_read(const struct yaml_node *node, const struct config_keys *table,
    unsigned role, void *context, void *object)
{
	const struct yaml_node *value;
	const struct config_key *key;
	uint32_t seen = 0;
	size_t i;

	if (!yaml_node_is_map(node))
		return yaml_node_expected(node, "a mapping", NULL);
	for (i = 0; i < table->count; i++) {
		key = &table->keys[i];
		if (key->width > 0)
			store(key, (char *)object + key->offset, key->preset);
	}
	for (value = yaml_node_first(node); value != NULL;
	     value = yaml_node_next(value)) {
		i = find_key(table, yaml_node_text(yaml_node_key(value)));
		if (i == table->count)
			return unknown_key(yaml_node_key(value), table);
		key = &table->keys[i];
		seen |= UINT32_C(1) << i;
		if (key->read(context, value, key,
			(char *)object + key->offset) != 0)
			return -1;
	}
	for (i = 0; i < table->count; i++) {
		key = &table->keys[i];
		if ((key->required & 1u << role) != 0 && (seen >> i & 1) == 0)
			return yaml_node_missing(node, key->name, key->what);
	}
	return 0;
}
