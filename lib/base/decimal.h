/*
 * Unsigned decimal numbers as text: digits and nothing else.
 */
#ifndef BASE_DECIMAL_H
#define BASE_DECIMAL_H

#include <stddef.h>
#include <stdint.h>

/*
 * The number in text[0..len).  0, or -1 when len is 0, anything but a digit
 * is there (a sign and blanks too), or the number is over max; *value is then
 * unchanged.  Leading zeros are taken and do not mean octal.  Pure.
 */
int
decimal_parse(const char *text, size_t len, uint64_t max, uint64_t *value);

#endif
