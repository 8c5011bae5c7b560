/* offload.c: work that blocks, done in other threads (see moonlet.h). */
#include <errno.h>
#include <unistd.h>

#include "async.h"
#include "hub.h"
#include "threads.h"

/* Lives in the frame of the call, which therefore cannot end before the work. */
struct offload {
  struct job job;
  struct wakeup wakeup; /* sent: the work has ended */
  void (*work)(void *);
  void *argument;
  pid_t process; /* that does it */
  struct greenlet *greenlet;
};

static void perform(struct job *job) {
  struct offload *offload = container_of(job, struct offload, job);
  offload->work(offload->argument);
  wakeup_send(&offload->wakeup);
}

static int start(struct hub *hub, struct offload *offload) {
  int failure = wakeup_init(&offload->wakeup, hub);
  if (failure)
    return failure;
  struct threads *threads = async_threads(hub);
  failure = threads ? threads_do(threads, &offload->job) : ENOMEM;
  if (failure)
    wakeup_drop(&offload->wakeup);
  return failure;
}

/*
 * Shielded, the greenlet gets here when the work has ended.  Only a runtime that closes
 * takes no account of shields: then the whole thread waits; not in the child of a fork,
 * where nobody does the work.
 */
static void leave(struct link *ring) {
  struct offload *offload = container_of(ring, struct offload, wakeup.waiting);
  wakeup_leave(ring);
  if (offload->process == getpid())
    wakeup_await(&offload->wakeup);
  wakeup_drop(&offload->wakeup);
  offload->greenlet->shield--;
}

int moonlet_offload(lua_State *L, void (*work)(void *), void *arg) {
  static const struct wait_kind kind = {
      .name = "moonlet_offload", .external = true, .enter = wakeup_enter, .leave = leave};
  struct hub *hub = hub_of(L);
  struct greenlet *g = hub_pinning(hub, L);
  struct offload offload = {
      .job.work = perform, .work = work, .argument = arg, .process = getpid(), .greenlet = g};
  int failure = start(hub, &offload);
  if (failure)
    return failure;
  g->shield++;
  wait_here(L, &offload.wakeup.waiting, NO_LIMIT, &kind);
  interrupt_check(L, g);
  return 0;
}
