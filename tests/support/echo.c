/*
 * echo [-v] [--http] PORT|ADDRESS:PORT: the application of the demonstration
 * and of the tests.  Sends back what it gets; at an end of file it sends what
 * is left and closes.  Prints `listening PORT`; port 0 lets the kernel choose.
 * -v prints each connection, each message and each answer.  --http takes one
 * request of each connection, and answers 200 with the request's head as body.
 *
 * One thread, 64 KiB for each connection: a visitor that sends and does not
 * read is not read from either.
 */
#include <sys/epoll.h>
#include <sys/socket.h>

#include <errno.h>
#include <getopt.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
	BUFFER = 65536,
	EVENTS = 64,
	SHOWN = 200,
	ANSWER = 256, /* at most, of an HTTP answer without its body */
};

struct connection {
	int fd;
	unsigned number;
	uint32_t watched; /* what epoll is asked for */
	bool eof; /* the visitor has ended its direction */
	bool answered; /* --http: what else comes is thrown away */
	size_t head; /* --http: of the request, in the buffer */
	size_t start, end; /* buffer[start..end) waits to be sent */
	uint8_t buffer[BUFFER];
};

static bool verbose, http;

static void
die(const char *what)
{
	fprintf(stderr, "echo: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void
show_message(const struct connection *c, const uint8_t *data, size_t len)
{
	printf("%u: %zu bytes: \"", c->number, len);
	for (size_t i = 0; i < len && i < SHOWN; i++) {
		if (data[i] == '\n')
			fputs("\\n", stdout);
		else if (data[i] < ' ' || data[i] > '~')
			printf("\\x%02x", data[i]);
		else
			putchar(data[i]);
	}
	puts(len > SHOWN ? "\"..." : "\"");
	fflush(stdout);
}

static void
show_connection(const struct connection *c)
{
	struct sockaddr_storage peer;
	socklen_t len = sizeof(peer);
	char host[64] = "?", port[16] = "?";

	if (getpeername(c->fd, (struct sockaddr *)&peer, &len) == 0)
		getnameinfo((struct sockaddr *)&peer, len, host, sizeof(host),
		    port, sizeof(port), NI_NUMERICHOST | NI_NUMERICSERV);
	printf("%u: connection from %s port %s\n", c->number, host, port);
	fflush(stdout);
}

static void
connection_free(struct connection *c, const char *why)
{
	if (verbose) {
		printf("%u: %s\n", c->number, why);
		fflush(stdout);
	}
	close(c->fd);
	free(c);
}

/* 0 or -1 with errno; EAGAIN is not an error. */
static int
connection_send(struct connection *c)
{
	while (c->start < c->end) {
		ssize_t n = send(c->fd, c->buffer + c->start, c->end - c->start,
		    MSG_NOSIGNAL);

		if (n < 0)
			return errno == EAGAIN || errno == EINTR ? 0 : -1;
		c->start += (size_t)n;
	}
	if (verbose && c->end > 0) {
		printf("%u: sent back %zu bytes\n", c->number, c->end);
		fflush(stdout);
	}
	/* The visitor closes then; closing first could reset the answer. */
	if (c->answered && c->end > 0)
		shutdown(c->fd, SHUT_WR);
	c->start = c->end = 0;
	return 0;
}

/* Put the answer before the head that is in the buffer; body is its length. */
static void
http_answer(struct connection *c, const char *status, size_t body)
{
	size_t shown =
	    body >= 5 && memcmp(c->buffer, "HEAD ", 5) == 0 ? 0 : body;
	char text[ANSWER];
	int len = snprintf(text, sizeof(text),
	    "HTTP/1.1 %s\r\n"
	    "Content-Type: text/plain\r\nContent-Length: %zu\r\n"
	    "Connection: close\r\n\r\n",
	    status, body);

	memmove(c->buffer + len, c->buffer, shown);
	memcpy(c->buffer, text, (size_t)len);
	c->end = (size_t)len + shown;
	c->answered = true;
}

/* n more bytes are in the buffer. */
static void
http_take(struct connection *c, size_t n)
{
	const uint8_t *end;

	c->head += n;
	end = memmem(c->buffer, c->head, "\r\n\r\n", 4);
	if (end != NULL)
		http_answer(c, "200 OK", (size_t)(end + 2 - c->buffer));
	else if (c->head == BUFFER - ANSWER)
		http_answer(c, "431 Request Header Fields Too Large", 0);
	else
		return;
	c->head = 0;
}

static int
connection_receive(struct connection *c)
{
	size_t room = http ? BUFFER - ANSWER - c->head : BUFFER;
	ssize_t n;

	if (c->eof || c->end > 0)
		return 0;
	n = recv(c->fd, c->buffer + c->head, room, 0);
	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -1;
	c->eof = n == 0;
	if (verbose && n > 0)
		show_message(c, c->buffer + c->head, (size_t)n);
	if (!http)
		c->end = (size_t)n;
	else if (!c->answered)
		http_take(c, (size_t)n);
	return 0;
}

static int
connection_watch(struct connection *c, int epoll)
{
	struct epoll_event event = {.data.ptr = c};

	event.events = c->end > 0 ? EPOLLOUT : EPOLLIN;
	if (event.events == c->watched)
		return 0;
	c->watched = event.events;
	return epoll_ctl(epoll, EPOLL_CTL_MOD, c->fd, &event);
}

static void
connection_step(struct connection *c, int epoll)
{
	if (connection_send(c) < 0 || connection_receive(c) < 0 ||
	    connection_send(c) < 0)
		connection_free(c, strerror(errno));
	else if (c->eof && c->end == 0)
		connection_free(c, "end of file");
	else if (connection_watch(c, epoll) < 0)
		connection_free(c, strerror(errno));
}

static void
accept_one(int listener, int epoll)
{
	static unsigned count;
	struct epoll_event event = {.events = EPOLLIN};
	struct connection *c;
	int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	int on = 1;

	if (fd < 0)
		return;
	c = malloc(sizeof(*c));
	if (c == NULL) {
		close(fd);
		return;
	}
	c->fd = fd;
	c->number = ++count;
	c->watched = EPOLLIN;
	c->eof = c->answered = false;
	c->head = 0;
	c->start = c->end = 0;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	if (verbose)
		show_connection(c);
	event.data.ptr = c;
	if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) < 0)
		connection_free(c, strerror(errno));
}

