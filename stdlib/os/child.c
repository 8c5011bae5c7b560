/* child.c: see child.h. */
#define _GNU_SOURCE
#include "child.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef P_PIDFD
#define P_PIDFD 3
#endif

#define INTERVAL 0.02 /* seconds between looks */

static const char children_key; /* registry: the children of the hub */

/* ---- the end of a child ---- */

static void stop_watching(struct child *child) {
  struct ev_loop *loop = child->family->hub->loop;
  if (!child->watched)
    return;
  child->watched = false;
  ev_ref(loop);
  if (child->pidfd >= 0) {
    ev_io_stop(loop, &child->watcher);
    close(child->pidfd);
    child->pidfd = -1;
  } else {
    ev_timer_stop(loop, &child->looks);
  }
  if (child->asks) {
    ev_ref(loop);
    ev_child_stop(loop, &child->told);
  }
}

static void keep(struct child *child, bool kept) {
  struct hub *hub = child->family->hub;
  if (kept && !child->kept) {
    ev_ref(hub->loop);
    hub->refs++;
  } else if (!kept && child->kept) {
    ev_unref(hub->loop);
    hub->refs--;
  }
  child->kept = kept;
}

static void forget(struct child *child) {
  if (list_linked(&child->known))
    list_remove(&child->known);
  free(child);
}

/* Those that have ended come last in the list, in the order in which they did. */
static void end(struct child *child) {
  struct children *family = child->family;
  child->ended = true;
  stop_watching(child);
  keep(child, false);
  list_remove(&child->known);
  list_append(&family->known, &child->known);
  wait_notify_all(&child->waiting);
  if (child->forked)
    wait_notify_all(&family->any);
}

static void end_with(struct child *child, bool signalled, int status) {
  child->signalled = signalled;
  child->status = status;
  end(child);
}

int child_waitid(const struct child *child, int options, siginfo_t *info) {
  idtype_t type = child->pidfd >= 0 ? (idtype_t)P_PIDFD : P_PID;
  id_t id = (id_t)(child->pidfd >= 0 ? child->pidfd : child->pid);
  int outcome;
  info->si_pid = 0;
  do
    outcome = waitid(type, id, info, options | WNOHANG);
  while (outcome != 0 && errno == EINTR);
  return outcome;
}

/* Where libev's own handler was quicker, it is about to tell. */
static void reap(struct child *child) {
  siginfo_t info;
  int outcome = child_waitid(child, WEXITED, &info);
  if (outcome == 0 && info.si_pid != 0) {
    end_with(child, info.si_code != CLD_EXITED, info.si_status);
  } else if (outcome != 0 && !(child->asks && child->parent == getpid())) {
    child->lost = true;
    end(child);
  }
}

/* Nobody has waited to be told of its end. */
static void forget_if_unheld(struct child *child) {
  if (child->ended && child->holders == 0)
    forget(child);
}

static void on_end(struct ev_loop *loop, ev_io *watcher, int revents) {
  struct child *child = container_of(watcher, struct child, watcher);
  (void)loop, (void)revents;
  reap(child);
  forget_if_unheld(child);
}

static void on_look(struct ev_loop *loop, ev_timer *timer, int revents) {
  struct child *child = container_of(timer, struct child, looks);
  (void)loop, (void)revents;
  reap(child);
  forget_if_unheld(child);
}

static void on_told(struct ev_loop *loop, ev_child *watcher, int revents) {
  struct child *child = container_of(watcher, struct child, told);
  int status = watcher->rstatus;
  (void)loop, (void)revents;
  if (WIFEXITED(status))
    end_with(child, false, WEXITSTATUS(status));
  else if (WIFSIGNALED(status))
    end_with(child, true, WTERMSIG(status));
  forget_if_unheld(child);
}

bool child_look(struct child *child) {
  if (!child->ended && child->watched)
    reap(child);
  return child->ended;
}

/* ---- the children of a hub ---- */

