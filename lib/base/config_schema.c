/*
 * Three tables of keys, one for each kind of mapping, each below the functions
 * that read what is particular to it.
 */
#include "base/config_schema.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/config_map.h"
#include "base/config_once.h"
#include "base/decimal.h"

#define REMOTE_NAME_MAX 255 /* PROTOCOL.md, "Name" */
/* So that PATH_MAX has room for the names of the files in it. */
#define DIRECTORY_MAX 3999

#define SERVER (1u << CONFIG_SERVER)
#define CLIENT (1u << CONFIG_CLIENT)
#define BOTH (SERVER | CLIENT)

#define SECOND UINT64_C(1000) /* in ms */
#define MINUTE (60 * SECOND)
#define HOUR (60 * MINUTE)
#define KIB UINT64_C(1024)
#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* The field of a number or a choice. */
#define NUMBER(type, member) \
	.offset = offsetof(struct type, member), \
	.width = sizeof(((struct type *)NULL)->member)

#define WHAT_ADDRESS "host:port"
#define WHAT_NAME "a name of 1 to 255 bytes without control characters"

static const char *const type_words[] = {
    [CONFIG_TCP] = "tcp",
    [CONFIG_HTTP] = "http",
    NULL,
};

static const char *const class_words[] = {
    [CONFIG_AUTO] = "auto",
    [CONFIG_INTERACTIVE] = "interactive",
    [CONFIG_BULK] = "bulk",
    NULL,
};

static const char *const dialect_words[] = {
    [CONFIG_EXTENDED] = "extended",
    [CONFIG_CLASSIC] = "classic",
    NULL,
};

static const char *const log_words[] = {
    [CONFIG_ERROR] = "error",
    [CONFIG_WARN] = "warn",
    [CONFIG_INFO] = "info",
    [CONFIG_DEBUG] = "debug",
    NULL,
};

/* What the functions of the tables get as context. */
struct reader {
	enum config_role role;
	struct config_once once;
};

/* Zeroed, one for each entry of a list; NULL, error set, when it is empty. */
static void *
read_list(const struct yaml_node *node, const char *what, size_t size)
{
	void *list;

	if (yaml_value_list(node, what) != 0)
		return NULL;
	list = calloc(yaml_node_count(node), size);
	if (list == NULL)
		yaml_node_nomem(node);
	return list;
}

/* UTF-8 is valid here, so that two bytes tell a C1 control. */
static bool
has_control(const char *text)
{
	const unsigned char *s = (const unsigned char *)text;

	for (; *s != '\0'; s++)
		if (*s < 0x20 || *s == 0x7f || (s[0] == 0xc2 && s[1] < 0xa0))
			return true;
	return false;
}

/* For the table: field is a char *. */
static int
read_name(void *context, const struct yaml_node *node,
    const struct config_key *key, void *field)
{
	char **name = field;
	const char *text;

	(void)context;
	if (yaml_value_string(node, key->what, &text) != 0)
		return -1;
	if (text[0] == '\0' || strlen(text) > REMOTE_NAME_MAX ||
	    has_control(text))
		return yaml_node_expected(node, key->what, NULL);
	*name = strdup(text);
	return *name != NULL ? 0 : yaml_node_nomem(node);
}

static int
read_remote_name(void *context, const struct yaml_node *node,
    const struct config_key *key, void *field)
{
	struct reader *r = context;
	char **name = field;

	if (read_name(context, node, key, field) != 0)
		return -1;
	return config_once_name(&r->once, node, *name);
}

/* For the table: field is a char *. */
static int
read_directory(void *context, const struct yaml_node *node,
    const struct config_key *key, void *field)
{
	char **path = field;
	const char *text;

	(void)context;
	if (yaml_value_string(node, key->what, &text) != 0)
		return -1;
	if (text[0] != '/' || has_control(text))
		return yaml_node_expected(node, key->what, NULL);
	if (strlen(text) > DIRECTORY_MAX)
		return yaml_node_expected(node, key->what,
		    "at most 3999 bytes");
	*path = strdup(text);
	return *path != NULL ? 0 : yaml_node_nomem(node);
}

static int
read_address(const struct yaml_node *node, const char *what,
    struct hostport *address)
{
	const char *text, *colon, *why = NULL;

	if (yaml_value_string(node, what, &text) != 0)
		return -1;
	if (hostport_parse(text, address) == 0)
		return 0;
	colon = strchr(text, ':');
	if (text[0] != '[' && colon != NULL && strchr(colon + 1, ':') != NULL)
		why = "IPv6 needs brackets";
	return yaml_node_expected(node, what, why);
}

/* For the table: field is a struct hostport. */
static int
read_bind(void *context, const struct yaml_node *node,
    const struct config_key *key, void *field)
{
	struct reader *r = context;
	struct hostport *bind = field;

	if (read_address(node, key->what, bind) != 0)
		return -1;
	if (bind->port == 0)
		return 0;
	return config_once_bind(&r->once, node, bind);
}

