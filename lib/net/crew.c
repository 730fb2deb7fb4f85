#include "net/crew.h"

#include "base/log.h"

void
crew_init(struct crew *crew)
{
	*crew = (struct crew){0};
	crew->tail = &crew->first;
	pthread_mutex_init(&crew->lock, NULL);
	pthread_cond_init(&crew->attended, NULL);
	pthread_cond_init(&crew->thawed, NULL);
}

void
crew_close(struct crew *crew)
{
	pthread_cond_destroy(&crew->thawed);
	pthread_cond_destroy(&crew->attended);
	pthread_mutex_destroy(&crew->lock);
}

/*
 * Between two turns of a member: inside a turn there would be messages and
 * work that the member has taken and that nobody else can find.
 */
static void
on_attend(struct work *w)
{
	struct crew_member *m = container_of(w, struct crew_member, attend);
	struct crew *crew = m->crew;
	uint64_t round;

	if (crew->call != NULL)
		crew->call(crew->context, m->index);
	else
		log_flush();
	pthread_mutex_lock(&crew->lock);
	round = crew->round;
	if (--crew->missing == 0)
		pthread_cond_signal(&crew->attended);
	/* By number: the next freeze may come before we have woken up. */
	while (crew->over < round)
		pthread_cond_wait(&crew->thawed, &crew->lock);
	pthread_mutex_unlock(&crew->lock);
}

static void
on_call(struct message *message)
{
	struct crew_member *m = container_of(message, struct crew_member, call);

	loop_between(m->loop, &m->attend);
}

void
crew_add(struct crew *crew, struct crew_member *m, struct loop *loop)
{
	*m = (struct crew_member){
	    .crew = crew,
	    .loop = loop,
	    .index = crew->members++,
	    .call.deliver = on_call,
	};
	work_init(&m->attend, on_attend);
	*crew->tail = m;
	crew->tail = &m->next;
}

static void *
member_main(void *argument)
{
	struct crew_member *m = argument;

	loop_run(m->loop);
	return NULL;
}

int
crew_start(struct crew *crew)
{
	struct crew_member *m;
	int error;

	for (m = crew->first; m != NULL; m = m->next) {
		error = pthread_create(&m->thread, NULL, member_main, m);
		if (error != 0)
			return error;
		m->running = true;
	}
	return 0;
}

/* Call those that run; call NULL: to stand still.  Wait until all attend. */
static void
assemble(struct crew *crew, void (*call)(void *context, unsigned worker),
    void *context)
{
	struct crew_member *m;

	crew->call = call;
	crew->context = context;
	pthread_mutex_lock(&crew->lock);
	crew->round++;
	if (call != NULL)
		crew->over = crew->round;
	crew->missing = 0;
	for (m = crew->first; m != NULL; m = m->next)
		crew->missing += m->running;
	pthread_mutex_unlock(&crew->lock);
	for (m = crew->first; m != NULL; m = m->next)
		if (m->running)
			loop_post(m->loop, &m->call);
	pthread_mutex_lock(&crew->lock);
	while (crew->missing > 0)
		pthread_cond_wait(&crew->attended, &crew->lock);
	pthread_mutex_unlock(&crew->lock);
}

void
crew_run(struct crew *crew, void (*call)(void *context, unsigned worker),
    void *context)
{
	struct crew_member *m;

	assemble(crew, call, context);
	for (m = crew->first; m != NULL; m = m->next)
		if (!m->running)
			call(context, m->index);
}

void
crew_freeze(struct crew *crew)
{
	assemble(crew, NULL, NULL);
}

void
crew_thaw(struct crew *crew)
{
	pthread_mutex_lock(&crew->lock);
	crew->over = crew->round;
	pthread_cond_broadcast(&crew->thawed);
	pthread_mutex_unlock(&crew->lock);
}

static void
stop_member(void *context, unsigned worker)
{
	const struct crew *crew = context;
	const struct crew_member *m = crew->first;

	while (m->index != worker)
		m = m->next;
	loop_stop(m->loop);
}

void
crew_stop(struct crew *crew)
{
	struct crew_member *m;

	assemble(crew, stop_member, crew);
	for (m = crew->first; m != NULL; m = m->next) {
		if (m->running)
			pthread_join(m->thread, NULL);
		m->running = false;
	}
}
