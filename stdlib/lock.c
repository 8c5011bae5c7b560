/*
 * lock.c: moonlet.lock, who may go on and who must wait.
 *
 * Semaphores, their kin and RLock are one structure: a number of free permits and a ring
 * of those who wait for one.  Releasing wakes the first of them but gives it nothing:
 * whoever runs first takes the permit, and one that was woken in vain keeps its place.
 */
#include "greenlet.h"

MOONLET_API int luaopen_moonlet_lock(lua_State *L);

enum mode {
  COUNTING,  /* Semaphore and the classes below it */
  REENTRANT, /* RLock: the greenlet that has it may take it again */
  OPEN       /* DummySemaphore: nobody ever waits */
};

struct lock {
  enum mode mode;
  lua_Integer counter; /* free permits */
  lua_Integer bound;   /* the most there may be */
  uint64_t owner;      /* of an RLock that is not free: the greenlet's id */
  lua_Integer depth;   /* and how often it has taken it */
  struct link waiters;
};

struct guard {
  struct lock *lock;
  bool held;
};

struct condition {
  struct lock *lock; /* NULL: to be made at its first use */
  struct link waiters;
};

/* The user value of a guard or a Condition. */
enum { UV_LOCK = CLASS_FIELDS + 1 };

/* lock_kind has what all locks have in common; the classes of the module are below it. */
static const struct class_kind lock_kind, rlock_kind, guard_kind, condition_kind, relock_kind;

/* ---- taking and giving back ---- */

static uint64_t current_id(lua_State *L) {
  const struct greenlet *g = hub_of(L)->current;
  return g ? g->id : 0;
}

static bool owned(lua_State *L, const struct lock *lock) {
  return lock->counter == 0 && lock->owner == current_id(L);
}

static bool take(lua_State *L, struct lock *lock) {
  if (lock->mode == OPEN)
    return true;
  if (lock->mode == REENTRANT && owned(L, lock)) {
    lock->depth++;
    return true;
  }
  if (lock->counter == 0)
    return false;
  if (lock->mode == REENTRANT) {
    lock->owner = current_id(L);
    lock->depth = 1;
  }
  lock->counter--;
  return true;
}

static void give(lua_State *L, struct lock *lock) {
  if (lock->mode == OPEN)
    return;
  if (lock->mode == REENTRANT) {
    if (!owned(L, lock))
      luaL_error(L, "cannot release an RLock that the current greenlet does not hold");
    if (--lock->depth > 0)
      return;
  }
  if (lock->counter == lock->bound)
    luaL_error(L, "semaphore released more often than it was acquired");
  lock->counter++;
  wait_notify(&lock->waiters);
}

/* ---- the lock at argument 1 ---- */

/* Pushes the lock of the Condition at 1. */
static struct lock *push_condition_lock(lua_State *L, struct condition *condition) {
  if (condition->lock) {
    lua_getiuservalue(L, 1, UV_LOCK);
  } else {
    condition->lock = class_new(L, &rlock_kind);
    lua_pushvalue(L, -1);
    lua_setiuservalue(L, 1, UV_LOCK);
  }
  return condition->lock;
}

/* A Condition gives way to its lock, whose methods it has. */
static struct lock *check(lua_State *L) {
  struct condition *condition = class_test(L, 1, &condition_kind);
  if (likely(!condition))
    return class_check(L, 1, &lock_kind);
  struct lock *lock = push_condition_lock(L, condition);
  lua_replace(L, 1);
  return lock;
}

static int acquire_step(lua_State *L, bool timed_out) {
  bool taken = take(L, lua_touserdata(L, 1));
  if (!taken && !timed_out)
    return WAIT_AGAIN;
  lua_pushboolean(L, taken);
  return 1;
}

/***
 * Semaphore:acquire([timeout]): waits for a permit and takes it: true, or false at the
 * timeout.  First come, first served; but a caller that finds a permit free takes it at
 * once.  An RLock that the current greenlet holds is taken once more.
 */
static int l_acquire(lua_State *L) {
  static const struct wait_kind kinds[] = {
      [COUNTING] = {.name = "Semaphore:acquire", .step = acquire_step, .passes_on = true},
      [REENTRANT] = {.name = "RLock:acquire", .step = acquire_step, .passes_on = true},
      [OPEN] = {.name = "DummySemaphore:acquire", .step = acquire_step}};
  struct lock *lock = check(L);
  return wait_for(L, &lock->waiters, 2, &kinds[lock->mode]);
}

