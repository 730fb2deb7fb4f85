/*
 * A simulator of two sessions that outlive their carriers: two engines, a
 * network and a clock, all in one process and all drawn from one seed.
 *
 * The engines are the real ones; the daemons around them, their sockets and
 * the people at the far ends are played here.  After each step it is checked
 * that nothing was lost, doubled, changed or overtaken: docs/simulation.md.
 *
 * One world at a time; a seed gives the same run on every machine.
 */
#ifndef SIM_SIM_H
#define SIM_SIM_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/list.h"
#include "net/carrier.h"
#include "net/driver.h"
#include "net/timer.h"
#include "tunnel/budget.h"
#include "tunnel/endpoint.h"
#include "tunnel/session.h"

#define PAIRS		192	/* streams of a seed */
#define LINKS		24	/* connections at a time */
#define FLIGHTS		64	/* pieces on their way that keep their time */
#define PIPE_MAX	262144
#define TALK_MAX	32	/* bytes of a message of the handshake */
#define PART_MAX	1200	/* the longest instruction but for data */
#define UNLIMITED	UINT64_MAX
#define NEVER		UINT64_MAX

enum { SERVER, CLIENT };

/* heap.c */

enum heap_mode { HEAP_FINE, HEAP_EACH, HEAP_RANDOM, HEAP_BURST };

/* What one side allocates. */
struct heap {
	struct allocator allocator;
	struct world *world;
	struct list blocks;	/* allocations that were not given back */
	size_t held;		/* how many */
	uint64_t asked;
	uint64_t failed;
	enum heap_mode mode;
	uint64_t n;		/* each n-th; one in n; until asked is n */
};

void
heap_init(struct heap *, struct world *);
/* All that was not given back goes, as with a process. */
void
heap_forget(struct heap *);

/* wire.c */

/* An instruction that was said, and may have to be said again. */
struct wire_entry {
	uint64_t start, identity, sum;
	uint32_t size;
	uint16_t number;
};

/* All that one side says, over all of its carriers. */
struct wire {
	struct wire_entry *log;
	uint64_t cap, first, end;	/* cap: a power of two */
	uint64_t fixed;		/* counted bytes that were ever begun */
	uint64_t at;		/* of the next one on this carrier */
	uint64_t next;		/* the entry that is said again next */
	uint64_t skip;		/* data to come */
	bool skip_counted;
	uint64_t acked;		/* on this carrier */
	size_t part_len;
	uint8_t part[PART_MAX];
	bool ended;		/* InsEnd was said on this carrier */
	unsigned went;		/* how often InsGoAway was */
};

/* link.c */

/* One direction of a connection; offsets count from its first byte. */
struct pipe {
	uint8_t *ring;		/* PIPE_MAX, kept over seeds */
	size_t cap;		/* a power of two */
	uint64_t total;		/* written */
	uint64_t landed;	/* may be read */
	uint64_t taken;		/* read */
	uint64_t cut;		/* nothing behind it lands */
	uint64_t busy_until;	/* us */
	bool fin;		/* the writer has closed */
	bool fin_landed;
	struct {
		uint64_t end, at;
	} flights[FLIGHTS];
	unsigned flight, nflights;
	struct timer timer;
	struct link *link;
	unsigned side;		/* who writes */
};

enum link_state {
	LINK_NOBODY,		/* there never was anybody */
	LINK_TALKS,		/* a daemon has it, for the handshake */
	LINK_CARRIES,		/* a session has it */
	LINK_CLOSED,
};

struct link_end {
	struct link *link;
	unsigned side;
	enum link_state state;
	struct port *port;	/* of LINK_CARRIES */
	bool noticed;		/* that the connection is lost */
	bool dropped;		/* and what had landed with it */
	int error;		/* of a read then; 0: end of file */
	struct timer notice;
	struct timer patience;	/* of the handshake */
	uint8_t talk[TALK_MAX];
	size_t ntalk;
};

/* A connection from the remote-client to the proxy-server. */
struct link {
	struct world *world;
	bool used, cut;
	uint64_t number;
	uint64_t delay, rate;	/* us; bytes a second, 0: any */
	struct pipe pipe[2];	/* by who writes */
	struct link_end end[2];
};

/* What a session has of a connection; freed when it closes it. */
struct port {
	struct carrier carrier;
	struct link_end *end;
};

/* end.c */

enum end_over { END_OPEN, END_CLOSED, END_RESET, END_REFUSED, END_DENIED };
enum end_eof { EOF_AT_END, EOF_AFTER_PEER, EOF_WHEN_CALM };
enum end_answer { ANSWER_NOW, ANSWER_LATER, ANSWER_NO, ANSWER_NO_LATER };

