/*
 * hub.h: the hub of one Lua state, and the greenlets that it runs.
 *
 * The hub takes the next entry of the run queue and resumes it, until nothing is
 * ready; then it lets libev wait.  libev's callbacks and timers only append to the
 * run queue: no greenlet ever runs inside ev_run.
 *
 * A greenlet blocks in one of two ways (wait.h decides which):
 *   parked  its Lua thread has yielded to the hub, and so have the coroutines in it that
 *           it blocks in (coroutine.h); it holds no C stack;
 *   pinned  Lua could not yield there.  The greenlet stays on the C stack it stands on
 *           and calls next_ready() itself; other greenlets go on on other stacks.
 * Each pooled stack runs hub_loop(); only one of these loops is at work at a time.
 * The main greenlet (the script, or the host's own code) blocks by pinning its
 * thread's native stack.
 */
#ifndef MOONLET_HUB_H
#define MOONLET_HUB_H

#include <assert.h>
#include <ev.h>
#include <lauxlib.h>
#include <lua.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "class.h"
#include "clock.h"
#include "cstack.h"
#include "list.h"
#include "moonlet.h"
#include "timer.h"
#include "wait.h"

#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

#ifdef MOONLET_PARANOID
#define paranoid(x) assert(x)
#else
#define paranoid(x) ((void)0)
#endif

/* ---- the run queue ---- */

/* An entry of the run queue: a greenlet (run NULL), or something to do in its turn. */
struct runnable {
  struct link link;
  /* Acts without raising or allocating in Lua; returns a greenlet to resume, or NULL. */
  struct greenlet *(*run)(struct hub *hub, struct runnable *self);
};

/* ---- greenlets ---- */

enum greenlet_state {
  GREENLET_NEW,       /* not started */
  GREENLET_SCHEDULED, /* started: in the run queue or on its timer, has no thread yet */
  GREENLET_RUNNING,   /* the current one */
  GREENLET_PARKED,    /* blocked, its thread has yielded */
  GREENLET_PINNED,    /* blocked, holding its C stack */
  GREENLET_DEAD
};

/* The user values of a Greenlet. */
enum { UV_FIELDS = CLASS_FIELDS, UV_OUTCOME, UV_BODY, UV_LOCALS = UV_BODY, UV_ARGS };
/* UV_OUTCOME: after the end the results or the error: the value itself if there is one, a table
   with `n` if there are several.  Before it, in the same way, the arguments, if they are not
   spread. UV_BODY: before the first turn the function, then its greenlet-local values. UV_ARGS:
   from here on the arguments, if they are spread.  Of one in a nursery, function and arguments are
   only there. */

/* What is needed together stands together, in few cache lines: first what a timer that is due
   touches, then what each turn does, then the end. */
struct greenlet {
  struct class_object object;
  struct runnable run; /* linked: ready, will run in its turn */
  lua_State *L;        /* its thread, from its first turn to its end */
  struct timer timer;  /* limits the wait, or delays the start */
  struct link *ring;   /* that it waits in, from wait to wake-up; NULL: none */
  bool notified;       /* by `ring`, and has not run since */
  bool timed_out;      /* the timer has fired */
  uint8_t state;       /* enum greenlet_state */
  bool failed;         /* ended by an error */
  bool method : 1;     /* its body is called with the Greenlet as first argument */
  bool spread : 1;     /* there is a user value for each argument */
  bool spawner : 1;    /* listed in the hub's table of spawners */
  bool nested : 1;     /* parked in a coroutine in its thread, until that runs again */
  uint8_t depth;       /* of coroutines in one another, as far as waits in them park */
  uint8_t refused;     /* how often it tried to block while the runtime was closing */
  union {
    struct {
      bool reporting;  /* the error handler runs, after its end */
      bool identified; /* its thread was handed out: not to be used again */
      bool localized;  /* has greenlet-local values */
      bool threadlike; /* C libraries keep values for it, too, as for a thread */
    };
    uint32_t unusual; /* any of these */
  };
  uint16_t shield; /* depth of shields: interrupts are held back */
  uint16_t held;   /* how many of them are */

  struct hub *hub;
  lua_State *blocked;              /* the state that blocked: L, or a coroutine nested in it */
  const struct wait_kind *waiting; /* what it waits for; NULL: not blocked */
  struct interrupt *interrupt;     /* to be raised when it runs next */
  struct nursery *nursery;         /* where it is until its first turn is over; NULL: not there */
  struct cstack *stack;            /* the C stack to continue on, while pinned */

