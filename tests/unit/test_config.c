/*
 * The configuration's reader, against golden files in tests/unit/config:
 * each good/NAME.yaml must give the struct that good/NAME.out shows, each
 * bad/NAME.yaml the error in bad/NAME.err.  A NAME that starts with "client"
 * is read as a remote-client does, any other as a proxy-server does.
 */
#include <dirent.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/config.h"
#include "base/yaml.h"
#include "test_config_text.h"
#include "unit.h"

#define FILES "tests/unit/config/"
#define ERROR_SIZE 1024

static const char *const type_names[] = {"tcp", "http"};
static const char *const class_names[] = {"auto", "interactive", "bulk"};
static const char *const dialect_names[] = {"extended", "classic"};
static const char *const log_names[] = {"error", "warn", "info", "debug"};

static void
dump_remote(FILE *out, const struct config_remote *r)
{
	char bind[HOSTPORT_TEXT_MAX], target[HOSTPORT_TEXT_MAX];
	const struct config_listener *l;
	size_t i;

	fprintf(out, "remote \"%s\" at line %d\n", r->name, r->line);
	for (i = 0; i < r->nlisteners; i++) {
		l = &r->listeners[i];
		fprintf(out, "  %s %s -> %s %s %u at line %d\n",
		    type_names[l->type],
		    hostport_format(&l->bind, bind, sizeof(bind)),
		    hostport_format(&l->target, target, sizeof(target)),
		    class_names[l->class], l->weight, l->line);
	}
}

/* Every field, in the order of the struct. */
static void
dump(FILE *out, const struct config *c)
{
	char text[HOSTPORT_TEXT_MAX + CIDR_TEXT_MAX];
	size_t i;

	fprintf(out, "workers %u\nlog_level %s\n", c->workers,
	    log_names[c->log_level]);
	fprintf(out, "heartbeat_interval %ju\nclassic_stall %ju\n",
	    (uintmax_t)c->heartbeat_interval, (uintmax_t)c->classic_stall);
	fprintf(out, "heartbeat_misses %u\n", c->heartbeat_misses);
	fprintf(out, "resume_timeout %ju\nresume_memory %ju\n",
	    (uintmax_t)c->resume_timeout, (uintmax_t)c->resume_memory);
	fprintf(out, "drain_timeout %ju\nupgrade_timeout %ju\n",
	    (uintmax_t)c->drain_timeout, (uintmax_t)c->upgrade_timeout);
	fprintf(out, "stream_window_max %ju\n",
	    (uintmax_t)c->stream_window_max);
	fprintf(out, "session_memory %ju\nmemory %ju\n",
	    (uintmax_t)c->session_memory, (uintmax_t)c->memory);
	fprintf(out, "bind %s\n",
	    hostport_format(&c->bind, text, sizeof(text)));
	for (i = 0; i < c->nremotes; i++)
		dump_remote(out, &c->remotes[i]);
	fprintf(out, "wait_for_remote %ju\nmax_waiting %zu\n",
	    (uintmax_t)c->wait_for_remote, c->max_waiting);
	fprintf(out, "handshake_timeout %ju\n",
	    (uintmax_t)c->handshake_timeout);
	fprintf(out, "state_dir %s\n",
	    c->state_dir != NULL ? c->state_dir : "(default)");
	fprintf(out, "name %s\n", c->name != NULL ? c->name : "(none)");
	for (i = 0; i < c->nservers; i++)
		fprintf(out, "server %s\n",
		    hostport_format(&c->servers[i], text, sizeof(text)));
	fprintf(out, "dialect %s\ntunnels %u\n", dialect_names[c->dialect],
	    c->tunnels);
	for (i = 0; i < c->nallow_targets; i++)
		fprintf(out, "allow_target %s\n",
		    cidr_format(&c->allow_targets[i], text, sizeof(text)));
	fprintf(out, "connect_timeout %ju\n", (uintmax_t)c->connect_timeout);
}

