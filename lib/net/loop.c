#include "net/loop.h"

#include <errno.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"

#define BATCH 256
#define FIRST_SLOTS 64
#define LOG_WAIT_US (5 * MS)

struct loop_slot {
	struct watch *watch; /* NULL: free */
	uint32_t generation;
	uint32_t next_free;
};

uint64_t
loop_clock(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * SECOND + (uint64_t)t.tv_nsec / 1000;
}

bool
loop_drain(struct loop *l)
{
	struct message *m, *next;
	bool any;

	pthread_mutex_lock(&l->lock);
	m = l->head;
	l->head = NULL;
	l->tail = &l->head;
	pthread_mutex_unlock(&l->lock);
	any = m != NULL;
	for (; m != NULL; m = next) {
		next = m->next;
		m->deliver(m);
	}
	return any;
}

static void
on_wake(struct watch *w, uint32_t events)
{
	struct loop *l = container_of(w, struct loop, wake);
	uint64_t n;
	ssize_t r;

	(void)events;
	/* Before the inbox is emptied: a later post must wake us again. */
	r = read(w->fd, &n, sizeof(n));
	(void)r;
	loop_drain(l);
}

static void
on_trim(struct timer *t)
{
	struct loop *l = container_of(t, struct loop, trim);

	pool_trim(&l->driver.pool, l->driver.now);
}

static void
on_log(struct timer *t)
{
	(void)t;
	log_flush();
}

int
loop_init(struct loop *l, const struct allocator *allocator)
{
	int saved, fd;

	*l = (struct loop){.free_slot = LOOP_NO_SLOT};
	if (driver_init(&l->driver, allocator) < 0)
		goto err0;
	l->driver.now = loop_clock();
	l->trim.expired = on_trim;
	l->log.expired = on_log;
	list_init(&l->at_close);
	l->tail = &l->head;
	pthread_mutex_init(&l->lock, NULL);
	l->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (l->epoll < 0)
		goto err1;
	fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (fd < 0)
		goto err2;
	l->wake.ready = on_wake;
	if (loop_watch(l, &l->wake, fd, EPOLLIN) < 0)
		goto err3;
	return 0;

err3:
	saved = errno;
	close(fd);
	errno = saved;
err2:
	saved = errno;
	close(l->epoll);
	errno = saved;
err1:
	pthread_mutex_destroy(&l->lock);
err0:
	driver_close(&l->driver);
	return -1;
}

void
loop_at_close(struct loop *l, struct work *w)
{
	list_append(&l->at_close, &w->node);
}

void
loop_close(struct loop *l)
{
	do {
		loop_drain(l);
		list_take(&l->driver.work, &l->at_close);
		driver_run_work(&l->driver);
	} while (l->head != NULL || driver_has_work(&l->driver));
	timer_cancel(&l->driver.timers, &l->trim);
	timer_cancel(&l->driver.timers, &l->log);
	loop_unwatch(l, &l->wake);
	close(l->wake.fd);
	close(l->epoll);
	pthread_mutex_destroy(&l->lock);
	allocator_free(l->driver.allocator, l->slots);
	driver_close(&l->driver);
}

static int
grow_slots(struct loop *l)
{
	uint32_t n = l->nslots == 0 ? FIRST_SLOTS : 2 * l->nslots, i;
	struct loop_slot *slots;

	slots = allocator_new(l->driver.allocator, n * sizeof(*slots));
	if (slots == NULL) {
		errno = ENOMEM;
		return -1;
	}
	for (i = 0; i < l->nslots; i++)
		slots[i] = l->slots[i];
	for (i = n; i-- > l->nslots;) {
		slots[i].next_free = l->free_slot;
		l->free_slot = i;
	}
	allocator_free(l->driver.allocator, l->slots);
	l->slots = slots;
	l->nslots = n;
	return 0;
}

static struct epoll_event
event_for(const struct loop *l, const struct watch *w, uint32_t events)
{
	return (struct epoll_event){
	    .events = events,
	    .data.u64 = (uint64_t)l->slots[w->slot].generation << 32 | w->slot,
	};
}

int
loop_watch(struct loop *l, struct watch *w, int fd, uint32_t events)
{
	struct epoll_event e;
	struct loop_slot *s;

	w->fd = fd;
	w->slot = LOOP_NO_SLOT;
	if (l->free_slot == LOOP_NO_SLOT && grow_slots(l) < 0)
		return -1;
	s = &l->slots[l->free_slot];
	w->slot = l->free_slot;
	e = event_for(l, w, events);
	if (epoll_ctl(l->epoll, EPOLL_CTL_ADD, fd, &e) < 0) {
		w->slot = LOOP_NO_SLOT;
		return -1;
	}
	l->free_slot = s->next_free;
	s->watch = w;
	return 0;
}

