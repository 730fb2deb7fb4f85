/*
 * The instructions of PROTOCOL.md as constants and plain structs, and the
 * codec between them and bytes.
 *
 * Pure: no I/O, no allocation, libc only; any thread.  Decoders never read
 * past the length they are given; what they return borrows from the input.
 * Encoders write into the caller's buffer and return the bytes written, or 0
 * when cap is too small; every *_MAX below is always enough.
 */
#ifndef INSTRUCTION_H
#define INSTRUCTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum ins_number {
	/* Classic; 3 and 4 serve both dialects. */
	INS_INITIAL_REMOTE	= 0x0000,
	INS_INITIAL_CONNECTION	= 0x0001,
	INS_HEARTBEAT		= 0x0002,
	INS_DATA		= 0x0003,
	INS_CLOSE		= 0x0004,

	/* Extended. */
	INS_HELLO		= 0x0100,
	INS_REGISTER		= 0xC201,
	INS_REGISTERED		= 0xC202,
	INS_END			= 0xC203,
	INS_RESUME		= 0xC204,
	INS_RESUMED		= 0xC205,
	INS_ACK			= 0xC210,
	INS_PING		= 0xC211,
	INS_PONG		= 0xC212,
	INS_OPEN		= 0x8220,
	INS_OPENED		= 0x8221,
	INS_HALF_CLOSE		= 0x8222,
	INS_RESET		= 0x8223,
	INS_CREDIT		= 0x8224,
	INS_LIMIT		= 0x8225,
	INS_GO_AWAY		= 0x8226,
};

#define INS_MUST_UNDERSTAND	0x8000u	/* of numbers and of field types */
#define INS_CARRIER_LOCAL	0x4000u	/* not counted in offsets */
#define INS_EXTENDED_FIRST	0x0200u	/* the bits count from here on */

/* Every limit, and why it is there. */
#define INS_NAME_MAX	255	/* a name is a table key and a log value */
#define INS_HOST_MAX	253	/* RFC 1035, 2.3.4 */
#define INS_TEXT_MAX	255	/* a reason is one log line */
#define INS_SOFTWARE_MAX 64
#define INS_HELD_MAX	1024	/* sessions of one instance */
#define INS_REGISTER_MAX 16384	/* holds a full list of those */
#define INS_CONTROL_MAX	1024	/* payload of every other control instruction:
				 * a receiver keeps one that was cut in a
				 * fixed buffer */
#define INS_SKIP_MAX	65536	/* an unknown instruction that may be skipped */
#define INS_NONCE_SIZE	32
#define INS_INSTANCE_SIZE 16
#define INS_SECRET_SIZE	32
#define INS_PROOF_SIZE	32
#define INS_RESUME_MS_MAX 86400000	/* a day */
#define INS_VERSION	1

#define INS_DATA_HEAD	12	/* u16, u48, u32 */
#define INS_HEAD_MAX	12	/* the longest head of all */
#define INS_IDENTITY_MAX ((UINT64_C(1) << 48) - 1)
#define INS_BY_CLIENT	(UINT64_C(1) << 47)	/* who opened the stream */

#define INS_WINDOW_MIN	16384	/* may be sent before the open is answered */
#define INS_WINDOW_MAX	(UINT64_C(1) << 40)
#define INS_OFFSET_MAX	(UINT64_C(1) << 63)

enum ins_dialect { INS_CLASSIC, INS_EXTENDED };

enum ins_status {
	INS_OK,
	INS_MORE,		/* not an error: call again with more bytes */
	INS_BAD,		/* the peer broke the protocol */
};

/* The head of any instruction: what stands before its payload. */
struct ins_head {
	uint16_t number;
	uint32_t length;	/* of the payload that follows the head */
	uint64_t identity;	/* INS_DATA, INS_CLOSE, INS_INITIAL_CONNECTION */
	uint16_t port;		/* INS_INITIAL_CONNECTION */
};

/*
 * Decode the head of one instruction from buf[0..len).  INS_OK: *head is
 * filled and *used is its size, the payload not included.  INS_BAD: a number
 * that this dialect does not have, or a length outside that number's bounds.
 * An unknown extended number that may be skipped is INS_OK.
 */
enum ins_status
ins_head_decode(enum ins_dialect, const uint8_t *buf, size_t len,
    struct ins_head *head, size_t *used);

/* Whether the extended dialect of this version knows number. */
bool
ins_known(uint16_t number);

/* Whether the bytes of this extended instruction count in offsets. */
bool
ins_counted(uint16_t number);

/* "InsOpen" and so on, or "unknown". */
const char *
ins_name(uint16_t number);