/* A visitor or an application. */
struct end {
	struct endpoint endpoint;
	struct pair *pair;
	unsigned side, key;	/* what it says is a function of key */
	struct timer tick;

	/* What it is like. */
	uint64_t size;		/* bytes that it will say */
	uint64_t chunk;		/* the most that a tick brings */
	uint64_t period;	/* us between ticks, at most */
	uint64_t fail_at;	/* said bytes: it fails there */
	uint64_t break_at;	/* bytes it got: a write fails there */
	enum end_eof eof_when;
	bool echo, lazy, slow;

	/* How it stands. */
	bool attached, connected;
	bool eof, fail, broken;
	uint64_t supply;	/* may be read now */
	uint64_t room;		/* that it takes now */
	uint64_t sent, got;
	bool eof_read, shut, finished, aborted;
	enum end_over over;
	enum ins_outcome outcome;

	/* What the wire knows of it as a sender: wire.c. */
	uint64_t said, grant, newest;
};

struct pair {
	struct world *world;
	unsigned index;
	uint64_t identity;
	struct end end[2];	/* 0: opened it */
	enum end_answer answer;
	enum ins_outcome outcome;	/* of ANSWER_NO */
	bool arrived;		/* the other side saw the open */
	bool answered;
	bool keep;		/* open until the sets were compared */
	bool hurt;		/* an end failed: resets are right */
};

/* What this seed is like. */
struct traits {
	size_t piece;		/* the most that one call moves; 0: all */
	size_t cap;		/* of a pipe */
	uint64_t delay, rate;	/* the most; 0: any */
	uint64_t most;		/* bytes of a stream */
	uint64_t period;	/* us: of endpoints' ticks */
	unsigned streams;	/* at a time */
	uint64_t open_every, fault_every;	/* us */
	unsigned breaks;	/* one endpoint in so many fails */
	uint64_t patience;	/* us: of the handshake */
	uint32_t faults;	/* bits: which kinds there are */
	bool tight;		/* small budgets */
	bool starve;		/* allocations fail */
};

/* An InsResume as it was sent. */
struct ask {
	uint64_t attempt, offset;
};
#define ASKS 8

/* What goes with a process, and is anew in the next one. */
struct process {
	struct heap heap;
	struct driver driver;
	struct budget budget;
	struct list all;
};

struct side {
	struct world *world;
	unsigned index;
	struct process processes[2], *process;
	struct session_config config;
	struct session *session;
	struct timer turn;
	uint64_t back_at;	/* us: a new process handles nothing before */
	uint64_t resume_memory;	/* the most that it ever was configured to */
	struct link_end *link;	/* of the session's carrier */
	struct wire wire;
	uint64_t parked_at;
	uint64_t heard_at;	/* us: when bytes came from its carrier */
	uint64_t heard_before;	/* ... before this turn */
	uint64_t others_kept;	/* of the process's budget, by others */
	bool orphaned;		/* streams went with their session */
	bool ending;		/* session_end() was called */
	bool dropping;		/* session_end_all() is at work */
	bool going;		/* session_go_away() was called */
	bool parked;
	unsigned end_code;
	uint64_t attempt;	/* sent last, or taken last */

	/* Of the client's daemon. */
	struct timer dial;
	struct link *asking;
	uint64_t asked;		/* the offset that it told */
	unsigned tries;
	struct ask asks[ASKS];
};

struct world {
	uint64_t seed, random;
	uint64_t now;
	struct timers timers;
	struct traits traits;
	struct side side[2];
	struct link links[LINKS];
	uint64_t nlinks;	/* ever */
	struct pair pairs[PAIRS];
	unsigned npairs;
	struct pair *by_identity[2][PAIRS + 1];	/* by opener */
	struct timer opens, faults, upgrades;
	unsigned nupgrades;	/* to come in a row */
	uint64_t down_until;	/* us: no connection until then */
	bool calm;		/* no more faults */
	bool closing;		/* those that are kept may end too */
	uint64_t steps;		/* events that an engine handled */
	uint64_t events;
	uint64_t events_here;	/* without the clock moving */
	uint64_t quiet_since;	/* us; 0: it is not */
	size_t ports;		/* that are open */
	bool failed;
	bool verbose;
	char what[300];		/* why it failed */
	struct totals *totals;
};

/* Over all seeds and workers. */
struct totals {
	uint64_t steps, resumed, refused, parked, streams, bytes, ended,
	    timed_out, starved, finished, replaced, not_replaced;
};

/* world.c */

