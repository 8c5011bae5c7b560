/*
 * async.h: what other threads have to say to a hub.
 *
 * A thread that is not the hub's may do one thing: send a `struct wakeup`.  It goes into
 * a list under a lock, and an ev_async has the hub's thread take it from there and notify
 * the greenlet that waits in its ring.  Waiters of C programs and offloaded work are made
 * of this; so is whatever else has threads of its own:
 *
 *     static const struct wait_kind kind = {
 *         "result", step, .external = true, .enter = wakeup_enter, .leave = wakeup_leave};
 *     return wait_for(L, &object->wakeup.waiting, 2, &kind);
 */
#ifndef MOONLET_ASYNC_H
#define MOONLET_ASYNC_H

#include <stdatomic.h>

#include "list.h"

struct hub;

struct wakeup {
  struct async *async; /* NULL: dropped, or the hub is closed */
  struct link known;   /* among all of the hub's */
  struct link waiting; /* ring of waiters */
  struct link way;     /* linked: on its way to the hub */
  atomic_bool sent;    /* by wakeup_send; its user takes it back */
};

/* Costs nothing until the first wake-up is made. */
void async_open(struct hub *hub);

/* Late senders find nobody there; tasks at work are left to their threads. */
void async_close(struct hub *hub);

/* Around a fork no thread holds the lock (fork.c). */
void async_before_fork(void);
void async_after_fork(void);

/* Prepares a wake-up that will be dropped; returns 0 or an errno. */
int wakeup_init(struct wakeup *wakeup, struct hub *hub);

/* No thread may send it from now on.  A second call does nothing. */
void wakeup_drop(struct wakeup *wakeup);

/* The hub it reports to; NULL when that is closed.  For the hub's thread. */
struct hub *wakeup_hub(const struct wakeup *wakeup);

/* Sets `sent` and notifies the first waiter, unless it is under way already.  Any thread. */
void wakeup_send(struct wakeup *wakeup);

/* Holds up the whole thread until it is sent: where no greenlet can go on. */
void wakeup_await(struct wakeup *wakeup);

/* For a wait_kind: the loop stays alive while somebody waits. */
void wakeup_enter(struct link *ring);
void wakeup_leave(struct link *ring);

/* The hub's threads for work that blocks, made at the first use; NULL: out of memory. */
struct threads *async_threads(struct hub *hub);

#endif
