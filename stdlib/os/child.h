/*
 * child.h: child processes, each of which has one owner: a `struct child`.
 *
 * A pidfd, watched by the hub's loop, tells when a child has ended; it is reaped there and then,
 * so that none stays a zombie, whether anybody waits for it or not.  There is no handler for
 * SIGCHLD and no waiting for just any process, which would take children from others.  Where
 * there are no pidfds (Linux before 5.3, valgrind), it is looked at from time to time.  Where the
 * loop is libev's default one, whose own handler does reap them all, it is asked for the status.
 */
#ifndef MOONLET_CHILD_H
#define MOONLET_CHILD_H

#include <signal.h>
#include <sys/types.h>

#include "hub.h"

struct child {
  struct children *family; /* NULL: the hub is closed */
  pid_t pid, parent;
  int pidfd; /* -1: none */
  bool watched;
  int holders;         /* it is freed when it has ended and this is 0 */
  struct link known;   /* among the hub's children; those that have ended come last */
  struct link waiting; /* ring, notified at the end */
  ev_io watcher;
  ev_timer looks; /* without a pidfd */
  ev_child told;  /* by libev's default loop */
  bool asks;      /* that loop, which reaps all children */
  bool forked;    /* waitpid() without a pid may take it; the list holds it until somebody does */
  bool kept;      /* keeps the loop alive: it is one of several that somebody waits for */
  bool ended;
  bool lost;      /* somebody else has reaped it: there is no status */
  bool signalled; /* ended by a signal */
  int status;     /* its exit status, or that signal */
};

/* The hub's children. */
struct children {
  struct hub *hub;
  struct link known;
  struct link any; /* ring: who waits for any of the forked ones */
  int waiting;     /* greenlets, for one or any: the loop stays alive meanwhile */
};

/* Made at the first use; raises when out of memory. */
struct children *children_of(lua_State *L);

/* A child not started, held once; NULL: out of memory. */
struct child *child_new(struct children *family);

/* It is this process.  0 or an errno: then it is not watched and is not reaped. */
int child_start(struct child *child, pid_t pid);

void child_release(struct child *child);

/* The child of that pid, one that runs before one that has ended; or NULL. */
struct child *child_find(struct children *family, pid_t pid);

/* Somebody has got the status of a forked child: the list holds it no longer. */
void child_claim(struct child *child);

/* waitid() for it, without blocking; info->si_pid is 0 if there is no news. */
int child_waitid(const struct child *child, int options, siginfo_t *info);

/* Whether it has ended, as of now. */
bool child_look(struct child *child);

/* For moonlet.wait: the loop stays alive until its end. */
struct link *child_watch(struct child *child);

/* Sends a signal unless it has ended: 0 or an errno. */
int child_signal(struct child *child, int signum);

/* For wait_kinds that wait in a child's ring, and in that for any. */
void child_enter(struct link *ring);
void child_leave(struct link *ring);
void children_enter(struct link *ring);
void children_leave(struct link *ring);

#endif
