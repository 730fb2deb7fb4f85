/*
 * Reading the tree, and the errors that say where in it something is wrong.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/yaml.h"
#include "base/yaml_internal.h"

#define SHOWN_MAX 64 /* bytes of a value or a key in an error */
/* Each byte may become \xNN; then quotes, dots and the end. */
#define SHOWN_SIZE (SHOWN_MAX * 4 + sizeof("\"\"..."))
#define PATH_SIZE 512

/* The parser has let only valid UTF-8 through, so the first byte tells. */
static size_t
character_size(const char *s)
{
	unsigned char first = (unsigned char)*s;

	if (first < 0x80)
		return 1;
	return first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
}

/* U+0080 to U+009F count as controls: a terminal may obey them. */
static bool
is_control(const char *s)
{
	const unsigned char *u = (const unsigned char *)s;

	return u[0] < 0x20 || u[0] == 0x7f || (u[0] == 0xc2 && u[1] < 0xa0);
}

/* Quoted, escaped and cut, so that an error stays one line of sane length. */
static const char *
quote(const char *text, char buf[static SHOWN_SIZE])
{
	const char *s, *next;
	char *out = buf;

	*out++ = '"';
	for (s = text; *s != '\0'; s = next) {
		next = s + character_size(s);
		if (next - text > SHOWN_MAX)
			break;
		if (*s == '"' || *s == '\\')
			*out++ = '\\';
		if (!is_control(s)) {
			memcpy(out, s, (size_t)(next - s));
			out += next - s;
			continue;
		}
		for (; s < next; s++)
			out += snprintf(out, sizeof("\\xNN"), "\\x%02x",
			    (unsigned char)*s);
	}
	snprintf(out, sizeof("\"..."), "\"%s", *s == '\0' ? "" : "...");
	return buf;
}

/* A key goes without quotes if it looks like one of ours. */
static const char *
show_key(const char *text, char buf[static SHOWN_SIZE])
{
	size_t len = strspn(text,
	    "abcdefghijklmnopqrstuvwxyz"
	    "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-");

	if (len == 0 || len > SHOWN_MAX || text[len] != '\0')
		return quote(text, buf);
	return text;
}

/*
 * "proxy[0].port_list[1].type"; "" for the root.  A path that does not fit
 * is cut: no key of the schema is that long.
 */
static void
node_path(const struct yaml_node *node, char buf[static PATH_SIZE])
{
	const struct yaml_node *chain[YAML_DEPTH_MAX + 2];
	char shown[SHOWN_SIZE];
	const char *key;
	size_t used = 0, n = 0;

	for (; node->parent != NULL; node = node->parent)
		chain[n++] = node;
	buf[0] = '\0';
	while (n > 0 && used < PATH_SIZE) {
		node = chain[--n];
		key = node->kind == YAML_KEY ? node->text :
		    node->key != NULL        ? node->key->text :
					       NULL;
		if (key != NULL)
			used += (size_t)snprintf(buf + used, PATH_SIZE - used,
			    "%s%s", used > 0 ? "." : "", show_key(key, shown));
		else
			used += (size_t)snprintf(buf + used, PATH_SIZE - used,
			    "[%zu]", node->index);
	}
}

int
yaml_tree_error(struct yaml_tree *tree, const char *format, ...)
{
	va_list args;
	int n;

	n = snprintf(tree->error, tree->size, "%s", tree->name);
	if (n >= 0 && (size_t)n < tree->size) {
		va_start(args, format);
		vsnprintf(tree->error + n, tree->size - (size_t)n, format,
		    args);
		va_end(args);
	}
	return -1;
}

int
yaml_node_error(const struct yaml_node *node, const char *format, ...)
{
	char path[PATH_SIZE], message[1024];
	va_list args;

	va_start(args, format);
	vsnprintf(message, sizeof(message), format, args);
	va_end(args);
	node_path(node, path);
	return yaml_tree_error(node->tree, ":%d:%d: %s%s%s", node->line,
	    node->column, path, path[0] != '\0' ? ": " : "", message);
}

int
yaml_node_expected(const struct yaml_node *node, const char *what,
    const char *why)
{
	char buf[SHOWN_SIZE];
	const char *got;

	if (node->kind == YAML_LIST)
		got = node->count > 0 ? "a list" : "an empty list";
	else if (node->kind == YAML_MAP)
		got = "a mapping";
	else if (yaml_node_text(node) == NULL)
		got = "nothing";
	else
		got = quote(node->text, buf);
	return yaml_node_error(node, "expected %s, got %s%s%s%s", what, got,
	    why != NULL ? " (" : "", why != NULL ? why : "",
	    why != NULL ? ")" : "");
}

int
yaml_node_missing(const struct yaml_node *map, const char *key,
    const char *what)
{
	char path[PATH_SIZE];

	node_path(map, path);
	return yaml_tree_error(map->tree,
	    ":%d:%d: %s%s%s: missing; expected %s", map->line, map->column,
	    path, path[0] != '\0' ? "." : "", key, what);
}

int
yaml_node_nomem(const struct yaml_node *node)
{
	return yaml_tree_error(node->tree, ": out of memory");
}

const struct yaml_node *
yaml_tree_root(const struct yaml_tree *tree)
{
	return tree->root;
}

int
yaml_node_line(const struct yaml_node *node)
{
	return node->line;
}

bool
yaml_node_is_list(const struct yaml_node *node)
{
	return node->kind == YAML_LIST;
}

bool
yaml_node_is_map(const struct yaml_node *node)
{
	return node->kind == YAML_MAP;
}

const char *
yaml_node_text(const struct yaml_node *node)
{
	static const char *const nothing[] = {
	    "", "~", "null", "Null", "NULL", /* YAML 1.2, 10.3.2 */
	};
	size_t i;

	if (node->kind == YAML_KEY)
		return node->text;
	if (node->kind != YAML_SCALAR)
		return NULL;
	if (!node->plain)
		return node->text;
	for (i = 0; i < sizeof(nothing) / sizeof(nothing[0]); i++)
		if (strcmp(node->text, nothing[i]) == 0)
			return NULL;
	return node->text;
}

size_t
yaml_node_count(const struct yaml_node *node)
{
	return node->count;
}

const struct yaml_node *
yaml_node_first(const struct yaml_node *node)
{
	return node->first;
}

const struct yaml_node *
yaml_node_next(const struct yaml_node *node)
{
	return node->next;
}

const struct yaml_node *
yaml_node_key(const struct yaml_node *node)
{
	return node->key;
}