/* PORT, ADDRESS:PORT or [ADDRESS]:PORT; a bare port is on 127.0.0.1. */
static int
listen_on(const char *text)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
	    .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
	struct addrinfo *found;
	char host[256] = "127.0.0.1";
	const char *colon = strrchr(text, ':'), *port = text;
	int fd, on = 1;

	if (colon != NULL) {
		bool square =
		    text[0] == '[' && colon > text + 1 && colon[-1] == ']';

		port = colon + 1;
		snprintf(host, sizeof(host), "%.*s",
		    (int)(colon - text) - 2 * square, text + square);
	}
	if (getaddrinfo(host[0] != '\0' ? host : NULL, port, &hints, &found) !=
	    0) {
		fprintf(stderr, "echo: %s: not an address\n", text);
		exit(1);
	}
	fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		die("socket");
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (bind(fd, found->ai_addr, found->ai_addrlen) < 0 ||
	    listen(fd, SOMAXCONN) < 0)
		die(text);
	freeaddrinfo(found);
	return fd;
}

static unsigned
local_port(int fd)
{
	struct sockaddr_storage local;
	socklen_t len = sizeof(local);

	if (getsockname(fd, (struct sockaddr *)&local, &len) < 0)
		die("getsockname");
	if (local.ss_family == AF_INET6)
		return ntohs(((struct sockaddr_in6 *)&local)->sin6_port);
	return ntohs(((struct sockaddr_in *)&local)->sin_port);
}

int
main(int argc, char **argv)
{
	struct epoll_event events[EVENTS];
	struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
	static const struct option options[] = {
	    {"http", no_argument, NULL, 'h'},
	    {NULL, 0, NULL, 0},
	};
	int epoll = epoll_create1(EPOLL_CLOEXEC), listener, n, option;

	while ((option = getopt_long(argc, argv, "v", options, NULL)) != -1)
		switch (option) {
		case 'v':
			verbose = true;
			break;
		case 'h':
			http = true;
			break;
		default:
			return 2;
		}
	if (optind != argc - 1) {
		fputs("usage: echo [-v] [--http] PORT|ADDRESS:PORT\n", stderr);
		return 2;
	}
	signal(SIGPIPE, SIG_IGN);
	listener = listen_on(argv[optind]);
	if (epoll < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event) < 0)
		die("epoll");
	printf("listening %u\n", local_port(listener));
	fflush(stdout);
	for (;;) {
		n = epoll_wait(epoll, events, EVENTS, -1);
		if (n < 0 && errno != EINTR)
			die("epoll_wait");
		for (int i = 0; i < n; i++) {
			if (events[i].data.ptr == NULL)
				accept_one(listener, epoll);
			else
				connection_step(events[i].data.ptr, epoll);
		}
	}
}