/* All of a file, with a NUL behind it; NULL when it is not there. */
static char *
slurp(const char *path, size_t *len)
{
	FILE *file = fopen(path, "r");
	char *text;

	if (file == NULL)
		return NULL;
	text = calloc(1, YAML_SIZE_MAX);
	*len = text == NULL ? 0 : fread(text, 1, YAML_SIZE_MAX - 1, file);
	fclose(file);
	return text;
}

static enum config_role
role_of(const char *name)
{
	return strncmp(name, "client", 6) == 0 ? CONFIG_CLIENT : CONFIG_SERVER;
}

/* What the golden file of path shall hold; to be freed. */
static char *
outcome(const char *path, bool good)
{
	const char *base = strrchr(path, '/') + 1;
	char error[ERROR_SIZE] = "";
	struct config *config;
	char *text = NULL;
	size_t len;
	FILE *out;

	out = open_memstream(&text, &len);
	if (out == NULL)
		return NULL;
	config = config_load(path, role_of(base), error, sizeof(error));
	if ((config != NULL) != good)
		fprintf(out, "%s\n", good ? error : "it was taken");
	else if (good)
		dump(out, config);
	else if (strncmp(error, path, strlen(path)) != 0)
		fprintf(out, "the path is missing: %s\n", error);
	else
		fprintf(out, "%s%s\n", base, error + strlen(path));
	config_free(config);
	fclose(out);
	return text;
}

static void
check_golden(const char *dir, const char *name, const char *suffix, bool good)
{
	char path[512], golden[512];
	char *expected, *got;
	size_t len;

	snprintf(path, sizeof(path), "%s%s", dir, name);
	snprintf(golden, sizeof(golden), "%s%.*s%s", dir,
	    (int)(strlen(name) - strlen(".yaml")), name, suffix);
	expected = slurp(golden, &len);
	got = outcome(path, good);
	CU_ASSERT_PTR_NOT_NULL(expected);
	CU_ASSERT_PTR_NOT_NULL(got);
	if (expected == NULL || got == NULL || strcmp(expected, got) != 0) {
		CU_FAIL("differs from the golden file");
		fprintf(stderr, "\n%s: expected\n%sgot\n%s", path,
		    expected != NULL ? expected : "(no file)\n",
		    got != NULL ? got : "(nothing)\n");
	}
	free(expected);
	free(got);
}

static int
is_yaml(const struct dirent *entry)
{
	const char *dot = strrchr(entry->d_name, '.');

	return dot != NULL && strcmp(dot, ".yaml") == 0;
}