/***
 * Semaphore:release(): gives a permit back; who is first in line is woken.
 * Raises, and changes nothing, where a BoundedSemaphore would get more than it began with,
 * and where an RLock is not held by the current greenlet.
 */
static int l_release(lua_State *L) {
  give(L, check(L));
  return 0;
}

/*** Semaphore:locked(): whether no permit is free. */
static int l_locked(lua_State *L) {
  lua_pushboolean(L, check(L)->counter == 0);
  return 1;
}

/*** Semaphore:ready(): whether a permit is free. */
static int l_ready(lua_State *L) {
  lua_pushboolean(L, check(L)->counter > 0);
  return 1;
}

/* Of a greenlet that was woken: the permit that it leaves is for the next in line. */
static int wait_step(lua_State *L, bool timed_out) {
  struct lock *lock = lua_touserdata(L, 1);
  if (lock->counter == 0 && !timed_out)
    return WAIT_AGAIN;
  lua_pushboolean(L, lock->counter > 0);
  if (lock->counter > 0)
    wait_notify(&lock->waiters);
  return 1;
}

/***
 * Semaphore:wait([timeout]): waits until a permit is free, taking none: true, or false at
 * the timeout.
 */
static int l_wait(lua_State *L) {
  static const struct wait_kind kind = {
      .name = "Semaphore:wait", .step = wait_step, .passes_on = true};
  struct lock *lock = check(L);
  double limit = wait_limit(L, 2);
  if (lock->counter == 0)
    return wait_in(L, &lock->waiters, limit, &kind);
  lua_pushboolean(L, 1);
  return 1;
}

/* ---- guards ---- */

/* Pushes a guard for the lock at 1, which it does not hold yet. */
static void push_guard(lua_State *L, struct lock *lock) {
  struct guard *guard = class_new(L, &guard_kind);
  guard->lock = lock;
  lua_pushvalue(L, 1);
  lua_setiuservalue(L, -2, UV_LOCK);
}

/*** Guard:close(): releases what hold() has acquired; a second call does nothing. */
static int l_guard_close(lua_State *L) {
  struct guard *guard = class_check(L, 1, &guard_kind);
  if (guard->held)
    give(L, guard->lock);
  guard->held = false;
  return 0;
}

static int l_guard_tostring(lua_State *L) {
  const struct guard *guard = class_check(L, 1, &guard_kind);
  lua_pushfstring(L, "<Guard %p: %s>", guard, guard->held ? "held" : "released");
  return 1;
}

/* The guard is at 3. */
static int hold_step(lua_State *L, bool timed_out) {
  struct guard *guard = lua_touserdata(L, 3);
  guard->held = take(L, guard->lock);
  if (!guard->held && !timed_out)
    return WAIT_AGAIN;
  if (!guard->held)
    lua_pushnil(L);
  return 1;
}

/***
 * Semaphore:hold([timeout]): acquires, and returns a guard whose close() releases, once;
 * nil at the timeout.
 *
 *     local guard <close> = semaphore:hold()
 */
static int l_hold(lua_State *L) {
  static const struct wait_kind kind = {
      .name = "Semaphore:hold", .step = hold_step, .passes_on = true};
  struct lock *lock = check(L);
  lua_settop(L, 2);
  push_guard(L, lock);
  return wait_for(L, &lock->waiters, 2, &kind);
}

static int with_called(lua_State *L, int status, lua_KContext ctx) {
  (void)status, (void)ctx;
  return lua_gettop(L) - 1;
}

/* The guard is at 1, the function and its arguments are above it. */
static int with_step(lua_State *L, bool timed_out) {
  struct guard *guard = lua_touserdata(L, 1);
  (void)timed_out;
  guard->held = take(L, guard->lock);
  if (!guard->held)
    return WAIT_AGAIN;
  lua_callk(L, lua_gettop(L) - 2, LUA_MULTRET, 0, with_called);
  return with_called(L, LUA_OK, 0);
}

/***
 * Semaphore:with(f, ...): acquires, runs f(...), releases whichever way f is left.
 * Returns f's results.
 */
