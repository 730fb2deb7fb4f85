/*
 * The handshake of both roles, at every cut, and what ends it.
 */
#include <stdlib.h>
#include <string.h>

#include "memory.h"
#include "tunnel/handshake.h"
#include "unit.h"

#define ELEMENTS(a) (sizeof(a) / sizeof((a)[0]))

static const uint8_t nonce[INS_NONCE_SIZE] = {1, 2, 3};
static const uint8_t instance[INS_INSTANCE_SIZE] = {4, 5};
static const struct ins_hello of_client = {1, 5, nonce, NULL, 0};
static const struct ins_hello of_server = {1, 5, nonce, instance, 9};

struct text {
	uint8_t data[8192];
	size_t len;
};

static void
add(struct text *t, const void *data, size_t len)
{
	memcpy(t->data + t->len, data, len);
	t->len += len;
}

static void
add_hello(struct text *t, const struct ins_hello *h)
{
	t->len += ins_hello_encode(t->data + t->len, 1000, h);
}

static void
add_register(struct text *t, const char *name)
{
	struct ins_register g = {
	    .name = {(const uint8_t *)name, strlen(name)},
	    .instance = instance,
	    .serial = 3,
	    .settled = 2,
	};

	t->len += ins_register_encode(t->data + t->len, 1000, &g);
}

static const uint8_t proof[INS_PROOF_SIZE] = {6, 7};
static const uint8_t secret[INS_SECRET_SIZE] = {8, 9};

static void
add_resume(struct text *t, const char *name)
{
	struct ins_resume m = {
	    .who =
		{
		    .name = {(const uint8_t *)name, strlen(name)},
		    .instance = instance,
		    .serial = 3,
		    .settled = 2,
		},
	    .session = 78,
	    .attempt = 4,
	    .offset = 1000,
	    .proof = proof,
	};

	t->len += ins_resume_encode(t->data + t->len, 1000, &m);
}

static void
add_resumed(struct text *t)
{
	t->len += ins_resumed_encode(t->data + t->len, 100,
	    &(struct ins_resumed){1000, proof});
}

/* What came of a text that is added in two pieces, or byte by byte. */
struct outcome {
	enum handshake_status status[4]; /* in order, but MORE */
	unsigned n;
	enum ins_end_code code;
	char name[256];
	uint64_t number;
	size_t rest;
	bool failed; /* no memory */
};

static bool
step_all(struct handshake *h, struct outcome *o)
{
	struct handshake_event e;
	enum handshake_status status;

	while ((status = handshake_step(h, &e)) != HANDSHAKE_MORE) {
		if (o->n == 4)
			abort();
		o->status[o->n++] = status;
		if (status == HANDSHAKE_CLASSIC)
			memcpy(o->name, e.name.data, e.name.len);
		if (status == HANDSHAKE_REGISTER)
			memcpy(o->name, e.registration.name.data,
			    e.registration.name.len);
		if (status == HANDSHAKE_REGISTERED)
			o->number = e.registered.session;
		if (status == HANDSHAKE_RESUME) {
			memcpy(o->name, e.resume.who.name.data,
			    e.resume.who.name.len);
			o->number = e.resume.session;
			CU_ASSERT_EQUAL(e.resume.attempt, 4);
			CU_ASSERT_EQUAL(e.resume.offset, 1000);
			CU_ASSERT_EQUAL(memcmp(e.resume.proof, proof, 32), 0);
		}
		if (status == HANDSHAKE_RESUMED) {
			o->number = e.resumed.offset;
			CU_ASSERT_EQUAL(memcmp(e.resumed.proof, proof, 32), 0);
		}
		if (status == HANDSHAKE_END)
			o->number = e.end.code;
		if (status == HANDSHAKE_BAD) {
			o->code = e.code;
			CU_ASSERT(e.why != NULL && e.why[0] != '\0');
		}
		if (status != HANDSHAKE_HELLO)
			return false;
	}
	return true;
}

