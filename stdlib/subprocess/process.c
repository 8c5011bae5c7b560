/*
 * process.c: programs that are run, started by posix_spawn: the half of moonlet.subprocess in C.
 *
 * A program gets the three descriptors it is given and no other, default handling of signals and
 * none of them blocked.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../file/file.h"
#include "../os/child.h"
#include "../os/os.h"
#include "io.h"

MOONLET_API int luaopen_moonlet_subprocess_core(lua_State *L);

struct process {
  struct class_object object;
  struct child *child; /* NULL: not started */
};

static const struct class_kind process_kind;

static struct process *check(lua_State *L) { return class_check(L, 1, &process_kind); }

/* ---- starting a program ---- */

/* What posix_spawn is told.  Its own resources are freed by end_request. */
struct request {
  const char *file;
  char **argv, **envp;
  const char *directory; /* NULL: the same */
  int fds[3];            /* -1: the same */
  int copies[3];         /* of those that stand in each other's way; to be closed */
  bool search;           /* for the file in PATH */
  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attributes;
};

/* Pushes an array of the strings in the list at `arg`, which must stay there. */
static char **push_strings(lua_State *L, int arg) {
  lua_Integer count = luaL_len(L, arg);
  char **strings = lua_newuserdatauv(L, ((size_t)count + 1) * sizeof *strings, 0);
  for (lua_Integer i = 1; i <= count; i++) {
    lua_rawgeti(L, arg, i);
    strings[i - 1] = (char *)lua_tostring(L, -1);
    lua_pop(L, 1);
  }
  strings[count] = NULL;
  return strings;
}

/* A child expects its descriptors to block; the flag belongs to the open file, so whoever else
   has it loses the flag too. */
static void make_blocking(int fd) {
  int flags = fcntl(fd, F_GETFL);
  if (flags != -1 && (flags & O_NONBLOCK))
    fcntl(fd, F_SETFL, flags & ~O_NONBLOCK);
}

/* Descriptors 0 to 2 of ours, wanted elsewhere, move out of the way first. */
static int add_descriptors(struct request *request) {
  int failure = 0;
  for (int i = 0; i < 3 && !failure; i++) {
    int fd = request->fds[i];
    if (fd < 0)
      continue;
    make_blocking(fd);
    if (fd < 3 && fd != i) {
      fd = request->copies[i] = fcntl(fd, F_DUPFD_CLOEXEC, 3);
      if (fd < 0)
        return errno;
    }
    failure = posix_spawn_file_actions_adddup2(&request->actions, fd, i);
  }
  return failure ? failure : posix_spawn_file_actions_addclosefrom_np(&request->actions, 3);
}

/* What nohup and shells have had ignored stays so. */
static void set_signals(posix_spawnattr_t *attributes) {
  static const int inherited[] = {SIGHUP, SIGINT, SIGQUIT};
  struct sigaction action;
  sigset_t defaults, mask;
  sigfillset(&defaults);
  sigemptyset(&mask);
  for (size_t i = 0; i < sizeof inherited / sizeof *inherited; i++)
    if (sigaction(inherited[i], NULL, &action) == 0 && action.sa_handler == SIG_IGN)
      sigdelset(&defaults, inherited[i]);
  posix_spawnattr_setsigdefault(attributes, &defaults);
  posix_spawnattr_setsigmask(attributes, &mask);
}

static int prepare(struct request *request, bool session, int group) {
  int flags = POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK;
  set_signals(&request->attributes);
  if (session)
    flags |= POSIX_SPAWN_SETSID;
  if (group >= 0) {
    flags |= POSIX_SPAWN_SETPGROUP;
    posix_spawnattr_setpgroup(&request->attributes, group);
  }
  posix_spawnattr_setflags(&request->attributes, (short)flags);
  int failure = add_descriptors(request);
  if (!failure && request->directory)
    failure = posix_spawn_file_actions_addchdir_np(&request->actions, request->directory);
  return failure;
}

static int spawn(struct request *request, bool session, int group, pid_t *pid) {
  posix_spawn_file_actions_init(&request->actions);
  posix_spawnattr_init(&request->attributes);
  int failure = prepare(request, session, group);
  if (!failure)
    failure = (request->search ? posix_spawnp : posix_spawn)(
        pid, request->file, &request->actions, &request->attributes, request->argv, request->envp);
  posix_spawnattr_destroy(&request->attributes);
  posix_spawn_file_actions_destroy(&request->actions);
  for (int i = 0; i < 3; i++)
    if (request->copies[i] >= 0)
      close(request->copies[i]);
  return failure;
}

