/*
 * callout.h: blocking calls of C libraries, made cooperative.
 *
 * monkey.patch_c() has the functions of the C library that block replaced in every shared object
 * but our own and the system's: got.c rewrites the addresses by which they are called.  What
 * takes their place, a wrapper, lets other greenlets run where the function would block.
 *
 * A whole wrapper:
 *
 *     static ssize_t callout_recv(int fd, void *buffer, size_t size, int flags) {
 *       struct callout call = callout_for("recv", fd, EV_READ, SO_RCVTIMEO);
 *       if (!call.hub || (flags & MSG_DONTWAIT))
 *         return recv(fd, buffer, size, flags);
 *       for (;;) {
 *         ssize_t result = recv(fd, buffer, size, flags | MSG_DONTWAIT);
 *         if (result >= 0 || errno != EAGAIN)
 *           return result;
 *         enum callout_end end = callout_wait_fd(&call);
 *         if (end != CALLOUT_AGAIN)
 *           return end == CALLOUT_REFUSED ? recv(fd, buffer, size, flags) : -1;
 *       }
 *     }
 *     const struct callout_name callout_example_names[] = {CALLOUT(recv), CALLOUT_END};
 *
 * and a line in the list in names.c.  The rules:
 *   - Our own objects are not patched: a wrapper calls the real function by its name.
 *   - callout_hub() first: without one the real function does it all.
 *   - Try without blocking, and only then wait.  What is ready costs no more than a try.
 *   - A descriptor with O_NONBLOCK gets its EAGAIN, as ever.
 *   - No error is ever raised here, since it would jump over the library's frames.  When a kill
 *     or a Timeout ends a wait the wrapper fails with ECANCELED, and so does each further one
 *     that would wait, until the library returns to Lua and the error is raised (wait_quietly).
 *     Who sleeps is told that the time is over: some libraries would sleep for the rest of it.
 *   - A signal does not end a wait: its handler runs, and the wait goes on, as with SA_RESTART.
 *   - The greenlet stays on its C stack: what it waits with may be in the wrapper's frame.
 */
#ifndef MOONLET_CALLOUT_H
#define MOONLET_CALLOUT_H

#include <poll.h>
#include <stdbool.h>
#include <stdlib.h>
#include <time.h>

#include "../hub.h"

/* ---- what is replaced ---- */

struct callout_name {
  const char *name; /* of a function of the C library */
  void *wrapper;    /* what is called instead */
  void *real;       /* the function; NULL where the C library has none */
  bool own;         /* in our own object, too */
  const char *only; /* in objects of which the files' names begin so; NULL: in all */
};

#define CALLOUT(name)                                                                              \
  { #name, (void *)callout_##name, (void *)name, false, NULL }

/*
 * Functions that headers do not declare, such as those for _FORTIFY_SOURCE:
 * CALLOUT_REAL(__recv_chk); and in the list CALLOUT_HIDDEN(__recv_chk, recv_chk), whose wrapper is
 * callout_recv_chk.
 */
#define CALLOUT_REAL(name) extern void real_##name(void) __asm__(#name) __attribute__((weak))
#define CALLOUT_HIDDEN(name, wrapper)                                                              \
  { #name, (void *)callout_##wrapper, (void *)real_##name, false, NULL }

#define CALLOUT_END                                                                                \
  { NULL, NULL, NULL, false, NULL }

/* What they do when there is more to be written than there is room for. */
#ifdef __GLIBC__
_Noreturn void callout_overflow(void) __asm__("__chk_fail");
#else
_Noreturn static inline void callout_overflow(void) { abort(); }
#endif

/* The lists of all files with wrappers, ended by NULL (names.c). */
extern const struct callout_name *const callout_names[];

/*
 * Patches what is loaded (got.c), except the executable if it is to be spared; returns how many
 * objects there were that had not been seen before, or -1 where this system is not known.
 */
int callout_rewrite(bool spare_executable);

/* Once, before the first wrapper can be called. */
void callout_open(void);

/* ---- who may wait ---- */

/* In this thread: how many are at work that no other greenlet may run inside of.  (Signal handlers
   ask as well: no memory may have to be found for it.) */
extern _Thread_local int callout_barred __attribute__((tls_model("initial-exec")));

/* Those that are still at work: a handler of a signal may have been left by a jump (handler.c). */
bool callout_is_barred(const struct hub *hub);

/* The hub in whose current greenlet a wrapper may wait; NULL: it must not. */
static inline struct hub *callout_hub(void) {
  struct hub *hub = hub_running;
  if (!hub || !hub->current || hub->polling)
    return NULL;
  return likely(!callout_barred) || !callout_is_barred(hub) ? hub : NULL;
}

/* This is a child of vfork or the like, in the memory of its parent: it must not change it. */
bool callout_is_child(void);

/* ---- waiting ---- */

enum callout_end {
  CALLOUT_AGAIN,  /* to be tried again */
  CALLOUT_LATE,   /* its time is over */
  CALLOUT_FAILED, /* errno says why */
  CALLOUT_REFUSED /* nothing can wait here: the real function has to block */
};

/* One call that blocks for a descriptor. */
struct callout {
  struct hub *hub;
  const char *name; /* as a person would write it */
  int fd, events;   /* EV_READ, EV_WRITE */
  int option;       /* SO_RCVTIMEO or SO_SNDTIMEO, which limits it; 0: nothing does */
  bool begun;       /* it has waited: */
  double due;       /* when the limit is reached; NO_LIMIT */
};

static inline struct callout callout_for(const char *name, int fd, int events, int option) {
  return (struct callout){
      .hub = callout_hub(), .name = name, .fd = fd, .events = events, .option = option};
}

/* Waits until the descriptor is ready; fails with EAGAIN if it does not block, or at its limit. */
enum callout_end callout_wait_fd(struct callout *call);

/* Waits in a ring until `due`, in the hub's time: then it is CALLOUT_LATE. */
enum callout_end callout_wait(struct hub *hub, struct link *ring, double due,
                              const struct wait_kind *kind);

/* The same where a kill or a Timeout must not end it: fails with EDEADLK when nothing is left that
   could wake it. */
enum callout_end callout_wait_firmly(struct hub *hub, struct link *ring, double due,
                                     const struct wait_kind *kind);

/* What remains when nothing can wait: in a finalizer it is really waited for, two seconds at most.
   Fails with ETIMEDOUT after that; CALLOUT_REFUSED elsewhere. */
enum callout_end callout_wait_patiently(struct hub *hub, struct pollfd *polled, nfds_t count,
                                        double due);

/* Sleeps; CALLOUT_AGAIN when the time is over.  Nothing, or less: lets the others run once. */
enum callout_end callout_sleep(struct hub *hub, const char *name, double seconds);

/* Sleeps a little, and longer each time; *pause begins with 0. */
enum callout_end callout_back_off(struct hub *hub, const char *name, double *pause);

/* For calls that never wait since something is always ready: now and then others have a turn. */
void callout_tick(struct hub *hub);

/* When something is due that is to last so long; below 0: for ever. */
static inline double callout_due(struct hub *hub, double seconds) {
  return seconds < 0 ? NO_LIMIT : hub_due(hub, seconds);
}

/* When it is so late by that clock. */
double callout_due_at(struct hub *hub, clockid_t clock, const struct timespec *time);

/* How long to wait next for what nobody tells of: longer each time; *pause begins with 0. */
double callout_next_pause(double *pause);

/* Whoever waits for this descriptor finds it closed. */
void callout_forget_fd(int fd);

#endif