static struct outcome
run(bool server, const struct text *t, size_t cut, size_t fail)
{
	struct outcome o = {.failed = false};
	struct memory m;
	struct handshake h;
	size_t at = 0, n;
	uint8_t *exact;
	bool more = true;

	memory_init(&m);
	if (fail > 0)
		memory_fail(&m, fail, 1);
	handshake_init(&h, server, &m.allocator);
	while (at < t->len && more && !o.failed) {
		n = cut == SIZE_MAX                    ? 1 :
		    at == 0 && cut > 0 && cut < t->len ? cut :
							 t->len - at;
		exact = malloc(n);
		memcpy(exact, t->data + at, n);
		o.failed = handshake_add(&h, exact, n) < 0;
		free(exact);
		at += n;
		if (!o.failed)
			more = step_all(&h, &o);
	}
	if (!more && o.status[o.n - 1] != HANDSHAKE_BAD) {
		handshake_rest(&h, &n);
		o.rest = n + t->len - at;
	}
	handshake_close(&h);
	CU_ASSERT_EQUAL(m.held, 0);
	return o;
}

static bool
same(const struct outcome *a, const struct outcome *b)
{
	return a->n == b->n &&
	    memcmp(a->status, b->status, sizeof(a->status)) == 0 &&
	    a->code == b->code && strcmp(a->name, b->name) == 0 &&
	    a->number == b->number && a->rest == b->rest &&
	    a->failed == b->failed;
}

/* The same at every cut. */
static struct outcome
run_all(bool server, const struct text *t)
{
	struct outcome whole = run(server, t, 0, 0), o;
	size_t cut;

	for (cut = 1; cut <= t->len; cut++) {
		o = run(server, t, cut == t->len ? SIZE_MAX : cut, 0);
		CU_ASSERT_TRUE(same(&o, &whole));
	}
	/* Out of memory: said, and nothing leaks. */
	for (cut = 1; cut < 1000; cut++) {
		o = run(server, t, SIZE_MAX, cut);
		if (!o.failed)
			break;
	}
	CU_ASSERT(cut > 1 && cut <= t->len + 1);
	return whole;
}

static void
test_server(void)
{
	struct text t = {.len = 0};
	struct outcome o;

	add(&t, "\0\0\0\0\0\4nameREST", 14);
	o = run_all(true, &t);
	CU_ASSERT_EQUAL(o.n, 1);
	CU_ASSERT_EQUAL(o.status[0], HANDSHAKE_CLASSIC);
	CU_ASSERT_STRING_EQUAL(o.name, "name");
	CU_ASSERT_EQUAL(o.rest, 4);

	t.len = 0;
	add_hello(&t, &of_client);
	add_register(&t, "büro");
	add(&t, "rest", 4);
	o = run_all(true, &t);
	CU_ASSERT_EQUAL(o.n, 2);
	CU_ASSERT_EQUAL(o.status[0], HANDSHAKE_HELLO);
	CU_ASSERT_EQUAL(o.status[1], HANDSHAKE_REGISTER);
	CU_ASSERT_STRING_EQUAL(o.name, "büro");
	CU_ASSERT_EQUAL(o.rest, 4);

	t.len = 0;
	add_hello(&t, &of_client);
	add_resume(&t, "büro");
	add(&t, "rest", 4);
	o = run_all(true, &t);
	CU_ASSERT_EQUAL(o.n, 2);
	CU_ASSERT_EQUAL(o.status[0], HANDSHAKE_HELLO);
	CU_ASSERT_EQUAL(o.status[1], HANDSHAKE_RESUME);
	CU_ASSERT_STRING_EQUAL(o.name, "büro");
	CU_ASSERT_EQUAL(o.number, 78);
	CU_ASSERT_EQUAL(o.rest, 4);
}

