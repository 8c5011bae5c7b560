/*
 * threads.h: a few threads that do jobs in the order in which they came.
 *
 * A thread starts when there are more jobs than idle threads, up to a limit, and leaves
 * after a time without work.  No thread here ever touches Lua or the hub.
 */
#ifndef MOONLET_THREADS_H
#define MOONLET_THREADS_H

#include <stdbool.h>

#include "list.h"

/* Something to do; it must stay until `work` has ended, and may be gone afterwards. */
struct job {
  struct link link;
  void (*work)(struct job *self);
  void (*forget)(struct job *self); /* the pool closes before its turn came; may be NULL */
  bool loose;                       /* owns its memory: nobody need wait for it */
};

struct threads;

/* A pool of at most `max` threads, which are idle for so many seconds before they leave.
   None is there yet.  NULL: out of memory. */
struct threads *threads_new(int max, double patience);

/* Has a thread do the job; 0, or an errno when there is no thread and none can be made. */
int threads_do(struct threads *threads, struct job *job);

/* Takes back a job that has not begun; returns whether it could. */
bool threads_cancel(struct threads *threads, struct job *job);

/* At most so many threads from now on; what is too many leaves after its job. */
void threads_limit(struct threads *threads, int max);

/* How many threads there are; or have that many at once, idle ones leave.  0, or an errno. */
int threads_count(struct threads *threads);
int threads_resize(struct threads *threads, int count);

/*
 * Has the jobs not begun forgotten, waits for the others and joins the threads.  Loose jobs are
 * not waited for: their threads go on without an owner, and the last frees the pool.
 */
void threads_close(struct threads *threads);

#endif
