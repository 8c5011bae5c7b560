/*
 * thread.c: a Lua module of a kind that knows nothing of greenlets, and waits where it has
 * changed what belongs to the thread, in a handler of a signal, or in a child.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <lauxlib.h>
#include <locale.h>
#include <netdb.h>
#include <poll.h>
#include <pwd.h>
#include <setjmp.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void pause_for(lua_Number seconds) { poll(NULL, 0, (int)(seconds * 1e3)); }

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

static int boolean(lua_State *L, bool value) {
  lua_pushboolean(L, value);
  return 1;
}

/* How often others have called it. */
static int ticks;

static int l_tick(lua_State *L) {
  (void)L;
  ticks++;
  return 0;
}

/* ---- what belongs to the thread: each is set to a value, and compared after a wait ---- */

static int l_errno_across(lua_State *L) {
  int value = (int)luaL_checkinteger(L, 1);
  errno = value;
  pause_for(luaL_checknumber(L, 2));
  return boolean(L, errno == value);
}

static int l_host_error_across(lua_State *L) {
  int value = (int)luaL_checkinteger(L, 1);
  h_errno = value;
  pause_for(luaL_checknumber(L, 2));
  return boolean(L, h_errno == value);
}

static int l_locale_across(lua_State *L) {
  locale_t own = newlocale(LC_ALL_MASK, "C", NULL), before = uselocale(own);
  pause_for(luaL_checknumber(L, 1));
  bool kept = uselocale((locale_t)0) == own;
  uselocale(before);
  freelocale(own);
  return boolean(L, kept);
}

static int l_is_global_locale(lua_State *L) {
  return boolean(L, uselocale((locale_t)0) == LC_GLOBAL_LOCALE);
}

static bool is_blocked(int signum) {
  sigset_t mask;
  pthread_sigmask(SIG_BLOCK, NULL, &mask);
  return sigismember(&mask, signum);
}

static int l_mask_across(lua_State *L) {
  int signum = (int)luaL_checkinteger(L, 1);
  sigset_t set, before;
  sigemptyset(&set);
  sigaddset(&set, signum);
  if (lua_toboolean(L, 3))
    sigprocmask(SIG_BLOCK, &set, &before);
  else
    pthread_sigmask(SIG_BLOCK, &set, &before);
  pause_for(luaL_checknumber(L, 2));
  bool kept = is_blocked(signum);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  return boolean(L, kept);
}

static int l_is_blocked(lua_State *L) {
  return boolean(L, is_blocked((int)luaL_checkinteger(L, 1)));
}

static int l_wait(lua_State *L) {
  pause_for(luaL_checknumber(L, 1));
  return 0;
}

/* ---- handlers of signals ---- */

static lua_Number handler_pause;
static volatile int ticks_inside;
static sigjmp_buf jump;

static void on_signal(int signum) {
  int before = ticks;
  (void)signum;
  pause_for(handler_pause);
  ticks_inside += ticks - before;
}

static void on_signal_info(int signum, siginfo_t *info, void *context) {
  (void)info, (void)context;
  on_signal(signum);
}

static void on_signal_jump(int signum) {
  (void)signum;
  siglongjmp(jump, 1);
}

/* handle(way, seconds): raises SIGUSR1; how many ticks there were while its handler has waited. */
static int l_handle(lua_State *L) {
  static const char *const ways[] = {"signal", "sigaction", "information", "other stack", NULL};
  static char other[65536];
  int way = luaL_checkoption(L, 1, NULL, ways);
  struct sigaction action = {.sa_flags = SA_RESTART}, old, now_installed;
  stack_t stack = {.ss_sp = other, .ss_size = sizeof other}, stack_before;
  handler_pause = luaL_checknumber(L, 2);
  ticks_inside = 0;
  action.sa_handler = on_signal;
  if (way == 2) {
    action.sa_sigaction = on_signal_info;
    action.sa_flags |= SA_SIGINFO;
  } else if (way == 3) {
    action.sa_flags |= SA_ONSTACK;
    sigaltstack(&stack, &stack_before);
  }
  if (way == 0)
    old = (struct sigaction){.sa_handler = signal(SIGUSR1, on_signal)};
  else
    sigaction(SIGUSR1, &action, &old);
  sigaction(SIGUSR1, NULL, &now_installed);
  raise(SIGUSR1);
  sigaction(SIGUSR1, &old, NULL);
  if (way == 3)
    sigaltstack(&stack_before, NULL);
  lua_pushinteger(L, ticks_inside);
  lua_pushboolean(L, way == 2 ? now_installed.sa_sigaction == on_signal_info
                              : now_installed.sa_handler == on_signal);
  return 2;
}

/* Leaves a handler by a jump, and waits; how many ticks there were. */
static int l_jump(lua_State *L) {
  struct sigaction action = {.sa_handler = on_signal_jump}, old;
  sigaction(SIGUSR1, &action, &old);
  if (sigsetjmp(jump, 1) == 0)
    raise(SIGUSR1);
  sigaction(SIGUSR1, &old, NULL);
  int before = ticks;
  pause_for(luaL_checknumber(L, 1));
  lua_pushinteger(L, ticks - before);
  return 1;
}

/* ---- children ---- */

