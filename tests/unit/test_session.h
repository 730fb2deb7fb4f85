/*
 * The parts of suite_session that have files of their own.
 */
#ifndef TEST_SESSION_H
#define TEST_SESSION_H

/* test_session_peer.c: a peer that is driven by hand. */
void test_peer_states(void);
void test_peer_over(void);
void test_peer_violations(void);
void test_peer_unread(void);
void test_peer_input_is_acknowledged(void);
void test_peer_opens_refused(void);
void test_peer_skipped(void);
void test_peer_every_cut(void);
void test_peer_classic(void);
void test_peer_limit_of_a_stopped_reader(void);

/* test_session_random.c */
void test_random_extended(void);
void test_random_classic(void);
void test_random_moved(void);

struct image_writer;
struct sim;

/*
 * For the corpus of tests/fuzz/fuzz_image.c: with UNIT_IMAGES=directory in the
 * environment, each image that a test has made becomes a file there.
 */
void test_keep_image(const struct sim *, unsigned side,
    const struct image_writer *);

#endif