static int l_with(lua_State *L) {
  static const struct wait_kind kind = {
      .name = "Semaphore:with", .step = with_step, .passes_on = true};
  struct lock *lock = check(L);
  luaL_argexpected(L, greenlet_is_callable(L, 2), 2, "function");
  push_guard(L, lock);
  lua_replace(L, 1);
  lua_toclose(L, 1);
  return wait_for(L, &lock->waiters, lua_gettop(L) + 1, &kind);
}

/* ---- Condition ---- */

/* While a Condition waits: how often its RLock, now given up, had been taken. */
struct relock {
  struct lock *lock;
  lua_Integer depth;
};

static bool retake(lua_State *L, const struct relock *relock) {
  if (!take(L, relock->lock))
    return false;
  relock->lock->depth = relock->depth;
  return true;
}

static int relock_step(lua_State *L, bool timed_out) {
  struct greenlet *g = hub_of(L)->current;
  (void)timed_out;
  if (!retake(L, lua_touserdata(L, 1)))
    return WAIT_AGAIN;
  if (g->shield > 0)
    g->shield--;
  interrupt_check(L, g);
  return 0;
}

/*
 * Closing the variable gets the lock back, however the wait has ended.  Kills and Timeouts
 * are held off until then: what the caller does next, releasing above all, relies on the
 * lock.  What could refuse to block does so before the shield is up.
 */
static int l_relock(lua_State *L) {
  static const struct wait_kind kind = {
      .name = "the lock of a Condition", .step = relock_step, .passes_on = true};
  struct relock *relock = lua_touserdata(L, 1);
  lua_settop(L, 1);
  if (retake(L, relock))
    return 0;
  struct hub *hub = hub_of(L);
  struct greenlet *g = hub_parking(hub, L);
  if (!g)
    g = hub_pinning(hub, L);
  g->shield++;
  return wait_in(L, &relock->lock->waiters, NO_LIMIT, &kind);
}

static void init_condition(lua_State *L, void *object) {
  struct condition *condition = object;
  (void)L;
  list_init(&condition->waiters);
}

/***
 * Condition([lock]): lets greenlets that hold a lock wait until others have changed what it
 * protects.  The lock is an RLock of its own if none is given.
 */
static int l_condition_new(lua_State *L) {
  struct condition *condition = class_check(L, 1, &condition_kind);
  lua_settop(L, 2);
  if (lua_isnil(L, 2))
    return 0;
  condition->lock = class_test(L, 2, &lock_kind);
  if (!condition->lock)
    return class_typeerror(L, 2, "lock");
  lua_setiuservalue(L, 1, UV_LOCK);
  return 0;
}

/* The Condition at 1, whose lock the caller holds. */
static struct condition *check_condition(lua_State *L, const char *what) {
  struct condition *condition = class_check(L, 1, &condition_kind);
  const struct lock *lock = push_condition_lock(L, condition);
  lua_pop(L, 1);
  if (lock->mode == REENTRANT ? !owned(L, lock) : lock->counter > 0)
    luaL_error(L, "cannot %s on a Condition whose lock is not held", what);
  return condition;
}

static int condition_step(lua_State *L, bool timed_out) {
  lua_pushboolean(L, !timed_out);
  return 1;
}

/***
 * Condition:wait([timeout]): gives up the lock, waits to be notified, and acquires it again:
 * true, or false at the timeout.  The lock is held again also where a kill or a Timeout
 * leaves this call.
 */
static int l_condition_wait(lua_State *L) {
  static const struct wait_kind kind = {
      .name = "Condition:wait", .step = condition_step, .passes_on = true};
  struct condition *condition = check_condition(L, "wait");
  double limit = wait_limit(L, 2);
  lua_settop(L, 2);
  if (limit <= 0)
    return condition_step(L, true);
  struct relock *relock = class_new(L, &relock_kind);
  relock->lock = condition->lock;
  relock->depth = condition->lock->depth;
  lua_toclose(L, 3);
  if (condition->lock->mode == REENTRANT)
    condition->lock->depth = 1;
  give(L, condition->lock);
  return wait_in(L, &condition->waiters, limit, &kind);
}

/*** Condition:notify([n]): wakes the first n (1) of those who wait. */
static int l_notify(lua_State *L) {
  struct condition *condition = check_condition(L, "notify");
  for (lua_Integer n = luaL_optinteger(L, 2, 1); n > 0 && wait_notify(&condition->waiters); n--)
    ;
  return 0;
}

