/*
 * The crew: calls on every member, standing still, stopping.  While that goes
 * on, notes fly between the members.
 */
#include <pthread.h>
#include <time.h>

#include "net/crew.h"
#include "unit.h"

#define MEMBERS 3
#define NOTES 8
#define ROUNDS 200

struct hand {
	struct loop loop;
	struct crew_member member;
	uint64_t handled, calls;
	pthread_t caller;
};

/* Goes on from member to member for ever. */
struct flying {
	struct message message;
	struct hand *at;
	unsigned n;
};

static struct hand hands[MEMBERS];
static struct flying notes[NOTES];
static struct crew crew;

static void
on_flying(struct message *m)
{
	struct flying *f = container_of(m, struct flying, message);

	f->at->handled++;
	f->n++;
	f->at = &hands[(f->at - hands + f->n) % MEMBERS];
	loop_post(&f->at->loop, &f->message);
}

static void
set_up(void)
{
	unsigned i;

	crew_init(&crew);
	for (i = 0; i < MEMBERS; i++) {
		hands[i] = (struct hand){0};
		CU_ASSERT_EQUAL_FATAL(loop_init(&hands[i].loop,
					  &allocator_system),
		    0);
		crew_add(&crew, &hands[i].member, &hands[i].loop);
	}
	for (i = 0; i < NOTES; i++) {
		notes[i] = (struct flying){.at = &hands[i % MEMBERS]};
		notes[i].message.deliver = on_flying;
	}
}

static void
throw_notes(void)
{
	unsigned i;

	for (i = 0; i < NOTES; i++)
		loop_post(&notes[i].at->loop, &notes[i].message);
}

/* Notes in all inboxes; of members that stand still. */
static unsigned
notes_waiting(void)
{
	const struct message *m;
	unsigned i, n = 0;

	for (i = 0; i < MEMBERS; i++)
		for (m = hands[i].loop.head; m != NULL; m = m->next)
			n++;
	return n;
}

static void
tear_down(void)
{
	unsigned i;

	crew_stop(&crew);
	CU_ASSERT_EQUAL(notes_waiting(), NOTES);
	for (i = 0; i < MEMBERS; i++) {
		/* They would fly on for ever. */
		hands[i].loop.head = NULL;
		hands[i].loop.tail = &hands[i].loop.head;
	}
	for (i = 0; i < MEMBERS; i++)
		loop_close(&hands[i].loop);
	crew_close(&crew);
}

static void
count_call(void *context, unsigned worker)
{
	CU_ASSERT_PTR_EQUAL(context, hands);
	hands[worker].calls++;
	hands[worker].caller = pthread_self();
}

static void
test_run(void)
{
	unsigned i, k;

	set_up();
	/* Before there are threads it is the caller who does it. */
	crew_run(&crew, count_call, hands);
	for (i = 0; i < MEMBERS; i++)
		CU_ASSERT(pthread_equal(hands[i].caller, pthread_self()));
	CU_ASSERT_EQUAL_FATAL(crew_start(&crew), 0);
	throw_notes();
	for (k = 1; k <= ROUNDS; k++) {
		crew_run(&crew, count_call, hands);
		for (i = 0; i < MEMBERS; i++) {
			CU_ASSERT_EQUAL_FATAL(hands[i].calls, 1 + k);
			CU_ASSERT(pthread_equal(hands[i].caller,
			    hands[i].member.thread));
		}
	}
	tear_down();
}

static uint64_t
handled(void)
{
	uint64_t n = 0;
	unsigned i;

	for (i = 0; i < MEMBERS; i++)
		n += hands[i].handled;
	return n;
}

static void
test_freeze(void)
{
	const struct timespec moment = {.tv_nsec = 1000000};
	uint64_t before, now = 0;
	unsigned i, k;

	set_up();
	CU_ASSERT_EQUAL_FATAL(crew_start(&crew), 0);
	throw_notes();
	for (k = 0; k < ROUNDS; k++) {
		crew_freeze(&crew);
		before = handled();
		/* None is in a member's hands: all can be found. */
		CU_ASSERT_EQUAL_FATAL(notes_waiting(), NOTES);
		if (k % 16 == 0)
			nanosleep(&moment, NULL);
		CU_ASSERT_EQUAL_FATAL(handled(), before);
		for (i = 0; i < MEMBERS; i++)
			loop_drain(&hands[i].loop);
		CU_ASSERT(handled() > before);
		CU_ASSERT_EQUAL_FATAL(notes_waiting(), NOTES);
		crew_thaw(&crew);
		if (k % 3 == 0)
			crew_run(&crew, count_call, hands);
	}
	/* They fly by themselves as well. */
	crew_freeze(&crew);
	before = handled();
	for (k = 0; k < 5000 && now <= before; k++) {
		crew_thaw(&crew);
		nanosleep(&moment, NULL);
		crew_freeze(&crew);
		now = handled();
	}
	CU_ASSERT(now > before);
	crew_thaw(&crew);
	tear_down();
}

static void
test_stop(void)
{
	unsigned k;

	for (k = 0; k < 20; k++) {
		set_up();
		if (k % 4 != 0)
			CU_ASSERT_EQUAL_FATAL(crew_start(&crew), 0);
		throw_notes();
		if (k % 2 != 0) {
			crew_freeze(&crew);
			crew_thaw(&crew);
		}
		tear_down();
		crew_init(&crew);
		/* Once more, with nobody in it. */
		crew_run(&crew, count_call, hands);
		crew_freeze(&crew);
		crew_thaw(&crew);
		crew_stop(&crew);
		crew_close(&crew);
	}
}

static const struct unit_test tests[] = {
    {"run", test_run},
    {"freeze", test_freeze},
    {"stop", test_stop},
    {NULL, NULL},
};

const struct unit_suite suite_crew = {"crew", tests};
