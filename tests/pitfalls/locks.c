/*
 * locks.c: a Lua module of a kind that knows nothing of greenlets, and waits with pthread locks
 * held.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <lauxlib.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static void pause_for(lua_Number seconds) { usleep((useconds_t)(seconds * 1e6)); }

static int outcome(lua_State *L, int failure) {
  if (failure == 0)
    return lua_pushboolean(L, true), 1;
  lua_pushnil(L);
  lua_pushstring(L, strerror(failure));
  return 2;
}

static struct timespec from_now(clockid_t clock, lua_Number seconds) {
  struct timespec time;
  clock_gettime(clock, &time);
  long long nanoseconds = (long long)(seconds * 1e9) + time.tv_nsec;
  time.tv_sec += (time_t)(nanoseconds / 1000000000);
  time.tv_nsec = (long)(nanoseconds % 1000000000);
  return time;
}

/* ---- a lock: new(kind), of which everything else is the method; held by threads as well ---- */

struct lock {
  pthread_mutex_t mutex;
  pthread_rwlock_t rwlock;
  pthread_once_t once;
  pthread_cond_t condition, monotonic;
  int inside, most; /* how many are between lock and unlock, at present and ever */
  int value, calls;
  atomic_int threads; /* that have got it */
  atomic_int running; /* threads that have not ended */
  atomic_bool kept;   /* until let_go() */
  bool by_finalizer;  /* is locked by it */
};

static struct lock *lock_at(lua_State *L) { return luaL_checkudata(L, 1, "lock"); }

static int l_new(lua_State *L) {
  static const char *const names[] = {"normal", "recursive", "checked", "robust", NULL};
  static const int kinds[] = {PTHREAD_MUTEX_NORMAL, PTHREAD_MUTEX_RECURSIVE,
                              PTHREAD_MUTEX_ERRORCHECK, PTHREAD_MUTEX_NORMAL};
  int kind = luaL_checkoption(L, 1, "normal", names);
  struct lock *lock = lua_newuserdatauv(L, sizeof *lock, 0);
  pthread_mutexattr_t attributes;
  pthread_condattr_t condition;
  memset(lock, 0, sizeof *lock);
  pthread_mutexattr_init(&attributes);
  pthread_mutexattr_settype(&attributes, kinds[kind]);
  pthread_mutexattr_setrobust(&attributes,
                              kind == 3 ? PTHREAD_MUTEX_ROBUST : PTHREAD_MUTEX_STALLED);
  pthread_mutex_init(&lock->mutex, &attributes);
  pthread_rwlock_init(&lock->rwlock, NULL);
  pthread_cond_init(&lock->condition, NULL);
  pthread_condattr_init(&condition);
  pthread_condattr_setclock(&condition, CLOCK_MONOTONIC);
  pthread_cond_init(&lock->monotonic, &condition);
  lock->once = PTHREAD_ONCE_INIT;
  luaL_setmetatable(L, "lock");
  return 1;
}

static void enter(struct lock *lock) {
  if (++lock->inside > lock->most)
    lock->most = lock->inside;
}

/* ---- mutexes ---- */

static int l_lock(lua_State *L) { return outcome(L, pthread_mutex_lock(&lock_at(L)->mutex)); }

static int l_trylock(lua_State *L) { return outcome(L, pthread_mutex_trylock(&lock_at(L)->mutex)); }

static int l_timedlock(lua_State *L) {
  struct timespec time = from_now(CLOCK_REALTIME, luaL_checknumber(L, 2));
  return outcome(L, pthread_mutex_timedlock(&lock_at(L)->mutex, &time));
}

static int l_clocklock(lua_State *L) {
  struct timespec time = from_now(CLOCK_MONOTONIC, luaL_checknumber(L, 2));
  return outcome(L, pthread_mutex_clocklock(&lock_at(L)->mutex, CLOCK_MONOTONIC, &time));
}

static int l_unlock(lua_State *L) { return outcome(L, pthread_mutex_unlock(&lock_at(L)->mutex)); }