  int32_t slot;          /* of the nursery or the hub's anchors, from start to end */
  int32_t thread_slot;   /* that of its thread */
  int32_t args, results; /* how many there are; args -1: none any more */
  struct link aimed;     /* ring: interrupts on their way to it */
  struct link done;      /* ring: who waits for its end, joiners and links */
  struct link alive;     /* among the hub's greenlets, from start to end */

  struct waiter wait;  /* its place in the ring it waits in */
  const char *name;    /* as the user set it; points into the string kept with it */
  uint64_t id, parent; /* its own number and its spawner's */

  struct callout_values *values; /* those of C libraries (callout/keys.c) */
};

extern const struct class_kind greenlet_kind;

/* Readies its own waiter and timer. */
static inline void wait_setup(struct greenlet *g) {
  g->wait.notify = wait_notified;
  g->timer.fire = wait_limit_reached;
}

/* ---- interrupts: errors raised in a blocked greenlet ---- */

/*
 * A kill or a Timeout that is due.  It has its turn in the run queue like everything
 * else: a wake-up queued before it wins, one queued later is undone by it.
 */
struct interrupt {
  struct runnable run;     /* linked: due */
  struct link aimed;       /* in the target's ring, while it is under way */
  struct greenlet *target; /* NULL: not under way */
  bool insistent;          /* no shield keeps it off */
  uint16_t depth;          /* shields raised when it was aimed, which do not hold it back */
  bool held;               /* due, but the target was shielded or not blocked */
  bool kept;               /* it has ended a wait in which nothing could be raised */
  const struct interrupt_kind *kind;
};

struct interrupt_kind {
  /* Pushes the error value, frees what it holds; may raise another error instead. */
  void (*push)(lua_State *L, struct hub *hub, struct interrupt *self);
  void (*drop)(struct hub *hub, struct interrupt *self); /* it is taken back: frees that */
};

/* Aims it at `target`; interrupt_send() makes it due, interrupt_drop() takes it back. */
void interrupt_aim(struct interrupt *self, struct greenlet *target);
void interrupt_send(struct hub *hub, struct interrupt *self);
void interrupt_drop(struct hub *hub, struct interrupt *self);
void interrupt_drop_all(struct greenlet *target);

/* Raises what is due in the current greenlet, if anything is. */
void interrupt_check(lua_State *L, struct greenlet *g);

/* For frames that no error may jump over: whether something is due in it; keeps what was to be
   raised now until the C function at work in L returns, or the greenlet blocks. */
bool interrupt_is_due(const struct greenlet *g);
void interrupt_keep(lua_State *L, struct greenlet *g);

/* Pushes the error of what was kept, for a greenlet that ends by an error which the end of its wait
   has led to; false: there is none. */
bool interrupt_push_kept(lua_State *L, struct greenlet *g);

/* The same as interrupt_check, also of what waits for its turn: for a greenlet that will not block.
 */
void interrupt_strike(lua_State *L, struct greenlet *g);
_Noreturn void interrupt_raise(lua_State *L, struct greenlet *g);

/* Sends the error value on top of the stack (popped) to `target`. */
void interrupt_kill(lua_State *L, struct greenlet *target);

/* ---- the hub ---- */

/* A Lua thread to run greenlets, and the slot that keeps it alive. */
struct hub_thread {
  lua_State *L;
  int slot;
};

/* Where greenlets are until their first turn is over (nursery.h). */
struct nursery {
  lua_State *L;
  int used; /* values on its stack */
  int room; /* how many it has been made to hold */
  int live; /* greenlets in it */
};

struct hub {
  struct greenlet *current; /* NULL: the hub itself is at work */
  lua_State *running;       /* the state that runs, if parkable is NULL */
  lua_State *parkable;      /* the state that runs, if waits in it may park (coroutine.h) */
  struct link ready;        /* the run queue */
  int budget;               /* entries to run before libev is polled again */
  int batch;                /* what the budget starts with; adapts to a time slice */
  double polled_at;         /* when timers, and mostly libev, were looked at last */
  double waited_at;         /* when libev was polled last */
  int unserved;             /* of those that polls made ready: about so many have not run */
  int loop_active;          /* watchers libev had active then */
  struct cstack *stack;     /* the C stack in use */
  struct greenlet *handoff; /* what the stack jumped to shall run first */

