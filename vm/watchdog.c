/* watchdog.c: see watchdog.h. */
#define _GNU_SOURCE
#include "watchdog.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "hub.h"

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

struct watchdog {
  timer_t timer;
  double seconds;
  volatile uint64_t seen; /* the hub's switches at the latest signal */
  uint64_t reported;      /* and when a greenlet was reported last */
};

static int signal_number(void) { return SIGRTMAX - 2; }

static void report(lua_State *L, struct hub *hub) {
  greenlet_name(L, hub->current);
  luaL_traceback(L, L, NULL, 0);
  fprintf(stderr, "moonlet: greenlet %s has held the hub for over %g seconds\n%s\n",
          lua_tostring(L, -2), hub->watchdog->seconds, lua_tostring(L, -1));
  lua_pop(L, 2);
}

static void hook(lua_State *L, lua_Debug *ar) {
  struct hub *hub = hub_running;
  (void)ar;
  lua_sethook(L, NULL, 0, 0);
  if (!hub || !hub->watchdog || !hub->current || hub->polling)
    return;
  if (hub->watchdog->reported != hub->switches) {
    hub->watchdog->reported = hub->switches;
    report(L, hub);
  }
  hub_poll(hub, false);
  interrupt_strike(L, hub->current);
}

static void on_tick(int signum) {
  const struct hub *hub = hub_running;
  struct watchdog *watchdog = hub ? hub->watchdog : NULL;
  (void)signum;
  if (!watchdog)
    return;
  if (!hub->current || watchdog->seen != hub->switches)
    watchdog->seen = hub->switches;
  else if (!lua_gethook(hub_at_work(hub)))
    lua_sethook(hub_at_work(hub), hook, LUA_MASKCOUNT, 1);
}

void watchdog_close(struct hub *hub) {
  struct watchdog *watchdog = hub->watchdog;
  hub->watchdog = NULL;
  if (!watchdog)
    return;
  timer_delete(watchdog->timer);
  free(watchdog);
}

/* Starts the kernel's timer for the calling thread. */
static bool start_timer(struct watchdog *watchdog) {
  struct sigaction action = {.sa_handler = on_tick, .sa_flags = SA_RESTART};
  struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = signal_number()};
  event.sigev_notify_thread_id = (pid_t)syscall(SYS_gettid);
  if (sigaction(signal_number(), &action, NULL) != 0 ||
      timer_create(CLOCK_MONOTONIC, &event, &watchdog->timer) != 0)
    return false;
  struct timespec period = {.tv_sec = (time_t)watchdog->seconds};
  period.tv_nsec = (long)((watchdog->seconds - (double)period.tv_sec) * 1e9);
  struct itimerspec times = {.it_interval = period, .it_value = period};
  return timer_settime(watchdog->timer, 0, &times, NULL) == 0;
}

static void start(lua_State *L, struct hub *hub, double seconds) {
  struct watchdog *watchdog = calloc(1, sizeof *watchdog);
  if (watchdog)
    *watchdog = (struct watchdog){.seconds = seconds, .reported = (uint64_t)-1};
  if (!watchdog || !start_timer(watchdog)) {
    free(watchdog);
    luaL_error(L, "cannot start the watchdog: no timer");
  }
  hub->watchdog = watchdog;
}

/* A child does not inherit the timer. */
void watchdog_forked(struct hub *hub) {
  if (hub->watchdog && !start_timer(hub->watchdog)) {
    free(hub->watchdog);
    hub->watchdog = NULL;
  }
}

/***
 * moonlet.watchdog([seconds]): from now on a greenlet that computes for longer than that
 * without blocking is reported on stderr with its traceback, and Timeouts and kills reach it.
 * @param seconds? number  nil or 0 turns the watchdog off
 * Source: gevent's monitoring thread.
 * Differs: only reports | also raises the Timeouts and kills that are due
 */
static int l_watchdog(lua_State *L) {
  double seconds = luaL_optnumber(L, 1, 0);
  luaL_argcheck(L, seconds >= 0 && seconds <= 1e6, 1, "seconds expected");
  struct hub *hub = hub_of(L);
  watchdog_close(hub);
  if (seconds > 0)
    start(L, hub, seconds < 0.001 ? 0.001 : seconds);
  return 0;
}

const luaL_Reg watchdog_functions[] = {{"watchdog", l_watchdog}, {NULL, NULL}};
