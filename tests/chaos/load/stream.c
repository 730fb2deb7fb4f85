#include "tests/chaos/load/stream.h"

#include <sys/epoll.h>
#include <sys/socket.h>

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { PIECE = 65536, LEAD_MS = 100, TURN = 1 << 20 };

static uint8_t outgoing[PIECE], incoming[PIECE];

void
stream_init(struct stream *s, int fd)
{
	memset(s, 0, sizeof(*s));
	s->fd = fd;
	s->watched = UINT32_MAX;
	s->rx_ns = s->allowed_ns = base_now();
}

void
stream_allow(struct stream *s, uint64_t now)
{
	uint64_t lead = s->rate * LEAD_MS / 1000;
	uint64_t more = s->rate * ((now - s->allowed_ns) / 1000) / 1000000;

	if (s->ending || more == 0)
		return;
	s->allowed_ns = now;
	s->tx_limit += more;
	if (s->tx_limit > s->tx_pos + lead && lead > 0)
		s->tx_limit = s->tx_pos + lead;
}

void
stream_end(struct stream *s, bool trailer)
{
	char text[TRAILER + 1];

	if (s->ending)
		return;
	s->ending = true;
	if (!trailer)
		return;
	s->tx_limit = s->tx_pos;
	snprintf(text, sizeof(text), "%016" PRIx64 "%016" PRIx64, s->tx_pos,
	    s->rx_pos);
	memcpy(s->last, text, TRAILER);
	s->last_len = TRAILER;
}

bool
stream_totals(const struct stream *s, uint64_t *sent, uint64_t *received)
{
	char text[TRAILER + 1] = "";

	memcpy(text, s->tail, s->tail_len);
	return s->tail_len == TRAILER &&
	    sscanf(text, "%16" SCNx64 "%16" SCNx64, sent, received) == 2;
}

static bool
try_again(struct stream *s)
{
	s->blocked = errno == EAGAIN;
	return errno == EAGAIN || errno == EINTR;
}

/* text[*pos..len); false: not all of it was taken, or the stream is broken. */
static bool
send_text(struct stream *s, const char *text, size_t *pos, size_t len,
    enum stream_status *status)
{
	ssize_t n;

	while (*pos < len) {
		n = send(s->fd, text + *pos, len - *pos, MSG_NOSIGNAL);
		if (n < 0) {
			if (!try_again(s))
				*status = STREAM_BROKEN;
			return false;
		}
		*pos += (size_t)n;
	}
	return true;
}

static bool
send_pattern(struct stream *s, enum stream_status *status)
{
	uint64_t left, turn = 0;
	ssize_t n;

	while (s->tx_pos < s->tx_limit && turn < TURN) {
		left = s->tx_limit - s->tx_pos;
		if (left > PIECE)
			left = PIECE;
		base_fill(outgoing, s->tx_seed, s->tx_pos, left);
		n = send(s->fd, outgoing, left, MSG_NOSIGNAL);
		if (n < 0) {
			if (!try_again(s))
				*status = STREAM_BROKEN;
			return false;
		}
		s->tx_pos += (uint64_t)n;
		turn += (uint64_t)n;
	}
	return s->tx_pos == s->tx_limit;
}

enum stream_status
stream_send(struct stream *s)
{
	enum stream_status status = STREAM_GOES_ON;

	s->blocked = false;
	if (!send_text(s, s->head, &s->head_pos, s->head_len, &status) ||
	    !send_pattern(s, &status) || !s->ending || s->shut ||
	    !send_text(s, s->last, &s->last_pos, s->last_len, &status))
		return status;
	s->shut = true;
	return shutdown(s->fd, SHUT_WR) < 0 ? STREAM_BROKEN : STREAM_GOES_ON;
}

static bool
check(struct stream *s, const uint8_t *data, size_t len)
{
	size_t right = base_check(data, s->rx_seed, s->rx_pos, len);

	s->rx_pos += right;
	return right == len;
}

/* All but the last TRAILER bytes of what came until now are pattern. */
static bool
check_trailed(struct stream *s, const uint8_t *data, size_t len)
{
	size_t n, from_tail;

	if (s->tail_len + len > TRAILER) {
		n = s->tail_len + len - TRAILER;
		from_tail = n < s->tail_len ? n : s->tail_len;
		if (!check(s, s->tail, from_tail) ||
		    !check(s, data, n - from_tail))
			return false;
		s->tail_len -= from_tail;
		memmove(s->tail, s->tail + from_tail, s->tail_len);
		data += n - from_tail;
		len -= n - from_tail;
	}
	memcpy(s->tail + s->tail_len, data, len);
	s->tail_len += len;
	return true;
}

enum stream_status
stream_receive(struct stream *s)
{
	ssize_t n = recv(s->fd, incoming, sizeof(incoming), 0);
	uint64_t now = base_now(), sent, received;

	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? STREAM_GOES_ON :
							   STREAM_BROKEN;
	if (now - s->rx_ns > s->gap_ns)
		s->gap_ns = now - s->rx_ns;
	s->rx_ns = now;
	if (n > 0) {
		bool right = s->trailed ?
		    check_trailed(s, incoming, (size_t)n) :
		    check(s, incoming, (size_t)n);

		return right ? STREAM_GOES_ON : STREAM_WRONG;
	}
	s->eof = true;
	if (!s->trailed)
		return STREAM_ENDED;
	return stream_totals(s, &sent, &received) && sent == s->rx_pos ?
	    STREAM_ENDED :
	    STREAM_CUT;
}

void
stream_watch(struct stream *s, bool reading, void *what)
{
	uint32_t events = reading && !s->eof ? EPOLLIN : 0;

	/* A turn that was full is as good as a socket that was. */
	if (s->blocked || s->tx_pos < s->tx_limit)
		events |= EPOLLOUT;
	base_watch(s->fd, &s->watched, events, what);
}

uint64_t
stream_gap(struct stream *s, uint64_t now)
{
	uint64_t gap = now - s->rx_ns > s->gap_ns ? now - s->rx_ns : s->gap_ns;

	s->gap_ns = 0;
	return gap;
}

void
stream_close(struct stream *s, bool reset)
{
	struct linger linger = {.l_onoff = 1};

	if (reset)
		setsockopt(s->fd, SOL_SOCKET, SO_LINGER, &linger,
		    sizeof(linger));
	close(s->fd);
	s->fd = -1;
}