static void
test_client(void)
{
	struct text t = {.len = 0};
	struct outcome o;

	add_hello(&t, &of_server);
	t.len += ins_registered_encode(t.data + t.len, 100,
	    &(struct ins_registered){.session = 77});
	add(&t, "rest!", 5);
	o = run_all(false, &t);
	CU_ASSERT_EQUAL(o.n, 2);
	CU_ASSERT_EQUAL(o.status[1], HANDSHAKE_REGISTERED);
	CU_ASSERT_EQUAL(o.number, 77);
	CU_ASSERT_EQUAL(o.rest, 5);

	t.len = 0;
	add_hello(&t, &of_server);
	t.len += ins_registered_encode(t.data + t.len, 100,
	    &(struct ins_registered){77, 60000, secret});
	o = run_all(false, &t);
	CU_ASSERT_EQUAL(o.status[1], HANDSHAKE_REGISTERED);
	CU_ASSERT_EQUAL(o.rest, 0);

	t.len = 0;
	add_hello(&t, &of_server);
	add_resumed(&t);
	add(&t, "rest!", 5);
	o = run_all(false, &t);
	CU_ASSERT_EQUAL(o.n, 2);
	CU_ASSERT_EQUAL(o.status[1], HANDSHAKE_RESUMED);
	CU_ASSERT_EQUAL(o.number, 1000);
	CU_ASSERT_EQUAL(o.rest, 5);

	t.len = 0;
	add_hello(&t, &of_server);
	t.len += ins_end_encode(t.data + t.len, 100, INS_END_NOT_RESUMED, "");
	o = run_all(false, &t);
	CU_ASSERT_EQUAL(o.status[1], HANDSHAKE_END);
	CU_ASSERT_EQUAL(o.number, INS_END_NOT_RESUMED);

	t.len = 0;
	t.len += ins_end_encode(t.data, 100, INS_END_VERSION, "no");
	o = run_all(false, &t);
	CU_ASSERT_EQUAL(o.status[0], HANDSHAKE_END);
	CU_ASSERT_EQUAL(o.number, INS_END_VERSION);

	t.len = 0;
	add_hello(&t, &of_server);
	t.len += ins_end_encode(t.data + t.len, 100, INS_END_NAME_IN_USE, "");
	o = run_all(false, &t);
	CU_ASSERT_EQUAL(o.status[1], HANDSHAKE_END);
	CU_ASSERT_EQUAL(o.number, INS_END_NAME_IN_USE);
}

static void
bad(bool server, const struct text *t, enum ins_end_code code)
{
	struct outcome o = run_all(server, t);

	CU_ASSERT(o.n > 0);
	CU_ASSERT_EQUAL(o.status[o.n - 1], HANDSHAKE_BAD);
	CU_ASSERT_EQUAL(o.code, code);
}

static void
test_first_bytes(void)
{
	struct handshake_event e;
	struct handshake h;
	unsigned server, a, b;
	uint8_t two[2];
	bool good;

	for (server = 0; server < 2; server++)
		for (a = 0; a < 256; a++)
			for (b = 0; b < 256; b++) {
				good = server ? a <= 1 && b == 0 :
						(a == 1 && b == 0) ||
					(a == 0xc2 && b >= 1 && b <= 5) ||
					(a == 0xc2 && b >= 0x10 && b <= 0x12);
				two[0] = (uint8_t)a;
				two[1] = (uint8_t)b;
				handshake_init(&h, server, &allocator_system);
				handshake_add(&h, two, 2);
				if ((handshake_step(&h, &e) ==
					HANDSHAKE_MORE) != good)
					CU_FAIL("first bytes");
				handshake_close(&h);
			}
}

