/*
 * processpool.c: worker processes, for moonlet.processpool.
 *
 * A worker has one end of a socket pair, through which messages (values.h) go both ways, one at
 * a time, and serves until the other end is closed.  Its pidfd tells of its end, at whatever
 * time: then it is reaped, and whoever waits for its answer finds the socket closed.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "hub.h"
#include "io.h"
#include "worker.h"

MOONLET_API int luaopen_moonlet_processpool_core(lua_State *L);

#define WORKER_FD 3 /* its end of the socket pair */
#define TOO_LARGE ((uint64_t)1 << 40)

struct process {
  struct class_object object;
  struct ev_loop *loop;
  struct link waiting; /* ring: who waits for its end */
  struct link *ring;   /* of fd */
  ev_io exit;          /* watches pidfd without keeping the loop alive */
  int fd, pidfd;       /* -1: closed */
  pid_t pid, parent;   /* pid 0: none was started */
  int status;          /* of waitpid, once it is reaped */
  bool hosted, reaped;
  struct values out, in;
  size_t sent;
};

static const struct class_kind process_kind;

static struct process *check(lua_State *L) { return class_check(L, 1, &process_kind); }

static void init(lua_State *L, void *object) {
  struct process *process = object;
  (void)L;
  list_init(&process->waiting);
  process->fd = process->pidfd = -1;
}

/* ---- the worker's side ---- */

/* The whole of it; returns false at the end of the file. */
static bool read_all(int fd, char *data, size_t size) {
  while (size > 0) {
    ssize_t got = read(fd, data, size);
    if (got <= 0 && (got == 0 || errno != EINTR))
      return false;
    data += got > 0 ? got : 0;
    size -= got > 0 ? (size_t)got : 0;
  }
  return true;
}

static bool write_all(int fd, const char *data, size_t size) {
  while (size > 0) {
    ssize_t done = send(fd, data, size, MSG_NOSIGNAL);
    if (done < 0 && errno != EINTR)
      return false;
    data += done > 0 ? done : 0;
    size -= done > 0 ? (size_t)done : 0;
  }
  return true;
}

static bool read_request(int fd, struct values *request) {
  struct values_header header;
  if (!read_all(fd, (char *)&header, sizeof header) || !(request->data = malloc(header.size)))
    return false;
  request->size = header.size;
  memcpy(request->data, &header, sizeof header);
  return read_all(fd, request->data + sizeof header, header.size - sizeof header);
}

static bool write_answer(int fd, const struct values *answer) {
  static const struct values_header none = {.size = sizeof none};
  return answer->data ? write_all(fd, answer->data, answer->size)
                      : write_all(fd, (const char *)&none, sizeof none);
}

/* A terminal's Ctrl-C is the parent's; its death is the worker's, even while it computes. */
static void follow(pid_t parent) {
  signal(SIGINT, SIG_IGN);
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent)
    _exit(EXIT_FAILURE);
}

static void serve(lua_State *L, int fd, pid_t parent) {
  struct values request = {0}, answer = {0};
  follow(parent);
  fcntl(fd, F_SETFD, FD_CLOEXEC);
  bool more = true;
  while (more && read_request(fd, &request)) {
    worker_perform(L, &request, &answer);
    fflush(NULL);
    more = write_answer(fd, &answer);
    values_clear(&request);
    values_clear(&answer);
  }
  values_clear(&request);
  close(fd);
}

/* serve(parent): performs requests for the process of that id until it has no more. */
static int l_serve(lua_State *L) {
  serve(L, WORKER_FD, (pid_t)luaL_checkinteger(L, 1));
  return 0;
}

/* ---- starting one ---- */

