/*
 * The names and the listeners of the file so far, to refuse the second of
 * two that are the same.
 */
#ifndef BASE_CONFIG_ONCE_H
#define BASE_CONFIG_ONCE_H

#include "base/hostport.h"
#include "base/yaml.h"

/* Zeroed: empty. */
struct config_once {
	void *names, *binds;		/* tsearch() trees of struct place */
};

/*
 * Keep what node says, which is borrowed until config_once_free().  0, or -1
 * with the error set when it was there already, or memory ran out.
 */
int
config_once_name(struct config_once *, const struct yaml_node *node,
    const char *name);
int
config_once_bind(struct config_once *, const struct yaml_node *node,
    const struct hostport *bind);

void
config_once_free(struct config_once *);

#endif