/* The hub closes: they run on, unwatched. */
static int l_disown(lua_State *L) {
  struct children *family = lua_touserdata(L, 1);
  list_each(it, &family->known) {
    struct child *child = container_of(it, struct child, known);
    stop_watching(child);
    keep(child, false);
    list_remove(&child->known);
    child->family = NULL;
    child->holders -= child->forked;
    if (child->holders == 0)
      free(child);
  }
  for (; family->waiting > 0; family->waiting--)
    ev_unref(family->hub->loop);
  return 0;
}

struct children *children_of(lua_State *L) {
  lua_rawgetp(L, LUA_REGISTRYINDEX, &children_key);
  struct children *family = lua_touserdata(L, -1);
  lua_pop(L, 1);
  if (family)
    return family;
  struct hub *hub = hub_of(L);
  family = lua_newuserdatauv(L, sizeof *family, 0);
  *family = (struct children){.hub = hub};
  list_init(&family->known);
  list_init(&family->any);
  lua_createtable(L, 0, 1);
  lua_pushcfunction(L, l_disown);
  lua_setfield(L, -2, "__gc");
  lua_setmetatable(L, -2);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &children_key);
  return family;
}

struct child *child_find(struct children *family, pid_t pid) {
  list_each(it, &family->known) {
    struct child *child = container_of(it, struct child, known);
    if (child->pid == pid && child->parent == getpid())
      return child;
  }
  return NULL;
}

/* ---- one child ---- */

struct child *child_new(struct children *family) {
  struct child *child = calloc(1, sizeof *child);
  if (child) {
    child->family = family;
    child->holders = 1;
    child->pidfd = -1;
    list_init(&child->waiting);
  }
  return child;
}

static void watch_pidfd(struct ev_loop *loop, struct child *child) {
  ev_io_init(&child->watcher, on_end, child->pidfd, EV_READ);
  ev_io_start(loop, &child->watcher);
  ev_unref(loop);
}

static void watch_by_looking(struct ev_loop *loop, struct child *child) {
  ev_timer_init(&child->looks, on_look, INTERVAL, INTERVAL);
  ev_timer_start(loop, &child->looks);
  ev_unref(loop);
}

int child_start(struct child *child, pid_t pid) {
  struct children *family = child->family;
  struct ev_loop *loop = family->hub->loop;
  child->pid = pid;
  child->parent = getpid();
  child->pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
  if (child->pidfd < 0 && errno != ENOSYS)
    return errno;
  child->asks = ev_is_default_loop(loop);
  child->watched = true;
  list_prepend(&family->known, &child->known);
  (child->pidfd >= 0 ? watch_pidfd : watch_by_looking)(loop, child);
  if (child->asks) {
    ev_child_init(&child->told, on_told, pid, 0);
    ev_child_start(loop, &child->told);
    ev_unref(loop);
  }
  return 0;
}

void child_release(struct child *child) {
  if (--child->holders == 0 && (child->ended || !list_linked(&child->known)))
    forget(child);
}

void child_claim(struct child *child) {
  if (child->forked) {
    child->forked = false;
    list_remove(&child->known);
    child_release(child);
  }
}

struct link *child_watch(struct child *child) {
  if (child->ended || !child->family)
    return NULL;
  keep(child, true);
  return &child->waiting;
}

/* As long as it has not been reaped here, nobody else can have its pid. */
int child_signal(struct child *child, int signum) {
  if (child_look(child) || !child->watched)
    return 0;
  long outcome = child->pidfd >= 0 ? syscall(SYS_pidfd_send_signal, child->pidfd, signum, NULL, 0)
                                   : kill(child->pid, signum);
  return outcome == 0 || errno == ESRCH ? 0 : errno;
}

/* ---- waiting ---- */

static void enter(struct children *family) {
  family->waiting++;
  ev_ref(family->hub->loop);
}

static void leave(struct children *family) {
  family->waiting--;
  ev_unref(family->hub->loop);
}

void child_enter(struct link *ring) { enter(container_of(ring, struct child, waiting)->family); }

void child_leave(struct link *ring) { leave(container_of(ring, struct child, waiting)->family); }

void children_enter(struct link *ring) { enter(container_of(ring, struct children, any)); }

void children_leave(struct link *ring) { leave(container_of(ring, struct children, any)); }
