/*
 * host.c: greenlets inside a loop that the host runs.
 *
 * Before the host's loop waits, a prepare watcher gives every greenlet that is ready one
 * turn.  The host stands in the run queue like a greenlet that sleeps for a turn: when it
 * comes up, the loop goes on.  The host's stack is left for that time only.
 */
#include "hub.h"
#include "io.h"

static void run_ready(struct hub *hub) {
  struct greenlet *current = hub->current;
  hub->sliced = true;
  hub_push(hub, &hub->host.run);
  hub_pin(hub, &hub->host, NULL);
  hub->sliced = false;
  hub->current = current;
}

/* Tells the loop when it must come back: at once, or when the earliest timer is due. */
static void plan_return(struct hub *hub) {
  ev_timer_stop(hub->loop, &hub->alarm);
  if (hub->timers.count) {
    double delay = timers_next(&hub->timers) - hub_now(hub);
    ev_now_update(hub->loop);
    ev_timer_set(&hub->alarm, delay > 0 ? delay : 0, 0.);
    ev_timer_start(hub->loop, &hub->alarm);
  }
  if (list_empty(&hub->ready))
    ev_idle_stop(hub->loop, &hub->more);
  else
    ev_idle_start(hub->loop, &hub->more);
}

/* Before we run the loop ourselves: what was planned for the host's own run does not hold. */
void host_forget(struct hub *hub) {
  ev_timer_stop(hub->loop, &hub->alarm);
  ev_idle_stop(hub->loop, &hub->more);
}

static void on_prepare(struct ev_loop *loop, ev_prepare *watcher, int revents) {
  struct hub *hub = container_of(watcher, struct hub, prepare);
  (void)loop, (void)revents;
  if (hub->polling || hub->sliced)
    return;
  timers_expire(&hub->timers, hub_now(hub));
  if (!list_empty(&hub->ready) && cstack_reserve(&hub->stacks))
    run_ready(hub);
  if (!hub->closed) {
    io_verify(hub);
    io_verify_untried(hub);
    plan_return(hub);
  }
}

/* After all events of a round: what they made ready needs another round. */
static void on_check(struct ev_loop *loop, ev_check *watcher, int revents) {
  struct hub *hub = container_of(watcher, struct hub, check);
  (void)revents;
  if (hub->polling || hub->sliced)
    return;
  bool due = hub->timers.count && timers_next(&hub->timers) <= hub_now(hub);
  if (due || !list_empty(&hub->ready))
    ev_idle_start(loop, &hub->more);
}

static void on_idle(struct ev_loop *loop, ev_idle *watcher, int revents) {
  (void)loop, (void)watcher, (void)revents;
}

void host_attach(struct hub *hub) {
  hub->host.hub = hub;
  wait_setup(&hub->host);
  list_init(&hub->host.aimed);
  list_init(&hub->host.done);
  ev_prepare_init(&hub->prepare, on_prepare);
  ev_idle_init(&hub->more, on_idle);
  ev_prepare_start(hub->loop, &hub->prepare);
  ev_unref(hub->loop);
  ev_check_init(&hub->check, on_check);
  ev_set_priority(&hub->check, EV_MINPRI);
  ev_check_start(hub->loop, &hub->check);
  ev_unref(hub->loop);
}

void host_detach(struct hub *hub) {
  ev_ref(hub->loop);
  ev_prepare_stop(hub->loop, &hub->prepare);
  ev_ref(hub->loop);
  ev_check_stop(hub->loop, &hub->check);
  ev_idle_stop(hub->loop, &hub->more);
}
