/*
 * Heads of instructions, and what each number is: PROTOCOL.md,
 * "Instructions".
 */
#include "instruction.h"

#include "cursor.h"

struct kind {
	uint16_t number;
	const char *name;
	uint32_t min, max; /* payload */
};

/* Extended instructions with the u16, u32 head. */
static const struct kind kinds[] = {
    {INS_HELLO, "InsHello", 42, INS_CONTROL_MAX},
    {INS_REGISTER, "InsRegister", 0, INS_REGISTER_MAX},
    {INS_REGISTERED, "InsRegistered", 0, INS_CONTROL_MAX},
    {INS_END, "InsEnd", 2, INS_CONTROL_MAX},
    {INS_RESUME, "InsResume", 0, INS_REGISTER_MAX},
    {INS_RESUMED, "InsResumed", 0, INS_CONTROL_MAX},
    {INS_ACK, "InsAck", 8, 8},
    {INS_PING, "InsPing", 8, 8},
    {INS_PONG, "InsPong", 8, 8},
    {INS_OPEN, "InsOpen", 16, INS_CONTROL_MAX},
    {INS_OPENED, "InsOpened", 15, INS_CONTROL_MAX},
    {INS_HALF_CLOSE, "InsHalfClose", 6, 6},
    {INS_RESET, "InsReset", 8, 8},
    {INS_CREDIT, "InsCredit", 14, 14},
    {INS_LIMIT, "InsLimit", 22, 22},
    {INS_GO_AWAY, "InsGoAway", 2, INS_CONTROL_MAX},
};

static const struct kind *
kind_of(uint16_t number)
{
	size_t i;

	for (i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (kinds[i].number == number)
			return &kinds[i];
	return NULL;
}

bool
ins_known(uint16_t number)
{
	return number == INS_DATA || number == INS_CLOSE ||
	    kind_of(number) != NULL;
}

bool
ins_counted(uint16_t number)
{
	if (number == INS_HELLO)
		return false;
	return number < INS_EXTENDED_FIRST || (number & INS_CARRIER_LOCAL) == 0;
}

const char *
ins_name(uint16_t number)
{
	static const char *const classic[] = {
	    "InsInitialRemoteServer",
	    "InsInitialConnection",
	    "InsHeartbeat",
	    "InsData",
	    "InsCloseConnection",
	};
	const struct kind *k;

	if (number < sizeof(classic) / sizeof(classic[0]))
		return classic[number];
	k = kind_of(number);
	return k != NULL ? k->name : "unknown";
}

static enum ins_status
extended_head(struct reader *r, struct ins_head *h)
{
	const struct kind *k;

	h->length = (uint32_t)reader_uint(r, 4);
	k = kind_of(h->number);
	if (r->failed) {
		/* A number that can never be right need not wait for more. */
		if (k == NULL &&
		    (h->number < INS_EXTENDED_FIRST ||
			(h->number & INS_MUST_UNDERSTAND)))
			return INS_BAD;
		return INS_MORE;
	}
	if (k != NULL)
		return h->length < k->min || h->length > k->max ? INS_BAD :
								  INS_OK;
	if (h->number < INS_EXTENDED_FIRST ||
	    (h->number & INS_MUST_UNDERSTAND) || h->length > INS_SKIP_MAX)
		return INS_BAD;
	return INS_OK;
}

static enum ins_status
classic_head(struct reader *r, struct ins_head *h)
{
	switch (h->number) {
	case INS_INITIAL_REMOTE:
		h->length = (uint32_t)reader_uint(r, 4);
		if (!r->failed && (h->length < 1 || h->length > INS_NAME_MAX))
			return INS_BAD;
		break;
	case INS_INITIAL_CONNECTION:
		h->identity = reader_uint(r, 6);
		h->port = (uint16_t)reader_uint(r, 2);
		break;
	case INS_HEARTBEAT:
		break;
	default:
		return INS_BAD;
	}
	return r->failed ? INS_MORE : INS_OK;
}

enum ins_status
ins_head_decode(enum ins_dialect dialect, const uint8_t *buf, size_t len,
    struct ins_head *h, size_t *used)
{
	struct reader r = {buf, buf + len, false};
	enum ins_status status;

	*h = (struct ins_head){0};
	h->number = (uint16_t)reader_uint(&r, 2);
	if (r.failed)
		return INS_MORE;
	if (h->number == INS_DATA || h->number == INS_CLOSE) {
		h->identity = reader_uint(&r, 6);
		if (h->number == INS_DATA)
			h->length = (uint32_t)reader_uint(&r, 4);
		status = r.failed ? INS_MORE : INS_OK;
	} else if (dialect == INS_EXTENDED)
		status = extended_head(&r, h);
	else
		status = classic_head(&r, h);
	*used = (size_t)(r.at - buf);
	return status;
}

/*
 * The length of the UTF-8 sequence at p (RFC 3629), or 0 when it is none or
 * a control character.
 */
static size_t
text_character(const uint8_t *p, size_t left)
{
	static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
	uint32_t c = p[0];
	size_t n, i;

	if (c < 0x80)
		return c < 0x20 || c == 0x7f ? 0 : 1;
	if ((c & 0xe0) == 0xc0)
		n = 2, c &= 0x1f;
	else if ((c & 0xf0) == 0xe0)
		n = 3, c &= 0x0f;
	else if ((c & 0xf8) == 0xf0)
		n = 4, c &= 0x07;
	else
		return 0;
	if (left < n)
		return 0;
	for (i = 1; i < n; i++) {
		if ((p[i] & 0xc0) != 0x80)
			return 0;
		c = c << 6 | (p[i] & 0x3f);
	}
	if (c < least[n] || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff) ||
	    c < 0xa0)
		return 0;
	return n;
}