/* A program that cannot be watched would not be reaped either. */
static int watch_it(struct child *child, pid_t pid) {
  int failure = child_start(child, pid);
  if (failure) {
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
  }
  return failure;
}

/* nil, message, errno: the message names the folder, if it is that which is not to be had. */
static int not_started(lua_State *L, const struct request *request, int failure) {
  struct stat status;
  const char *folder = request->directory;
  bool missing = folder && (stat(folder, &status) != 0 || !S_ISDIR(status.st_mode) ||
                            access(folder, X_OK) != 0);
  lua_pushnil(L);
  lua_pushfstring(L, "%s: %s", missing ? folder : request->file, strerror(failure));
  lua_pushinteger(L, failure);
  return 3;
}

/*
 * start(process, file, search, args, env or nil, cwd or nil, fds, session, group): true; or nil,
 * message, errno.  What comes in has been checked.
 */
static int l_start(lua_State *L) {
  struct process *process = check(L);
  struct request request = {.file = luaL_checkstring(L, 2),
                            .search = lua_toboolean(L, 3),
                            .directory = luaL_optstring(L, 6, NULL),
                            .envp = environ,
                            .copies = {-1, -1, -1}};
  bool session = lua_toboolean(L, 8);
  int group = (int)luaL_optinteger(L, 9, -1);
  pid_t pid = 0;
  request.argv = push_strings(L, 4);
  if (!lua_isnil(L, 5))
    request.envp = push_strings(L, 5);
  for (int i = 0; i < 3; i++) {
    lua_rawgeti(L, 7, i + 1);
    request.fds[i] = (int)lua_tointeger(L, -1);
  }
  struct child *child = child_new(children_of(L));
  int failure = child ? spawn(&request, session, group, &pid) : ENOMEM;
  if (!failure)
    failure = watch_it(child, pid);
  if (failure) {
    if (child)
      child_release(child);
    return not_started(L, &request, failure);
  }
  process->child = child;
  lua_pushboolean(L, 1);
  return 1;
}

/* pipe(which): a pipe for the child, whose end number `which` is ours and non-blocking. */
static int l_pipe(lua_State *L) {
  int ends[2], ours = (int)luaL_checkinteger(L, 1) - 1;
  if (pipe2(ends, O_CLOEXEC) != 0)
    return file_failed(L, errno);
  fcntl(ends[ours], F_SETFL, fcntl(ends[ours], F_GETFL) | O_NONBLOCK);
  file_new(L, ends[ours], true);
  lua_pushinteger(L, ends[1 - ours]);
  return 2;
}

/* fd(value): the descriptor of a number, a file, or an object with getfd, for a child's use. */
static int l_fd(lua_State *L) {
  struct file *file = class_test(L, 1, &file_kind);
  lua_pushinteger(L, io_checkfd(L, 1));
  if (file)
    file->polls = true;
  return 1;
}

/* take(file, size): what is in the buffer or can be read at once; "" at the end, or nil, message,
   errno; false: nothing yet. */
static int l_take(lua_State *L) {
  struct file *file = file_check(L);
  int outcome = buffer_length(&file->in) > 0 ? 0 : file_fill(file, 0);
  if (outcome > 0)
    return file_failed(L, outcome);
  if (outcome == FILE_WAIT)
    return lua_pushboolean(L, 0), 1;
  lua_pushlstring(L, file->in.data ? file->in.data + file->in.start : "", buffer_length(&file->in));
  buffer_clear(&file->in);
  return 1;
}

/* give(file, data, position): the number of bytes from there on that could be written at once; or
   nil, message, errno. */
static int l_give(lua_State *L) {
  struct file *file = file_check(L);
  size_t size, count, at = (size_t)luaL_checkinteger(L, 3);
  const char *data = luaL_checklstring(L, 2, &size);
  int outcome = file_write_once(file->fd, file->polls, data + at, size - at, &count);
  if (outcome > 0)
    return file_failed(L, outcome);
  lua_pushinteger(L, (lua_Integer)count);
  return 1;
}

/* ---- a process ---- */

static int push_code(lua_State *L, const struct child *child) {
  if (child->lost)
    return file_failed(L, ECHILD);
  lua_pushinteger(L, child->signalled ? -child->status : child->status);
  return 1;
}