  struct timers timers;
  struct clock clock;
  struct ev_loop *loop;
  unsigned refs; /* registrations, besides timers, that may make something ready */
  uint64_t tickets;
  bool virtual_clock; /* time stands still but jumps to the next timer when idle */
  double virtual_now;
  uint64_t shuffle; /* state of the random order; 0: first in, first out */

  struct cstack native; /* the thread's own stack */
  struct cstack_pool stacks;
  struct greenlet *main;
  struct greenlet host; /* stands for the host's loop while greenlets run inside it */
  bool hosted;          /* the loop is the host's */
  bool polling;         /* inside ev_run on our own account */
  bool sliced;          /* greenlets run inside the host's ev_run */
  bool closing, closed;
  bool keep_at_fork; /* fork.c: all greenlets go on in a child */
  bool special;      /* something keeps greenlets off the fast path */
  bool always_pin;   /* for tests: never park */

  lua_State *L;      /* the hub's own thread */
  lua_State *keeper; /* runs nothing; on its stack is what KEEPER_GREENLET and so on say */
  int identified;    /* registry reference: light userdata -> true, threads that were handed out */
  struct nursery nurseries[2], *nursery; /* the one that new greenlets come into */
  int *free_slots, free_count, free_room, chunks;
  int set_aside;                   /* free slots that greenlets in a nursery may ask for */
  struct hub_thread *idle_threads; /* finished ones, to be used again */
  int idle_thread_count;

  struct link greenlets; /* ring: all started and not dead, but main */
  struct link idlers;    /* ring: waiting until nothing is ready */
  struct link drained;   /* ring: main, waiting until nothing could become ready */
  struct interrupt loop_exit, sigint;
  struct countdowns *countdowns; /* timeout.c */
  struct countdown *idle_countdowns;
  struct io_table *io;       /* io.c: descriptors waited for */
  struct async *async;       /* async.c: wake-ups from other threads */
  struct link signals;       /* signals.c: ring of handlers installed */
  struct watchdog *watchdog; /* watchdog.c: NULL while it is off */
  ev_timer alarm;            /* the earliest timer */
  ev_prepare prepare;        /* host-driven: runs greenlets before the loop waits */
  ev_check check;            /* host-driven: sees what the events have made ready */
  ev_idle more;              /* host-driven: keeps it from waiting */

  struct link sibling; /* fork.c: among the hubs of the process */
  pthread_t thread;
  uint64_t next_id;
  uint64_t switches, spawned, polls;
  int alive, pinned, signal_count;
  double lag; /* the longest time between two polls, seconds */
};

/* On the keeper's stack: classes of which objects are made often; from KEEPER_CHUNKS on tables of
   values kept alive.  They are many, so that the collector looks again only at what has changed. */
enum { KEEPER_GREENLET = 1, KEEPER_TIMEOUT, KEEPER_CHUNKS };

#define HUB_IDLE_THREADS 1024

extern _Thread_local struct hub *hub_running;
extern const char hub_key; /* registry: the box that owns the hub */

/* The hub of a Lua state; raises an error if the runtime is not open, or is another thread's. */
struct hub *hub_find(lua_State *L);

/* The same for finalizers: NULL where that raises an error. */
struct hub *hub_peek(lua_State *L);

static inline struct hub *hub_of(lua_State *L) {
  struct hub *hub = hub_running;
  if (likely(hub && hub->parkable == L))
    return hub;
  return hub_find(L);
}

/* Makes a greenlet or another entry ready: it runs after all that are ready now. */
static inline void hub_push(struct hub *hub, struct runnable *entry) {
  paranoid(!list_linked(&entry->link));
  list_append(&hub->ready, &entry->link);
}

/* The current greenlet's own thread, or the coroutine in it that runs. */
static inline lua_State *hub_at_work(const struct hub *hub) {
  return hub->parkable ? hub->parkable : hub->running;
}

/* No greenlet runs from now on. */
static inline void hub_leave(struct hub *hub) {
  hub->current = NULL;
  hub->parkable = NULL;
}

/* Blocks the current greenlet on its own C stack until it is made ready. */
void hub_pin(struct hub *hub, struct greenlet *g, lua_State *L);

/*
 * Who may block in L?  hub_parking: the current greenlet, if it can yield there, else NULL.
 * hub_pinning: the current greenlet, for which a C stack is set aside, else it raises an
 * error that says why not.  Call one of them before registering anything.
 */