bool
ins_text_valid(const uint8_t *text, size_t len)
{
	size_t i, n;

	for (i = 0; i < len; i += n) {
		n = text_character(text + i, len - i);
		if (n == 0)
			return false;
	}
	return true;
}

bool
ins_name_valid(const uint8_t *name, size_t len)
{
	return len >= 1 && len <= INS_NAME_MAX && ins_text_valid(name, len);
}

#define TEXT_OF(table, i, other) \
	((i) < sizeof(table) / sizeof((table)[0]) && (table)[i] != NULL ? \
		(table)[i] : \
		(other))

const char *
ins_outcome_text(unsigned outcome)
{
	static const char *const t[] = {
	    [INS_CONNECTED] = "connected",
	    [INS_REFUSED] = "refused",
	    [INS_TIMED_OUT] = "timed out",
	    [INS_UNREACHABLE] = "unreachable",
	    [INS_NOT_ALLOWED] = "not allowed",
	    [INS_NAME_NOT_FOUND] = "name not found",
	    [INS_NO_RESOURCES] = "no resources",
	    [INS_UNSUPPORTED] = "unsupported",
	    [INS_FAILED] = "failed",
	};

	return TEXT_OF(t, outcome, "failed");
}

const char *
ins_end_text(unsigned code)
{
	static const char *const t[] = {
	    [INS_END_PROTOCOL] = "protocol error",
	    [INS_END_VERSION] = "version",
	    [INS_END_UNKNOWN_NAME] = "unknown name",
	    [INS_END_BAD_NAME] = "malformed name",
	    [INS_END_NAME_IN_USE] = "name in use",
	    [INS_END_REPLACED] = "replaced",
	    [INS_END_TOO_SLOW] = "too slow",
	    [INS_END_NO_RESOURCES] = "no resources",
	    [INS_END_SHUTDOWN] = "shutting down",
	    [INS_END_NOT_HELD] = "not held",
	    [INS_END_UNREAD] = "answers not read",
	    [INS_END_SILENT] = "silent",
	    [INS_END_UNKNOWN_SESSION] = "unknown session",
	    [INS_END_NOT_RESUMED] = "cannot be resumed",
	    [INS_END_FINISHED] = "finished",
	};

	return TEXT_OF(t, code, "unknown reason");
}

const char *
ins_reset_text(unsigned reason)
{
	static const char *const t[] = {
	    [INS_RESET_LOCAL] = "reset",
	    [INS_RESET_UNWRITABLE] = "cannot be written",
	    [INS_RESET_RESOURCES] = "no resources",
	    [INS_RESET_TIMEOUT] = "no answer in time",
	    [INS_RESET_STALLED] = "stalled",
	    [INS_RESET_POLICY] = "refused by policy",
	};

	return TEXT_OF(t, reason, "reset");
}