/* Waits so long; below 0: until let_go(). */
static void stay(const struct lock *lock, lua_Number seconds) {
  if (seconds >= 0)
    pause_for(seconds);
  else
    while (atomic_load(&lock->kept))
      pause_for(0.001);
}

static lua_Number stay_wanted(lua_State *L, struct lock *lock) {
  lua_Number seconds = luaL_optnumber(L, 2, -1);
  if (seconds < 0)
    atomic_store(&lock->kept, true);
  return seconds;
}

static int l_let_go(lua_State *L) {
  atomic_store(&lock_at(L)->kept, false);
  return 0;
}

/* hold([seconds], [depth]): locks, waits and unlocks; returns how many were inside with it. */
static int l_hold(lua_State *L) {
  struct lock *lock = lock_at(L);
  lua_Number seconds = stay_wanted(L, lock);
  lua_Integer depth = luaL_optinteger(L, 3, 1);
  for (lua_Integer i = 0; i < depth; i++) {
    int failure = pthread_mutex_lock(&lock->mutex);
    if (failure)
      return outcome(L, failure);
  }
  enter(lock);
  stay(lock, seconds);
  lua_pushinteger(L, lock->inside--);
  for (lua_Integer i = 0; i < depth; i++)
    pthread_mutex_unlock(&lock->mutex);
  return 1;
}

/* The same around a call of a Lua function. */
static int l_call(lua_State *L) {
  struct lock *lock = lock_at(L);
  pthread_mutex_lock(&lock->mutex);
  enter(lock);
  int status = lua_pcall(L, lua_gettop(L) - 2, 0, 0);
  lock->inside--;
  pthread_mutex_unlock(&lock->mutex);
  return status == LUA_OK ? 0 : lua_error(L);
}

static int l_most(lua_State *L) {
  lua_pushinteger(L, lock_at(L)->most);
  return 1;
}

/* pairs(n): locks and unlocks so often. */
static int l_pairs(lua_State *L) {
  struct lock *lock = lock_at(L);
  for (lua_Integer n = luaL_checkinteger(L, 2); n > 0; n--) {
    pthread_mutex_lock(&lock->mutex);
    pthread_mutex_unlock(&lock->mutex);
  }
  return 0;
}

static void *lock_for_ever(void *lock) {
  pthread_mutex_lock(lock);
  return NULL;
}

/* abandon(): a thread locks it and ends. */
static int l_abandon(lua_State *L) {
  pthread_t thread;
  int failure = pthread_create(&thread, NULL, lock_for_ever, &lock_at(L)->mutex);
  if (!failure)
    failure = pthread_join(thread, NULL);
  return outcome(L, failure);
}

/* mend(): after that. */
static int l_mend(lua_State *L) { return outcome(L, pthread_mutex_consistent(&lock_at(L)->mutex)); }

/* ---- read-write locks ---- */

static int l_read(lua_State *L) {
  struct lock *lock = lock_at(L);
  lua_Number seconds = stay_wanted(L, lock);
  int failure = pthread_rwlock_rdlock(&lock->rwlock);
  if (failure)
    return outcome(L, failure);
  enter(lock);
  stay(lock, seconds);
  lua_pushinteger(L, lock->inside--);
  pthread_rwlock_unlock(&lock->rwlock);
  return 1;
}

static int l_write(lua_State *L) {
  struct lock *lock = lock_at(L);
  lua_Number seconds = stay_wanted(L, lock);
  int failure = pthread_rwlock_wrlock(&lock->rwlock);
  if (failure)
    return outcome(L, failure);
  enter(lock);
  stay(lock, seconds);
  lua_pushinteger(L, lock->inside--);
  pthread_rwlock_unlock(&lock->rwlock);
  return 1;
}

static int l_timedwrite(lua_State *L) {
  struct lock *lock = lock_at(L);
  struct timespec time = from_now(CLOCK_REALTIME, luaL_checknumber(L, 2));
  int failure = pthread_rwlock_timedwrlock(&lock->rwlock, &time);
  if (!failure)
    pthread_rwlock_unlock(&lock->rwlock);
  return outcome(L, failure);
}

/* ---- other threads: the lock, and this code, are there until they have ended ---- */

