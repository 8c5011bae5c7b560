/* query.c: waits for the sockets of a library that speaks DNS (see query.h). */
#include "query.h"

#include <stdlib.h>

#include "hub.h"
#include "question.h"

struct query {
  const struct query_kind *kind;
  void *channel;
  bool done;
  struct ev_loop *loop;
  struct link *waiting; /* the question's ring */
  ev_io watchers[QUERY_DESCRIPTORS];
  int count; /* of them at work */
  ev_timer timer;
};

/* ---- watching ---- */

static void on_ready(struct ev_loop *loop, ev_io *watcher, int revents) {
  struct query *query = watcher->data;
  (void)loop, (void)revents;
  wait_notify(query->waiting);
}

static void on_time(struct ev_loop *loop, ev_timer *timer, int revents) {
  struct query *query = timer->data;
  (void)loop, (void)revents;
  wait_notify(query->waiting);
}

void query_watch(struct query *query) {
  struct pollfd descriptors[QUERY_DESCRIPTORS];
  double patience = query->kind->patience(query->channel);
  query->count = query->kind->descriptors(query->channel, descriptors);
  for (int i = 0; i < query->count; i++) {
    int events = (descriptors[i].events & POLLIN ? EV_READ : 0) |
                 (descriptors[i].events & POLLOUT ? EV_WRITE : 0);
    ev_io_init(&query->watchers[i], on_ready, descriptors[i].fd, events);
    query->watchers[i].data = query;
    ev_io_start(query->loop, &query->watchers[i]);
  }
  if (patience >= 0) {
    ev_timer_init(&query->timer, on_time, patience, 0);
    query->timer.data = query;
    ev_timer_start(query->loop, &query->timer);
  }
}

void query_unwatch(struct query *query) {
  while (query->count > 0)
    ev_io_stop(query->loop, &query->watchers[--query->count]);
  ev_timer_stop(query->loop, &query->timer);
}

/* ---- a query's life ---- */

struct query *query_new(struct hub *hub, struct question *question, const struct query_kind *kind,
                        const char *servers) {
  struct query *query = calloc(1, sizeof *query);
  void *channel = query ? kind->open(question, servers) : NULL;
  if (!channel) {
    if (!query)
      question->failure = EAI_MEMORY;
    free(query);
    return NULL;
  }
  query->kind = kind;
  query->channel = channel;
  query->loop = hub->loop;
  query->waiting = &question->task.wakeup.waiting;
  list_init(query->waiting);
  return query;
}

void query_free(struct query *query) {
  query->kind->close(query->channel);
  free(query);
}

bool query_process(struct query *query) {
  query->done = query->done || query->kind->process(query->channel);
  return query->done;
}
