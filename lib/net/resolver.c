#include "net/resolver.h"

#include <netdb.h>
#include <stdlib.h>
#include <string.h>

struct lookup {
	struct message message; /* carries the answer back */
	struct lookup *next;
	struct loop *loop;
	lookup_done *done; /* NULL: cancelled */
	void *context;
	uint16_t port;
	char host[HOSTPORT_HOST_MAX + 1];
	struct address addresses[RESOLVER_ADDRESSES];
	size_t n;
	int status;
};

void
resolver_init(struct resolver *r)
{
	*r = (struct resolver){0};
	pthread_mutex_init(&r->lock, NULL);
	pthread_cond_init(&r->wanted, NULL);
	r->tail = &r->head;
}

static void
deliver(struct message *m)
{
	struct lookup *l = container_of(m, struct lookup, message);

	if (l->done != NULL)
		l->done(l->context, l->addresses, l->n,
		    l->n > 0           ? NULL :
			l->status != 0 ? gai_strerror(l->status) :
					 "no address");
	free(l);
}

static bool
has_address(const struct lookup *l, const struct address *a)
{
	size_t i;

	for (i = 0; i < l->n; i++)
		if (address_equal(&l->addresses[i], a))
			return true;
	return false;
}

static void
look_up(struct lookup *l)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found, *i;
	struct address a;

	l->status = getaddrinfo(l->host, NULL, &hints, &found);
	if (l->status != 0)
		return;
	for (i = found; i != NULL && l->n < RESOLVER_ADDRESSES;
	     i = i->ai_next) {
		if (!address_take(i->ai_addr, i->ai_addrlen, &a))
			continue;
		address_set_port(&a, l->port);
		if (!has_address(l, &a))
			l->addresses[l->n++] = a;
	}
	freeaddrinfo(found);
}

static struct lookup *
next_lookup(struct resolver *r)
{
	struct lookup *l;

	while (r->head == NULL && !r->closed) {
		r->idle++;
		pthread_cond_wait(&r->wanted, &r->lock);
		r->idle--;
	}
	if (r->closed)
		return NULL;
	l = r->head;
	r->head = l->next;
	if (r->head == NULL)
		r->tail = &r->head;
	r->waiting--;
	return l;
}

static void *
resolver_main(void *argument)
{
	struct resolver *r = argument;
	struct lookup *l;

	pthread_mutex_lock(&r->lock);
	while ((l = next_lookup(r)) != NULL) {
		pthread_mutex_unlock(&r->lock);
		look_up(l);
		pthread_mutex_lock(&r->lock);
		/* Under the lock: a loop is only closed once r is. */
		if (r->closed)
			free(l);
		else
			loop_post(l->loop, &l->message);
	}
	pthread_mutex_unlock(&r->lock);
	return NULL;
}

static void
add_thread(struct resolver *r)
{
	pthread_attr_t attributes;
	pthread_t thread;

	if (r->idle > 0 || r->threads == RESOLVER_THREADS)
		return;
	pthread_attr_init(&attributes);
	pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
	if (pthread_create(&thread, &attributes, resolver_main, r) == 0)
		r->threads++;
	pthread_attr_destroy(&attributes);
}

struct lookup *
resolver_start(struct resolver *r, struct loop *loop, const char *host,
    uint16_t port, lookup_done *done, void *context)
{
	struct lookup *l = calloc(1, sizeof(*l));

	if (l == NULL || strlen(host) >= sizeof(l->host)) {
		free(l);
		return NULL;
	}
	l->message.deliver = deliver;
	l->loop = loop;
	l->done = done;
	l->context = context;
	l->port = port;
	strcpy(l->host, host);
	pthread_mutex_lock(&r->lock);
	add_thread(r);
	if (r->closed || r->threads == 0 || r->waiting == RESOLVER_QUEUE) {
		pthread_mutex_unlock(&r->lock);
		free(l);
		return NULL;
	}
	*r->tail = l;
	r->tail = &l->next;
	r->waiting++;
	pthread_cond_signal(&r->wanted);
	pthread_mutex_unlock(&r->lock);
	return l;
}

void
lookup_cancel(struct lookup *l)
{
	l->done = NULL;
}

void
resolver_close(struct resolver *r)
{
	struct lookup *l;

	pthread_mutex_lock(&r->lock);
	r->closed = true;
	while ((l = r->head) != NULL) {
		r->head = l->next;
		free(l);
	}
	r->tail = &r->head;
	r->waiting = 0;
	pthread_cond_broadcast(&r->wanted);
	pthread_mutex_unlock(&r->lock);
}