struct work {
  struct lock *lock;
  lua_Number before, while_held;
  bool signals;
};

static void *work(void *argument) {
  struct work job = *(struct work *)argument;
  free(argument);
  stay(job.lock, job.before);
  pthread_mutex_lock(&job.lock->mutex);
  job.lock->value++;
  atomic_fetch_add(&job.lock->threads, 1);
  stay(job.lock, job.while_held);
  pthread_mutex_unlock(&job.lock->mutex);
  if (job.signals)
    pthread_cond_signal(&job.lock->condition);
  atomic_fetch_sub(&job.lock->running, 1);
  return NULL;
}

static int start(lua_State *L, lua_Number before, lua_Number while_held, bool signals) {
  pthread_t thread;
  struct work *job = malloc(sizeof *job);
  *job = (struct work){lock_at(L), before, while_held, signals};
  atomic_fetch_add(&job->lock->running, 1);
  int failure = pthread_create(&thread, NULL, work, job);
  if (!failure)
    pthread_detach(thread);
  else
    atomic_fetch_sub(&lock_at(L)->running, 1);
  return outcome(L, failure);
}

/* hold_in_thread([seconds]): returns when a thread has got it. */
static int l_hold_in_thread(lua_State *L) {
  struct lock *lock = lock_at(L);
  int before = atomic_load(&lock->threads);
  int results = start(L, 0, stay_wanted(L, lock), false);
  while (atomic_load(&lock->threads) == before)
    pause_for(0.0005);
  return results;
}

static int l_collect(lua_State *L) {
  struct lock *lock = lock_at(L);
  atomic_store(&lock->kept, false);
  while (atomic_load(&lock->running) > 0)
    pause_for(0.001);
  return 0;
}

/* put_in_thread([seconds]): a thread does put() after that time. */
static int l_put_in_thread(lua_State *L) { return start(L, stay_wanted(L, lock_at(L)), 0, true); }

/* ---- condition variables: what was put is taken ---- */

static int l_put(lua_State *L) {
  struct lock *lock = lock_at(L);
  pthread_mutex_lock(&lock->mutex);
  lock->value += (int)luaL_optinteger(L, 2, 1);
  pthread_mutex_unlock(&lock->mutex);
  if (lua_gettop(L) > 1)
    pthread_cond_broadcast(&lock->condition);
  else
    pthread_cond_signal(&lock->condition);
  return 0;
}

/* take([seconds, [monotonic]]) */
static int l_take(lua_State *L) {
  struct lock *lock = lock_at(L);
  bool limited = !lua_isnoneornil(L, 2), monotonic = lua_toboolean(L, 3);
  clockid_t clock = monotonic ? CLOCK_MONOTONIC : CLOCK_REALTIME;
  struct timespec time = from_now(clock, luaL_optnumber(L, 2, 0));
  int failure = 0;
  pthread_mutex_lock(&lock->mutex);
  while (lock->value == 0 && failure == 0) {
    lock->calls++;
    failure = limited ? pthread_cond_timedwait(monotonic ? &lock->monotonic : &lock->condition,
                                               &lock->mutex, &time)
                      : pthread_cond_wait(&lock->condition, &lock->mutex);
  }
  if (!failure)
    lock->value--;
  pthread_mutex_unlock(&lock->mutex);
  return outcome(L, failure);
}

static int l_clocktake(lua_State *L) {
  struct lock *lock = lock_at(L);
  struct timespec time = from_now(CLOCK_MONOTONIC, luaL_checknumber(L, 2));
  int failure = 0;
  pthread_mutex_lock(&lock->mutex);
  while (lock->value == 0 && failure == 0)
    failure = pthread_cond_clockwait(&lock->condition, &lock->mutex, CLOCK_MONOTONIC, &time);
  if (!failure)
    lock->value--;
  pthread_mutex_unlock(&lock->mutex);
  return outcome(L, failure);
}

static int l_calls(lua_State *L) {
  lua_pushinteger(L, lock_at(L)->calls);
  return 1;
}

/* ---- semaphores and threads ---- */

static sem_t semaphore;

static int result(lua_State *L, int value) { return outcome(L, value == 0 ? 0 : errno); }

