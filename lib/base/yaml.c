/*
 * libyaml's events become the tree in one loop, without recursion: the state
 * is the container that is open and the key that waits for its value.
 */
#include "base/yaml.h"

#include <yaml.h>

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/yaml_internal.h"

/* What the events so far have opened. */
struct builder {
	struct yaml_tree *tree;
	struct yaml_node *open;
	struct yaml_node *key; /* in open, without a value so far */
	unsigned depth;
	bool ended; /* a document is over */
};

/*
 * A node below b->open, of which the parent does not know yet.  NULL, with
 * the error set, when memory ran out.
 */
static struct yaml_node *
node_new(struct builder *b, enum yaml_kind kind, const yaml_mark_t *mark,
    const char *text, size_t len)
{
	struct yaml_node *node = calloc(1, sizeof(*node) + len + 1);

	if (node == NULL) {
		yaml_tree_error(b->tree, ": out of memory");
		return NULL;
	}
	node->tree = b->tree;
	node->allocated = b->tree->allocated;
	b->tree->allocated = node;
	node->kind = kind;
	/* YAML_SIZE_MAX bounds both. */
	node->line = (int)mark->line + 1;
	node->column = (int)mark->column + 1;
	memcpy(node->text, text, len);
	node->parent = b->open;
	if (b->open != NULL)
		node->index = b->open->count;
	if (b->open != NULL && b->open->kind == YAML_MAP && b->key == NULL)
		node->kind = YAML_KEY;
	else
		node->key = b->key;
	return node;
}

/* A key waits for its value; the values hold the list together. */
static int
add_key(struct builder *b, struct yaml_node *node)
{
	const struct yaml_node *other;

	for (other = b->open->first; other != NULL; other = other->next)
		if (strcmp(other->key->text, node->text) == 0)
			return yaml_node_error(node,
			    "duplicate key, first at line %d",
			    other->key->line);
	/* Also keeps the search above from taking quadratic time. */
	if (b->open->count == YAML_KEYS_MAX)
		return yaml_node_error(node, "over %d keys in one mapping",
		    YAML_KEYS_MAX);
	b->key = node;
	return 0;
}

static int
add_node(struct builder *b, struct yaml_node *node)
{
	struct yaml_node *parent = b->open;

	if (node->kind == YAML_KEY)
		return add_key(b, node);
	b->key = NULL;
	if (parent == NULL) {
		b->tree->root = node;
	} else {
		if (parent->last == NULL)
			parent->first = node;
		else
			parent->last->next = node;
		parent->last = node;
		parent->count++;
	}
	if (node->kind == YAML_SCALAR)
		return 0;
	if (++b->depth > YAML_DEPTH_MAX)
		return yaml_node_error(node, "nested over %d deep",
		    YAML_DEPTH_MAX);
	b->open = node;
	return 0;
}

/* What the three kinds of event that make a node have in common. */
struct feature {
	enum yaml_kind kind;
	const yaml_char_t *anchor, *tag;
	const char *default_tag;
	const char *text;
	size_t len;
};

static int
take_node(struct builder *b, const yaml_event_t *e, const struct feature *f)
{
	struct yaml_node *node;

	node = node_new(b, f->kind, &e->start_mark, f->text, f->len);
	if (node == NULL)
		return -1;
	if (f->anchor != NULL)
		return yaml_node_error(node, "anchors are not supported");
	if (f->tag != NULL && strcmp((const char *)f->tag, f->default_tag) != 0)
		return yaml_node_error(node, "tags are not supported");
	if (node->kind == YAML_KEY && f->kind != YAML_SCALAR)
		return yaml_node_error(node,
		    "expected a scalar as key, got a %s",
		    f->kind == YAML_LIST ? "list" : "mapping");
	/* "\0" in double quotes makes one. */
	if (strlen(node->text) != f->len)
		return yaml_node_error(node, "NUL is not supported");
	if (f->kind == YAML_SCALAR)
		node->plain = f->tag == NULL &&
		    e->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
	return add_node(b, node);
}

