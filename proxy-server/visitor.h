/*
 * A visitor: a connection to a listener, from its accept to its end.  First
 * it looks for a session of its remote (an http visitor once its first
 * request is there), waits for one when there is none, moves to the worker of
 * one when this worker has none; then it is the endpoint of a stream.
 */
#ifndef PROXY_SERVER_VISITOR_H
#define PROXY_SERVER_VISITOR_H

#include "proxy-server/listener.h"
#include "base/image.h"
#include "proxy-server/server.h"
#include "tunnel/session.h"
#include "tunnel/socket_endpoint.h"

/* What it needs only until it has a stream. */
struct search {
	struct visitor *visitor;
	struct list node;		/* worker->visitors */
	struct list waiting;		/* worker->waiting */
	struct timer deadline;		/* of waiting, or of an http head */
	struct message move;
	unsigned moves;			/* between workers */
};

/* One of type: http is the beginning of a struct http_visitor. */
struct visitor {
	struct socket_endpoint socket;
	struct worker *worker;
	struct listener *listener;	/* one reference */
	struct search *search;		/* NULL once it has a stream or is let
					 * go */
	struct hash_node connection;	/* in server->connections */
	struct {
		uint64_t session, identity;
	} key;
	struct address peer;
};

/* Takes fd over in any case; borrows the listener. */
void
visitor_accept(struct worker *, struct listener *, int fd,
    const struct address *peer);

/* Find a session for it, or let it wait.  It may be gone after this. */
void
visitor_place(struct visitor *);

/* End its search, once; before it is let go. */
void
visitor_leave(struct visitor *);

/* Nobody will serve it: reset, or the http answer for outcome. */
void
visitor_refuse(struct visitor *, enum ins_outcome);

/* A remote has a session now: those who wait for it may go on.  Any thread. */
void
visitor_remote_up(struct server *, const char *name);

/* A name is in the configuration no more: refuse those that wait for it. */
void
visitor_refuse_unknown(struct worker *);

/* The same for all of them: no remote will come. */
void
visitor_refuse_waiting(struct worker *);

/* The stream of report->user, a visitor, is over. */
void
visitor_finished(const struct stream_report *report);

/* End all that have no stream yet. */
void
visitor_end_all(struct worker *);

/* http_visitor.c: the same for type: http. */
extern const struct endpoint_ops http_visitor_ops;

/* An empty one, but for listener and peer; NULL with errno. */
struct visitor *
http_visitor_new(struct listener *, const struct address *peer);
void
http_visitor_free(struct visitor *);
/* Give it HTTP_HEAD_US to send its first request's head. */
#define HTTP_HEAD_US (60 * (uint64_t)SECOND)
void
http_visitor_expect(struct visitor *);
/* The socket's events before there is a stream. */
void
http_visitor_early(struct tcp *);
/* The socket's events when there is a stream. */
void
http_visitor_ready(struct tcp *);
/* Answer with an error, as far as the socket takes it, and close. */
void
http_visitor_refuse(struct visitor *, enum ins_outcome);

/* The same for the upgrade; listener and peer are visitor_load()'s. */
void
http_visitor_save(const struct visitor *, struct image_writer *);
struct visitor *
http_visitor_load(struct listener *, const struct address *peer,
    struct image_reader *);
/* Look, at the end of the turn, what can go on. */
void
http_visitor_revive(struct visitor *);

/*
 * For an upgrade in place: any visitor but for its listener, of which a loaded
 * one takes a reference; and one that has a stream takes that up.  NULL: the
 * image is not right, or memory ran out; then the process ends.
 */
void
visitor_save(const struct visitor *, struct image_writer *);
struct visitor *
visitor_load(struct worker *, struct listener *, struct image_reader *);
void
visitor_take_up(struct visitor *, uint64_t session, struct stream *);

#endif