/* What the worker inherits: standard output and error, and its end of the pair. */
static void choose_files(posix_spawn_file_actions_t *files, int end) {
  posix_spawn_file_actions_init(files);
  posix_spawn_file_actions_adddup2(files, end, WORKER_FD);
  posix_spawn_file_actions_addopen(files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
#if defined(__GLIBC_PREREQ)
#if __GLIBC_PREREQ(2, 34)
  posix_spawn_file_actions_addclosefrom_np(files, WORKER_FD + 1);
#endif
#endif
}

static void choose_signals(posix_spawnattr_t *attributes) {
  sigset_t none, all;
  sigemptyset(&none);
  sigfillset(&all);
  posix_spawnattr_init(attributes);
  posix_spawnattr_setsigmask(attributes, &none);
  posix_spawnattr_setsigdefault(attributes, &all);
  posix_spawnattr_setflags(attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
}

static int spawn(struct process *process, const char *program, const char *code, int end) {
  char *argv[] = {(char *)program, "-E", "-e", (char *)code, NULL};
  posix_spawn_file_actions_t files;
  posix_spawnattr_t attributes;
  choose_files(&files, end);
  choose_signals(&attributes);
  int failure = posix_spawn(&process->pid, program, &files, &attributes, argv, environ);
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&files);
  return failure;
}

/* The child is a copy of this program, and of the Lua state as it is. */
static int fork_worker(lua_State *L, struct process *process, int end) {
  fflush(NULL);
  pid_t pid = fork();
  if (pid < 0)
    return errno;
  if (pid == 0) {
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    dup2(null, STDIN_FILENO);
    close(process->fd);
    serve(L, end, process->parent);
    _exit(EXIT_SUCCESS);
  }
  process->pid = pid;
  return 0;
}

static bool is_ours(const struct process *process) {
  return process->pid > 0 && !process->reaped && process->parent == getpid();
}

static void stop_watching(struct process *process) {
  if (ev_is_active(&process->exit)) {
    ev_ref(process->loop);
    ev_io_stop(process->loop, &process->exit);
  }
}

static void close_pidfd(struct process *process) {
  if (process->pidfd >= 0)
    close(process->pidfd);
  process->pidfd = -1;
}

/* Takes note of its end, for which it waits or not. */
static void reap(struct process *process, int options) {
  if (!is_ours(process) || waitpid(process->pid, &process->status, options) == 0)
    return;
  process->reaped = true;
  stop_watching(process);
  close_pidfd(process);
  wait_notify_all(&process->waiting);
  if (process->fd >= 0)
    shutdown(process->fd, SHUT_RDWR);
}

static void on_exit_of(struct ev_loop *loop, ev_io *watcher, int revents) {
  struct process *process = container_of(watcher, struct process, exit);
  (void)loop, (void)revents;
  reap(process, WNOHANG);
  stop_watching(process); /* in the child of a fork, where it is nobody's child */
}

/* Where there are no pidfds (valgrind, Linux before 5.3), its end is noticed when it matters. */
static int watch_exit(struct process *process) {
  process->pidfd = (int)syscall(SYS_pidfd_open, process->pid, 0);
  if (process->pidfd < 0)
    return errno == ENOSYS ? 0 : errno;
  fcntl(process->pidfd, F_SETFD, FD_CLOEXEC);
  ev_io_init(&process->exit, on_exit_of, process->pidfd, EV_READ);
  ev_io_start(process->loop, &process->exit);
  ev_unref(process->loop);
  return 0;
}

static int fail(lua_State *L, int failure) {
  lua_pushfstring(L, "cannot start a worker: %s", strerror(failure));
  return lua_error(L);
}

/* start([program, code]) -> a worker: an interpreter that runs the code, or a fork. */
static int l_start(lua_State *L) {
  const char *program = luaL_optstring(L, 1, NULL), *code = luaL_optstring(L, 2, NULL);
  struct hub *hub = hub_of(L);
  int ends[2];
  struct process *process = class_new(L, &process_kind);
  process->loop = hub->loop;
  process->hosted = hub->hosted;
  process->parent = getpid();
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
    return fail(L, errno);
  process->fd = ends[0];
  int failure = program ? spawn(process, program, code, ends[1]) : fork_worker(L, process, ends[1]);
  close(ends[1]);
  if (failure)
    process->pid = 0;
  else
    failure = watch_exit(process);
  if (failure)
    return fail(L, failure);
  process->ring = io_own(L, hub, &process->fd);
  return 1;
}

/* ---- talking to it ---- */

/* Sends what is left of the request; returns what to wait for, or 0. */
static int send_rest(struct process *process) {
  struct values *out = &process->out;
  while (process->sent < out->size) {
    ssize_t done = send(process->fd, out->data + process->sent, out->size - process->sent,
                        MSG_NOSIGNAL | MSG_DONTWAIT);
    if (done < 0 && errno == EAGAIN)
      return EV_WRITE;
    if (done < 0 && errno != EINTR)
      break; /* the end of the file is still to be read */
    process->sent += done > 0 ? (size_t)done : 0;
  }
  values_clear(out);
  process->sent = 0;
  return 0;
}

/* How much of the answer is still to come, as far as is known; room is made for it. */
static size_t missing(lua_State *L, struct values *in) {
  uint64_t size = sizeof(struct values_header);
  if (in->size >= size)
    memcpy(&size, in->data, sizeof size);
  if (size < sizeof(struct values_header) || size > TOO_LARGE)
    luaL_error(L, "a worker's answer is malformed");
  if (in->capacity < size) {
    char *data = realloc(in->data, size);
    if (!data)
      luaL_error(L, "not enough memory");
    in->data = data;
    in->capacity = size;
  }
  return size - in->size;
}

/* Receives the answer; returns what to wait for, 0 when it is there, or -1 at the end. */
static int receive_rest(lua_State *L, struct process *process) {
  struct values *in = &process->in;
  size_t size;
  while ((size = missing(L, in)) > 0) {
    ssize_t got = recv(process->fd, in->data + in->size, size, MSG_DONTWAIT);
    if (got < 0 && errno == EAGAIN)
      return EV_READ;
    if (got == 0 || (got < 0 && errno != EINTR))
      return -1;
    in->size += got > 0 ? (size_t)got : 0;
  }
  return 0;
}

/* Process:send(request): sends as much of it as can be at once; exchange() does the rest. */
static int l_send(lua_State *L) {
  struct process *process = check(L);
  values_clear(&process->in);
  process->out = values_take(values_check(L, 2));
  process->sent = 0;
  if (process->fd >= 0)
    send_rest(process);
  return 0;
}

static int exchange_step(lua_State *L, bool timed_out) {
  struct process *process = lua_touserdata(L, 1);
  (void)timed_out;
  int events = process->fd < 0 ? -1 : send_rest(process);
  if (events == 0)
    events = receive_rest(L, process);
  if (events > 0) {
    hub_of(L)->current->wait.events = (short)events;
    return WAIT_AGAIN;
  }
  if (events < 0)
    return lua_pushnil(L), 1;
  *values_new(L) = values_take(&process->in);
  return 1;
}

/* Process:exchange() -> the answer, or nil if the worker has closed its end. */
static int l_exchange(lua_State *L) {
  static const struct wait_kind kind = {.name = "processpool.Pool",
                                        .step = exchange_step,
                                        .external = true,
                                        .enter = io_enter,
                                        .leave = io_leave};
  return wait_for(L, check(L)->ring, 2, &kind);
}

/* ---- its end ---- */

/* The hub of the state; NULL: it is closed, as in finalizers at the end. */
static struct hub *open_hub(lua_State *L) {
  lua_rawgetp(L, LUA_REGISTRYINDEX, &hub_key);
  struct hub *const *box = lua_touserdata(L, -1);
  lua_pop(L, 1);
  return box ? *box : NULL;
}

static void close_socket(lua_State *L, struct process *process) {
  struct hub *hub = open_hub(L);
  int fd = process->fd;
  if (fd < 0)
    return;
  if (hub)
    io_disown(hub, fd);
  process->fd = -1;
  if (process->parent == getpid())
    shutdown(fd, SHUT_RDWR); /* for copies of it in forked children too */
  close(fd);
}

/* Process:close(): lets it end, since it is not at work. */
static int l_close(lua_State *L) {
  close_socket(L, check(L));
  return 0;
}

static void send_kill(const struct process *process) {
  if (is_ours(process))
    kill(process->pid, SIGKILL);
}

/* Process:kill(): ends it, whatever it does. */
static int l_kill(lua_State *L) {
  struct process *process = check(L);
  send_kill(process);
  close_socket(L, process);
  if (process->pidfd < 0)
    reap(process, 0);
  return 0;
}

/* Process:ended() -> whether it has ended. */
static int l_ended(lua_State *L) {
  struct process *process = check(L);
  reap(process, WNOHANG);
  lua_pushboolean(L, process->reaped);
  return 1;
}

static int wait_step(lua_State *L, bool timed_out) {
  const struct process *process = lua_touserdata(L, 1);
  if (!process->reaped && !timed_out)
    return WAIT_AGAIN;
  lua_pushboolean(L, process->reaped);
  return 1;
}

static void enter(struct link *ring) { ev_ref(container_of(ring, struct process, waiting)->loop); }

static void leave(struct link *ring) {
  ev_unref(container_of(ring, struct process, waiting)->loop);
}

/* Process:wait([timeout]) -> whether it has ended. */
static int l_wait(lua_State *L) {
  static const struct wait_kind kind = {.name = "processpool.Pool, for the end of a worker",
                                        .step = wait_step,
                                        .external = true,
                                        .enter = enter,
                                        .leave = leave};
  struct process *process = check(L);
  reap(process, WNOHANG);
  return wait_for(L, &process->waiting, 2, &kind);
}

/* Process:fate() -> "was killed by signal 9 (Killed)" or the like, of one that has ended. */
static int l_fate(lua_State *L) {
  const struct process *process = check(L);
  int status = process->status;
  if (WIFSIGNALED(status))
    lua_pushfstring(L, "was killed by signal %d (%s)", WTERMSIG(status),
                    strsignal(WTERMSIG(status)));
  else
    lua_pushfstring(L, "exited with status %d", WEXITSTATUS(status));
  return 1;
}

static void get_pid(lua_State *L, void *object) {
  lua_pushinteger(L, ((const struct process *)object)->pid);
}

/* Nobody wants it any more: it is killed if need be, and leaves no zombie. */
static int l_collect(lua_State *L) {
  struct process *process = check(L);
  close_socket(L, process);
  if (process->hosted || open_hub(L))
    stop_watching(process);
  close_pidfd(process);
  send_kill(process);
  if (is_ours(process))
    waitpid(process->pid, &process->status, 0);
  process->reaped = true;
  values_clear(&process->in);
  values_clear(&process->out);
  return 0;
}

static const struct class_field fields[] = {{"pid", get_pid, NULL}, {NULL, NULL, NULL}};

static const luaL_Reg methods[] = {{"send", l_send}, {"exchange", l_exchange}, {"close", l_close},
                                   {"kill", l_kill}, {"wait", l_wait},         {"ended", l_ended},
                                   {"fate", l_fate}, {"__gc", l_collect},      {NULL, NULL}};

static const struct class_kind process_kind = {.name = "Process",
                                               .size = sizeof(struct process),
                                               .init = init,
                                               .methods = methods,
                                               .fields = fields};

/* ---- the module ---- */

/* program() -> the path of this program. */
static int l_program(lua_State *L) {
  static const char link[] = "/proc/self/exe";
  char path[PATH_MAX];
  ssize_t length = readlink(link, path, sizeof path - 1);
  path[length > 0 ? length : 0] = '\0';
  lua_pushstring(L, access(path, X_OK) == 0 ? path : link); /* it may have been removed */
  return 1;
}

static int l_deliver(lua_State *L) { return worker_deliver(L, values_check(L, 1)); }

static const luaL_Reg functions[] = {{"start", l_start},
                                     {"serve", l_serve},
                                     {"program", l_program},
                                     {"deliver", l_deliver},
                                     {NULL, NULL}};

int luaopen_moonlet_processpool_core(lua_State *L) {
  luaL_requiref(L, "moonlet", luaopen_moonlet, 0);
  lua_pop(L, 1);
  luaL_newlib(L, functions);
  return 1;
}
