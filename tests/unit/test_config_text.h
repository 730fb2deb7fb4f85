/*
 * The texts within the configuration: numbers, addresses, networks.  These
 * are tests of suite_config.
 */
#ifndef TEST_CONFIG_TEXT_H
#define TEST_CONFIG_TEXT_H

void
test_decimal(void);
void
test_hostport_parse(void);
void
test_hostport_refuse(void);
void
test_hostport_format(void);
void
test_hostport_compare(void);
void
test_cidr_parse(void);
void
test_cidr_refuse(void);
void
test_cidr_match(void);
void
test_cidr_canonical(void);

#endif
