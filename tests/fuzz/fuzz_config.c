/*
 * Feeds bytes to the configuration reader as a file of either daemon, and
 * checks what config.h promises: one line of error, or a struct that needs no
 * further checks.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/config.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void
require(int ok)
{
	if (!ok)
		abort();
}

/* What was read can be written, and then reads as the same. */
static void
check_address(const struct hostport *hp)
{
	char text[HOSTPORT_TEXT_MAX];
	struct hostport again;

	require(hostport_parse(hostport_format(hp, text, sizeof(text)),
		    &again) == 0);
	require(strcmp(again.host, hp->host) == 0 && again.port == hp->port);
	require(hostport_compare(&again, hp) == 0);
}

static void
check_network(const struct cidr *cidr)
{
	char text[CIDR_TEXT_MAX];
	struct cidr again;
	const char *why;

	require(cidr_parse(cidr_format(cidr, text, sizeof(text)), &again,
		    &why) == 0);
	require(memcmp(&again, cidr, sizeof(again)) == 0);
	require(cidr_match(cidr, &cidr->address, cidr->port_first) ||
	    cidr->prefix < 96);
	require(!cidr_match(cidr, &cidr->address, 0));
}

static void
check_remote(const struct config_remote *remote)
{
	size_t i;

	require(remote->name != NULL && remote->nlisteners > 0);
	require(remote->name[0] != '\0' && strlen(remote->name) <= 255);
	for (i = 0; i < remote->nlisteners; i++) {
		check_address(&remote->listeners[i].bind);
		check_address(&remote->listeners[i].target);
		require(remote->listeners[i].target.port > 0);
		require(remote->listeners[i].line >= remote->line);
	}
}

static void
check_config(const struct config *config, enum config_role role)
{
	size_t i;

	if (role == CONFIG_SERVER)
		require(config->nremotes > 0);
	else
		require(config->name != NULL && config->nservers > 0);
	for (i = 0; i < config->nremotes; i++)
		check_remote(&config->remotes[i]);
	for (i = 0; i < config->nservers; i++) {
		check_address(&config->servers[i]);
		require(config->servers[i].host[0] != '\0');
		require(config->servers[i].port > 0);
	}
	require(config->nallow_targets > 0);
	for (i = 0; i < config->nallow_targets; i++)
		check_network(&config->allow_targets[i]);
	require(config->workers <= 256 && config->tunnels <= 64);
	require(config->log_level <= CONFIG_DEBUG);
	require(config->heartbeat_interval >= 100);
	require(config->session_memory >= 1 << 20);
}

static void
feed(const char *text, size_t len, enum config_role role)
{
	char error[2048] = "";
	struct config *config;

	config = config_parse(text, len, "fuzz", role, error, sizeof(error));
	if (config != NULL) {
		require(error[0] == '\0');
		check_config(config, role);
	} else {
		require(strncmp(error, "fuzz:", 5) == 0);
		require(strpbrk(error, "\r\n") == NULL);
		require(strlen(error) < sizeof(error) - 1);
	}
	config_free(config);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	/* Of just that size: one byte read too far is then found. */
	char *text = malloc(len > 0 ? len : 1);

	if (text == NULL)
		return 0;
	if (len > 0)
		memcpy(text, data, len);
	feed(text, len, CONFIG_SERVER);
	feed(text, len, CONFIG_CLIENT);
	free(text);
	return 0;
}
