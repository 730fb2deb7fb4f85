#include "net/upgrade.h"

#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/daemon.h"
#include "base/log.h"
#include "net/loop.h"

/*
 * So long the workers may stand still: enough for some 40,000 streams.  Who
 * has more is better off with a process that goes on than with a pause that
 * visitors notice.
 */
#define SWITCH_US (1 * (uint64_t)SECOND)
/* What is delivered may post more: a tunnel, then a visitor; never so often. */
#define DRAIN_ROUNDS 1000

static void
failed(struct handover *h, const char *step)
{
	int status = handover_abandon(h);
	struct log_line l;

	if (!log_begin(&l, LOG_ERROR, "upgrade-failed"))
		return;
	log_text(&l, "step", step);
	log_text(&l, "reason", h->error);
	if (WIFEXITED(status) && WEXITSTATUS(status) != 0)
		log_number(&l, "exit", (uint64_t)WEXITSTATUS(status));
	if (WIFSIGNALED(status) && WTERMSIG(status) != SIGKILL)
		log_number(&l, "signal", (uint64_t)WTERMSIG(status));
	log_end(&l);
}

static int
prepare(struct handover *h, uint64_t timeout, const struct upgrade_ops *ops,
    void *context)
{
	uint64_t deadline = loop_clock() + timeout;
	struct image_writer w = {0};
	int result;

	if (handover_begin(h) < 0)
		return -1;
	ops->prepare(context, &w);
	result = handover_send(h, &w, deadline);
	image_free(&w);
	if (result < 0)
		return -1;
	return handover_await(h, HANDOVER_READY, deadline);
}

/* Nothing may be on its way between workers. */
static int
drain_inboxes(struct handover *h, struct crew *crew)
{
	struct crew_member *m;
	bool any = true;
	int i;

	for (i = 0; any && i < DRAIN_ROUNDS; i++) {
		any = false;
		for (m = crew->first; m != NULL; m = m->next)
			any |= loop_drain(m->loop);
	}
	if (!any)
		return 0;
	h->error = "the workers' inboxes do not become empty";
	return -1;
}

static int
switch_over(struct handover *h, struct crew *crew,
    const struct upgrade_ops *ops, void *context)
{
	uint64_t deadline = h->still + SWITCH_US;
	struct image_writer w = {0};
	int result;

	if (drain_inboxes(h, crew) < 0)
		return -1;
	image_put(&w, h->still);
	ops->save(context, &w);
	result = handover_send(h, &w, deadline);
	image_free(&w);
	if (result < 0)
		return -1;
	return handover_await(h, HANDOVER_TAKEN, deadline);
}

void
upgrade_run(struct crew *crew, uint64_t timeout, const struct upgrade_ops *ops,
    void *context)
{
	struct handover h;

	if (getpid() == 1) {
		log_event(LOG_ERROR, "upgrade-failed", "reason",
		    "process 1 of a container cannot be replaced without "
		    "ending it",
		    NULL);
		return;
	}
	log_event(LOG_INFO, "upgrading", NULL);
	if (prepare(&h, timeout, ops, context) < 0) {
		failed(&h, "prepare");
		return;
	}
	h.still = loop_clock();
	crew_freeze(crew);
	if (switch_over(&h, crew, ops, context) < 0) {
		failed(&h, "switch");
		crew_thaw(crew);
		return;
	}
	daemon_forget_upgrades();
	daemon_notify_successor(h.child);
	log_flush();
	/* It is theirs as soon as this is said: nothing is touched any more. */
	if (handover_say(&h, HANDOVER_GO) < 0) {
		daemon_notify_successor(getpid());
		failed(&h, "switch");
		crew_thaw(crew);
		return;
	}
	daemon_pass_signals(h.child);
	_exit(0);
}

void
upgrade_refuse(struct handover *h, const char *step, const char *reason)
{
	log_event(LOG_ERROR, "cannot-take-over", "step", step, "reason", reason,
	    NULL);
	log_flush();
	handover_refuse(h, reason);
	_exit(1);
}

bool
upgrade_begin(struct handover *h, struct image_reader *r)
{
	if (!handover_inherited(h))
		return false;
	if (handover_receive(h, r, loop_clock() + 10 * (uint64_t)SECOND) < 0)
		upgrade_refuse(h, "prepare", h->error);
	return true;
}

void
upgrade_ready(struct handover *h, struct image_reader *r)
{
	handover_release(r);
	if (handover_say(h, HANDOVER_READY) < 0 ||
	    handover_receive(h, r, loop_clock() + 10 * (uint64_t)SECOND) < 0)
		upgrade_refuse(h, "switch", h->error);
	h->still = image_take(r, UINT64_MAX);
}

void
upgrade_log(struct log_line *l, const struct handover *h)
{
	if (h->still != 0)
		log_number(l, "still_us", loop_clock() - h->still);
}

void
upgrade_taken(struct handover *h, struct image_reader *r, bool ok)
{
	char why[80];

	if (!ok) {
		snprintf(why, sizeof(why), "the state cannot be read: %s%zu",
		    r->failed ? "bytes before the end: " : "no memory: ",
		    r->failed ? (size_t)(r->end - r->lost) : 0);
		upgrade_refuse(h, "switch", why);
	}
	if (handover_say(h, HANDOVER_TAKEN) < 0 ||
	    handover_await(h, HANDOVER_GO, UINT64_MAX) < 0)
		upgrade_refuse(h, "switch", h->error);
	close(h->fd);
	handover_release(r);
}
