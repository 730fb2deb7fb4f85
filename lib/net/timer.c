/*
 * Fredman, Sedgewick, Sleator, Tarjan: The pairing heap (1986), two-pass.
 */
#include "net/timer.h"

#include <stddef.h>

static struct timer *
meld(struct timer *a, struct timer *b)
{
	struct timer *t;

	if (a == NULL)
		return b;
	if (b == NULL)
		return a;
	if (b->at < a->at) {
		t = a;
		a = b;
		b = t;
	}
	b->back = a;
	b->sibling = a->child;
	if (a->child != NULL)
		a->child->back = b;
	a->child = b;
	return a;
}

/* One heap of a chain of siblings: pairs from the left, then all together. */
static struct timer *
meld_siblings(struct timer *first)
{
	struct timer *pairs = NULL, *root = NULL, *a, *b, *next;

	while (first != NULL) {
		a = first;
		b = a->sibling;
		next = b != NULL ? b->sibling : NULL;
		a->sibling = a->back = NULL;
		if (b != NULL)
			b->sibling = b->back = NULL;
		a = meld(a, b);
		a->sibling = pairs;
		pairs = a;
		first = next;
	}
	while (pairs != NULL) {
		next = pairs->sibling;
		pairs->sibling = NULL;
		root = meld(root, pairs);
		pairs = next;
	}
	return root;
}

void
timer_cancel(struct timers *h, struct timer *t)
{
	struct timer *rest;

	if (!t->set)
		return;
	rest = meld_siblings(t->child);
	if (h->root == t)
		h->root = rest;
	else {
		if (t->back->child == t)
			t->back->child = t->sibling;
		else
			t->back->sibling = t->sibling;
		if (t->sibling != NULL)
			t->sibling->back = t->back;
		h->root = meld(h->root, rest);
	}
	t->child = t->sibling = t->back = NULL;
	t->set = false;
}

void
timer_set(struct timers *h, struct timer *t, uint64_t at)
{
	timer_cancel(h, t);
	t->at = at;
	t->set = true;
	t->child = t->sibling = t->back = NULL;
	h->root = meld(h->root, t);
}

void
timers_run(struct timers *h, uint64_t now)
{
	struct timer *t;

	while ((t = h->root) != NULL && t->at <= now) {
		timer_cancel(h, t);
		t->expired(t);
	}
}

uint64_t
timers_next(const struct timers *h)
{
	return h->root != NULL ? h->root->at : UINT64_MAX;
}
