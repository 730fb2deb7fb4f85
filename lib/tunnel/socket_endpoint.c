#include "tunnel/socket_endpoint.h"

#include "tunnel/session.h"

static struct socket_endpoint *
of(struct endpoint *e)
{
	return container_of(e, struct socket_endpoint, endpoint);
}

void
socket_endpoint_sync(struct socket_endpoint *s)
{
	s->endpoint.readable = s->tcp.readable;
	s->endpoint.writable = s->tcp.writable;
	s->endpoint.failed = s->tcp.failed;
}

void
socket_endpoint_ready(struct tcp *t)
{
	struct socket_endpoint *s =
	    container_of(t, struct socket_endpoint, tcp);

	socket_endpoint_sync(s);
	stream_ready(s->endpoint.stream);
}

static void
tcp_gone(struct tcp *t)
{
	struct socket_endpoint *s =
	    container_of(t, struct socket_endpoint, tcp);

	s->gone(s);
}

void
socket_endpoint_finish(struct socket_endpoint *s)
{
	tcp_finish(&s->tcp, tcp_gone);
}

void
socket_endpoint_close(struct socket_endpoint *s, bool reset)
{
	if (s->tcp.watch.fd >= 0)
		tcp_close(&s->tcp, reset);
	s->gone(s);
}

static ssize_t
endpoint_read(struct endpoint *e, void *buf, size_t len)
{
	ssize_t n = tcp_read(&of(e)->tcp, buf, len);

	e->readable = of(e)->tcp.readable;
	return n;
}

static ssize_t
endpoint_write(struct endpoint *e, const struct iovec *iov, int count)
{
	ssize_t n = tcp_write(&of(e)->tcp, iov, count);

	e->writable = of(e)->tcp.writable;
	return n;
}

static void
endpoint_shut(struct endpoint *e)
{
	tcp_shut(&of(e)->tcp);
}

static void
endpoint_close(struct endpoint *e)
{
	socket_endpoint_finish(of(e));
}

static void
endpoint_reset(struct endpoint *e)
{
	socket_endpoint_close(of(e), true);
}

static void
endpoint_refuse(struct endpoint *e, enum ins_outcome outcome)
{
	(void)outcome;
	endpoint_reset(e);
}

const struct endpoint_ops socket_endpoint_ops = {
    endpoint_read,
    endpoint_write,
    endpoint_shut,
    endpoint_close,
    endpoint_reset,
    endpoint_refuse,
};
