/*
 * The unit tests: each suite is a function that adds its tests to a CUnit
 * suite of its own; main.c lists them.
 */
#ifndef UNIT_H
#define UNIT_H

#include <CUnit/CUnit.h>

struct unit_test {
	const char *name;
	void (*run)(void);
};

struct unit_suite {
	const char *name;
	const struct unit_test *tests;	/* ends with a NULL name */
};

/* How many descriptors this process has open. */
unsigned
unit_descriptors(void);

extern const struct unit_suite suite_config;
extern const struct unit_suite suite_http;
extern const struct unit_suite suite_base;
extern const struct unit_suite suite_connector;
extern const struct unit_suite suite_handover;
extern const struct unit_suite suite_handshake;
extern const struct unit_suite suite_image;
extern const struct unit_suite suite_instruction;
extern const struct unit_suite suite_listeners;
extern const struct unit_suite suite_net;
extern const struct unit_suite suite_oom;
extern const struct unit_suite suite_path;
extern const struct unit_suite suite_proof;
extern const struct unit_suite suite_scheduler;
extern const struct unit_suite suite_send_queue;
extern const struct unit_suite suite_session;
extern const struct unit_suite suite_state;
extern const struct unit_suite suite_window;

#endif