/* Not alphasort(), whose order is the locale's. */
static int
by_bytes(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

/* Each file of dir, which has at least min. */
static void
check_directory(const char *dir, const char *suffix, bool good, int min)
{
	struct dirent **entries;
	int i, n;

	n = scandir(dir, &entries, is_yaml, by_bytes);
	CU_ASSERT_FATAL(n >= 0);
	CU_ASSERT(n >= min);
	for (i = 0; i < n; i++) {
		check_golden(dir, entries[i]->d_name, suffix, good);
		free(entries[i]);
	}
	free(entries);
}

static void
test_good(void)
{
	check_directory(FILES "good/", ".out", true, 8);
}

static void
test_bad(void)
{
	check_directory(FILES "bad/", ".err", false, 45);
}

/* The example runs both daemons as it stands. */
static void
test_example(void)
{
	static const char path[] = "config.example.yaml";
	char error[ERROR_SIZE];
	struct config *c;

	c = config_load(path, CONFIG_SERVER, error, sizeof(error));
	CU_ASSERT_PTR_NOT_NULL_FATAL(c);
	CU_ASSERT(c->nremotes == 1 && c->remotes[0].nlisteners == 2);
	CU_ASSERT(c->remotes[0].listeners[1].target.port == 5680);
	config_free(c);

	c = config_load(path, CONFIG_CLIENT, error, sizeof(error));
	CU_ASSERT_PTR_NOT_NULL_FATAL(c);
	CU_ASSERT_STRING_EQUAL(c->name, "remote_client1");
	CU_ASSERT(c->nservers == 1 && c->servers[0].port == 9015);
	config_free(c);
}

/* Its default is found out when it is opened; the example shows root's. */
static void
hide_state_dir(struct config *c)
{
	CU_ASSERT_PTR_NOT_NULL_FATAL(c->state_dir);
	CU_ASSERT_STRING_EQUAL(c->state_dir, "/var/lib/port-proxy");
	free(c->state_dir);
	c->state_dir = NULL;
}

/* With "#key: value" taken in: the defaults that it shows are the defaults. */
static void
test_example_defaults(void)
{
	char error[ERROR_SIZE], *text, *at, *dumps[2] = {NULL, NULL};
	struct config *c;
	size_t len, size;
	FILE *out;
	int i, keys = 0;

	text = slurp("config.example.yaml", &len);
	CU_ASSERT_PTR_NOT_NULL_FATAL(text);
	for (i = 0; i < 2; i++) {
		c = config_parse(text, len, "example", CONFIG_SERVER, error,
		    sizeof(error));
		CU_ASSERT_PTR_NOT_NULL_FATAL(c);
		if (i == 1)
			hide_state_dir(c);
		out = open_memstream(&dumps[i], &size);
		CU_ASSERT_PTR_NOT_NULL_FATAL(out);
		dump(out, c);
		fclose(out);
		config_free(c);
		for (at = text; (at = strstr(at, "\n#")) != NULL; at += 2) {
			if (at[2] < 'a' || at[2] > 'z')
				continue;
			/* A space would indent the key; this cannot. */
			memmove(at + 1, at + 2, strlen(at + 2) + 1);
			len--;
			keys++;
		}
	}
	CU_ASSERT(keys == 20);
	CU_ASSERT_STRING_EQUAL(dumps[0], dumps[1]);
	free(dumps[0]);
	free(dumps[1]);
	free(text);
}

/* Cut anywhere, a file is read or refused with one line. */
static void
test_every_prefix(void)
{
	char error[ERROR_SIZE], *text, *cut;
	struct config *c;
	size_t len, n;
	int taken = 0;

	text = slurp(FILES "good/every-key.yaml", &len);
	CU_ASSERT_PTR_NOT_NULL_FATAL(text);
	for (n = 0; n <= len; n++) {
		/* Of just that size, for the address sanitizer. */
		cut = malloc(n + 1);
		CU_ASSERT_PTR_NOT_NULL_FATAL(cut);
		memcpy(cut, text, n);
		error[0] = '\0';
		c = config_parse(cut, n, "cut", CONFIG_CLIENT, error,
		    sizeof(error));
		if (c == NULL &&
		    (strncmp(error, "cut:", 4) != 0 ||
			strchr(error, '\n') != NULL))
			CU_FAIL("not one line");
		taken += c != NULL;
		config_free(c);
		free(cut);
	}
	CU_ASSERT(taken > 0 && (size_t)taken < len);
	free(text);
}

/* An error is cut to any size, and nothing is written behind it. */
static void
test_error_size(void)
{
	static const char text[] = "bnid: 1\n";
	char whole[ERROR_SIZE], *error;
	size_t size;

	CU_ASSERT_PTR_NULL(config_parse(text, strlen(text), "file",
	    CONFIG_SERVER, whole, sizeof(whole)));
	CU_ASSERT_STRING_EQUAL(whole,
	    "file:1:1: bnid: unknown key (did you mean \"bind\"?)");
	for (size = 0; size <= strlen(whole) + 1; size++) {
		error = malloc(size + 1);
		CU_ASSERT_PTR_NOT_NULL_FATAL(error);
		error[size] = '#';
		CU_ASSERT_PTR_NULL(config_parse(text, strlen(text), "file",
		    CONFIG_SERVER, error, size));
		CU_ASSERT(error[size] == '#');
		if (size > 0) {
			CU_ASSERT(strlen(error) == size - 1);
			CU_ASSERT(strncmp(error, whole, size - 1) == 0);
		}
		free(error);
	}
}

/* Errors without a line. */
static void
test_unreadable(void)
{
	char error[ERROR_SIZE];

	CU_ASSERT_PTR_NULL(config_load("/nonexistent/c.yaml", CONFIG_SERVER,
	    error, sizeof(error)));
	CU_ASSERT_STRING_EQUAL(error,
	    "/nonexistent/c.yaml: No such file or directory");
	CU_ASSERT_PTR_NULL(
	    config_load("/", CONFIG_SERVER, error, sizeof(error)));
	CU_ASSERT_STRING_EQUAL(error, "/: Is a directory");
}

/* The largest file is taken, one byte more is not. */
static void
test_file_size(void)
{
	static const char head[] = "name: a\nserver: a:1\n#";
	int fd = memfd_create("config", MFD_CLOEXEC);
	char path[64], expected[128], error[ERROR_SIZE], *text;
	struct config *c;

	CU_ASSERT_FATAL(fd >= 0);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	text = malloc(YAML_SIZE_MAX + 1);
	CU_ASSERT_PTR_NOT_NULL_FATAL(text);
	memset(text, '#', YAML_SIZE_MAX + 1);
	memcpy(text, head, strlen(head));
	CU_ASSERT(write(fd, text, YAML_SIZE_MAX) == YAML_SIZE_MAX);
	c = config_load(path, CONFIG_CLIENT, error, sizeof(error));
	CU_ASSERT_PTR_NOT_NULL(c);
	config_free(c);
	CU_ASSERT(write(fd, "#", 1) == 1);
	c = config_load(path, CONFIG_CLIENT, error, sizeof(error));
	CU_ASSERT_PTR_NULL(c);
	snprintf(expected, sizeof(expected), "%s: over 1048576 bytes", path);
	CU_ASSERT_STRING_EQUAL(error, expected);
	CU_ASSERT_PTR_NULL(config_parse(text, YAML_SIZE_MAX + 1, "text",
	    CONFIG_CLIENT, error, sizeof(error)));
	CU_ASSERT_STRING_EQUAL(error, "text: over 1048576 bytes");
	free(text);
	close(fd);
}

/* As many listeners as fit: finding duplicates is not quadratic. */
static void
test_many_listeners(void)
{
	char error[ERROR_SIZE], *text = NULL;
	struct config *c;
	size_t len;
	FILE *out;
	int i;

	out = open_memstream(&text, &len);
	CU_ASSERT_PTR_NOT_NULL_FATAL(out);
	fputs("bind: :0\nproxy:\n- remote_name: a\n  port_list:\n", out);
	for (i = 0; i < 20000; i++)
		fprintf(out, "  - {type: tcp, bind: 'h%d:1', remote: 1}\n", i);
	fclose(out);
	c = config_parse(text, len, "many", CONFIG_SERVER, error,
	    sizeof(error));
	CU_ASSERT_PTR_NOT_NULL(c);
	CU_ASSERT(c != NULL && c->remotes[0].nlisteners == 20000);
	config_free(c);
	free(text);
}

static const struct unit_test tests[] = {
    {"decimal", test_decimal},
    {"hostport: taken", test_hostport_parse},
    {"hostport: refused", test_hostport_refuse},
    {"hostport: as text", test_hostport_format},
    {"hostport: order", test_hostport_compare},
    {"cidr: taken", test_cidr_parse},
    {"cidr: refused", test_cidr_refuse},
    {"cidr: match", test_cidr_match},
    {"cidr: canonical", test_cidr_canonical},
    {"good files", test_good},
    {"bad files", test_bad},
    {"the example", test_example},
    {"the example's defaults", test_example_defaults},
    {"every prefix of a file", test_every_prefix},
    {"every size of the error", test_error_size},
    {"unreadable files", test_unreadable},
    {"size of the file", test_file_size},
    {"many listeners", test_many_listeners},
    {NULL, NULL},
};

const struct unit_suite suite_config = {"config", tests};
