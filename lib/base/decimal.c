#include "base/decimal.h"

int
decimal_parse(const char *text, size_t len, uint64_t max, uint64_t *value)
{
	uint64_t sum = 0;
	unsigned digit;
	size_t i;

	if (len == 0)
		return -1;
	for (i = 0; i < len; i++) {
		if (text[i] < '0' || text[i] > '9')
			return -1;
		digit = (unsigned)(text[i] - '0');
		/* sum * 10 + digit <= max, written so that nothing wraps. */
		if (digit > max || sum > (max - digit) / 10)
			return -1;
		sum = sum * 10 + digit;
	}
	*value = sum;
	return 0;
}
