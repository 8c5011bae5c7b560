/*
 * wait.h: the one mechanism of waiting.
 *
 * An object that greenlets wait for holds a ring of waiters, first come, first
 * served.  A blocking call
 *   - tries its operation, and returns if it succeeds;
 *   - else calls wait_in(): the greenlet's waiter joins the ring, its timer starts
 *     if there is a time limit, and other greenlets run;
 *   - is tried again (its `step`) when the object has notified the waiter.  The
 *     object changes nothing for the waiter's sake: an item stays in its queue and a
 *     permit in its semaphore until the woken greenlet takes it.  If somebody else
 *     was quicker, the waiter goes back to its old place in the ring;
 *   - is undone on every way out.  If a greenlet that had been notified is killed or
 *     timed out before it ran, the notification goes on to the next in the ring.
 *
 * A whole blocking call:
 *
 *     static int get_step(lua_State *L, bool timed_out) {
 *       struct box *box = lua_touserdata(L, 1);
 *       if (timed_out) return lua_pushnil(L), lua_pushliteral(L, "timeout"), 2;
 *       if (!box->full) return WAIT_AGAIN;
 *       ...push the item...
 *       return 1;
 *     }
 *     static const struct wait_kind get_kind = {.name = "Box:get", .step = get_step, .passes_on =
 * true};
 *
 *     static int l_get(lua_State *L) {
 *       struct box *box = class_check(L, 1, &box_kind);
 *       return wait_for(L, &box->getters, 2, &get_kind);
 *     }
 */
#ifndef MOONLET_WAIT_H
#define MOONLET_WAIT_H

#include <lua.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>

#include "list.h"

struct greenlet;
struct hub;
struct timer;

#define WAIT_AGAIN (-1)
#define NO_LIMIT HUGE_VAL

/* A registration in an object's ring. */
struct waiter {
  struct link link;
  uint64_t ticket;                       /* when it joined; keeps its place */
  void (*notify)(struct waiter *waiter); /* takes it out of the ring and tells its owner */
  short events, revents;                 /* in a descriptor's ring: wanted, and found */
};

/* What a greenlet waits for; static, one for each blocking operation. */
struct wait_kind {
  const char *name; /* as a person would write it: "Queue:get" */
  /*
   * Tries to finish.  The stack is that of the blocked C function.  Returns the number
   * of results pushed, or WAIT_AGAIN (not if timed_out).  NULL: no results.
   */
  int (*step)(lua_State *L, bool timed_out);
  bool passes_on;                   /* one notification serves one waiter: hand an unused one on */
  bool external;                    /* something outside the run queue and the timers may wake it */
  void (*enter)(struct link *ring); /* the waiter has joined */
  void (*leave)(struct link *ring); /* the waiter has left, whichever way */
};

/*
 * Blocks the calling C function in `ring` (NULL: only the timer or somebody who knows
 * the greenlet wakes it).  `limit` in seconds; 0 or less does not block at all.
 * Use: return wait_in(...); the function's stack is kept for `step`.
 */
int wait_in(lua_State *L, struct link *ring, double limit, const struct wait_kind *kind);

/* The usual blocking call: one step, and if need be a wait limited by argument `arg`. */
int wait_for(lua_State *L, struct link *ring, int arg, const struct wait_kind *kind);

/*
 * The same for C functions with more to do afterwards: holds the C stack where it
 * must.  Returns true when notified, false when the time limit has passed.
 */
bool wait_here(lua_State *L, struct link *ring, double limit, const struct wait_kind *kind);

/*
 * The same under frames that no error may jump over, those of a C library: raises nothing, and
 * leaves Lua's stack alone.  A kill or Timeout ends the wait, stays due, and is raised when the
 * C function that Lua has called returns; until then further waits of this kind end at once.
 * With a limit of 0 or less, and no ring, it lets every other ready greenlet run once.
 */
enum wait_end {
  WAIT_NOTIFIED,
  WAIT_TIMED_OUT,
  WAIT_CANCELLED, /* something is due that will be raised */
  WAIT_REFUSED    /* nothing can wait here, such as in a finalizer */
};
enum wait_end wait_quietly(struct hub *hub, struct link *ring, double limit,
                           const struct wait_kind *kind);

/* The same where no kill or Timeout can end it either, since the library would go on without what
   it waits for, such as a lock.  Cancelled only in main, when nothing is left that could notify it.
 */
enum wait_end wait_firmly(struct hub *hub, struct link *ring, double limit,
                          const struct wait_kind *kind);

/* For a step that is about to return WAIT_AGAIN: a limited wait has so much time from now on. */
void wait_renew(struct greenlet *g, double limit);

/* Lets every other ready greenlet run once. */
int wait_turn(lua_State *L, const struct wait_kind *kind);
void wait_turn_here(lua_State *L, const struct wait_kind *kind);

/*
 * The time limit in argument `arg`: seconds, NO_LIMIT for nil or a started Timeout (which
 * then raises itself).  Anything else is a bad argument.
 */
double wait_limit_given(lua_State *L, int arg); /* of an argument that is there */

static inline double wait_limit(lua_State *L, int arg) {
  return lua_gettop(L) < arg || lua_isnil(L, arg) ? NO_LIMIT : wait_limit_given(L, arg);
}

/* Notifies the first waiter of a ring; returns whether there was one. */
bool wait_notify(struct link *ring);

/* Notifies all that wait in a ring now. */
void wait_notify_all(struct link *ring);

/* Joins a ring at the end, or at the place that an earlier ticket gives. */
void waiter_join(struct hub *hub, struct link *ring, struct waiter *waiter);
void waiter_rejoin(struct link *ring, struct waiter *waiter);

/* For the hub: what a greenlet's own waiter and timer call. */
void wait_notified(struct waiter *waiter);
void wait_limit_reached(struct timer *timer);

/* For the hub: undoes a greenlet's wait, before an error is raised in it. */
void wait_undo(struct greenlet *g);

/* For fork.c: takes a greenlet that will not run again out of its wait, telling nobody. */
void wait_abandon(struct greenlet *g);

#endif
