/*
 * Runs every suite, or those named on the command line.
 */
#include <CUnit/Basic.h>

#include <dirent.h>
#include <stdio.h>
#include <string.h>

#include "unit.h"

static const struct unit_suite *const suites[] = {
    &suite_base,
    &suite_config,
    &suite_connector,
    &suite_handover,
    &suite_handshake,
    &suite_http,
    &suite_image,
    &suite_instruction,
    &suite_listeners,
    &suite_net,
    &suite_oom,
    &suite_path,
    &suite_proof,
    &suite_scheduler,
    &suite_send_queue,
    &suite_session,
    &suite_state,
    &suite_window,
};

unsigned
unit_descriptors(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned n = 0;

	if (dir == NULL)
		return 0;
	while (readdir(dir) != NULL)
		n++;
	closedir(dir);
	return n;
}

static int
wanted(const char *name, int argc, char **argv)
{
	int i;

	for (i = 1; i < argc; i++)
		if (strcmp(argv[i], name) == 0)
			return 1;
	return argc < 2;
}

int
main(int argc, char **argv)
{
	const struct unit_test *t;
	unsigned failed;
	CU_pSuite s;
	size_t i;

	if (CU_initialize_registry() != CUE_SUCCESS)
		return 2;
	for (i = 0; i < sizeof(suites) / sizeof(suites[0]); i++) {
		if (!wanted(suites[i]->name, argc, argv))
			continue;
		s = CU_add_suite(suites[i]->name, NULL, NULL);
		for (t = suites[i]->tests; t->name != NULL; t++)
			if (s == NULL ||
			    CU_add_test(s, t->name, t->run) == NULL)
				return 2;
	}
	CU_basic_set_mode(CU_BRM_NORMAL);
	CU_basic_run_tests();
	failed = CU_get_number_of_failures();
	printf("unit: %u passed, %u failed\n",
	    CU_get_number_of_tests_run() - CU_get_number_of_tests_failed(),
	    CU_get_number_of_tests_failed());
	CU_cleanup_registry();
	return failed != 0;
}
