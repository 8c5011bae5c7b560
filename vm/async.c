/* async.c: wake-ups from other threads (see async.h). */
#define _GNU_SOURCE
#include "async.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "hub.h"
#include "threads.h"

/* Of the pool for offloaded work, as in gevent. */
#define MAX_THREADS 10
#define PATIENCE 5.0

struct async {
  struct hub *hub;
  struct link known;     /* all wake-ups */
  struct link under_way; /* those sent and not received */
  ev_async watcher;
  int waiting; /* greenlets that a wake-up may wake */
  struct threads *threads;
};

/* One lock for all hubs, held for a few stores, and never at a fork. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t arrived = PTHREAD_COND_INITIALIZER;

static void acquire(void) { pthread_mutex_lock(&lock); }

static void release(void) { pthread_mutex_unlock(&lock); }

void async_before_fork(void) { acquire(); }

void async_after_fork(void) { release(); }

/* ---- opening and closing ---- */

static void on_async(struct ev_loop *loop, ev_async *watcher, int revents) {
  struct async *async = container_of(watcher, struct async, watcher);
  (void)loop, (void)revents;
  acquire();
  while (!list_empty(&async->under_way)) {
    struct wakeup *wakeup = container_of(async->under_way.next, struct wakeup, way);
    list_remove(&wakeup->way);
    wait_notify(&wakeup->waiting);
  }
  release();
}

/* libev ends the process when it cannot make the pipe that its ev_async needs. */
static int try_pipe(void) {
  int ends[2];
  if (pipe(ends) != 0)
    return errno;
  close(ends[0]);
  close(ends[1]);
  return 0;
}

static int open_async(struct hub *hub) {
  int failure = try_pipe();
  if (failure)
    return failure;
  struct async *async = calloc(1, sizeof *async);
  if (!async)
    return ENOMEM;
  list_init(&async->known);
  list_init(&async->under_way);
  async->hub = hub;
  ev_async_init(&async->watcher, on_async);
  ev_async_start(hub->loop, &async->watcher);
  ev_unref(hub->loop);
  hub->async = async;
  return 0;
}

void async_open(struct hub *hub) { hub->async = NULL; }

void async_close(struct hub *hub) {
  struct async *async = hub->async;
  if (!async)
    return;
  if (async->threads)
    threads_close(async->threads);
  while (!list_empty(&async->known))
    wakeup_drop(container_of(async->known.next, struct wakeup, known));
  for (; async->waiting > 0; async->waiting--)
    ev_unref(hub->loop);
  ev_ref(hub->loop);
  ev_async_stop(hub->loop, &async->watcher);
  hub->async = NULL;
  free(async);
}

struct threads *async_threads(struct hub *hub) {
  if (!hub->async && open_async(hub) != 0)
    return NULL;
  if (!hub->async->threads)
    hub->async->threads = threads_new(MAX_THREADS, PATIENCE);
  return hub->async->threads;
}

/* ---- wake-ups ---- */

int wakeup_init(struct wakeup *wakeup, struct hub *hub) {
  int failure = hub->async ? 0 : open_async(hub);
  if (failure)
    return failure;
  wakeup->async = hub->async;
  wakeup->way.next = NULL;
  list_init(&wakeup->waiting);
  atomic_init(&wakeup->sent, false);
  list_append(&hub->async->known, &wakeup->known);
  return 0;
}

/* Once it holds the lock, no sender is at work on the wake-up any more. */
void wakeup_drop(struct wakeup *wakeup) {
  if (!wakeup->async)
    return;
  acquire();
  list_remove(&wakeup->known);
  if (list_linked(&wakeup->way))
    list_remove(&wakeup->way);
  wakeup->async = NULL;
  release();
}

struct hub *wakeup_hub(const struct wakeup *wakeup) {
  return wakeup->async ? wakeup->async->hub : NULL;
}

void wakeup_send(struct wakeup *wakeup) {
  acquire();
  if (wakeup->async) {
    atomic_store(&wakeup->sent, true);
    if (!list_linked(&wakeup->way)) {
      list_append(&wakeup->async->under_way, &wakeup->way);
      ev_async_send(wakeup->async->hub->loop, &wakeup->async->watcher);
    }
    pthread_cond_broadcast(&arrived);
  }
  release();
}

void wakeup_await(struct wakeup *wakeup) {
  acquire();
  while (!atomic_load(&wakeup->sent))
    pthread_cond_wait(&arrived, &lock);
  release();
}

/* The watcher counts for the loop only while somebody waits for what it brings. */
void wakeup_enter(struct link *ring) {
  struct async *async = container_of(ring, struct wakeup, waiting)->async;
  async->waiting++;
  ev_ref(async->hub->loop);
}

void wakeup_leave(struct link *ring) {
  struct async *async = container_of(ring, struct wakeup, waiting)->async;
  async->waiting--;
  ev_unref(async->hub->loop);
}