static int l_post(lua_State *L) { return result(L, sem_post(&semaphore)); }

/* wait_semaphore([seconds]) */
static int l_wait_semaphore(lua_State *L) {
  struct timespec time = from_now(CLOCK_REALTIME, luaL_optnumber(L, 1, 0));
  return result(L, lua_isnoneornil(L, 1) ? sem_wait(&semaphore) : sem_timedwait(&semaphore, &time));
}

static void *pause_and_post(void *argument) {
  pause_for(0.2);
  sem_post(&semaphore);
  return argument;
}

/* join(): with a thread that posts after a while. */
static int l_join(lua_State *L) {
  pthread_t thread;
  void *value = NULL;
  int failure = pthread_create(&thread, NULL, pause_and_post, L);
  if (!failure)
    failure = pthread_join(thread, &value);
  return outcome(L, failure ? failure : value == L ? 0 : EINVAL);
}

/* ---- once ---- */

static struct lock *initialized;
static lua_Number initialization;

static void initialize(void) {
  struct lock *lock = initialized;
  pause_for(initialization);
  lock->value++;
}

/* once(seconds): how often it has been initialized. */
static int l_once(lua_State *L) {
  struct lock *lock = lock_at(L);
  initialized = lock;
  initialization = luaL_checknumber(L, 2);
  int failure = pthread_once(&lock->once, initialize);
  if (failure)
    return outcome(L, failure);
  lua_pushinteger(L, lock->value);
  return 1;
}

/* ---- a finalizer that locks another lock and waits: guard(lock, seconds) ---- */

static int l_guard(lua_State *L) {
  struct lock **guarded = lua_newuserdatauv(L, sizeof *guarded, 1);
  *guarded = lock_at(L);
  lua_pushvalue(L, 1);
  lua_setiuservalue(L, -2, 1);
  luaL_setmetatable(L, "guard");
  return 1;
}

static int finalize(lua_State *L) {
  struct lock **guarded = luaL_checkudata(L, 1, "guard"), *lock = *guarded;
  lock->value = pthread_mutex_lock(&lock->mutex);
  pthread_mutex_unlock(&lock->mutex);
  lock->calls++;
  return 0;
}

/* Of the latest finalizer: what locking has returned. */
static int l_finalized(lua_State *L) {
  const struct lock *lock = lock_at(L);
  return lock->calls ? outcome(L, lock->value) : 0;
}

static const luaL_Reg functions[] = {{"new", l_new},   {"guard", l_guard},
                                     {"post", l_post}, {"wait_semaphore", l_wait_semaphore},
                                     {"join", l_join}, {NULL, NULL}};

static const luaL_Reg methods[] = {{"lock", l_lock},
                                   {"trylock", l_trylock},
                                   {"timedlock", l_timedlock},
                                   {"clocklock", l_clocklock},
                                   {"unlock", l_unlock},
                                   {"hold", l_hold},
                                   {"let_go", l_let_go},
                                   {"call", l_call},
                                   {"most", l_most},
                                   {"pairs", l_pairs},
                                   {"abandon", l_abandon},
                                   {"mend", l_mend},
                                   {"read", l_read},
                                   {"write", l_write},
                                   {"timedwrite", l_timedwrite},
                                   {"hold_in_thread", l_hold_in_thread},
                                   {"put_in_thread", l_put_in_thread},
                                   {"put", l_put},
                                   {"take", l_take},
                                   {"clocktake", l_clocktake},
                                   {"calls", l_calls},
                                   {"once", l_once},
                                   {"finalized", l_finalized},
                                   {"__gc", l_collect},
                                   {NULL, NULL}};

int luaopen_locks(lua_State *L) __attribute__((visibility("default")));

int luaopen_locks(lua_State *L) {
  luaL_newmetatable(L, "guard");
  lua_pushcfunction(L, finalize);
  lua_setfield(L, -2, "__gc");
  luaL_newmetatable(L, "lock");
  luaL_setfuncs(L, methods, 0);
  lua_pushvalue(L, -1);
  lua_setfield(L, -2, "__index");
  luaL_newlib(L, functions);
  return 1;
}
