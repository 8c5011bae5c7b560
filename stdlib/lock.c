/*
 * lock.c: moonlet.lock, who may go on and who must wait.
 *
 * Semaphores, their kin and RLock are one structure: a number of free permits and a ring
 * of those who wait for one.  Releasing wakes the first of them but gives it nothing:
 * whoever runs first takes the permit, and one that was woken in vain keeps its place.
 */
/***
 * @module moonlet.lock
 * Locks and semaphores.
 * Differs: acquire(blocking, timeout) | two arguments | one, the timeout; 0 does not block
 * Differs: rawlink and unlink of semaphores | there | not there
 * Differs: Condition, Lock | not in gevent.lock | there
 */
#include "lock.h"

#include "greenlet.h"

MOONLET_API int luaopen_moonlet_lock(lua_State *L);

struct guard {
  struct class_object object;
  struct lock *lock;
  bool held;
};

enum { GUARD_LOCK = CLASS_FIELDS + 1 };

static const struct class_kind guard_kind;

/* ---- taking and giving back ---- */

static uint64_t current_id(lua_State *L) {
  const struct greenlet *g = hub_of(L)->current;
  return g ? g->id : 0;
}

bool lock_owned(lua_State *L, const struct lock *lock) {
  return lock->counter == 0 && lock->owner == current_id(L);
}

bool lock_take(lua_State *L, struct lock *lock) {
  if (lock->mode == LOCK_OPEN)
    return true;
  if (lock->mode == LOCK_REENTRANT && lock_owned(L, lock)) {
    lock->depth++;
    return true;
  }
  if (lock->counter == 0)
    return false;
  if (lock->mode == LOCK_REENTRANT) {
    lock->owner = current_id(L);
    lock->depth = 1;
  }
  lock->counter--;
  return true;
}

/* While the runtime closes, Conditions do not get back the lock that their users release. */
static void misused(lua_State *L, const char *message) {
  if (!hub_of(L)->closing)
    luaL_error(L, "%s", message);
}

void lock_give(lua_State *L, struct lock *lock) {
  if (lock->mode == LOCK_OPEN)
    return;
  if (lock->mode == LOCK_REENTRANT && !lock_owned(L, lock))
    return misused(L, "cannot release an RLock that the current greenlet does not hold");
  if (lock->counter == lock->bound)
    return misused(L, "semaphore released more often than it was acquired");
  if (lock->mode == LOCK_REENTRANT && --lock->depth > 0)
    return;
  lock->counter++;
  wait_notify(&lock->waiters);
}

/* ---- the lock at argument 1 ---- */

/* A Condition gives way to its lock. */
static struct lock *check(lua_State *L) {
  struct lock *lock = class_test(L, 1, &lock_kind);
  if (likely(lock != NULL))
    return lock;
  if (!class_test(L, 1, &condition_kind))
    luaL_typeerror(L, 1, lock_kind.name);
  lock = condition_push_lock(L);
  lua_replace(L, 1);
  return lock;
}

static int acquire_step(lua_State *L, bool timed_out) {
  bool taken = lock_take(L, lua_touserdata(L, 1));
  if (!taken && !timed_out)
    return WAIT_AGAIN;
  lua_pushboolean(L, taken);
  return 1;
}

/***
 * lock:acquire([timeout]), Condition:acquire([timeout]): waits for a permit and takes it.
 * First come, first served; but a caller that finds a permit free takes it at once.  An RLock
 * that the current greenlet holds is taken once more.
 * @param timeout? number|Timeout  seconds
 * @return boolean # true, or false at the timeout
 */
static int l_acquire(lua_State *L) {
  static const struct wait_kind kinds[] = {
      [LOCK_COUNTING] = {.name = "Semaphore:acquire", .step = acquire_step, .passes_on = true},
      [LOCK_REENTRANT] = {.name = "RLock:acquire", .step = acquire_step, .passes_on = true},
      [LOCK_OPEN] = {.name = "DummySemaphore:acquire", .step = acquire_step}};
  struct lock *lock = check(L);
  return wait_for(L, &lock->waiters, 2, &kinds[lock->mode]);
}

