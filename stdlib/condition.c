/*
 * condition.c: Condition of moonlet.lock.
 *
 * Greenlets that hold a lock wait in it until another one, which holds the lock then, has
 * changed what the lock protects and notifies them.
 */
#include "lock.h"

#include "greenlet.h"
#include "protect.h"

struct condition {
  struct class_object object;
  struct lock *lock; /* NULL: to be made at its first use */
  struct link waiters;
};

enum { CONDITION_LOCK = CLASS_FIELDS + 1 };

static void init(lua_State *L, void *object) {
  struct condition *condition = object;
  (void)L;
  list_init(&condition->waiters);
}

struct lock *condition_push_lock(lua_State *L) {
  struct condition *condition = lua_touserdata(L, 1);
  if (condition->lock) {
    lua_getiuservalue(L, 1, CONDITION_LOCK);
  } else {
    condition->lock = class_new(L, &rlock_kind);
    lua_pushvalue(L, -1);
    lua_setiuservalue(L, 1, CONDITION_LOCK);
  }
  return condition->lock;
}

/***
 * Condition([lock]): a condition with that lock.
 * @param lock? lock  an RLock of its own if none is given
 */
static int l_new(lua_State *L) {
  struct condition *condition = class_check(L, 1, &condition_kind);
  lua_settop(L, 2);
  if (lua_isnil(L, 2))
    return 0;
  condition->lock = class_test(L, 2, &lock_kind);
  if (!condition->lock)
    return class_typeerror(L, 2, "lock");
  lua_setiuservalue(L, 1, CONDITION_LOCK);
  return 0;
}

/* ---- getting the lock back ---- */

/* While a Condition waits: how often its RLock, now given up, had been taken. */
struct relock {
  struct class_object object;
  struct lock *lock;
  lua_Integer depth;
};

static bool retake(lua_State *L, const struct relock *relock) {
  if (!lock_take(L, relock->lock))
    return false;
  relock->lock->depth = relock->depth;
  return true;
}

static int relock_step(lua_State *L, bool timed_out) {
  (void)timed_out;
  return retake(L, lua_touserdata(L, 1)) ? 0 : WAIT_AGAIN;
}

static int wait_for_relock(lua_State *L) {
  static const struct wait_kind kind = {
      .name = "the lock of a Condition", .step = relock_step, .passes_on = true};
  struct relock *relock = lua_touserdata(L, 1);
  return wait_in(L, &relock->lock->waiters, NO_LIMIT, &kind);
}

static int relocked(lua_State *L, int status, lua_KContext ctx) {
  struct greenlet *g = hub_of(L)->current;
  (void)ctx;
  if (g->shield > 0)
    g->shield--;
  if (status != LUA_OK && status != LUA_YIELD)
    protect_rethrow(L);
  interrupt_check(L, g);
  return 0;
}

/*
 * Closing the variable gets the lock back, however the wait has ended.  Kills and Timeouts
 * are held off until then: what the caller does next, releasing above all, relies on the
 * lock.  While the runtime closes nobody can block, so there the wait ends without it.
 */
static int l_relock(lua_State *L) {
  struct hub *hub = hub_of(L);
  if (retake(L, lua_touserdata(L, 1)) || hub->closing)
    return 0;
  hub->current->shield++;
  lua_pushcfunction(L, wait_for_relock);
  lua_pushvalue(L, 1);
  return relocked(L, protect_call(L, 1, 0, relocked), 0);
}

static const luaL_Reg relock_methods[] = {{"__close", l_relock}, {NULL, NULL}};

static const struct class_kind relock_kind = {
    .name = "relock", .size = sizeof(struct relock), .methods = relock_methods};

/* ---- waiting and notifying ---- */

/* The Condition at 1, whose lock, now on top of the stack, the caller must hold. */
static struct condition *check_held(lua_State *L, const char *what) {
  struct condition *condition = class_check(L, 1, &condition_kind);
  const struct lock *lock = condition_push_lock(L);
  if (lock->mode == LOCK_REENTRANT ? !lock_owned(L, lock) : lock->counter > 0)
    luaL_error(L, "cannot %s on a Condition whose lock is not held", what);
  return condition;
}

static int wait_step(lua_State *L, bool timed_out) {
  lua_pushboolean(L, !timed_out);
  return 1;
}

/* Gives up the lock until the variable that is pushed is closed. */
static void give_up(lua_State *L, struct lock *lock) {
  struct relock *relock = class_new(L, &relock_kind);
  relock->lock = lock;
  relock->depth = lock->depth;
  lua_toclose(L, -1);
  lock->depth = 1;
  lock_give(L, lock);
}

/***
 * Condition:wait([timeout]): gives up the lock, waits to be notified, and acquires it again.
 * The lock is held again also where a kill or a Timeout leaves this call.
 * @param timeout? number|Timeout  seconds
 * @return boolean # true, or false at the timeout
 * @raise an error if the lock is not held
 */
static int l_wait(lua_State *L) {
  static const struct wait_kind kind = {
      .name = "Condition:wait", .step = wait_step, .passes_on = true};
  lua_settop(L, 2);
  struct condition *condition = check_held(L, "wait");
  double limit = wait_limit(L, 2);
  if (limit <= 0)
    return wait_step(L, true);
  give_up(L, condition->lock);
  return wait_in(L, &condition->waiters, limit, &kind);
}

/***
 * Condition:notify([n]): wakes the first n of those who wait.
 * @param n? integer  1 if nothing is said
 * @raise an error if the lock is not held
 */
static int l_notify(lua_State *L) {
  lua_Integer n = luaL_optinteger(L, 2, 1);
  struct condition *condition = check_held(L, "notify");
  while (n-- > 0 && wait_notify(&condition->waiters))
    ;
  return 0;
}

/***
 * Condition:notify_all(): wakes all who wait.
 * @raise an error if the lock is not held
 */
static int l_notify_all(lua_State *L) {
  wait_notify_all(&check_held(L, "notify")->waiters);
  return 0;
}

static int l_tostring(lua_State *L) {
  const struct condition *condition = class_check(L, 1, &condition_kind);
  bool locked = condition->lock && condition->lock->counter == 0;
  class_push_name(L, 1);
  lua_pushfstring(L, "<%s %p: %s>", lua_tostring(L, -1), condition, locked ? "locked" : "free");
  return 1;
}

static const luaL_Reg methods[] = {{"new", l_new},
                                   {"wait", l_wait},
                                   {"notify", l_notify},
                                   {"notify_all", l_notify_all},
                                   {"__tostring", l_tostring},
                                   {NULL, NULL}};

/***
 * @class moonlet.lock.Condition: Object
 * Lets greenlets that hold a lock wait until others have changed what it protects.
 * acquire, release, locked, hold and with act on the lock.
 * Source: Python's threading.Condition.
 */
const struct class_kind condition_kind = {.name = "Condition",
                                          .size = sizeof(struct condition),
                                          .values = 1,
                                          .init = init,
                                          .methods = methods};