/* A process's driver, in its heap; false when memory ran out. */
bool
world_process(struct world *, struct process *);
/* Run a seed; false when a check failed: why is in what then. */
bool
world_run(struct world *, uint64_t seed, uint64_t steps, struct totals *);
/* The first check that failed ends the seed. */
void
world_fail(struct world *, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void
world_trace(struct world *, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
#define TRACE(w, ...) ((w)->verbose ? world_trace(w, __VA_ARGS__) : (void)0)

/* Uniform in 0 to below - 1. */
static inline uint64_t
draw(struct world *w, uint64_t below)
{
	/* splitmix64 */
	uint64_t z = w->random += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return (uint64_t)((unsigned __int128)(z ^ z >> 31) * below >> 64);
}

static inline bool
one_in(struct world *w, uint64_t n)
{
	return draw(w, n) == 0;
}

/* Any order of magnitude up to most as likely as another. */
static inline uint64_t
draw_wide(struct world *w, uint64_t most)
{
	unsigned bits = 0;

	while (bits < 63 && most >> bits != 0)
		bits++;
	bits = (unsigned)draw(w, bits + 1);
	return draw(w, (UINT64_C(1) << bits) < most ? UINT64_C(1) << bits :
						      most + 1);
}

/* An engine has something to handle. */
static inline void
world_count(struct world *w)
{
	w->steps++;
}

static inline void
world_after(struct world *w, struct timer *t, uint64_t us)
{
	timer_set(&w->timers, t, w->now + us);
}

static inline const char *
side_name(unsigned side)
{
	return side == SERVER ? "server" : "client";
}

/* traits.c */
void
traits_draw(struct world *);
/* What another configuration may change of a side. */
void
traits_redraw(struct side *);

/* link.c */

/* NULL when there are too many. */
struct link *
link_new(struct world *);
/* Bytes of a handshake. */
void
link_say(struct link_end *, const void *data, size_t len);
/* Take up to len of the bytes that landed for this end. */
size_t
link_take(struct link_end *, void *buf, size_t len);
/* Make it a session's. */
struct carrier *
link_carry(struct link_end *);
void
link_close(struct link_end *);
/*
 * The same carrier for a process that comes, while the one before has it
 * still; and whose it is then.
 */
struct carrier *
link_share(struct link_end *);
void
link_shared(struct link_end *, struct carrier *, bool taken);
/* Lose it at some byte in each direction; silent: nobody is told. */
void
link_cut(struct link *, bool silent);
/* Faults stop: what is still there is quick, what is lost is noticed. */
void
link_calm(struct link *);
/* Nothing lands any more. */
void
link_lose_all(struct world *);
void
links_free(struct world *);

/* wire.c */
void
wire_init(struct wire *);
/* A carrier begins at this offset. */
void
wire_resume(struct side *, uint64_t offset);
void
wire_said(struct side *, const uint8_t *data, size_t len);

/* pattern.c */
void
pattern_put(unsigned key, uint64_t at, uint8_t *buf, size_t len);
bool
pattern_is(unsigned key, uint64_t at, const uint8_t *data, size_t len);

/* end.c */
/* A new pair, opened by a side; false when it could not. */
bool
end_open(struct world *, unsigned side);
void
end_on_open(struct session *, struct stream *, const struct ins_open *);
/* pair.c: the report of a stream, which had to be so. */
void
end_on_finished(struct session *, const struct stream_report *);
/* Abort a stream of a side, as an administrator does. */
void
end_abort(struct end *);
/* No more stalls and no more waiting. */
void
end_calm(struct end *);
/* All that holds at the end of a seed. */
void
pair_check(struct pair *, bool session_lived);

/* daemon.c */
void
daemon_start(struct world *);
/* A link's bytes came, or it was lost, while a daemon has it. */
void
daemon_heard(struct link_end *);
void
daemon_lost(struct link_end *);
/* An InsResume that was sent before, or never, on a connection of its own. */
void
daemon_replay(struct world *);
void
daemon_forge(struct world *);
/* What a daemon does with what it had under way when it is a new process. */
void
daemon_replaced(struct side *);

/* fault.c */
void
fault_start(struct world *);
void
fault_upgrade(struct world *);
/* End what is left in one of the ways in which a session ends. */
void
fault_finish(struct world *);

/* replace.c */

/* One or both of the processes, once or often; and some more of that. */
void
replace_some(struct world *);
void
replace_more(struct world *);

/* check.c */

/* After a turn of a side. */
void
check_turn(struct side *);
/* Now and then. */
void
check_deeply(struct world *);
/* At the end of a seed: nothing is left. */
void
check_nothing_left(struct world *);
/* Its carrier was given up: why it was right. */
void
check_parked(struct side *, const char *why);
/* A session's end, and why it was right. */
void
check_end(struct side *, unsigned code, const char *why);

#endif