/***
 * lock:release(), Condition:release(): gives a permit back; who is first in line is woken.
 * @raise an error, and changes nothing, where a BoundedSemaphore would get more than it began
 *   with, and where an RLock is not held by the current greenlet
 */
static int l_release(lua_State *L) {
  lock_give(L, check(L));
  return 0;
}

/***
 * lock:locked(), Condition:locked(): whether no permit is free.
 * @return boolean
 */
static int l_locked(lua_State *L) {
  lua_pushboolean(L, check(L)->counter == 0);
  return 1;
}

/***
 * lock:ready(): whether a permit is free.
 * @return boolean
 */
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
 * lock:wait([timeout]): waits until a permit is free, taking none.
 * @param timeout? number|Timeout  seconds
 * @return boolean # true, or false at the timeout
 * Differs: returns how many permits are free | returns true or false
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
  lua_setiuservalue(L, -2, GUARD_LOCK);
}

/*** Guard:close(): releases what hold() has acquired; a second call does nothing. */
static int l_guard_close(lua_State *L) {
  struct guard *guard = class_check(L, 1, &guard_kind);
  if (guard->held)
    lock_give(L, guard->lock);
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
  guard->held = lock_take(L, guard->lock);
  if (!guard->held && !timed_out)
    return WAIT_AGAIN;
  if (!guard->held)
    lua_pushnil(L);
  return 1;
}

/***
 * lock:hold([timeout]), Condition:hold([timeout]): acquires, for a block:
 *
 *     local guard <close> = semaphore:hold()
 *
 * @param timeout? number|Timeout  seconds
 * @return Guard? # whose close() releases; nil at the timeout
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
  guard->held = lock_take(L, guard->lock);
  if (!guard->held)
    return WAIT_AGAIN;
  lua_callk(L, lua_gettop(L) - 2, LUA_MULTRET, 0, with_called);
  return with_called(L, LUA_OK, 0);
}

/***
 * lock:with(f, ...), Condition:with(f, ...): acquires, runs f(...), releases whichever way f is
 * left.
 * @param f function
 * @return any ... # f's results
 * @raise what f raises
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

/* ---- the classes ---- */

static void init_lock(struct lock *lock, enum lock_mode mode, lua_Integer bound) {
  lock->mode = mode;
  lock->counter = 1;
  lock->bound = bound;
  list_init(&lock->waiters);
}

static void init_semaphore(lua_State *L, void *object) {
  (void)L;
  init_lock(object, LOCK_COUNTING, LUA_MAXINTEGER);
}

static void init_bounded(lua_State *L, void *object) {
  (void)L;
  init_lock(object, LOCK_COUNTING, 1);
}

static void init_rlock(lua_State *L, void *object) {
  (void)L;
  init_lock(object, LOCK_REENTRANT, 1);
}