static void
test_violations(void)
{
	static const char *const names[] = {
	    "\xc2\x80",
	    "\xff",
	    "a\nb",
	    "\xed\xa0\x80",
	};
	struct text t = {.len = 0};
	size_t i;

	add(&t, "GET / HTTP/1.1\r\n", 16);
	bad(true, &t, INS_END_PROTOCOL);
	bad(false, &t, INS_END_PROTOCOL);
	for (i = 0; i < ELEMENTS(names); i++) {
		t.len = 0;
		add(&t, "\0\0\0\0\0", 5);
		t.data[t.len++] = (uint8_t)strlen(names[i]);
		add(&t, names[i], strlen(names[i]));
		bad(true, &t, INS_END_BAD_NAME);
		t.len = 0;
		add_hello(&t, &of_client);
		add_register(&t, names[i]);
		bad(true, &t, INS_END_BAD_NAME);
	}
	t.len = 0;
	add_hello(&t, &of_client);
	add_register(&t, "");
	bad(true, &t, INS_END_BAD_NAME);
	/* Classic names of 0 and 256 bytes. */
	t.len = 0;
	add(&t, "\0\0\0\0\0\0", 6);
	bad(true, &t, INS_END_PROTOCOL);
	t.len = 0;
	add(&t, "\0\0\0\0\1\0", 6);
	bad(true, &t, INS_END_PROTOCOL);
	/* The hello of the wrong role, twice, or none. */
	t.len = 0;
	add_hello(&t, &of_client);
	bad(false, &t, INS_END_PROTOCOL);
	add_hello(&t, &of_client);
	bad(true, &t, INS_END_PROTOCOL);
	t.len = 0;
	add_hello(&t, &(struct ins_hello){0, 0, nonce, NULL, 0});
	bad(true, &t, INS_END_VERSION);
	t.len = 0;
	t.len += ins_registered_encode(t.data, 100,
	    &(struct ins_registered){.session = 1});
	bad(false, &t, INS_END_PROTOCOL);
	/* Registrations where they have no place, or malformed. */
	t.len = 0;
	add_hello(&t, &of_server);
	add_register(&t, "a");
	bad(false, &t, INS_END_PROTOCOL);
	t.len = 0;
	add_hello(&t, &of_client);
	t.len += ins_registered_encode(t.data + t.len, 100,
	    &(struct ins_registered){.session = 1});
	bad(true, &t, INS_END_PROTOCOL);
	t.len = 0;
	add_hello(&t, &of_client);
	add(&t, "\xc2\x01\0\0\0\0", 6);
	bad(true, &t, INS_END_PROTOCOL);
	add(&t, "\xc2\x01\0\0\x40\1", 6);
	bad(true, &t, INS_END_PROTOCOL);
	/* Resumes where they have no place, or malformed. */
	t.len = 0;
	add_resume(&t, "a");
	bad(true, &t, INS_END_PROTOCOL);
	t.len = 0;
	add_resumed(&t);
	bad(false, &t, INS_END_PROTOCOL);
	t.len = 0;
	add_hello(&t, &of_server);
	add_resume(&t, "a");
	bad(false, &t, INS_END_PROTOCOL);
	t.len = 0;
	add_hello(&t, &of_client);
	add_resumed(&t);
	bad(true, &t, INS_END_PROTOCOL);
	t.len = 0;
	add_hello(&t, &of_client);
	add(&t, "\xc2\x04\0\0\0\0", 6);
	bad(true, &t, INS_END_PROTOCOL);
	t.len = 0;
	add_hello(&t, &of_server);
	add(&t, "\xc2\x05\0\0\0\0", 6);
	bad(false, &t, INS_END_PROTOCOL);
	t.len = 0;
	add_hello(&t, &of_client);
	add_resume(&t, "a\nb");
	bad(true, &t, INS_END_BAD_NAME);
	/* A length that no InsHello has. */
	t.len = 0;
	add(&t, "\1\0\0\0\4\1", 6);
	bad(true, &t, INS_END_PROTOCOL);
	bad(false, &t, INS_END_PROTOCOL);
}

/* Nothing else is waited for, so that nobody fills our memory. */
static void
test_refused_at_the_head(void)
{
	static const struct {
		const char *head;
		size_t len;
	} rows[] = {
	    {"\0\3\0\0\0\0\0\1\xff\xff\xff\xff", 12},
	    {"\2\0\0\1\0\0", 6},
	    {"\x82\x20\0\0\4\0", 6},
	    {"\xc2\x10\0\0\0\10", 6},
	    {"\x82\x26\0\0\4\0", 6},
	};
	struct text t;
	size_t i;

	for (i = 0; i < ELEMENTS(rows); i++) {
		t.len = 0;
		add_hello(&t, &of_client);
		add(&t, rows[i].head, rows[i].len);
		bad(true, &t, INS_END_PROTOCOL);
		t.len = 0;
		add_hello(&t, &of_server);
		add(&t, rows[i].head, rows[i].len);
		bad(false, &t, INS_END_PROTOCOL);
	}
}

static const struct unit_test tests[] = {
    {"server", test_server},
    {"client", test_client},
    {"first bytes", test_first_bytes},
    {"violations", test_violations},
    {"refused at the head", test_refused_at_the_head},
    {NULL, NULL},
};

const struct unit_suite suite_handshake = {"handshake", tests};
