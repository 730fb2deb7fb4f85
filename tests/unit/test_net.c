#include "unit.h"
static const struct unit_test tests[] = { { NULL, NULL } };
const struct unit_suite suite_net = { "net", tests };
