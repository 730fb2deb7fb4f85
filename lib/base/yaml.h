/*
 * A YAML file as a tree of nodes that know where they stand, a thin layer
 * over libyaml: yaml.c builds it, yaml_node.c walks it and words the errors,
 * yaml_value.c reads typed values.  Every failure is one line of text in the
 * buffer that the caller gave at the start, so that a reader of the tree only
 * passes -1 on.
 *
 * It takes less than YAML has: one document, of at most YAML_SIZE_MAX bytes
 * of UTF-8, nested at most YAML_DEPTH_MAX deep, without anchors, aliases and
 * tags (but for the three that are the default), and with mappings of at most
 * YAML_KEYS_MAX scalar keys that differ.  NUL is refused everywhere.
 *
 * Our names start with yaml_tree_, yaml_node_ and yaml_value_, for libyaml
 * itself calls its yaml_free() and the like by name: a function of that name
 * in the program would take their place.
 */
#ifndef BASE_YAML_H
#define BASE_YAML_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define YAML_SIZE_MAX	(1 << 20)
#define YAML_DEPTH_MAX	16
#define YAML_KEYS_MAX	256

struct yaml_tree;
struct yaml_node;	/* belongs to its tree, lives as long */

/*
 * Read a file, or the bytes text[0..len), which errors call name.  NULL on
 * failure, with error[0..size) set to one line "NAME:LINE:COLUMN: KEY: why"
 * or "NAME: why", cut to fit.  The tree borrows path or name, and error, where
 * the calls below write too; text is copied.  Free with yaml_tree_free().
 * Any thread; a tree is for one thread at a time.
 */
struct yaml_tree *
yaml_tree_load(const char *path, char *error, size_t size);
struct yaml_tree *
yaml_tree_parse(const char *text, size_t len, const char *name, char *error,
    size_t size);

/* yaml_tree_free(NULL) does nothing. */
void
yaml_tree_free(struct yaml_tree *);

/* Never NULL: a file without a document is an empty mapping at line 1. */
const struct yaml_node *
yaml_tree_root(const struct yaml_tree *);

/* The line of the node's first character, from 1. */
int
yaml_node_line(const struct yaml_node *);

bool
yaml_node_is_list(const struct yaml_node *);
bool
yaml_node_is_map(const struct yaml_node *);

/*
 * A scalar's text, without NUL, valid UTF-8.  NULL for lists, mappings and
 * the unquoted scalars that stand for nothing: "", ~ and null.
 */
const char *
yaml_node_text(const struct yaml_node *);

/*
 * The entries of a list or the values of a mapping, in the file's order.
 * yaml_node_first() is NULL for a scalar.
 */
size_t
yaml_node_count(const struct yaml_node *);
const struct yaml_node *
yaml_node_first(const struct yaml_node *);
const struct yaml_node *
yaml_node_next(const struct yaml_node *);

/*
 * The key of a mapping's value, a node of its own: its text is the key, and
 * an error at it points to the key.  NULL for a list's entry and the root.
 */
const struct yaml_node *
yaml_node_key(const struct yaml_node *);

/*
 * Set the error to "NAME:LINE:COLUMN: KEY: ..." with the node's place and
 * path.  All four return -1, to be passed on.
 */
int
yaml_node_error(const struct yaml_node *, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* "expected WHAT, got GOT", and " (why)" unless why is NULL. */
int
yaml_node_expected(const struct yaml_node *, const char *what,
    const char *why);

/* "missing; expected WHAT" for a key that is not in the mapping map. */
int
yaml_node_missing(const struct yaml_node *map, const char *key,
    const char *what);

/* "NAME: out of memory". */
int
yaml_node_nomem(const struct yaml_node *);

/*
 * Typed reading of one node.  0, or -1 with the error set and the result
 * unchanged.
 */

/* Inclusive.  zero: 0 is taken too, although it is below min. */
struct yaml_range {
	uint64_t min, max;
	bool zero;
};

/* Borrows the text from the tree; what is for the error. */
int
yaml_value_string(const struct yaml_node *, const char *what,
    const char **text);

int
yaml_value_integer(const struct yaml_node *, const struct yaml_range *,
    uint64_t *value);

/* An integer with ms, s, m or h, as milliseconds.  Only 0 needs no unit. */
int
yaml_value_duration(const struct yaml_node *, const struct yaml_range *,
    uint64_t *ms);

/* An integer with KiB, MiB or GiB, or of bytes. */
int
yaml_value_size(const struct yaml_node *, const struct yaml_range *,
    uint64_t *bytes);

/* One of words, which ends with NULL; *chosen is its index. */
int
yaml_value_choice(const struct yaml_node *, const char *const *words,
    const char *what, uint64_t *chosen);

/* A list with at least one entry. */
int
yaml_value_list(const struct yaml_node *, const char *what);

#endif
