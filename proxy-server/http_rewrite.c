/*
 * http_parser takes the head apart, twice: first to learn what it says, then
 * to write it anew.  So no table of fields is needed, and the application
 * gets nothing but what http_parser understood.
 */
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <strings.h>

#include "http_private.h"

/* What is written beyond what was read, without names: see write_head(). */
#define EXTRA_MAX 256

struct writer {
	uint8_t *at;
	size_t room;
};

/* One run of http_parser over the head. */
struct pass {
	struct head *head;
	struct writer *writer; /* NULL: only learn */
	struct span name, value;
	size_t fields;
	int code; /* that the request is refused with */
	bool whole;
};

static void
put(struct writer *w, const void *data, size_t len)
{
	assert(len <= w->room);
	memcpy(w->at, data, len);
	w->at += len;
	w->room -= len;
}

static void
put_text(struct writer *w, const char *text)
{
	put(w, text, strlen(text));
}

static void
put_span(struct writer *w, struct span s)
{
	put(w, s.at, s.len);
}

/* The callbacks may get a thing in pieces; these are next to each other. */
static void
extend(struct span *s, const char *at, size_t len)
{
	if (s->at == NULL)
		s->at = at;
	s->len = (size_t)(at - s->at) + len;
}

static int
on_url(http_parser *parser, const char *at, size_t len)
{
	struct pass *pass = parser->data;

	if (pass->writer == NULL)
		extend(&pass->head->target, at, len);
	return 0;
}

static void
put_field(struct writer *w, struct span name, struct span value)
{
	put_span(w, name);
	put_text(w, ": ");
	put_span(w, value);
	put_text(w, "\r\n");
}

/* A field is whole when the next one begins or the head ends. */
static int
flush_field(struct pass *pass)
{
	struct span name = pass->name;
	struct span value = http_field_trim(pass->value);

	if (name.at == NULL)
		return 0;
	pass->name = pass->value = (struct span){NULL, 0};
	pass->fields++;
	if (pass->writer == NULL)
		pass->code = http_field_scan(pass->head, name, value);
	else if (http_field_kept(pass->head, name))
		put_field(pass->writer, name, value);
	return pass->code;
}

static int
on_name(http_parser *parser, const char *at, size_t len)
{
	struct pass *pass = parser->data;

	if (pass->value.at != NULL && flush_field(pass) != 0)
		return -1;
	extend(&pass->name, at, len);
	return 0;
}

static int
on_value(http_parser *parser, const char *at, size_t len)
{
	struct pass *pass = parser->data;

	extend(&pass->value, at, len);
	return 0;
}

/* 1: as if there were no body, for the head is all that there is to read. */
static int
on_head(http_parser *parser)
{
	struct pass *pass = parser->data;

	if (flush_field(pass) != 0)
		return -1;
	pass->whole = true;
	return 1;
}

static const http_parser_settings settings = {
    .on_url = on_url,
    .on_header_field = on_name,
    .on_header_value = on_value,
    .on_headers_complete = on_head,
};

/*
 * 0 or a code.  We counted the lines and know where the head ends; if
 * http_parser sees anything else there, two readings are possible.
 */
static int
run(struct http *h, struct pass *pass)
{
	http_parser parser;
	size_t n;

	http_parser_init(&parser, HTTP_REQUEST);
	parser.data = pass;
	n = http_parser_execute(&parser, &settings, (const char *)h->buf,
	    h->len);
	if (pass->code != 0)
		return pass->code;
	if (HTTP_PARSER_ERRNO(&parser) == HPE_INVALID_METHOD)
		return 501;
	if (HTTP_PARSER_ERRNO(&parser) != HPE_OK || n != h->len ||
	    !pass->whole || pass->fields != h->fields)
		return 400;
	pass->head->method.at = http_method_str(parser.method);
	pass->head->method.len = strlen(pass->head->method.at);
	pass->head->minor = parser.http_minor;
	return 0;
}

static bool
starts_with(struct span s, const char *prefix)
{
	return s.len >= strlen(prefix) &&
	    strncasecmp(s.at, prefix, strlen(prefix)) == 0;
}

