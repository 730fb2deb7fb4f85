/*
 * Typed values.  All are read from the scalar's text by our own rules, not
 * YAML's, for which 010 is eight and 1:30 is ninety.
 */
#include <stdio.h>
#include <string.h>

#include "base/decimal.h"
#include "base/yaml.h"

#define AMOUNT_SIZE 32 /* 20 digits and a unit */
#define WHAT_SIZE 128

struct unit {
	const char *name;
	uint64_t scale;
};

/* From the largest, so that the first that divides a value shows it best. */
static const struct unit durations[] = {
    {"h", 3600000},
    {"m", 60000},
    {"s", 1000},
    {"ms", 1},
    {NULL, 0},
};

static const struct unit sizes[] = {
    {"GiB", 1 << 30},
    {"MiB", 1 << 20},
    {"KiB", 1 << 10},
    {"", 1},
    {NULL, 0},
};

static const struct unit numbers[] = {
    {"", 1},
    {NULL, 0},
};

static const char *
show_amount(uint64_t value, const struct unit *unit, char buf[AMOUNT_SIZE])
{
	while (value % unit->scale != 0)
		unit++;
	snprintf(buf, AMOUNT_SIZE, "%llu%s",
	    (unsigned long long)(value / unit->scale),
	    value > 0 ? unit->name : "");
	return buf;
}

/* Digits and a unit.  Whether it is one, and not too large for 64 bits. */
static bool
read_amount(const char *text, const struct unit *unit, uint64_t *value)
{
	size_t len = strspn(text, "0123456789");
	uint64_t count;

	while (unit->name != NULL && strcmp(unit->name, text + len) != 0)
		unit++;
	if (unit->name == NULL ||
	    decimal_parse(text, len, UINT64_MAX / unit->scale, &count) != 0)
		return false;
	*value = count * unit->scale;
	return true;
}

/* "a duration from 100ms to 10m", and ", or 0" where that is taken too. */
static int
out_of_range(const struct yaml_node *node, const struct yaml_range *range,
    const struct unit *units, const char *noun, const char *why)
{
	char min[AMOUNT_SIZE], max[AMOUNT_SIZE], what[WHAT_SIZE];

	snprintf(what, sizeof(what), "%s from %s to %s%s", noun,
	    show_amount(range->min, units, min),
	    show_amount(range->max, units, max), range->zero ? ", or 0" : "");
	return yaml_node_expected(node, what, why);
}

static bool
in_range(const struct yaml_range *range, uint64_t value)
{
	if (value == 0 && range->zero)
		return true;
	return value >= range->min && value <= range->max;
}

int
yaml_value_string(const struct yaml_node *node, const char *what,
    const char **text)
{
	const char *s = yaml_node_text(node);

	if (s == NULL)
		return yaml_node_expected(node, what, NULL);
	*text = s;
	return 0;
}

int
yaml_value_integer(const struct yaml_node *node, const struct yaml_range *range,
    uint64_t *value)
{
	const char *text = yaml_node_text(node);
	uint64_t read;

	if (text == NULL || !read_amount(text, numbers, &read) ||
	    !in_range(range, read))
		return out_of_range(node, range, numbers, "an integer", NULL);
	*value = read;
	return 0;
}

int
yaml_value_duration(const struct yaml_node *node,
    const struct yaml_range *range, uint64_t *ms)
{
	const char *text = yaml_node_text(node);
	const char *why = NULL;
	uint64_t read;

	if (text == NULL)
		goto bad;
	/* Without a unit: only 0 is the same in all of them. */
	if (read_amount(text, numbers, &read)) {
		if (read != 0) {
			why = "add a unit: ms, s, m or h";
			goto bad;
		}
	} else if (!read_amount(text, durations, &read)) {
		goto bad;
	}
	if (!in_range(range, read))
		goto bad;
	*ms = read;
	return 0;

bad:
	return out_of_range(node, range, durations, "a duration", why);
}

int
yaml_value_size(const struct yaml_node *node, const struct yaml_range *range,
    uint64_t *bytes)
{
	const char *text = yaml_node_text(node);
	uint64_t read;

	if (text == NULL || !read_amount(text, sizes, &read) ||
	    !in_range(range, read))
		return out_of_range(node, range, sizes, "a size", NULL);
	*bytes = read;
	return 0;
}

int
yaml_value_choice(const struct yaml_node *node, const char *const *words,
    const char *what, uint64_t *chosen)
{
	const char *text = yaml_node_text(node);
	uint64_t i;

	if (text == NULL)
		return yaml_node_expected(node, what, NULL);
	for (i = 0; words[i] != NULL; i++) {
		if (strcmp(words[i], text) == 0) {
			*chosen = i;
			return 0;
		}
	}
	return yaml_node_expected(node, what, NULL);
}

int
yaml_value_list(const struct yaml_node *node, const char *what)
{
	if (!yaml_node_is_list(node) || yaml_node_count(node) == 0)
		return yaml_node_expected(node, what, NULL);
	return 0;
}
