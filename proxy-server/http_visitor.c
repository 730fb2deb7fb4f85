/*
 * A visitor of a type: http listener: http.h between its socket and its
 * stream.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "proxy-server/http.h"
#include "proxy-server/visitor.h"

#define INPUT_SIZE 16384
#define OUTPUT_SIZE 4096

/* What it holds between its socket and its stream. */
struct http_bytes {
	uint8_t *data; /* NULL while there are none */
	size_t at, len;
};

struct http_visitor {
	struct visitor visitor;
	struct http *http;
	struct http_bytes input; /* read, not yet taken by http */
	struct http_bytes output; /* made before there was a stream */
	struct work kick; /* look again at the end of the turn */
	size_t followed; /* taken by http_response(), unwritten */
	bool held; /* no input before a response */
	bool request_bad; /* refuse when the responses are out */
	bool response_bad;
	bool application_done;
	bool refused; /* an error answer was given */
};

static struct http_visitor *
of(struct endpoint *e)
{
	return container_of(e, struct http_visitor, visitor.socket.endpoint);
}

static struct http_visitor *
of_tcp(struct tcp *t)
{
	return container_of(t, struct http_visitor, visitor.socket.tcp);
}

/* Let go of one that has no stream and gets no answer. */
static void
leave_silently(struct visitor *v)
{
	visitor_leave(v);
	socket_endpoint_close(&v->socket, false);
}

static void
on_head_deadline(struct timer *t)
{
	leave_silently(container_of(t, struct search, deadline)->visitor);
}

void
http_visitor_expect(struct visitor *v)
{
	struct driver *d = worker_driver(v->worker);
	struct timer *deadline = &v->search->deadline;

	deadline->expired = on_head_deadline;
	timer_set(&d->timers, deadline, d->now + HTTP_HEAD_US);
}

static void
drop_bytes(struct http_bytes *b)
{
	free(b->data);
	*b = (struct http_bytes){0};
}

/* Readiness as the stream shall see it: more than the socket's. */
static void
sync_flags(struct http_visitor *h)
{
	h->visitor.socket.endpoint.writable = h->visitor.socket.tcp.writable;
	h->visitor.socket.endpoint.failed = h->visitor.socket.tcp.failed;
	h->visitor.socket.endpoint.readable = h->application_done ||
	    (!h->held &&
		(h->request_bad || h->visitor.socket.tcp.readable ||
		    h->input.data != NULL || h->output.data != NULL ||
		    http_request_pending(h->http)));
}

static void
on_kick(struct work *w)
{
	struct http_visitor *h = container_of(w, struct http_visitor, kick);

	if (h->visitor.socket.endpoint.stream == NULL)
		return;
	sync_flags(h);
	stream_ready(h->visitor.socket.endpoint.stream);
}

struct visitor *
http_visitor_new(struct listener *l, const struct address *peer)
{
	char visitor[ADDRESS_TEXT_MAX];
	struct http_visitor *h = calloc(1, sizeof(*h));

	if (h == NULL)
		return NULL;
	address_format_host(peer, visitor, sizeof(visitor));
	h->visitor.listener = l;
	h->visitor.peer = *peer;
	work_init(&h->kick, on_kick);
	h->http = http_new(l->target_text, visitor);
	if (h->http == NULL) {
		free(h);
		errno = ENOMEM;
		return NULL;
	}
	return &h->visitor;
}

void
http_visitor_free(struct visitor *v)
{
	struct http_visitor *h = container_of(v, struct http_visitor, visitor);

	work_cancel(&h->kick);
	drop_bytes(&h->input);
	drop_bytes(&h->output);
	http_free(h->http);
	free(h);
}

/* An error answer fits any socket that is read; one that is not loses it. */
static void
answer_error(struct http_visitor *h, int code)
{
	struct iovec iov;
	size_t len;

	iov.iov_base = (void *)http_error(code, &len);
	iov.iov_len = len;
	if (tcp_write(&h->visitor.socket.tcp, &iov, 1) < 0)
		h->visitor.socket.tcp.failed = true;
	h->refused = true;
}

void
http_visitor_refuse(struct visitor *v, enum ins_outcome outcome)
{
	struct http_visitor *h = container_of(v, struct http_visitor, visitor);

	work_cancel(&h->kick);
	answer_error(h,
	    outcome == INS_TIMED_OUT        ? 504 :
		outcome == INS_NO_RESOURCES ? 503 :
					      502);
	socket_endpoint_finish(&h->visitor.socket);
}

/* Some bytes of the socket into h->input; as read(2). */
static ssize_t
fill(struct http_visitor *h)
{
	ssize_t n;

	if (h->input.data != NULL)
		return 1;
	if (!h->visitor.socket.tcp.readable) {
		errno = EAGAIN;
		return -1;
	}
	h->input.data = malloc(INPUT_SIZE);
	if (h->input.data == NULL) {
		errno = ENOMEM;
		return -1;
	}
	n = tcp_read(&h->visitor.socket.tcp, h->input.data, INPUT_SIZE);
	if (n > 0)
		h->input.len = (size_t)n;
	else
		drop_bytes(&h->input);
	return n;
}

