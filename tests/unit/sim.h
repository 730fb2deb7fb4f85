/*
 * A simulator: two sessions joined by two pipes in memory, endpoints in
 * memory, and a clock that is moved by hand.  All that is random comes from
 * the seed.
 *
 * What each side writes is decoded on its way by code of its own, which
 * counts instructions and checks that no sender passes its grant.
 */
#ifndef UNIT_SIM_H
#define UNIT_SIM_H

#include <stdio.h>

#include "memory.h"
#include "base/image.h"
#include "tunnel/session.h"

#define SIM_PAIRS	1200
#define SIM_FLIGHTS	1024	/* pieces on their way that keep their time */
#define SIM_UNLIMITED	SIZE_MAX

enum { SERVER, CLIENT };

/* How what an endpoint was attached to ended. */
enum sim_over { SIM_OPEN, SIM_CLOSED, SIM_RESET, SIM_REFUSED };

struct sim_end {
	struct endpoint endpoint;
	struct sim *sim;
	unsigned side, key;	/* what it sends is a function of key */
	bool attached, connected;
	bool echo;		/* sends back what it got */
	bool lazy;		/* says that it is empty only when asked again */

	/* Script. */
	uint64_t supply;	/* bytes that may be read now */
	bool eof;		/* behind them */
	bool fail;		/* a read finds a reset */
	bool broken;		/* a write finds one */
	uint64_t room;		/* bytes that it takes; SIM_UNLIMITED */
	size_t most;		/* bytes that a read gives; 0: all */

	/* Outcome. */
	uint64_t sent, got;
	bool eof_read;		/* the end of file was taken */
	bool shut;
	bool corrupt;		/* got what was not sent */
	bool misused;		/* called after it was let go */
	enum sim_over over;
	enum ins_outcome outcome;
	bool finished;		/* the report came */
	struct stream_report report;
	uint64_t identity;
};

enum sim_answer { SIM_NOW, SIM_LATER, SIM_REFUSE, SIM_NO_ENDPOINT };

struct sim_pair {
	struct sim_end end[2];	/* 0: opened it */
	enum sim_answer answer;
	enum ins_outcome outcome;	/* of SIM_REFUSE */
	struct stream *stream[2];	/* while not finished */
	bool arrived;		/* the acceptor saw the open */
	struct ins_open open;	/* as it came */
};

struct sim_pipe {
	uint8_t *data_ring;
	size_t cap, head, len;
	size_t arrived;		/* of len: may be read */
	bool ended;		/* the writer closed */
	bool swallowed;		/* the reader closed */
	bool broken;		/* a write fails */
	bool hold;		/* nothing arrives */
	uint64_t total;

	/* With a delay or a rate: when what was written will arrive. */
	struct {
		uint64_t end, at;	/* of total; us */
	} flights[SIM_FLIGHTS];
	size_t flight, nflights;
	uint64_t landed;		/* of total */
	uint64_t sending_until;		/* us */

	/* The decoder. */
	uint8_t part[20000];
	size_t part_len;
	uint64_t skip;
	uint64_t counted;	/* bytes of counted instructions */
	uint64_t n[65536];	/* instructions, by number */
	unsigned last;		/* number of the last one */
	bool after_end;		/* something followed InsEnd */
	bool bad;		/* does not decode */
	struct ins_end end;
	uint64_t last_ack, ack_max_gap;
	uint64_t n_data;	/* bytes of data in InsData */
};

struct sim_side {
	struct memory memory;
	struct driver driver;
	struct budget process;
	struct list all;
	struct session *session;	/* NULL: ended, or driven by hand */
	struct carrier carrier;
	bool open;		/* the carrier is */
	bool misused;
	unsigned end_code;
	char end_why[200];
	unsigned ended;		/* times */
	struct sim_pipe out;
	bool moving;		/* what is closed goes on in another session */
};

struct sim_config {
	enum ins_dialect dialect;
	uint64_t seed;
	size_t capacity;	/* of a pipe; 0: 64 KiB */
	size_t piece;		/* the most that one call moves; 0: all */
	uint64_t memory;	/* session_memory; 0: 64 MiB */
	uint64_t process;	/* memory; 0: 1 GiB */
	uint64_t window_max;	/* 0: WINDOW_START, no growth */
	uint64_t delay;		/* us, each way */
	uint64_t rate;		/* bytes a second, each way; 0: any */
	size_t pairs;		/* the most; 0: SIM_PAIRS */
	uint64_t heartbeat;	/* us; 0: 5 s */
	uint64_t stall;		/* us; 0: 30 s */
	uint64_t resume;	/* us; 0: sessions end with their carriers */
	bool refuse_opens;	/* no open event */
	int by_hand;		/* 1 + the side that has no session */
	enum sim_answer answer;	/* of pairs that nobody asked for */
};

struct sim {
	struct sim_config config;
	struct sim_side side[2];
	uint64_t random;
	uint64_t now;
	struct sim_pair *pairs;
	size_t npairs;
	bool overrun;		/* a sender passed its grant */
	bool resumed;		/* bytes came twice: no grant is checked */
	size_t max_pairs;
	/* By opener, and low identity below max_pairs: by who sends. */
	struct sim_direction {
		uint64_t sent, grant, newest;
		uint64_t last;		/* where in the pipe its last data was */
	} (*streams[2])[2];
};

/* NULL when memory ran out, by memory_fail() on either side only. */
struct sim *
sim_new(const struct sim_config *);
/* The parts: to let allocations fail in between. */
struct sim *
sim_bare(const struct sim_config *);
bool
sim_start(struct sim *, unsigned side);

/*
 * End both sessions and check that nothing is left and nothing went wrong;
 * false, and why on standard error, when not so.
 */
bool
sim_free(struct sim *);

/* One turn of both sides; false when nothing happened. */
bool
sim_turn(struct sim *);
/* Turns until nothing happens; the clock stands still. */
void
sim_settle(struct sim *);
/* Move the clock, stopping at timers; settles at each. */
void
sim_pass(struct sim *, uint64_t us);

/* Move the clock to the next thing that happens; nothing runs. */
void
sim_tick(struct sim *);
/* Settle, tick, and settle. */
void
sim_step(struct sim *);

/* A stream opened by side; its pair, or NULL with errno. */
struct sim_pair *
sim_open(struct sim *, unsigned side, enum sim_answer);
struct sim_pair *
sim_open_as(struct sim *, unsigned side, enum sim_answer, enum ins_class,
    unsigned weight);
/* Answer a SIM_LATER or SIM_NO_ENDPOINT. */
void
sim_answer(struct sim *, struct sim_pair *, enum ins_outcome);

uint64_t
sim_random(struct sim *, uint64_t below);

/*
 * The same session and its streams in another process: saved, forgotten, and
 * loaded.  Here that leaves nothing of the first one.  The image is the
 * caller's to free; false: it could not be loaded, and the side has none.
 */
bool
sim_move(struct sim *, unsigned side, struct image_writer *image);
/* Only save it, with all that the side has. */
void
sim_save(struct sim *, unsigned side, struct image_writer *image);
/*
 * Load an image, which may be wrong, instead of what the side has; when it is
 * refused the side has what it had.  Nothing of one that is refused is left.
 */
bool
sim_try(struct sim *, unsigned side, const uint8_t *image, size_t len);

/* The carrier is lost: both park.  And they are joined again by another. */
void
sim_part(struct sim *);
void
sim_join(struct sim *);

/* Bytes from the side driven by hand. */
void
sim_inject(struct sim *, const void *data, size_t len);

#endif