/* Whether name[0..len) is 1 to 255 bytes of UTF-8 without control characters. */
bool
ins_name_valid(const uint8_t *name, size_t len);

/* Whether text[0..len) is UTF-8 without control characters, of any length. */
bool
ins_text_valid(const uint8_t *text, size_t len);

/* A borrowed piece of the input; NULL when absent. */
struct ins_bytes {
	const uint8_t *data;
	size_t len;
};

struct ins_hello {
	uint16_t version;
	uint64_t features;
	const uint8_t *nonce;		/* INS_NONCE_SIZE */
	const uint8_t *instance;	/* INS_INSTANCE_SIZE; NULL: from a
					 * remote-client */
	uint64_t start;
};

struct ins_register {
	struct ins_bytes name;
	const uint8_t *instance;	/* INS_INSTANCE_SIZE */
	uint64_t serial;
	uint64_t settled;
	struct ins_bytes held;		/* u64 each, big-endian: ins_held() */
	bool standby;
	struct ins_bytes software;
	uint64_t resume;		/* ms; 0: not resumable */
};

struct ins_registered {
	uint64_t session;
	uint64_t resume;		/* ms; 0: not resumable */
	const uint8_t *secret;		/* INS_SECRET_SIZE; NULL: not resumable */
};

struct ins_resume {
	struct ins_register who;	/* but for standby and resume */
	uint64_t session;
	uint64_t attempt;
	uint64_t offset;
	const uint8_t *proof;		/* INS_PROOF_SIZE */
};

struct ins_resumed {
	uint64_t offset;
	const uint8_t *proof;
};

/* What both sides know of an attempt to resume; pieces are borrowed. */
struct ins_proof {
	const uint8_t *client_instance, *server_instance;
	uint64_t server_start;
	struct ins_bytes name;
	uint64_t session;
	const uint8_t *client_nonce, *server_nonce;
	uint64_t attempt;
	uint64_t client_offset;
	uint64_t server_offset;		/* of the server's proof alone */
};

enum ins_end_code {
	INS_END_PROTOCOL	= 1,
	INS_END_VERSION		= 2,
	INS_END_UNKNOWN_NAME	= 3,
	INS_END_BAD_NAME	= 4,
	INS_END_NAME_IN_USE	= 5,
	INS_END_REPLACED	= 6,
	INS_END_TOO_SLOW	= 7,
	INS_END_NO_RESOURCES	= 8,
	INS_END_SHUTDOWN	= 9,
	INS_END_NOT_HELD	= 10,
	INS_END_UNREAD		= 11,
	INS_END_SILENT		= 12,
	INS_END_UNKNOWN_SESSION	= 13,
	INS_END_NOT_RESUMED	= 14,
	INS_END_FINISHED	= 15,
};

/* InsEnd and InsGoAway. */
struct ins_end {
	uint16_t code;
	struct ins_bytes text;
};

enum ins_kind { INS_KIND_BYTES = 0 };
enum ins_class { INS_CLASS_AUTO, INS_CLASS_INTERACTIVE, INS_CLASS_BULK };
#define INS_WEIGHT_DEFAULT 10
#define INS_WEIGHT_MAX	100
enum ins_form { INS_FORM_PORT = 1, INS_FORM_HOST = 2 };

/* An address of the visitor; family 0: not told. */
struct ins_address {
	uint8_t family;			/* 0, 4 or 6 */
	uint8_t address[16];
	uint16_t port;
};

struct ins_open {
	uint64_t identity;
	uint8_t kind;
	uint8_t class;
	uint8_t weight;			/* 1 to INS_WEIGHT_MAX; 0 is encoded as
					 * INS_WEIGHT_DEFAULT, not decoded */
	uint64_t window;
	uint8_t form;			/* enum ins_form, or one unknown */
	uint16_t port;
	struct ins_bytes host;		/* INS_FORM_HOST */
	struct ins_address source, destination;
};

enum ins_outcome {
	INS_CONNECTED,
	INS_REFUSED,
	INS_TIMED_OUT,
	INS_UNREACHABLE,
	INS_NOT_ALLOWED,
	INS_NAME_NOT_FOUND,
	INS_NO_RESOURCES,
	INS_UNSUPPORTED,
	INS_FAILED,
};

struct ins_opened {
	uint64_t identity;
	uint8_t outcome;		/* enum ins_outcome, or one unknown */
	uint64_t window;
	struct ins_bytes reason;
};

enum ins_reset_reason {
	INS_RESET_LOCAL		= 1,	/* ECONNRESET at the other end */
	INS_RESET_UNWRITABLE	= 2,	/* EPIPE there */
	INS_RESET_RESOURCES	= 3,
	INS_RESET_TIMEOUT	= 4,
	INS_RESET_STALLED	= 5,
	INS_RESET_POLICY	= 6,
};