static struct child *check_started(lua_State *L) {
  struct process *process = check(L);
  if (!process->child)
    luaL_error(L, "the program has not been started");
  return process->child;
}

static int wait_step(lua_State *L, bool timed_out) {
  struct child *child = ((struct process *)lua_touserdata(L, 1))->child;
  if (child_look(child))
    return push_code(L, child);
  return timed_out ? file_word(L, "timeout") : WAIT_AGAIN;
}

/***
 * Popen:wait([timeout]): waits until the program has ended.
 * @param timeout? number|Timeout  seconds
 * @return integer? # its exit code, or minus the signal that ended it; nil at the timeout
 * @return string? # "timeout"; or a message, if somebody else has taken the status
 * @return integer? # errno
 * Source: gevent.subprocess.Popen.wait.
 * Differs: a timeout raises TimeoutExpired | returns nil, "timeout"
 */
static int l_wait(lua_State *L) {
  static const struct wait_kind kind = {"Popen:wait", wait_step, .external = true,
                                        .enter = child_enter, .leave = child_leave};
  struct child *child = check_started(L);
  return wait_for(L, &child->waiting, 2, &kind);
}

/***
 * Popen:poll(): looks whether the program has ended.
 * @return integer? # its exit code, or minus the signal that ended it; nil while it runs
 * Source: gevent.subprocess.Popen.poll.
 */
static int l_poll(lua_State *L) {
  struct child *child = check_started(L);
  lua_settop(L, 1);
  if (!child_look(child))
    return lua_pushnil(L), 1;
  return push_code(L, child);
}

static int do_signal(lua_State *L, int signum) {
  int failure = child_signal(check_started(L), signum);
  if (failure)
    return file_failed(L, failure);
  lua_pushboolean(L, 1);
  return 1;
}

/***
 * Popen:send_signal(signal): sends the program a signal; does nothing if it has ended.
 * @param signal integer|string  such as "SIGTERM"
 * @return boolean? # true, or nil
 * @return string? # a message
 * @return integer? # errno
 * Source: gevent.subprocess.Popen.send_signal.
 */
static int l_send_signal(lua_State *L) {
  check(L);
  return do_signal(L, os_check_signal(L, 2));
}

/***
 * Popen:terminate(): sends SIGTERM.
 * @return boolean? # true, or nil
 * @return string? # a message
 * @return integer? # errno
 */
static int l_terminate(lua_State *L) { return do_signal(L, SIGTERM); }

/***
 * Popen:kill(): sends SIGKILL.
 * @return boolean? # true, or nil
 * @return string? # a message
 * @return integer? # errno
 */
static int l_kill(lua_State *L) { return do_signal(L, SIGKILL); }

static int l_gc(lua_State *L) {
  struct process *process = check(L);
  if (process->child)
    child_release(process->child);
  process->child = NULL;
  return 0;
}

static void get_pid(lua_State *L, void *object) {
  const struct process *process = object;
  if (process->child)
    lua_pushinteger(L, process->child->pid);
  else
    lua_pushnil(L);
}

static void get_returncode(lua_State *L, void *object) {
  const struct child *child = ((struct process *)object)->child;
  if (child && child->ended && !child->lost)
    push_code(L, child);
  else
    lua_pushnil(L);
}

static struct link *watch(void *object) {
  struct process *process = object;
  return process->child ? child_watch(process->child) : NULL;
}

static const struct class_field fields[] = {
    {"pid", get_pid, NULL}, {"returncode", get_returncode, NULL}, {NULL, NULL, NULL}};

static const luaL_Reg methods[] = {{"wait", l_wait},
                                   {"poll", l_poll},
                                   {"send_signal", l_send_signal},
                                   {"terminate", l_terminate},
                                   {"kill", l_kill},
                                   {"__gc", l_gc},
                                   {NULL, NULL}};

static const struct class_kind process_kind = {.name = "Process",
                                               .size = sizeof(struct process),
                                               .methods = methods,
                                               .fields = fields,
                                               .watch = watch};

static const luaL_Reg functions[] = {{"start", l_start}, {"pipe", l_pipe}, {"fd", l_fd},
                                     {"take", l_take},   {"give", l_give}, {NULL, NULL}};

int luaopen_moonlet_subprocess_core(lua_State *L) {
  luaL_requiref(L, "moonlet", luaopen_moonlet, 0);
  lua_pop(L, 1);
  luaL_newlib(L, functions);
  class_push(L, &process_kind);
  lua_setfield(L, -2, "Process");
  return 1;
}
