/*
 * The schema of the configuration file; config.c alone uses it.
 */
#ifndef BASE_CONFIG_SCHEMA_H
#define BASE_CONFIG_SCHEMA_H

#include "base/config.h"
#include "base/yaml.h"

/*
 * Read the whole file into config, which must be zeroed.  0, or -1 with the
 * tree's error set; config may then be filled in part, and config_free() frees
 * it all the same.
 */
int
config_schema_read(const struct yaml_node *root, enum config_role role,
    struct config *config);

#endif