static int
take_scalar(struct builder *b, const yaml_event_t *e)
{
	struct feature f = {
	    .kind = YAML_SCALAR,
	    .anchor = e->data.scalar.anchor,
	    .tag = e->data.scalar.tag,
	    .default_tag = YAML_DEFAULT_SCALAR_TAG,
	    .text = (const char *)e->data.scalar.value,
	    .len = e->data.scalar.length,
	};

	return take_node(b, e, &f);
}

static int
take_start(struct builder *b, const yaml_event_t *e)
{
	/* YAML's sign for such a key, to be shown where one is refused. */
	struct feature f = {.text = "?", .len = 1};

	if (e->type == YAML_SEQUENCE_START_EVENT) {
		f.kind = YAML_LIST;
		f.anchor = e->data.sequence_start.anchor;
		f.tag = e->data.sequence_start.tag;
		f.default_tag = YAML_DEFAULT_SEQUENCE_TAG;
	} else {
		f.kind = YAML_MAP;
		f.anchor = e->data.mapping_start.anchor;
		f.tag = e->data.mapping_start.tag;
		f.default_tag = YAML_DEFAULT_MAPPING_TAG;
	}
	return take_node(b, e, &f);
}

static int
take_event(struct builder *b, const yaml_event_t *e)
{
	struct yaml_node *node;

	switch (e->type) {
	case YAML_SCALAR_EVENT:
		return take_scalar(b, e);
	case YAML_SEQUENCE_START_EVENT:
	case YAML_MAPPING_START_EVENT:
		return take_start(b, e);
	case YAML_SEQUENCE_END_EVENT:
	case YAML_MAPPING_END_EVENT:
		/* libyaml ends only what it began. */
		b->open = b->open->parent; /* NOLINT(*NullDereference) */
		b->depth--;
		return 0;
	case YAML_ALIAS_EVENT:
		node = node_new(b, YAML_SCALAR, &e->start_mark, "*", 1);
		return node == NULL ?
		    -1 :
		    yaml_node_error(node, "aliases are not supported");
	case YAML_DOCUMENT_START_EVENT:
		return !b->ended ?
		    0 :
		    yaml_tree_error(b->tree, ":%zu:%zu: more than one document",
			e->start_mark.line + 1, e->start_mark.column + 1);
	case YAML_DOCUMENT_END_EVENT:
		b->ended = true;
		return 0;
	default:
		return 0;
	}
}

/*
 * The reader, which checks the encoding before anything else looks at the
 * bytes, says where by an offset; it becomes a line and a column here.
 */
static int
reader_error(struct yaml_tree *tree, const yaml_parser_t *parser,
    const char *text)
{
	size_t i, line = 1, column = 1;

	for (i = 0; i < parser->problem_offset; i++) {
		if (text[i] == '\n') {
			line++;
			column = 1;
		} else if (((unsigned char)text[i] & 0xc0) != 0x80) {
			column++;
		}
	}
	return yaml_tree_error(tree, ":%zu:%zu: not valid YAML: %s", line,
	    column, parser->problem);
}

static int
syntax_error(struct yaml_tree *tree, const yaml_parser_t *parser,
    const char *text)
{
	const yaml_mark_t *mark = &parser->problem_mark;
	const char *context = parser->context;

	/* While it reads a tag, libyaml 0.2.5 fails without a word. */
	if (parser->error == YAML_MEMORY_ERROR || parser->problem == NULL)
		return yaml_tree_error(tree, ": out of memory");
	if (parser->error == YAML_READER_ERROR)
		return reader_error(tree, parser, text);
	return yaml_tree_error(tree, ":%zu:%zu: not valid YAML: %s%s%s",
	    mark->line + 1, mark->column + 1, parser->problem,
	    context != NULL ? " " : "", context != NULL ? context : "");
}