/* For the table: field is a struct hostport. */
static int
read_target(void *context, const struct yaml_node *node,
    const struct config_key *key, void *field)
{
	struct hostport *target = field;
	const char *text;
	uint64_t port;

	(void)context;
	if (yaml_value_string(node, key->what, &text) != 0)
		return -1;
	if (decimal_parse(text, strlen(text), UINT16_MAX, &port) == 0)
		target->port = (uint16_t)port; /* host stays "" */
	else if (read_address(node, key->what, target) != 0)
		return -1;
	if (target->port == 0)
		return yaml_node_expected(node, key->what, NULL);
	return 0;
}

static const struct config_key listener_keys[] = {
    {.name = "type",
	.read = config_map_choice,
	NUMBER(config_listener, type),
	.required = BOTH,
	.what = "tcp or http",
	.words = type_words},
    {.name = "bind",
	.read = read_bind,
	.offset = offsetof(struct config_listener, bind),
	.required = BOTH,
	.what = WHAT_ADDRESS},
    {.name = "remote",
	.read = read_target,
	.offset = offsetof(struct config_listener, target),
	.required = BOTH,
	.what = "a port from 1 to 65535 or host:port"},
    {.name = "class",
	.read = config_map_choice,
	NUMBER(config_listener, class),
	.preset = CONFIG_AUTO,
	.what = "auto, interactive or bulk",
	.words = class_words},
    {.name = "weight",
	.read = config_map_integer,
	NUMBER(config_listener, weight),
	.preset = 10,
	.range = {1, 100, false}},
};
static const struct config_keys listener_table = {
    listener_keys,
    COUNT(listener_keys),
};

/* For the table: field is the struct config_remote. */
static int
read_port_list(void *context, const struct yaml_node *node,
    const struct config_key *key, void *field)
{
	struct reader *r = context;
	struct config_remote *remote = field;
	struct config_listener *listener;
	const struct yaml_node *entry;

	listener = read_list(node, key->what, sizeof(*listener));
	if (listener == NULL)
		return -1;
	remote->listeners = listener;
	remote->nlisteners = yaml_node_count(node);
	for (entry = yaml_node_first(node); entry != NULL;
	     entry = yaml_node_next(entry), listener++) {
		listener->line = yaml_node_line(entry);
		if (config_map_read(entry, &listener_table, r->role, r,
			listener) != 0)
			return -1;
	}
	return 0;
}

static const struct config_key remote_keys[] = {
    {.name = "remote_name",
	.read = read_remote_name,
	.offset = offsetof(struct config_remote, name),
	.required = BOTH,
	.what = WHAT_NAME},
    {.name = "port_list",
	.read = read_port_list,
	.required = BOTH,
	.what = "a list of listeners"},
};
static const struct config_keys remote_table = {
    remote_keys,
    COUNT(remote_keys),
};

/* For the table: field is the struct config, here and below. */
static int
read_proxy(void *context, const struct yaml_node *node,
    const struct config_key *key, void *field)
{
	struct reader *r = context;
	struct config *config = field;
	struct config_remote *remote;
	const struct yaml_node *entry;

	remote = read_list(node, key->what, sizeof(*remote));
	if (remote == NULL)
		return -1;
	config->remotes = remote;
	config->nremotes = yaml_node_count(node);
	for (entry = yaml_node_first(node); entry != NULL;
	     entry = yaml_node_next(entry), remote++) {
		remote->line = yaml_node_line(entry);
		if (config_map_read(entry, &remote_table, r->role, r, remote) !=
		    0)
			return -1;
	}
	return 0;
}

static int
read_server(const struct yaml_node *node, struct hostport *server)
{
	if (read_address(node, WHAT_ADDRESS, server) != 0)
		return -1;
	if (server->host[0] == '\0')
		return yaml_node_expected(node, WHAT_ADDRESS,
		    "the host must be there");
	if (server->port == 0)
		return yaml_node_expected(node, WHAT_ADDRESS,
		    "the port must be 1 to 65535");
	return 0;
}

/* A list of addresses, or the one without a list. */
static int
read_servers(void *context, const struct yaml_node *node,
    const struct config_key *key, void *field)
{
	struct config *config = field;
	const struct yaml_node *entry;
	struct hostport *server;

	(void)context;
	if (yaml_node_is_list(node)) {
		server = read_list(node, key->what, sizeof(*server));
		if (server == NULL)
			return -1;
		config->servers = server;
		config->nservers = yaml_node_count(node);
		for (entry = yaml_node_first(node); entry != NULL;
		     entry = yaml_node_next(entry))
			if (read_server(entry, server++) != 0)
				return -1;
		return 0;
	}
	server = calloc(1, sizeof(*server));
	if (server == NULL)
		return yaml_node_nomem(node);
	config->servers = server;
	config->nservers = 1;
	return read_server(node, server);
}

