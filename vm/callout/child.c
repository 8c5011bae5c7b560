/*
 * child.c: waitpid and its kin, and system.
 *
 * A child that is known by number is waited for by a descriptor of its own (pidfd).  For any
 * child, and for those stopped or continued, there is none: it is asked again and again.
 */
#define _GNU_SOURCE
#include "child.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "several.h"

extern char **environ;

/* ---- waiting for one ---- */

/* Between two looks at a child, or any of several: pid 0 or less. */
struct look {
  struct hub *hub;
  const char *name;
  struct pollfd child; /* -1: there is none */
  double pause;
};

static struct look look_for(struct hub *hub, const char *name, pid_t pid) {
  struct look look = {.hub = hub, .name = name, .child = {.fd = -1, .events = POLLIN}};
  if (pid > 0)
    look.child.fd = (int)syscall(SYS_pidfd_open, pid, 0);
  return look;
}

static enum callout_end wait_to_look(struct look *look) {
  if (look->child.fd < 0)
    return callout_back_off(look->hub, look->name, &look->pause);
  return callout_wait_several(look->hub, look->name, &look->child, 1, NO_LIMIT);
}

static void end_look(const struct look *look) {
  int error = errno;
  if (look->child.fd >= 0) {
    callout_forget_fd(look->child.fd);
    close(look->child.fd);
  }
  errno = error;
}

static pid_t wait_for_child(struct hub *hub, const char *name, pid_t pid, int *status, int options,
                            struct rusage *usage) {
  bool by_end = !(options & (WUNTRACED | WCONTINUED));
  pid_t found = wait4(pid, status, options | WNOHANG, usage);
  if (found != 0)
    return found;
  struct look look = look_for(hub, name, by_end ? pid : 0);
  enum callout_end end = CALLOUT_AGAIN;
  while (found == 0 && (end = wait_to_look(&look)) == CALLOUT_AGAIN)
    found = wait4(pid, status, options | WNOHANG, usage);
  end_look(&look);
  if (end == CALLOUT_REFUSED)
    return wait4(pid, status, options, usage);
  return end == CALLOUT_FAILED ? -1 : found;
}

static pid_t callout_wait4(pid_t pid, int *status, int options, struct rusage *usage) {
  struct hub *hub = callout_hub();
  if (!hub || (options & WNOHANG))
    return wait4(pid, status, options, usage);
  return wait_for_child(hub, "waitpid", pid, status, options, usage);
}

static pid_t callout_waitpid(pid_t pid, int *status, int options) {
  return callout_wait4(pid, status, options, NULL);
}

static pid_t callout_wait3(int *status, int options, struct rusage *usage) {
  return callout_wait4(-1, status, options, usage);
}

static pid_t callout_wait_any(int *status) { return callout_wait4(-1, status, 0, NULL); }

/* Nothing has changed if there is no process in `info`. */
static int callout_waitid(idtype_t kind, id_t id, siginfo_t *info, int options) {
  struct hub *hub = callout_hub();
  siginfo_t found = {0};
  if (!hub || (options & WNOHANG))
    return waitid(kind, id, info, options);
  bool by_end = kind == P_PID && !(options & (WSTOPPED | WCONTINUED));
  struct look look = look_for(hub, "waitid", by_end ? (pid_t)id : 0);
  enum callout_end end = CALLOUT_AGAIN;
  int result;
  while ((result = waitid(kind, id, &found, options | WNOHANG)) == 0 && found.si_pid == 0 &&
         (end = wait_to_look(&look)) == CALLOUT_AGAIN)
    ;
  end_look(&look);
  if (end == CALLOUT_REFUSED)
    return waitid(kind, id, info, options);
  if (info)
    *info = found;
  return end == CALLOUT_FAILED ? -1 : result;
}

/* ---- children of our own making ---- */

/* Children that nobody waits for any more, since their greenlets were killed. */
#define LEFT 64

static _Thread_local pid_t left[LEFT];

static void reap_left(void) {
  for (int i = 0; i < LEFT; i++)
    if (left[i] && waitpid(left[i], NULL, WNOHANG) != 0)
      left[i] = 0;
}

static void leave_child(pid_t pid) {
  for (int i = 0; i < LEFT; i++)
    if (!left[i]) {
      left[i] = pid;
      return;
    }
}

pid_t callout_reap(const char *name, pid_t pid, int *status) {
  struct hub *hub = callout_hub();
  reap_left();
  if (!hub)
    return waitpid(pid, status, 0);
  pid_t found = wait_for_child(hub, name, pid, status, 0, NULL);
  if (found == -1 && (errno == ECANCELED || errno == ETIMEDOUT))
    leave_child(pid);
  return found;
}

int callout_start_shell(pid_t *pid, const char *command, int from, int to) {
  char *arguments[] = {"sh", "-c", (char *)command, NULL};
  posix_spawn_file_actions_t actions;
  int failure = posix_spawn_file_actions_init(&actions);
  if (failure)
    return failure;
  if (from >= 0)
    failure = posix_spawn_file_actions_adddup2(&actions, from, to);
  if (!failure)
    failure = posix_spawn(pid, "/bin/sh", &actions, NULL, arguments, environ);
  posix_spawn_file_actions_destroy(&actions);
  return failure;
}

/* SIGINT and SIGQUIT are not ignored meanwhile: others go on. */
static int callout_system(const char *command) {
  pid_t pid;
  int status;
  if (!command || !callout_hub())
    return system(command);
  int failure = callout_start_shell(&pid, command, -1, 0);
  if (failure) {
    errno = failure;
    return failure == ENOMEM || failure == EAGAIN ? -1 : 127 << 8;
  }
  return callout_reap("system", pid, &status) == -1 ? -1 : status;
}

const struct callout_name callout_child_names[] = {
    {"wait", (void *)callout_wait_any, (void *)wait, false, NULL},
    CALLOUT(waitpid),
    CALLOUT(wait3),
    CALLOUT(wait4),
    CALLOUT(waitid),
    CALLOUT(system),
    CALLOUT_END};