static inline struct greenlet *hub_parking(struct hub *hub, lua_State *L);
struct greenlet *hub_pinning(struct hub *hub, lua_State *L);

/* The same for code that no error may jump over: NULL where nothing can block. */
struct greenlet *hub_pinning_quietly(struct hub *hub, lua_State *L);

/* The hub's clock, seconds; monotonic, or virtual. */
static inline double hub_now(struct hub *hub) {
  return unlikely(hub->virtual_clock) ? hub->virtual_now : clock_now(&hub->clock);
}

/* When something is due that is to last so long from now, and not less. */
static inline double hub_due(struct hub *hub, double seconds) {
  double now = unlikely(hub->virtual_clock) ? hub->virtual_now : clock_now(&hub->clock) + CLOCK_LAG;
  return now + (seconds > 0 ? seconds : 0);
}

/* Starts a timer; raises an error when out of memory. */
void hub_start_timer_at(lua_State *L, struct hub *hub, struct timer *timer, double due);

static inline void hub_start_timer(lua_State *L, struct hub *hub, struct timer *timer,
                                   double seconds) {
  hub_start_timer_at(L, hub, timer, hub_due(hub, seconds));
}

/* Keeps the value on top of L's stack (popped) alive; returns its slot. */
int hub_anchor(lua_State *L, struct hub *hub);
void hub_add_slots(lua_State *L, struct hub *hub);

/* Sets a slot aside: when that is taken back, a hub_anchor cannot fail. */
static inline void hub_set_aside(lua_State *L, struct hub *hub) {
  if (unlikely(hub->free_count <= hub->set_aside))
    hub_add_slots(L, hub);
  hub->set_aside++;
}
void hub_release(struct hub *hub, int slot);
void hub_push_anchored(lua_State *L, struct hub *hub, int slot);

/* Closes the variables of a thread that has ended or is suspended, as lua_closethread does. */
static inline int hub_close_thread(lua_State *thread, lua_State *from) {
#if LUA_VERSION_RELEASE_NUM >= 50406
  return lua_closethread(thread, from);
#else
  (void)from;
  return lua_resetthread(thread);
#endif
}

/* What runs on each pooled C stack; polling libev and expiring timers. */
void hub_loop(void *hub);
void hub_poll(struct hub *hub, bool wait);

/* Opening and closing (runtime.c). */
struct hub *hub_open(lua_State *L, struct ev_loop *loop);
void hub_shutdown(struct hub *hub, lua_State *L);

/* The host's loop (host.c). */
void host_attach(struct hub *hub);
void host_detach(struct hub *hub);
void host_forget(struct hub *hub); /* what was planned for the host's own run */

static inline struct greenlet *hub_parking(struct hub *hub, lua_State *L) {
  struct greenlet *g = hub->current;
  return likely(hub->parkable == L && !g->held && !hub->special && lua_isyieldable(L)) ? g : NULL;
}

/* ---- greenlets' life (spawn.c, greenlet.c) ---- */

/* It shall never run: dead of the error on top of L's stack (popped). */
void greenlet_cancel(lua_State *L, struct greenlet *g);

/* Starts the Greenlet at `index`, after `delay` seconds if that is not 0. */
void greenlet_start(lua_State *L, int index, double delay, bool delayed);

/* Replaces a function and its arguments on top of the stack by a started Greenlet. */
struct greenlet *greenlet_spawn(lua_State *L, int nargs);
struct greenlet *greenlet_spawn_later(lua_State *L, int nargs, double delay);

/* Pushes the Greenlet object of a started greenlet. */
void greenlet_push(lua_State *L, struct greenlet *g);

/* Pushes the name of a started greenlet: its own, or "Greenlet-" and its number. */
void greenlet_name(lua_State *L, struct greenlet *g);

/* Kinds of error with a meaning of their own; instances are tables. */
extern const struct class_kind greenlet_exit_kind, loop_exit_kind;
bool greenlet_is_exit(lua_State *L, int index);
void greenlet_push_exit(lua_State *L, const char *message); /* NULL: none */
void errors_open(struct hub *hub);

/* ---- signals (signals.c) ---- */

/* From now on SIGINT is raised as the error "interrupted!" in the main greenlet. */
void hub_catch_sigint(lua_State *L);

#endif
