/*
 * lock.h: what the classes of moonlet.lock share.
 */
#ifndef MOONLET_LOCK_H
#define MOONLET_LOCK_H

#include <stdint.h>

#include "class.h"
#include "list.h"

enum lock_mode {
  LOCK_COUNTING,  /* Semaphore and the classes below it */
  LOCK_REENTRANT, /* RLock: the greenlet that has it may take it again */
  LOCK_OPEN       /* DummySemaphore: nobody ever waits */
};

struct lock {
  struct class_object object;
  enum lock_mode mode;
  lua_Integer counter; /* free permits */
  lua_Integer bound;   /* the most there may be */
  uint64_t owner;      /* of an RLock that is not free: the greenlet's id */
  lua_Integer depth;   /* and how often it has taken it */
  struct link waiters;
};

/* The class above all locks; a Condition is none, but has one. */
extern const struct class_kind lock_kind, rlock_kind, condition_kind;

/* Takes a permit if one is free; gives one back, or raises an error. */
bool lock_take(lua_State *L, struct lock *lock);
void lock_give(lua_State *L, struct lock *lock);

/* Whether the current greenlet holds an RLock. */
bool lock_owned(lua_State *L, const struct lock *lock);

/* Pushes the lock of the Condition at 1. */
struct lock *condition_push_lock(lua_State *L);

#endif
