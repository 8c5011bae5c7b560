/* waitpid.c: os.fork, and os.waitpid for children that were forked. */
#define _GNU_SOURCE
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../file/file.h"
#include "child.h"
#include "os.h"

/* ---- fork ---- */

/***
 * os.fork(): makes a child process.
 * In the child only the greenlet that called goes on, and is its main one (see keep_at_fork).
 * Output in the buffers of files is written first.
 * @return integer? # the child's process id, and in the child 0; or nil
 * @return string? # a message
 * @return integer? # errno
 * Source: gevent.os.fork.
 * Differs: all greenlets go on in the child | only the one that forked
 */
int os_fork(lua_State *L) {
  struct child *child = child_new(children_of(L));
  if (!child)
    return file_failed(L, ENOMEM);
  fflush(NULL);
  file_flush_all();
  pid_t pid = fork();
  int failure = pid < 0 ? errno : 0;
  child->forked = true;
  if (pid > 0)
    failure = child_start(child, pid);
  if (pid <= 0)
    child_release(child);
  if (failure && pid > 0) {
    child_release(child);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
  }
  if (failure)
    return file_failed(L, failure);
  lua_pushinteger(L, pid);
  return 1;
}

/* ---- waitpid ---- */

/* Holds a child while a greenlet waits for it. */
struct hold {
  struct child *child;
};

static int l_let_go(lua_State *L) {
  struct hold *hold = lua_touserdata(L, 1);
  if (hold->child)
    child_release(hold->child);
  hold->child = NULL;
  return 0;
}

static void push_hold(lua_State *L, struct child *child) {
  struct hold *hold = lua_newuserdatauv(L, sizeof *hold, 0);
  hold->child = NULL;
  if (luaL_newmetatable(L, "moonlet.child")) {
    lua_pushcfunction(L, l_let_go);
    lua_setfield(L, -2, "__gc");
  }
  lua_setmetatable(L, -2);
  hold->child = child;
  child->holders++;
}

static int push_outcome(lua_State *L, struct child *child) {
  if (child->lost)
    return file_failed(L, ECHILD);
  lua_pushinteger(L, child->pid);
  lua_pushstring(L, child->signalled ? "killed" : "exited");
  lua_pushinteger(L, child->status);
  return 3;
}

static int push_running(lua_State *L) {
  lua_pushinteger(L, 0);
  lua_pushliteral(L, "running");
  return 2;
}

/* Pushes that the child has been stopped, if that is news. */
static bool push_stopped(lua_State *L, const struct child *child) {
  siginfo_t info;
  if (child_waitid(child, WSTOPPED, &info) != 0 || info.si_pid == 0)
    return false;
  lua_pushinteger(L, child->pid);
  lua_pushliteral(L, "stopped");
  lua_pushinteger(L, info.si_status);
  return true;
}

static int one_step(lua_State *L, bool timed_out) {
  struct child *child = ((struct hold *)lua_touserdata(L, 1))->child;
  if (!child_look(child))
    return timed_out ? file_word(L, "timeout") : WAIT_AGAIN;
  int results = push_outcome(L, child);
  child_claim(child);
  return results;
}

static int wait_for_one(lua_State *L, struct child *child, int flags, double limit) {
  static const struct wait_kind kind = {"os.waitpid", one_step, .external = true,
                                        .enter = child_enter, .leave = child_leave};
  push_hold(L, child);
  lua_replace(L, 1);
  lua_settop(L, 1);
  int results = one_step(L, false);
  if (results != WAIT_AGAIN)
    return results;
  if ((flags & WUNTRACED) && push_stopped(L, child))
    return 3;
  return flags & WNOHANG ? push_running(L) : wait_in(L, &child->waiting, limit, &kind);
}

/* The forked child that ended first; *running: whether there are others. */
static struct child *find_ended(struct children *family, bool *running) {
  *running = false;
  list_each(it, &family->known) {
    struct child *child = container_of(it, struct child, known);
    if (child->forked && child->parent == getpid()) {
      if (child_look(child))
        return child;
      *running = true;
    }
  }
  return NULL;
}

static int any_step(lua_State *L, bool timed_out) {
  bool running;
  struct child *child = find_ended(children_of(L), &running);
  if (child) {
    int results = push_outcome(L, child);
    child_claim(child);
    return results;
  }
  if (!running)
    return file_failed(L, ECHILD);
  return timed_out ? file_word(L, "timeout") : WAIT_AGAIN;
}

static int wait_for_any(lua_State *L, struct children *family, int flags, double limit) {
  static const struct wait_kind kind = {"os.waitpid", any_step, .external = true,
                                        .enter = children_enter, .leave = children_leave};
  int results = any_step(L, false);
  if (results != WAIT_AGAIN)
    return results;
  return flags & WNOHANG ? push_running(L) : wait_in(L, &family->any, limit, &kind);
}

/* A child that others have forked, from now on ours; or NULL and errno. */
static struct child *adopt(struct children *family, pid_t pid) {
  siginfo_t info;
  if (waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) != 0)
    return NULL;
  struct child *child = child_new(family);
  if (!child)
    return errno = ENOMEM, NULL;
  child->forked = true;
  int failure = child_start(child, pid);
  if (!failure)
    return child;
  child_release(child);
  return errno = failure, NULL;
}

/* waitpid(pid or nil, flags [, timeout]) */
int os_waitpid(lua_State *L) {
  struct children *family = children_of(L);
  lua_Integer pid = luaL_optinteger(L, 1, -1);
  int flags = (int)luaL_optinteger(L, 2, 0);
  double limit = wait_limit(L, 3);
  luaL_argcheck(L, (pid > 0 && pid <= INT_MAX) || pid == -1, 1, "not a process");
  lua_settop(L, 1);
  if (pid == -1)
    return wait_for_any(L, family, flags, limit);
  struct child *child = child_find(family, (pid_t)pid);
  if (!child && !(child = adopt(family, (pid_t)pid)))
    return file_failed(L, errno);
  return wait_for_one(L, child, flags, limit);
}