/* Hand h->input to http; what it made is in buf. */
static enum http_status
transform(struct http_visitor *h, uint8_t *buf, size_t len, size_t *made)
{
	enum http_status status;
	size_t used;

	status = http_request(h->http, h->input.data + h->input.at,
	    h->input.len - h->input.at, &used, buf, len, made);
	if (status == HTTP_BAD)
		h->request_bad = true;
	h->input.at += used;
	if (h->input.at == h->input.len)
		drop_bytes(&h->input);
	return status;
}

/* Before there is a stream: until the first request is whole. */
void
http_visitor_early(struct tcp *t)
{
	struct http_visitor *h = of_tcp(t);
	enum http_status status;
	ssize_t n = 1;

	if (t->failed) {
		leave_silently(&h->visitor);
		return;
	}
	/* One that waits for its remote has its request. */
	if (h->output.data != NULL)
		return;
	while ((n = fill(h)) > 0) {
		h->output.data = malloc(OUTPUT_SIZE);
		if (h->output.data == NULL) {
			n = -1;
			errno = ENOMEM;
			break;
		}
		status =
		    transform(h, h->output.data, OUTPUT_SIZE, &h->output.len);
		if (status == HTTP_BAD && h->output.len == 0) {
			visitor_leave(&h->visitor);
			answer_error(h, http_bad_code(h->http));
			socket_endpoint_finish(&h->visitor.socket);
			return;
		}
		if (http_request_begun(h->http)) {
			timer_cancel(&worker_driver(h->visitor.worker)->timers,
			    &h->visitor.search->deadline);
			visitor_place(&h->visitor);
			return;
		}
		drop_bytes(&h->output);
	}
	if (n == 0 || errno != EAGAIN)
		leave_silently(&h->visitor);
}

void
http_visitor_ready(struct tcp *t)
{
	struct http_visitor *h = of_tcp(t);

	sync_flags(h);
	stream_ready(h->visitor.socket.endpoint.stream);
}

static ssize_t
take_output(struct http_visitor *h, void *buf, size_t len)
{
	size_t n = h->output.len - h->output.at;

	if (n > len)
		n = len;
	memcpy(buf, h->output.data + h->output.at, n);
	h->output.at += n;
	if (h->output.at == h->output.len)
		drop_bytes(&h->output);
	return (ssize_t)n;
}

/*
 * A bad request: its answer has to wait for those of the requests before it.
 */
static ssize_t
read_bad(struct http_visitor *h)
{
	if (!http_response_idle(h->http) || h->followed > 0) {
		h->held = true;
		errno = EAGAIN;
		return -1;
	}
	if (!h->refused)
		answer_error(h, http_bad_code(h->http));
	errno = EPROTO;
	return -1;
}

static ssize_t
read_request(struct http_visitor *h, uint8_t *buf, size_t len)
{
	enum http_status status;
	size_t plain, made;
	ssize_t n;

	while (!h->request_bad) {
		plain = http_request_plain(h->http);
		if (plain > 0 && h->input.data == NULL &&
		    !http_request_pending(h->http)) {
			n = tcp_read(&h->visitor.socket.tcp, buf,
			    len < plain ? len : plain);
			if (n > 0)
				http_request_passed(h->http, (size_t)n);
			return n;
		}
		if (!http_request_pending(h->http)) {
			n = fill(h);
			if (n <= 0)
				return n;
		}
		status = transform(h, buf, len, &made);
		if (made > 0)
			return (ssize_t)made;
		if (status == HTTP_WAIT) {
			h->held = true;
			errno = EAGAIN;
			return -1;
		}
	}
	return read_bad(h);
}

static ssize_t
http_read(struct endpoint *e, void *buf, size_t len)
{
	struct http_visitor *h = of(e);
	ssize_t n;

	if (h->application_done)
		n = 0;
	else if (h->output.data != NULL && h->output.len > 0)
		n = take_output(h, buf, len);
	else {
		drop_bytes(&h->output);
		n = read_request(h, buf, len);
	}
	sync_flags(h);
	return n;
}

/* Follow what was not followed yet; the bytes that may be written. */
static size_t
follow(struct http_visitor *h, const struct iovec *iov, int count)
{
	size_t skip = h->followed, len;
	const uint8_t *at;
	int i;

	for (i = 0; i < count && !h->response_bad; i++) {
		at = iov[i].iov_base;
		len = iov[i].iov_len;
		if (skip >= len) {
			skip -= len;
			continue;
		}
		at += skip;
		len -= skip;
		skip = 0;
		if (http_response(h->http, at, len) == HTTP_BAD) {
			h->response_bad = true;
			len = http_response_whole(h->http);
		}
		h->followed += len;
	}
	return h->followed;
}

/* Nothing good is left of a bad response. */
static ssize_t
write_bad(struct http_visitor *h)
{
	if (!http_response_partial(h->http) && !h->refused)
		answer_error(h, 502);
	errno = EPROTO;
	return -1;
}

