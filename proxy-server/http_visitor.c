/*
 * A visitor of a type: http listener: http.h between its socket and its
 * stream.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proxy-server/visitor.h"

#define INPUT_SIZE 16384
#define OUTPUT_SIZE 4096

static struct visitor *
of(struct endpoint *e)
{
	return container_of(e, struct visitor, socket.endpoint);
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
	leave_silently(container_of(t, struct visitor, deadline));
}

void
http_visitor_expect(struct visitor *v)
{
	struct driver *d = worker_driver(v->worker);

	v->deadline.expired = on_head_deadline;
	timer_set(&d->timers, &v->deadline, d->now + HTTP_HEAD_US);
}

static void
drop_bytes(struct http_bytes *b)
{
	free(b->data);
	*b = (struct http_bytes){0};
}

/* Readiness as the stream shall see it: more than the socket's. */
static void
sync_flags(struct visitor *v)
{
	v->socket.endpoint.writable = v->socket.tcp.writable;
	v->socket.endpoint.failed = v->socket.tcp.failed;
	v->socket.endpoint.readable = v->application_done ||
	    (!v->held &&
		(v->request_bad || v->socket.tcp.readable ||
		    v->input.data != NULL || v->output.data != NULL ||
		    http_request_pending(v->http)));
}

static void
on_kick(struct work *w)
{
	struct visitor *v = container_of(w, struct visitor, kick);

	if (v->socket.endpoint.stream == NULL)
		return;
	sync_flags(v);
	stream_ready(v->socket.endpoint.stream);
}

int
http_visitor_init(struct visitor *v)
{
	const struct hostport *target = &v->listener->config->target;
	char host[HOSTPORT_TEXT_MAX], visitor[ADDRESS_TEXT_MAX];

	if (target->host[0] == '\0')
		snprintf(host, sizeof(host), "127.0.0.1:%u", target->port);
	else
		hostport_format(target, host, sizeof(host));
	address_format_host(&v->peer, visitor, sizeof(visitor));
	work_init(&v->kick, on_kick);
	v->http = http_new(host, visitor);
	if (v->http == NULL)
		errno = ENOMEM;
	return v->http != NULL ? 0 : -1;
}

void
http_visitor_free(struct visitor *v)
{
	if (v->http == NULL)
		return;
	work_cancel(&v->kick);
	drop_bytes(&v->input);
	drop_bytes(&v->output);
	http_free(v->http);
	v->http = NULL;
}

/* An error answer fits any socket that is read; one that is not loses it. */
static void
answer_error(struct visitor *v, int code)
{
	struct iovec iov;
	size_t len;

	iov.iov_base = (void *)http_error(code, &len);
	iov.iov_len = len;
	if (tcp_write(&v->socket.tcp, &iov, 1) < 0)
		v->socket.tcp.failed = true;
	v->refused = true;
}

void
http_visitor_refuse(struct visitor *v, enum ins_outcome outcome)
{
	work_cancel(&v->kick);
	answer_error(v,
	    outcome == INS_TIMED_OUT        ? 504 :
		outcome == INS_NO_RESOURCES ? 503 :
					      502);
	socket_endpoint_finish(&v->socket);
}

/* Some bytes of the socket into v->input; as read(2). */
static ssize_t
fill(struct visitor *v)
{
	ssize_t n;

	if (v->input.data != NULL)
		return 1;
	if (!v->socket.tcp.readable) {
		errno = EAGAIN;
		return -1;
	}
	v->input.data = malloc(INPUT_SIZE);
	if (v->input.data == NULL) {
		errno = ENOMEM;
		return -1;
	}
	n = tcp_read(&v->socket.tcp, v->input.data, INPUT_SIZE);
	if (n > 0)
		v->input.len = (size_t)n;
	else
		drop_bytes(&v->input);
	return n;
}

/* Hand v->input to http; what it made is in buf. */
static enum http_status
transform(struct visitor *v, uint8_t *buf, size_t len, size_t *made)
{
	enum http_status status;
	size_t used;

	status = http_request(v->http, v->input.data + v->input.at,
	    v->input.len - v->input.at, &used, buf, len, made);
	if (status == HTTP_BAD)
		v->request_bad = true;
	v->input.at += used;
	if (v->input.at == v->input.len)
		drop_bytes(&v->input);
	return status;
}

/* Before there is a stream: until the first request is whole. */
void
http_visitor_early(struct tcp *t)
{
	struct visitor *v = container_of(t, struct visitor, socket.tcp);
	enum http_status status;
	ssize_t n = 1;

	if (t->failed) {
		leave_silently(v);
		return;
	}
	/* One that waits for its remote has its request. */
	if (v->output.data != NULL)
		return;
	while ((n = fill(v)) > 0) {
		v->output.data = malloc(OUTPUT_SIZE);
		if (v->output.data == NULL) {
			n = -1;
			errno = ENOMEM;
			break;
		}
		status =
		    transform(v, v->output.data, OUTPUT_SIZE, &v->output.len);
		if (status == HTTP_BAD && v->output.len == 0) {
			visitor_leave(v);
			answer_error(v, http_bad_code(v->http));
			socket_endpoint_finish(&v->socket);
			return;
		}
		if (http_request_begun(v->http)) {
			timer_cancel(&worker_driver(v->worker)->timers,
			    &v->deadline);
			visitor_place(v);
			return;
		}
		drop_bytes(&v->output);
	}
	if (n == 0 || errno != EAGAIN)
		leave_silently(v);
}

void
http_visitor_ready(struct tcp *t)
{
	struct visitor *v = container_of(t, struct visitor, socket.tcp);

	sync_flags(v);
	stream_ready(v->socket.endpoint.stream);
}