/* Every event of the text. */
static int
build(struct builder *b, yaml_parser_t *parser, const char *text)
{
	yaml_event_type_t type;
	yaml_event_t event;
	int rc;

	do {
		if (!yaml_parser_parse(parser, &event))
			return syntax_error(b->tree, parser, text);
		type = event.type;
		rc = take_event(b, &event);
		yaml_event_delete(&event);
		if (rc != 0)
			return -1;
	} while (type != YAML_STREAM_END_EVENT);
	return 0;
}

static int
parse(struct yaml_tree *tree, const char *text, size_t len)
{
	static const yaml_mark_t start;
	struct builder b = {.tree = tree};
	yaml_parser_t parser;
	int rc;

	if (!yaml_parser_initialize(&parser))
		return yaml_tree_error(tree, ": out of memory");
	/* A mark at the start would count as a column, and indent. */
	if (len >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0) {
		text += 3;
		len -= 3;
	}
	/* Set, so that UTF-16 is not guessed. */
	yaml_parser_set_encoding(&parser, YAML_UTF8_ENCODING);
	yaml_parser_set_input_string(&parser, (const unsigned char *)text, len);
	rc = build(&b, &parser, text);
	yaml_parser_delete(&parser);
	if (rc == 0 && tree->root == NULL) {
		tree->root = node_new(&b, YAML_MAP, &start, "", 0);
		if (tree->root == NULL)
			rc = -1;
	}
	return rc;
}

struct yaml_tree *
yaml_tree_parse(const char *text, size_t len, const char *name, char *error,
    size_t size)
{
	struct yaml_tree local = {
	    .name = name,
	    .error = error,
	    .size = size,
	};
	struct yaml_tree *tree;

	if (len > YAML_SIZE_MAX) {
		yaml_tree_error(&local, ": over %d bytes", YAML_SIZE_MAX);
		goto err0;
	}
	tree = malloc(sizeof(*tree));
	if (tree == NULL) {
		yaml_tree_error(&local, ": out of memory");
		goto err0;
	}
	*tree = local;
	if (parse(tree, text, len) != 0)
		goto err1;
	return tree;

err1:
	yaml_tree_free(tree);
err0:
	return NULL;
}

/* Up to size bytes; how many, or -1 with errno. */
static ssize_t
read_upto(int fd, char *buf, size_t size)
{
	size_t used = 0;
	ssize_t n;

	do {
		n = read(fd, buf + used, size - used);
		if (n > 0)
			used += (size_t)n;
	} while ((n > 0 && used < size) || (n < 0 && errno == EINTR));
	return n < 0 ? -1 : (ssize_t)used;
}

/* The bytes of a file, to be freed; NULL with errno. */
static char *
read_file(const char *path, size_t *len)
{
	/* One byte more than is taken tells that a file is too long. */
	const size_t size = YAML_SIZE_MAX + 1;
	char *text;
	ssize_t n;
	int fd, saved;

	text = malloc(size);
	if (text == NULL)
		goto err0;
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	if (fd < 0)
		goto err1;
	n = read_upto(fd, text, size);
	if (n < 0)
		goto err2;
	close(fd);
	*len = (size_t)n;
	return text;

err2:
	saved = errno;
	close(fd);
	errno = saved;
err1:
	saved = errno;
	free(text);
	errno = saved;
err0:
	return NULL;
}

struct yaml_tree *
yaml_tree_load(const char *path, char *error, size_t size)
{
	struct yaml_tree local = {
	    .name = path,
	    .error = error,
	    .size = size,
	};
	struct yaml_tree *tree;
	size_t len;
	char *text;

	text = read_file(path, &len);
	if (text == NULL) {
		yaml_tree_error(&local, ": %m");
		return NULL;
	}
	tree = yaml_tree_parse(text, len, path, error, size);
	free(text);
	return tree;
}

void
yaml_tree_free(struct yaml_tree *tree)
{
	struct yaml_node *node;

	if (tree == NULL)
		return;
	while ((node = tree->allocated) != NULL) {
		tree->allocated = node->allocated;
		free(node);
	}
	free(tree);
}