/*** Condition:notify_all(): wakes all who wait. */
static int l_notify_all(lua_State *L) {
  wait_notify_all(&check_condition(L, "notify")->waiters);
  return 0;
}

static int l_condition_tostring(lua_State *L) {
  const struct condition *condition = class_check(L, 1, &condition_kind);
  bool locked = condition->lock && condition->lock->counter == 0;
  class_push_name(L, 1);
  lua_pushfstring(L, "<%s %p: %s>", lua_tostring(L, -1), condition, locked ? "locked" : "free");
  return 1;
}

/* ---- the classes ---- */

static void init_lock(struct lock *lock, enum mode mode, lua_Integer bound) {
  lock->mode = mode;
  lock->counter = 1;
  lock->bound = bound;
  list_init(&lock->waiters);
}

static void init_semaphore(lua_State *L, void *object) {
  (void)L;
  init_lock(object, COUNTING, LUA_MAXINTEGER);
}

static void init_bounded(lua_State *L, void *object) {
  (void)L;
  init_lock(object, COUNTING, 1);
}

static void init_rlock(lua_State *L, void *object) {
  (void)L;
  init_lock(object, REENTRANT, 1);
}

static void init_dummy(lua_State *L, void *object) {
  (void)L;
  init_lock(object, OPEN, 1);
}

/* The initial number of permits, from an initialiser's argument. */
static lua_Integer check_value(lua_State *L) {
  lua_Number number = class_optnumber(L, 2, 1);
  lua_Integer value;
  if (!lua_numbertointeger(number, &value) || (lua_Number)value != number)
    return class_argerror(L, 2, "value is not an integer");
  return value >= 0 ? value : class_argerror(L, 2, "value is negative");
}

/***
 * Semaphore([value]): so many permits, 1 if nothing is said.
 * The field `counter` tells how many are free.  Source: gevent.lock.
 */
static int l_semaphore_new(lua_State *L) {
  struct lock *lock = check(L);
  lock->counter = check_value(L);
  return 0;
}

/*** BoundedSemaphore([value]): a Semaphore that never has more permits than at first. */
static int l_bounded_new(lua_State *L) {
  struct lock *lock = check(L);
  lock->counter = lock->bound = check_value(L);
  return 0;
}

/***
 * Lock(): a Semaphore of one permit.
 * RLock(): belongs to the greenlet that acquires it, which may do so again; it is free
 * after as many releases.  DummySemaphore(): a lock that never keeps anybody waiting.
 */
static int l_plain_new(lua_State *L) {
  check(L);
  return 0;
}

static void get_counter(lua_State *L, void *object) {
  lua_pushinteger(L, ((struct lock *)object)->counter);
}

static int l_tostring(lua_State *L) {
  const struct lock *lock = class_check(L, 1, &lock_kind);
  class_push_name(L, 1);
  const char *name = lua_tostring(L, -1);
  if (lock->mode == COUNTING)
    lua_pushfstring(L, "<%s %p: %I free>", name, lock, lock->counter);
  else if (lock->counter > 0)
    lua_pushfstring(L, "<%s %p: free>", name, lock);
  else
    lua_pushfstring(L, "<%s %p: taken %I times by greenlet %I>", name, lock, lock->depth,
                    (lua_Integer)lock->owner);
  return 1;
}

static struct link *watch(void *object) {
  struct lock *lock = object;
  return lock->counter > 0 ? NULL : &lock->waiters;
}

static const struct class_field lock_fields[] = {{"counter", get_counter, NULL},
                                                 {NULL, NULL, NULL}};

static const luaL_Reg lock_methods[] = {{"new", l_plain_new},
                                        {"acquire", l_acquire},
                                        {"release", l_release},
                                        {"locked", l_locked},
                                        {"ready", l_ready},
                                        {"wait", l_wait},
                                        {"hold", l_hold},
                                        {"with", l_with},
                                        {"__tostring", l_tostring},
                                        {NULL, NULL}};

static const struct class_kind lock_kind = {.name = "AnyLock",
                                            .size = sizeof(struct lock),
                                            .init = init_semaphore,
                                            .methods = lock_methods,
                                            .fields = lock_fields,
                                            .watch = watch,
                                            .watch_passes = true};