static void init_dummy(lua_State *L, void *object) {
  (void)L;
  init_lock(object, LOCK_OPEN, 1);
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
 * Semaphore([value]): a semaphore of so many permits.
 * @param value? integer  1 if nothing is said
 */
static int l_semaphore_new(lua_State *L) {
  struct lock *lock = check(L);
  lock->counter = check_value(L);
  return 0;
}

/***
 * BoundedSemaphore([value]): the same, which never has more permits than at first.
 * @param value? integer  1 if nothing is said
 */
static int l_bounded_new(lua_State *L) {
  struct lock *lock = check(L);
  lock->counter = lock->bound = check_value(L);
  return 0;
}

/*** Lock(), RLock(), DummySemaphore(): is free at first. */
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
  if (lock->mode == LOCK_COUNTING)
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

/***
 * @class moonlet.lock.lock: Object
 * What all locks have.
 * @field counter integer  how many permits are free
 */
static const struct class_field fields[] = {{"counter", get_counter, NULL}, {NULL, NULL, NULL}};

/* What Conditions have too, so that it is in no kind's own list. */
static const luaL_Reg common_methods[] = {{"acquire", l_acquire}, {"release", l_release},
                                          {"locked", l_locked},   {"hold", l_hold},
                                          {"with", l_with},       {NULL, NULL}};

static const luaL_Reg methods[] = {{"new", l_plain_new},
                                   {"wait", l_wait},
                                   {"ready", l_ready},
                                   {"__tostring", l_tostring},
                                   {NULL, NULL}};

const struct class_kind lock_kind = {.name = "lock",
                                     .size = sizeof(struct lock),
                                     .init = init_semaphore,
                                     .methods = methods,
                                     .fields = fields,
                                     .watch = watch,
                                     .watch_passes = true};

static const luaL_Reg semaphore_methods[] = {{"new", l_semaphore_new}, {NULL, NULL}};
static const luaL_Reg bounded_methods[] = {{"new", l_bounded_new}, {NULL, NULL}};
static const luaL_Reg plain_methods[] = {{"new", l_plain_new}, {NULL, NULL}};

/***
 * @class moonlet.lock.Semaphore: lock
 * A number of permits that greenlets take and give back.
 * Source: gevent.lock.Semaphore.
 */
static const struct class_kind semaphore_kind = {.name = "Semaphore",
                                                 .base = &lock_kind,
                                                 .size = sizeof(struct lock),
                                                 .init = init_semaphore,
                                                 .methods = semaphore_methods};

/***
 * @class moonlet.lock.BoundedSemaphore: Semaphore
 * A semaphore that raises an error where it is released too often.
 * Source: gevent.lock.BoundedSemaphore.
 */
static const struct class_kind bounded_kind = {.name = "BoundedSemaphore",
                                               .base = &semaphore_kind,
                                               .size = sizeof(struct lock),
                                               .init = init_bounded,
                                               .methods = bounded_methods};

/***
 * @class moonlet.lock.Lock: Semaphore
 * A semaphore of one permit.
 */
static const struct class_kind plain_kind = {.name = "Lock",
                                             .base = &semaphore_kind,
                                             .size = sizeof(struct lock),
                                             .init = init_semaphore,
                                             .methods = plain_methods};

/***
 * @class moonlet.lock.RLock: lock
 * A lock that belongs to the greenlet that acquires it, which may do so again; it is free after
 * as many releases.
 * Source: gevent.lock.RLock.
 */
const struct class_kind rlock_kind = {.name = "RLock",
                                      .base = &lock_kind,
                                      .size = sizeof(struct lock),
                                      .init = init_rlock,
                                      .methods = plain_methods};

/***
 * @class moonlet.lock.DummySemaphore: lock
 * A lock that never keeps anybody waiting.
 * Source: gevent.lock.DummySemaphore.
 */
static const struct class_kind dummy_kind = {.name = "DummySemaphore",
                                             .base = &lock_kind,
                                             .size = sizeof(struct lock),
                                             .init = init_dummy,
                                             .methods = plain_methods};

static const luaL_Reg guard_methods[] = {{"close", l_guard_close},
                                         {"__close", l_guard_close},
                                         {"__tostring", l_guard_tostring},
                                         {NULL, NULL}};

/***
 * @class moonlet.lock.Guard: Object
 * What hold() returns.  As a `<close>` variable it is closed.
 */
static const struct class_kind guard_kind = {
    .name = "Guard", .size = sizeof(struct guard), .values = 1, .methods = guard_methods};

/* ---- the module ---- */

static void add_common_methods(lua_State *L, const struct class_kind *kind) {
  class_push(L, kind);
  luaL_setfuncs(L, common_methods, 0);
  lua_pop(L, 1);
}

int luaopen_moonlet_lock(lua_State *L) {
  static const struct class_kind *const kinds[] = {&semaphore_kind, &bounded_kind, &plain_kind,
                                                   &rlock_kind,     &dummy_kind,   &condition_kind};
  luaL_requiref(L, "moonlet", luaopen_moonlet, 0);
  lua_pop(L, 1);
  add_common_methods(L, &lock_kind);
  add_common_methods(L, &condition_kind);
  lua_newtable(L);
  for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
    class_push(L, kinds[i]);
    lua_setfield(L, -2, kinds[i]->name);
  }
  return 1;
}