struct ins_reset {
	uint64_t identity;
	uint16_t reason;
};

struct ins_credit {
	uint64_t identity;
	uint64_t offset;
};

struct ins_limit {
	uint64_t identity;
	uint64_t limit;
	uint64_t seen;
};

/* "refused" and so on; "failed" for an unknown one. */
const char *
ins_outcome_text(unsigned outcome);
const char *
ins_end_text(unsigned code);
const char *
ins_reset_text(unsigned reason);

/*
 * Decode the payload of one instruction.  INS_OK or INS_BAD, never INS_MORE;
 * fields that are not there are zero.
 */
enum ins_status
ins_hello_decode(const uint8_t *payload, size_t len, bool from_server,
    struct ins_hello *);
enum ins_status
ins_register_decode(const uint8_t *payload, size_t len,
    struct ins_register *);
enum ins_status
ins_registered_decode(const uint8_t *payload, size_t len,
    struct ins_registered *);
enum ins_status
ins_resume_decode(const uint8_t *payload, size_t len, struct ins_resume *);
enum ins_status
ins_resumed_decode(const uint8_t *payload, size_t len,
    struct ins_resumed *);
enum ins_status
ins_end_decode(const uint8_t *payload, size_t len, struct ins_end *);
enum ins_status
ins_offset_decode(const uint8_t *payload, size_t len, uint64_t *);
enum ins_status
ins_open_decode(const uint8_t *payload, size_t len, struct ins_open *);
enum ins_status
ins_opened_decode(const uint8_t *payload, size_t len, struct ins_opened *);
enum ins_status
ins_identity_decode(const uint8_t *payload, size_t len, uint64_t *);
enum ins_status
ins_reset_decode(const uint8_t *payload, size_t len, struct ins_reset *);
enum ins_status
ins_credit_decode(const uint8_t *payload, size_t len, struct ins_credit *);
enum ins_status
ins_limit_decode(const uint8_t *payload, size_t len, struct ins_limit *);

/* The i-th session of a list of held ones; i < held->len / 8. */
uint64_t
ins_held(const struct ins_bytes *held, size_t i);

/* Whole instructions, head included. */
size_t
ins_initial_remote_encode(uint8_t *buf, size_t cap, const char *name);
size_t
ins_initial_connection_encode(uint8_t *buf, size_t cap, uint64_t identity,
    uint16_t port);
size_t
ins_heartbeat_encode(uint8_t *buf, size_t cap);
size_t
ins_close_encode(uint8_t *buf, size_t cap, uint64_t identity);
size_t
ins_hello_encode(uint8_t *buf, size_t cap, const struct ins_hello *);
size_t
ins_register_encode(uint8_t *buf, size_t cap, const struct ins_register *);
size_t
ins_registered_encode(uint8_t *buf, size_t cap,
    const struct ins_registered *);
size_t
ins_resume_encode(uint8_t *buf, size_t cap, const struct ins_resume *);
size_t
ins_resumed_encode(uint8_t *buf, size_t cap, const struct ins_resumed *);
/* The bytes over which the server's, or the client's, proof is made. */
size_t
ins_proof_encode(uint8_t *buf, size_t cap, bool server,
    const struct ins_proof *);
size_t
ins_end_encode(uint8_t *buf, size_t cap, uint16_t code, const char *text);
size_t
ins_go_away_encode(uint8_t *buf, size_t cap, uint16_t code,
    const char *text);
size_t
ins_open_encode(uint8_t *buf, size_t cap, const struct ins_open *);
size_t
ins_opened_encode(uint8_t *buf, size_t cap, const struct ins_opened *);
size_t
ins_half_close_encode(uint8_t *buf, size_t cap, uint64_t identity);
size_t
ins_reset_encode(uint8_t *buf, size_t cap, const struct ins_reset *);
size_t
ins_credit_encode(uint8_t *buf, size_t cap, const struct ins_credit *);
size_t
ins_limit_encode(uint8_t *buf, size_t cap, const struct ins_limit *);

/* InsAck, InsPing or InsPong, by number. */
size_t
ins_offset_encode(uint8_t *buf, size_t cap, uint16_t number, uint64_t value);

/* The head of InsData into buf[0..INS_DATA_HEAD). */
void
ins_data_head_encode(uint8_t *buf, uint64_t identity, uint32_t length);

/* Room that what a proof is made of fits in. */
#define INS_PROOF_MAX	512

/* Room that every control instruction but InsRegister and InsResume fits in. */
#define INS_ENCODE_MAX	(6 + INS_CONTROL_MAX)

#endif