int
loop_change(struct loop *l, struct watch *w, uint32_t events)
{
	struct epoll_event e = event_for(l, w, events);

	return epoll_ctl(l->epoll, EPOLL_CTL_MOD, w->fd, &e);
}

static void
free_slot(struct loop *l, struct watch *w)
{
	struct loop_slot *s = &l->slots[w->slot];

	s->watch = NULL;
	s->generation++;
	s->next_free = l->free_slot;
	l->free_slot = w->slot;
	w->slot = LOOP_NO_SLOT;
}

void
loop_unwatch(struct loop *l, struct watch *w)
{
	if (w->slot == LOOP_NO_SLOT)
		return;
	epoll_ctl(l->epoll, EPOLL_CTL_DEL, w->fd, NULL);
	free_slot(l, w);
}

void
loop_close_watched(struct loop *l, struct watch *w)
{
	/* epoll forgets a file that is closed; ours are never duplicated. */
	if (w->slot != LOOP_NO_SLOT)
		free_slot(l, w);
	close(w->fd);
	w->fd = -1;
}

static int
wait_ms(struct loop *l)
{
	uint64_t next, ms;

	if (!l->log.set && log_waiting())
		timer_set(&l->driver.timers, &l->log,
		    l->driver.now + LOG_WAIT_US);
	if (driver_has_work(&l->driver))
		return 0;
	/* Before a long sleep: buffers that are left over get their timer. */
	if (!l->trim.set && pool_idle(&l->driver.pool))
		timer_set(&l->driver.timers, &l->trim,
		    l->driver.now + POOL_IDLE_US);
	next = timers_next(&l->driver.timers);
	if (next == UINT64_MAX)
		return -1;
	if (next <= l->driver.now)
		return 0;
	ms = (next - l->driver.now + MS - 1) / MS;
	return ms > 3600000 ? 3600000 : (int)ms;
}

static void
dispatch(struct loop *l, const struct epoll_event *e)
{
	uint32_t slot = (uint32_t)e->data.u64;
	uint32_t generation = (uint32_t)(e->data.u64 >> 32);
	struct loop_slot *s = &l->slots[slot];

	if (s->watch != NULL && s->generation == generation)
		s->watch->ready(s->watch, e->events);
}

/*
 * The next events.  After a turn that had some, who else can run is let run
 * for a moment before we sleep: often that is who makes the next ones, and a
 * thread that need not be woken costs the machine far less than one that
 * sleeps and wakes for every few bytes.  Where nobody else wants the core, it
 * is two system calls, once; an idle loop sleeps.
 */
static int
wait_for_events(struct loop *l, struct epoll_event *events, bool busy)
{
	int ms = wait_ms(l), n;

	if (busy && ms != 0) {
		sched_yield();
		n = epoll_wait(l->epoll, events, BATCH, 0);
		if (n > 0)
			return n;
	}
	return epoll_wait(l->epoll, events, BATCH, ms);
}

void
loop_between(struct loop *l, struct work *w)
{
	l->between = w;
}

static void
run_between(struct loop *l)
{
	struct work *w = l->between;

	l->between = NULL;
	w->run(w);
	/* It may have taken long: what sleeps next must not count on it. */
	l->driver.now = loop_clock();
}

size_t
loop_count_at_close(const struct loop *l)
{
	const struct list *i;
	size_t n = 0;

	for (i = l->at_close.next; i != &l->at_close; i = i->next)
		n++;
	return n;
}

void
loop_run(struct loop *l)
{
	struct epoll_event events[BATCH];
	int n = 0, i;

	log_gather(true);
	while (!l->stopped) {
		n = wait_for_events(l, events, n > 0);
		l->driver.now = loop_clock();
		for (i = 0; i < n; i++)
			dispatch(l, &events[i]);
		timers_run(&l->driver.timers, l->driver.now);
		driver_run_work(&l->driver);
		if (l->between != NULL)
			run_between(l);
	}
	log_gather(false);
}

void
loop_post(struct loop *l, struct message *m)
{
	static const uint64_t one = 1;
	bool was_empty;
	ssize_t r;

	pthread_mutex_lock(&l->lock);
	was_empty = l->head == NULL;
	m->next = NULL;
	*l->tail = m;
	l->tail = &m->next;
	pthread_mutex_unlock(&l->lock);
	if (was_empty) {
		r = write(l->wake.fd, &one, sizeof(one));
		(void)r;
	}
}

void
loop_stop(struct loop *l)
{
	l->stopped = true;
}