static ssize_t
take_output(struct visitor *v, void *buf, size_t len)
{
	size_t n = v->output.len - v->output.at;

	if (n > len)
		n = len;
	memcpy(buf, v->output.data + v->output.at, n);
	v->output.at += n;
	if (v->output.at == v->output.len)
		drop_bytes(&v->output);
	return (ssize_t)n;
}

/*
 * A bad request: its answer has to wait for those of the requests before it.
 */
static ssize_t
read_bad(struct visitor *v)
{
	if (!http_response_idle(v->http) || v->followed > 0) {
		v->held = true;
		errno = EAGAIN;
		return -1;
	}
	if (!v->refused)
		answer_error(v, http_bad_code(v->http));
	errno = EPROTO;
	return -1;
}

static ssize_t
read_request(struct visitor *v, uint8_t *buf, size_t len)
{
	enum http_status status;
	size_t plain, made;
	ssize_t n;

	while (!v->request_bad) {
		plain = http_request_plain(v->http);
		if (plain > 0 && v->input.data == NULL &&
		    !http_request_pending(v->http)) {
			n = tcp_read(&v->socket.tcp, buf,
			    len < plain ? len : plain);
			if (n > 0)
				http_request_passed(v->http, (size_t)n);
			return n;
		}
		if (!http_request_pending(v->http)) {
			n = fill(v);
			if (n <= 0)
				return n;
		}
		status = transform(v, buf, len, &made);
		if (made > 0)
			return (ssize_t)made;
		if (status == HTTP_WAIT) {
			v->held = true;
			errno = EAGAIN;
			return -1;
		}
	}
	return read_bad(v);
}

static ssize_t
http_read(struct endpoint *e, void *buf, size_t len)
{
	struct visitor *v = of(e);
	ssize_t n;

	if (v->application_done)
		n = 0;
	else if (v->output.data != NULL && v->output.len > 0)
		n = take_output(v, buf, len);
	else {
		drop_bytes(&v->output);
		n = read_request(v, buf, len);
	}
	sync_flags(v);
	return n;
}

/* Follow what was not followed yet; the bytes that may be written. */
static size_t
follow(struct visitor *v, const struct iovec *iov, int count)
{
	size_t skip = v->followed, len;
	const uint8_t *at;
	int i;

	for (i = 0; i < count && !v->response_bad; i++) {
		at = iov[i].iov_base;
		len = iov[i].iov_len;
		if (skip >= len) {
			skip -= len;
			continue;
		}
		at += skip;
		len -= skip;
		skip = 0;
		if (http_response(v->http, at, len) == HTTP_BAD) {
			v->response_bad = true;
			len = http_response_whole(v->http);
		}
		v->followed += len;
	}
	return v->followed;
}

/* Nothing good is left of a bad response. */
static ssize_t
write_bad(struct visitor *v)
{
	if (!http_response_partial(v->http) && !v->refused)
		answer_error(v, 502);
	errno = EPROTO;
	return -1;
}

static ssize_t
http_write(struct endpoint *e, const struct iovec *iov, int count)
{
	struct visitor *v = of(e);
	struct iovec part[16];
	size_t good, left;
	ssize_t n;
	int i;

	if (count > 16)
		count = 16;
	good = left = follow(v, iov, count);
	if (good == 0)
		return v->response_bad ? write_bad(v) : 0;
	for (i = 0; i < count && left > 0; i++) {
		part[i] = iov[i];
		if (part[i].iov_len > left)
			part[i].iov_len = left;
		left -= part[i].iov_len;
	}
	n = tcp_write(&v->socket.tcp, part, i);
	if (n > 0)
		v->followed -= (size_t)n;
	/* A response may let requests go on. */
	if (v->held) {
		v->held = false;
		driver_defer(worker_driver(v->worker), &v->kick);
	}
	sync_flags(v);
	return n;
}

/*
 * The application is gone: 502 for a request whose answer has not begun.
 * Bytes that were followed and not written are a response's too.
 */
static void
answer_owed(struct visitor *v)
{
	if (!v->refused && !v->socket.tcp.failed && v->followed == 0 &&
	    !v->application_done && http_request_plain(v->http) != SIZE_MAX &&
	    !http_response_idle(v->http) && !http_response_partial(v->http))
		answer_error(v, 502);
}

/*
 * The application is done.  Inside HTTP that ends the visitor's connection
 * too: nobody would answer its further requests.
 */
static void
http_shut(struct endpoint *e)
{
	struct visitor *v = of(e);

	if (http_request_plain(v->http) != SIZE_MAX) {
		answer_owed(v);
		http_response_end(v->http);
		v->application_done = true;
		driver_defer(worker_driver(v->worker), &v->kick);
	}
	tcp_shut(&v->socket.tcp);
}

static void
http_close(struct endpoint *e)
{
	answer_owed(of(e));
	work_cancel(&of(e)->kick);
	socket_endpoint_finish(&of(e)->socket);
}

static void
http_reset(struct endpoint *e)
{
	struct visitor *v = of(e);

	work_cancel(&v->kick);
	answer_owed(v);
	if (v->refused) {
		socket_endpoint_finish(&v->socket);
		return;
	}
	socket_endpoint_close(&v->socket, true);
}

static void
http_refuse(struct endpoint *e, enum ins_outcome outcome)
{
	http_visitor_refuse(of(e), outcome);
}

const struct endpoint_ops http_visitor_ops = {
    http_read,
    http_write,
    http_shut,
    http_close,
    http_reset,
    http_refuse,
};