static ssize_t
http_write(struct endpoint *e, const struct iovec *iov, int count)
{
	struct http_visitor *h = of(e);
	struct iovec part[16];
	size_t good, left;
	ssize_t n;
	int i;

	if (count > 16)
		count = 16;
	good = left = follow(h, iov, count);
	if (good == 0)
		return h->response_bad ? write_bad(h) : 0;
	for (i = 0; i < count && left > 0; i++) {
		part[i] = iov[i];
		if (part[i].iov_len > left)
			part[i].iov_len = left;
		left -= part[i].iov_len;
	}
	n = tcp_write(&h->visitor.socket.tcp, part, i);
	if (n > 0)
		h->followed -= (size_t)n;
	/* A response may let requests go on. */
	if (h->held) {
		h->held = false;
		driver_defer(worker_driver(h->visitor.worker), &h->kick);
	}
	sync_flags(h);
	return n;
}

/*
 * The application is gone: 502 for a request whose answer has not begun.
 * Bytes that were followed and not written are a response's too.
 */
static void
answer_owed(struct http_visitor *h)
{
	if (!h->refused && !h->visitor.socket.tcp.failed && h->followed == 0 &&
	    !h->application_done && http_request_plain(h->http) != SIZE_MAX &&
	    !http_response_idle(h->http) && !http_response_partial(h->http))
		answer_error(h, 502);
}

/*
 * The application is done.  Inside HTTP that ends the visitor's connection
 * too: nobody would answer its further requests.
 */
static void
http_shut(struct endpoint *e)
{
	struct http_visitor *h = of(e);

	if (http_request_plain(h->http) != SIZE_MAX) {
		answer_owed(h);
		http_response_end(h->http);
		h->application_done = true;
		driver_defer(worker_driver(h->visitor.worker), &h->kick);
	}
	tcp_shut(&h->visitor.socket.tcp);
}

static void
http_close(struct endpoint *e)
{
	answer_owed(of(e));
	work_cancel(&of(e)->kick);
	socket_endpoint_finish(&of(e)->visitor.socket);
}

static void
http_reset(struct endpoint *e)
{
	struct http_visitor *h = of(e);

	work_cancel(&h->kick);
	answer_owed(h);
	if (h->refused) {
		socket_endpoint_finish(&h->visitor.socket);
		return;
	}
	socket_endpoint_close(&h->visitor.socket, true);
}

static void
http_refuse(struct endpoint *e, enum ins_outcome outcome)
{
	http_visitor_refuse(&of(e)->visitor, outcome);
}

const struct endpoint_ops http_visitor_ops = {
    http_read,
    http_write,
    http_shut,
    http_close,
    http_reset,
    http_refuse,
};

static void
save_bytes(struct image_writer *w, const struct http_bytes *b)
{
	image_put(w, b->data != NULL);
	if (b->data != NULL)
		image_put_bytes(w, b->data + b->at, b->len - b->at);
}

static bool
load_bytes(struct image_reader *r, struct http_bytes *b, size_t most)
{
	const uint8_t *p;

	if (!image_take_bool(r))
		return !r->failed;
	p = image_take_bytes(r, &b->len);
	if (r->failed || b->len > most)
		return false;
	b->data = malloc(most);
	if (b->data == NULL)
		return false;
	memcpy(b->data, p, b->len);
	return true;
}

void
http_visitor_save(const struct visitor *v, struct image_writer *w)
{
	const struct http_visitor *h =
	    container_of(v, const struct http_visitor, visitor);

	http_save(h->http, w);
	save_bytes(w, &h->input);
	save_bytes(w, &h->output);
	image_put(w, h->followed);
	image_put(w, h->held);
	image_put(w, h->request_bad);
	image_put(w, h->response_bad);
	image_put(w, h->application_done);
	image_put(w, h->refused);
}

struct visitor *
http_visitor_load(struct listener *l, const struct address *peer,
    struct image_reader *r)
{
	struct http_visitor *h = calloc(1, sizeof(*h));

	if (h == NULL)
		return NULL;
	h->visitor.listener = l;
	h->visitor.peer = *peer;
	work_init(&h->kick, on_kick);
	h->http = http_load(r);
	if (h->http == NULL || !load_bytes(r, &h->input, INPUT_SIZE) ||
	    !load_bytes(r, &h->output, OUTPUT_SIZE)) {
		http_visitor_free(&h->visitor);
		return NULL;
	}
	h->followed = image_take(r, SIZE_MAX);
	h->held = image_take_bool(r);
	h->request_bad = image_take_bool(r);
	h->response_bad = image_take_bool(r);
	h->application_done = image_take_bool(r);
	h->refused = image_take_bool(r);
	return &h->visitor;
}

void
http_visitor_revive(struct visitor *v)
{
	struct http_visitor *h = container_of(v, struct http_visitor, visitor);

	driver_defer(worker_driver(v->worker), &h->kick);
}
