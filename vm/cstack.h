/*
 * cstack.h: C stacks, and the switch between them.
 *
 * A greenlet needs a C stack of its own only while it is blocked in a place that a
 * Lua coroutine cannot yield from.  Stacks are mapped lazily, kept in a pool, and
 * end in a guard page.  The switch is assembler on x86_64 and aarch64, ucontext
 * elsewhere; what sanitizers, valgrind and C++ need to know about it stands here
 * and nowhere else.
 */
#ifndef MOONLET_CSTACK_H
#define MOONLET_CSTACK_H

#include <stdbool.h>
#include <stddef.h>

#include "list.h"

#define CSTACK_DEFAULT_SIZE (4u << 20) /* lpeg's deepest recursion needs over 2 MB */
#define CSTACK_MIN_SIZE (256u << 10)
#define CSTACK_MAX_IDLE 64
#define CSTACK_MAX_WARM 16 /* idle stacks beyond these keep only their top pages */

struct cstack {
  void *sp;         /* where it continues, while it is not the running one */
  char *map;        /* the mapping, guard page first; NULL: the thread's own stack */
  size_t length;    /* of the mapping */
  char *low, *high; /* the usable part */
  struct link pool; /* among the idle ones */
  struct link all;  /* among all stacks of the pool's owner */
  unsigned valgrind_id;
  void *fake_stack; /* AddressSanitizer's shadow of this stack */
};

struct cstack_pool {
  struct link idle, all;
  int idle_count, count;
  size_t size;                   /* of stacks mapped from now on */
  void (*entry)(void *argument); /* what a fresh stack runs; never returns */
  void *argument;
  struct cstack *left; /* the stack that the latest switch came from */
};

void cstack_pool_init(struct cstack_pool *pool, void (*entry)(void *), void *argument);

/* Unmaps every stack but `keep` (the running one, or NULL). */
void cstack_pool_clear(struct cstack_pool *pool, struct cstack *keep);

/* Makes sure that an idle stack is there; false: the system has none left (errno). */
bool cstack_reserve(struct cstack_pool *pool);

/* Takes the idle stack that cstack_reserve() promised. */
struct cstack *cstack_take(struct cstack_pool *pool);

/* Gives a stack back; it may be the running one, which is left at once. */
void cstack_give(struct cstack_pool *pool, struct cstack *stack);

/* Unmaps idle stacks beyond CSTACK_MAX_IDLE; not between cstack_give and cstack_jump. */
void cstack_trim(struct cstack_pool *pool);

/* Leaves `from` (the running stack) and continues on `to`. */
void cstack_jump(struct cstack_pool *pool, struct cstack *from, struct cstack *to);

/* The first thing that `entry` must call on a fresh stack. */
void cstack_arrived(struct cstack_pool *pool);

/* Looks again for the C++ runtime, whose exception state belongs to a stack. */
void cstack_find_cxx(void);

#endif