static int
read_targets(void *context, const struct yaml_node *node,
    const struct config_key *key, void *field)
{
	static const char what[] = "ADDRESS[/PREFIX][:PORTS]";
	struct config *config = field;
	const struct yaml_node *entry;
	const char *text, *why;
	struct cidr *target;

	(void)context;
	target = read_list(node, key->what, sizeof(*target));
	if (target == NULL)
		return -1;
	config->allow_targets = target;
	config->nallow_targets = yaml_node_count(node);
	for (entry = yaml_node_first(node); entry != NULL;
	     entry = yaml_node_next(entry), target++) {
		if (yaml_value_string(entry, what, &text) != 0)
			return -1;
		if (cidr_parse(text, target, &why) != 0)
			return yaml_node_expected(entry, what, why);
	}
	return 0;
}

static const struct config_key top_keys[] = {
    /* proxy-server */
    {.name = "bind",
	.read = read_bind,
	.offset = offsetof(struct config, bind),
	.required = SERVER,
	.what = WHAT_ADDRESS},
    {.name = "proxy",
	.read = read_proxy,
	.required = SERVER,
	.what = "a list of remotes"},
    {.name = "wait_for_remote",
	.read = config_map_duration,
	NUMBER(config, wait_for_remote),
	.preset = 3 * SECOND,
	.range = {0, 10 * MINUTE, false}},
    {.name = "max_waiting",
	.read = config_map_integer,
	NUMBER(config, max_waiting),
	.preset = 1000,
	.range = {0, 1000000, false}},
    {.name = "handshake_timeout",
	.read = config_map_duration,
	NUMBER(config, handshake_timeout),
	.preset = 5 * SECOND,
	.range = {SECOND / 10, 10 * MINUTE, false}},
    {.name = "state_dir",
	.read = read_directory,
	.offset = offsetof(struct config, state_dir),
	.what = "an absolute path without control characters"},

    /* remote-client */
    {.name = "name",
	.read = read_name,
	.offset = offsetof(struct config, name),
	.required = CLIENT,
	.what = WHAT_NAME},
    {.name = "server",
	.read = read_servers,
	.required = CLIENT,
	.what = WHAT_ADDRESS},
    {.name = "dialect",
	.read = config_map_choice,
	NUMBER(config, dialect),
	.preset = CONFIG_EXTENDED,
	.what = "extended or classic",
	.words = dialect_words},
    {.name = "tunnels",
	.read = config_map_integer,
	NUMBER(config, tunnels),
	.preset = 0,
	.range = {1, 64, true}},
    {.name = "allow_targets",
	.read = read_targets,
	.what = "a list of networks"},
    {.name = "connect_timeout",
	.read = config_map_duration,
	NUMBER(config, connect_timeout),
	.preset = 5 * SECOND,
	.range = {SECOND / 10, 10 * MINUTE, false}},

    /* Both daemons. */
    {.name = "workers",
	.read = config_map_integer,
	NUMBER(config, workers),
	.preset = 0,
	.range = {1, 256, true}},
    {.name = "log_level",
	.read = config_map_choice,
	NUMBER(config, log_level),
	.preset = CONFIG_INFO,
	.what = "error, warn, info or debug",
	.words = log_words},
    {.name = "heartbeat_interval",
	.read = config_map_duration,
	NUMBER(config, heartbeat_interval),
	.preset = 5 * SECOND,
	.range = {SECOND / 10, 10 * MINUTE, false}},
    {.name = "heartbeat_misses",
	.read = config_map_integer,
	NUMBER(config, heartbeat_misses),
	.preset = 3,
	.range = {2, 100, false}},
    {.name = "resume_timeout",
	.read = config_map_duration,
	NUMBER(config, resume_timeout),
	.preset = MINUTE,
	.range = {0, HOUR, false}},
    {.name = "resume_memory",
	.read = config_map_size,
	NUMBER(config, resume_memory),
	.preset = 32 * MIB,
	.range = {64 * KIB, GIB, false}},
    {.name = "drain_timeout",
	.read = config_map_duration,
	NUMBER(config, drain_timeout),
	.preset = 30 * SECOND,
	.range = {0, 24 * HOUR, false}},
    {.name = "upgrade_timeout",
	.read = config_map_duration,
	NUMBER(config, upgrade_timeout),
	.preset = 10 * SECOND,
	.range = {SECOND, 10 * MINUTE, false}},
    {.name = "classic_stall",
	.read = config_map_duration,
	NUMBER(config, classic_stall),
	.preset = 30 * SECOND,
	.range = {SECOND, HOUR, false}},
    {.name = "stream_window_max",
	.read = config_map_size,
	NUMBER(config, stream_window_max),
	.preset = 32 * MIB,
	.range = {16 * KIB, GIB, false}},
    {.name = "session_memory",
	.read = config_map_size,
	NUMBER(config, session_memory),
	.preset = 256 * MIB,
	.range = {MIB, 64 * GIB, false}},
    {.name = "memory",
	.read = config_map_size,
	NUMBER(config, memory),
	.preset = 0,
	.range = {16 * MIB, 1024 * GIB, true}},
};
static const struct config_keys top_table = {top_keys, COUNT(top_keys)};

int
config_schema_read(const struct yaml_node *root, enum config_role role,
    struct config *config)
{
	struct reader r = {.role = role};
	int rc;

	rc = config_map_read(root, &top_table, role, &r, config);
	config_once_free(&r.once);
	return rc;
}