/* RFC 9112, 3.2: absolute-form to origin-form, its authority apart. */
static int
split_target(struct head *head)
{
	struct span target = head->target, authority;
	bool options = strcmp(head->method.at, "OPTIONS") == 0;
	size_t scheme;

	if (target.at[0] == '/')
		return 0;
	if (target.len == 1 && target.at[0] == '*')
		return options ? 0 : 400;
	if (starts_with(target, "http://"))
		scheme = strlen("http://");
	else if (starts_with(target, "https://"))
		scheme = strlen("https://");
	else
		return 400;
	authority.at = target.at + scheme;
	authority.len = 0;
	while (scheme + authority.len < target.len &&
	    authority.at[authority.len] != '/' &&
	    authority.at[authority.len] != '?')
		authority.len++;
	if (!http_field_host(authority))
		return 400;
	head->authority = authority;
	head->target.at = authority.at + authority.len;
	head->target.len = target.len - scheme - authority.len;
	/* RFC 9112, 3.2.4: this is how "*" is said in absolute-form. */
	if (head->target.len == 0 && options)
		head->target = (struct span){"*", 1};
	return 0;
}

static void
put_request_line(struct writer *w, const struct head *head)
{
	put_span(w, head->method);
	put_text(w, " ");
	if (head->target.len == 0 || head->target.at[0] == '?')
		put_text(w, "/");
	put_span(w, head->target);
	put_text(w, head->minor == 0 ? " HTTP/1.0\r\n" : " HTTP/1.1\r\n");
}

static void
put_forwarded(struct writer *w, const struct http *h, const struct head *head)
{
	put_text(w, "X-Forwarded-For: ");
	put(w, h->names + h->host_len, h->visitor_len);
	put_text(w, "\r\nX-Forwarded-Proto: http\r\n");
	if (head->authority.len > 0) {
		put_text(w, "X-Forwarded-Host: ");
		put_span(w, head->authority);
		put_text(w, "\r\n");
	}
}

static void
put_hop(struct writer *w, const struct head *head)
{
	char line[48];

	if (head->close)
		put_text(w, head->minor == 0 ? "" : "Connection: close\r\n");
	else if (head->upgrade && head->keep_alive)
		put_text(w, "Connection: keep-alive, Upgrade\r\n");
	else if (head->upgrade)
		put_text(w, "Connection: Upgrade\r\n");
	else if (head->keep_alive)
		put_text(w, "Connection: keep-alive\r\n");
	if (head->upgrade)
		put_text(w, "Upgrade: websocket\r\n");
	if (head->encodings > 0) {
		put_text(w, "Transfer-Encoding: chunked\r\n");
	} else if (head->lengths > 0) {
		snprintf(line, sizeof(line), "Content-Length: %" PRIu64 "\r\n",
		    head->length);
		put_text(w, line);
	}
}

/* 0 or a code; buf has the new head then. */
static int
write_head(struct http *h, struct head *head)
{
	size_t size =
	    h->len + h->fields + h->host_len + h->visitor_len + EXTRA_MAX;
	uint8_t *buf = h->allocator->alloc(h->allocator->context, size);
	struct writer w = {buf, size};
	struct pass pass = {.head = head, .writer = &w};
	int code;

	if (buf == NULL)
		return 503;
	put_request_line(&w, head);
	put_text(&w, "Host: ");
	put(&w, h->names, h->host_len);
	put_text(&w, "\r\n");
	code = run(h, &pass);
	if (code != 0) {
		allocator_free(h->allocator, buf);
		return code;
	}
	put_forwarded(&w, h, head);
	put_hop(&w, head);
	put_text(&w, "\r\n");
	http_drop(h);
	h->buf = buf;
	h->size = size;
	h->len = size - w.room;
	return 0;
}

static enum request_state
state_after_head(struct http *h, const struct head *head)
{
	if (head->upgrade)
		return REQUEST_UPGRADING;
	if (head->encodings > 0) {
		h->chunk = CHUNK_FIRST;
		h->left = 0;
		h->digits = 0;
		h->extra = 0;
		return REQUEST_CHUNK_LINE;
	}
	h->left = head->length;
	return h->left > 0 ? REQUEST_BODY : http_after(h);
}

enum http_step
http_rewrite(struct http *h)
{
	struct head head = {0};
	struct pass pass = {.head = &head};
	int code = run(h, &pass);

	if (code == 0)
		code = split_target(&head);
	if (code == 0)
		code = http_field_judge(&head);
	if (code == 0)
		code = write_head(h, &head);
	if (code != 0)
		return http_refuse(h, code);
	h->close = head.close;
	if (strcmp(head.method.at, "HEAD") == 0)
		h->heads |= UINT64_C(1) << h->owed;
	h->owed++;
	h->count++;
	return http_give(h, h->len, state_after_head(h, &head));
}
