#include "proxy-server/binding.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proxy-server/server.h"

/* A socket that was handed in. */
struct inherited {
	struct list node;
	struct address asked, address;
	struct listener *listener; /* one reference; or NULL */
	int fd;
};

static void
inherited_free(struct inherited *s)
{
	list_remove(&s->node);
	listener_release(s->listener);
	free(s);
}

struct binding *
binding_new(const struct address *asked, struct listener *l)
{
	struct binding *b = calloc(1, sizeof(*b));

	if (b == NULL)
		return NULL;
	list_init(&b->node);
	b->asked = b->address = *asked;
	b->next = l;
	return b;
}

void
binding_free(struct binding *b)
{
	size_t k;

	for (k = 0; k < b->nacceptors; k++)
		if (b->acceptors[k].watch.fd >= 0)
			close(b->acceptors[k].watch.fd);
	list_remove(&b->node);
	listener_release(b->listener);
	listener_release(b->next);
	free(b->acceptors);
	free(b);
}

/*
 * Bind once without SO_REUSEPORT, to see that nobody else has the address: a
 * second daemon would silently take half of the visitors.  Finds the port out
 * when the kernel chooses it.
 */
static int
probe(struct address *a)
{
	struct address bound = {.len = sizeof(bound.storage)};
	int fd = address_listen(a, false);

	if (fd < 0)
		return -1;
	if (address_port(a) == 0 && getsockname(fd, &bound.sa, &bound.len) == 0)
		address_set_port(a, address_port(&bound));
	close(fd);
	return 0;
}

/*
 * How many inherited sockets a new binding has; that decides its address when
 * the port is any.
 */
static size_t
count_inherited(const struct list *inherited, struct binding *b)
{
	const struct inherited *s;
	const struct list *i;
	size_t n = 0;

	for (i = inherited->next; i != inherited; i = i->next) {
		s = container_of(i, struct inherited, node);
		if (n == 0 &&
		    (address_equal(&s->asked, &b->asked) ||
			address_equal(&s->address, &b->asked)))
			b->address = s->address;
		n += address_equal(&s->address, &b->address);
	}
	return n;
}

/* The next socket goes to the next worker. */
static void
add_socket(struct binding *b, struct server *server, int fd)
{
	unsigned worker = (unsigned)(b->nacceptors % server->nworkers);

	acceptor_init(&b->acceptors[b->nacceptors++], &server->workers[worker],
	    fd);
}

static void
take_inherited(struct binding *b, struct server *server, struct list *head)
{
	struct list *i, *next;
	struct inherited *s;

	for (i = head->next; i != head; i = next) {
		next = i->next;
		s = container_of(i, struct inherited, node);
		if (!address_equal(&s->address, &b->address))
			continue;
		add_socket(b, server, s->fd);
		inherited_free(s);
	}
}

/*
 * A socket for each worker that has none.  Where some were inherited those
 * may do alone: more can be had only by the user that they are of.
 */
static int
bind_missing(struct binding *b, struct server *server)
{
	size_t inherited = b->nacceptors;
	int fd;

	while (b->nacceptors < server->nworkers) {
		fd = address_bind(&b->address, true);
		if (fd < 0 && inherited > 0 &&
		    (errno == EADDRINUSE || errno == EACCES))
			return 0;
		if (fd < 0)
			return -1;
		add_socket(b, server, fd);
		/*
		 * One beside inherited ones is silent yet: nobody would accept
		 * who comes to it while the process before us serves.
		 */
		if (inherited == 0 && listen(fd, SOMAXCONN) < 0)
			return -1;
	}
	return 0;
}

int
binding_open(struct binding *b, struct server *server, struct list *inherited,
    bool held)
{
	size_t came = count_inherited(inherited, b), n = server->nworkers;

	b->acceptors = calloc(came > n ? came : n, sizeof(*b->acceptors));
	if (b->acceptors == NULL)
		return -1;
	take_inherited(b, server, inherited);
	if (came == 0 && !held && probe(&b->address) < 0)
		return -1;
	if (bind_missing(b, server) < 0)
		return -1;
	listener_set_address(b->next, &b->address);
	return 0;
}

/* What a socket that we bind gets, as far as it can be had afterwards. */
static int
adopt(int fd)
{
	int on = 1, flags = fcntl(fd, F_GETFL);

	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 ||
	    fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
		return -1;
	/* So that the other workers can have sockets beside it. */
	(void)setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on));
	address_tune(fd);
	return 0;
}

int
inherited_add(struct list *inherited, const struct address *asked, int fd,
    struct listener *l)
{
	struct address a = {.len = sizeof(a.storage)};
	socklen_t size = sizeof(int);
	struct inherited *s;
	int listens = 0;

	if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size) < 0 ||
	    getsockname(fd, &a.sa, &a.len) < 0)
		return -1;
	if (!listens ||
	    (a.sa.sa_family != AF_INET && a.sa.sa_family != AF_INET6)) {
		errno = EINVAL;
		return -1;
	}
	if (adopt(fd) < 0)
		return -1;
	s = calloc(1, sizeof(*s));
	if (s == NULL)
		return -1;
	s->asked = asked != NULL ? *asked : a;
	s->address = a;
	s->fd = fd;
	s->listener = l != NULL ? listener_hold(l) : NULL;
	list_append(inherited, &s->node);
	return 0;
}

bool
inherited_overlap(const struct list *inherited, const struct address *a)
{
	const struct list *i;

	for (i = inherited->next; i != inherited; i = i->next)
		if (address_overlap(&container_of(i, struct inherited, node)
					 ->address,
			a))
			return true;
	return false;
}

/* Who is in its queue came to what it was until now. */
static void
take_leave(struct inherited *s, struct worker *w)
{
	struct acceptor a;

	acceptor_init(&a, w, s->fd);
	if (s->listener != NULL) {
		a.listener = s->listener;
		acceptor_end(&a);
	} else
		close(s->fd);
	inherited_free(s);
}

void
inherited_end(struct list *inherited, struct server *server)
{
	unsigned i;

	for (i = 0; !list_empty(inherited); i++)
		take_leave(container_of(inherited->next, struct inherited,
			       node),
		    &server->workers[i % server->nworkers]);
}

void
inherited_close(struct list *inherited)
{
	struct inherited *s;

	while (!list_empty(inherited)) {
		s = container_of(inherited->next, struct inherited, node);
		close(s->fd);
		inherited_free(s);
	}
}