/* How many ticks there were in a child while it has waited. */
static int l_fork_and_wait(lua_State *L) {
  lua_Number seconds = luaL_checknumber(L, 1);
  int status = 0, before = ticks;
  pid_t child = fork();
  if (child == 0) {
    pause_for(seconds);
    _exit(ticks - before);
  }
  waitpid(child, &status, 0);
  lua_pushinteger(L, WIFEXITED(status) ? WEXITSTATUS(status) : -1);
  return 1;
}

/* A child of vfork closes the descriptor, changes its signal mask, waits, and ends. */
static int l_vfork_and_close(lua_State *L) {
  int fd = (int)luaL_checkinteger(L, 1), status = 0;
  int time = (int)(luaL_checknumber(L, 2) * 1e3);
  sigset_t set;
  sigfillset(&set);
  /* What is prohibited, libraries do. NOLINTBEGIN(clang-analyzer-unix.Vfork) */
  pid_t child = vfork();
  if (child == 0) {
    close(fd);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    poll(NULL, 0, time);
    _exit(0);
  }
  /* NOLINTEND(clang-analyzer-unix.Vfork) */
  waitpid(child, &status, 0);
  lua_pushinteger(L, WIFEXITED(status) ? WEXITSTATUS(status) : -1);
  return 1;
}

/* ---- descriptors ---- */

static int l_pair(lua_State *L) {
  int fds[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) != 0)
    return luaL_fileresult(L, 0, NULL);
  lua_pushinteger(L, fds[0]);
  lua_pushinteger(L, fds[1]);
  return 2;
}

static int l_receive(lua_State *L) {
  char buffer[100];
  ssize_t size = recv((int)luaL_checkinteger(L, 1), buffer, sizeof buffer, 0);
  if (size < 0)
    return luaL_fileresult(L, 0, NULL);
  lua_pushlstring(L, buffer, (size_t)size);
  return 1;
}

static int l_send(lua_State *L) {
  size_t size;
  const char *text = luaL_checklstring(L, 2, &size);
  return boolean(L, send((int)luaL_checkinteger(L, 1), text, size, MSG_NOSIGNAL) == (ssize_t)size);
}

/* For so long it receives what it has sent itself: how many ticks there were. */
static int l_never_wait(lua_State *L) {
  int fds[2], before = ticks;
  double end = now() + luaL_checknumber(L, 1);
  char byte = 0;
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) != 0)
    return luaL_fileresult(L, 0, NULL);
  while (now() < end)
    if (send(fds[1], &byte, 1, 0) != 1 || recv(fds[0], &byte, 1, 0) != 1)
      break;
  close(fds[0]);
  close(fds[1]);
  lua_pushinteger(L, ticks - before);
  return 1;
}

/* ---- a finalizer that receives: guard(fd) ---- */

struct guard {
  int fd;
};

static char finalizer_got[100];

static int l_guard(lua_State *L) {
  struct guard *guard = lua_newuserdatauv(L, sizeof *guard, 0);
  guard->fd = (int)luaL_checkinteger(L, 1);
  luaL_setmetatable(L, "pitfalls");
  return 1;
}

static int finalize(lua_State *L) {
  const struct guard *guard = luaL_checkudata(L, 1, "pitfalls");
  ssize_t size = recv(guard->fd, finalizer_got, sizeof finalizer_got - 1, 0);
  if (size < 0)
    strncpy(finalizer_got, strerror(errno), sizeof finalizer_got - 1);
  else
    finalizer_got[size] = 0;
  return 0;
}

static int l_finalizer_got(lua_State *L) {
  lua_pushstring(L, finalizer_got);
  return 1;
}

/* ---- users ---- */

extern int __nss_configure_lookup(const char *database, const char *services);

/* Users are looked up by libnss_slow.so from now on. */
static int l_look_up_slowly(lua_State *L) {
  return boolean(L, __nss_configure_lookup("passwd", "slow") == 0);
}

static int l_user(lua_State *L) {
  const struct passwd *user = getpwnam(luaL_checkstring(L, 1));
  lua_pushstring(L, user ? user->pw_dir : "nobody");
  return 1;
}

static const luaL_Reg functions[] = {{"tick", l_tick},
                                     {"errno_across", l_errno_across},
                                     {"host_error_across", l_host_error_across},
                                     {"locale_across", l_locale_across},
                                     {"is_global_locale", l_is_global_locale},
                                     {"mask_across", l_mask_across},
                                     {"is_blocked", l_is_blocked},
                                     {"wait", l_wait},
                                     {"handle", l_handle},
                                     {"jump", l_jump},
                                     {"fork_and_wait", l_fork_and_wait},
                                     {"vfork_and_close", l_vfork_and_close},
                                     {"pair", l_pair},
                                     {"receive", l_receive},
                                     {"send", l_send},
                                     {"never_wait", l_never_wait},
                                     {"guard", l_guard},
                                     {"finalizer_got", l_finalizer_got},
                                     {"look_up_slowly", l_look_up_slowly},
                                     {"user", l_user},
                                     {NULL, NULL}};

int luaopen_thread(lua_State *L) __attribute__((visibility("default")));

int luaopen_thread(lua_State *L) {
  luaL_newmetatable(L, "pitfalls");
  lua_pushcfunction(L, finalize);
  lua_setfield(L, -2, "__gc");
  luaL_newlib(L, functions);
  return 1;
}
