/* signal.c: moonlet.signal, and SIGINT as an error in the main greenlet. */
#define _GNU_SOURCE
#include "signals.h"

#include <ctype.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "greenlet.h"
#include "protect.h"

/* ---- handlers in Lua ---- */

enum { UV_HANDLER = CLASS_FIELDS + 1 }; /* a table: the function and its arguments, `n` */

struct handler {
  struct class_object object;
  ev_signal watcher;
  struct link link; /* among the hub's */
  struct hub *hub;
  int slot;
};

static const struct class_kind handler_kind;

/* libev lets one loop only watch a signal: the runtime that does. */
static struct {
  struct hub *hub;
  int watchers;
} owners[NSIG];
static pthread_mutex_t owners_lock = PTHREAD_MUTEX_INITIALIZER;

static bool claim(struct hub *hub, int signum) {
  pthread_mutex_lock(&owners_lock);
  bool free = owners[signum].watchers == 0 || owners[signum].hub == hub;
  if (free) {
    owners[signum].hub = hub;
    owners[signum].watchers++;
  }
  pthread_mutex_unlock(&owners_lock);
  return free;
}

static void disclaim(int signum) {
  pthread_mutex_lock(&owners_lock);
  owners[signum].watchers--;
  pthread_mutex_unlock(&owners_lock);
}

/* The body of a handler's greenlet.  As in gevent, what it raises is raised in main. */
static int handled(lua_State *L, int status, lua_KContext ctx) {
  (void)ctx;
  if (status == LUA_OK || status == LUA_YIELD || greenlet_is_exit(L, -1))
    return 0;
  interrupt_kill(L, hub_of(L)->main);
  return 0;
}

static int l_handle(lua_State *L) {
  return handled(L, protect_call(L, lua_gettop(L) - 1, 0, handled), 0);
}

/* On the hub's thread.  Argument: the slot of the handler. */
static int start_handler(lua_State *L) {
  struct hub *hub = lua_touserdata(L, 1);
  hub_push_anchored(L, hub, (int)lua_tointeger(L, 2));
  lua_getiuservalue(L, 3, UV_HANDLER);
  lua_getfield(L, 4, "n");
  int count = (int)lua_tointeger(L, -1);
  lua_pop(L, 1);
  luaL_checkstack(L, count + 4, NULL);
  lua_pushcfunction(L, l_handle);
  for (int i = 1; i <= count; i++)
    lua_rawgeti(L, 4, i);
  greenlet_spawn(L, count);
  return 0;
}

static void on_signal(struct ev_loop *loop, ev_signal *watcher, int revents) {
  struct handler *handler = container_of(watcher, struct handler, watcher);
  lua_State *L = handler->hub->L;
  (void)loop, (void)revents;
  lua_pushcfunction(L, start_handler);
  lua_pushlightuserdata(L, handler->hub);
  lua_pushinteger(L, handler->slot);
  if (lua_pcall(L, 2, 0, 0) != LUA_OK)
    lua_pop(L, 1);
}

static void cancel(struct handler *handler) {
  if (!list_linked(&handler->link))
    return;
  struct hub *hub = handler->hub;
  ev_ref(hub->loop);
  ev_signal_stop(hub->loop, &handler->watcher);
  disclaim(handler->watcher.signum);
  list_remove(&handler->link);
  hub->signal_count--;
  if (handler->watcher.signum == SIGINT)
    signals_restore_sigint(hub);
}

/* ---- names ---- */

static const struct {
  const char *name;
  int number;
} names[] = {{"HUP", SIGHUP},   {"INT", SIGINT},       {"QUIT", SIGQUIT}, {"TERM", SIGTERM},
             {"USR1", SIGUSR1}, {"USR2", SIGUSR2},     {"ALRM", SIGALRM}, {"CHLD", SIGCHLD},
             {"CONT", SIGCONT}, {"TSTP", SIGTSTP},     {"TTIN", SIGTTIN}, {"TTOU", SIGTTOU},
             {"PIPE", SIGPIPE}, {"WINCH", SIGWINCH},   {"IO", SIGIO},     {"URG", SIGURG},
             {"PROF", SIGPROF}, {"VTALRM", SIGVTALRM}, {"XCPU", SIGXCPU}, {"XFSZ", SIGXFSZ},
             {"ABRT", SIGABRT}, {"SYS", SIGSYS},       {"TRAP", SIGTRAP}};

/* A signal's number or name ("SIGTERM", "TERM"); SIGKILL and the like cannot be handled. */
static int check_signal(lua_State *L, int arg) {
  if (lua_isinteger(L, arg)) {
    lua_Integer number = lua_tointeger(L, arg);
    luaL_argcheck(L,
                  number > 0 && number < NSIG && number != SIGKILL && number != SIGSTOP &&
                      number != SIGSEGV,
                  arg, "not a signal that can be handled");
    return (int)number;
  }
  const char *name = luaL_checkstring(L, arg);
  const char *bare = strncmp(name, "SIG", 3) == 0 ? name + 3 : name;
  for (size_t i = 0; i < sizeof names / sizeof *names; i++)
    if (strcmp(names[i].name, bare) == 0)
      return names[i].number;
  return luaL_argerror(L, arg, lua_pushfstring(L, "not a signal that can be handled: '%s'", name));
}

/***
 * moonlet.signal(signum, f, ...): runs f(...) in a new greenlet each time the signal comes.
 * An error that f lets out is raised in main.  Handlers do not keep the program waiting.
 * @param signum integer|string  such as "SIGTERM"
 * @param f function
 * @return SignalHandle
 * Source: gevent.signal_handler.
 * Differs: may be made to keep the loop alive (ref) | never keeps it alive
 */
static int l_signal(lua_State *L) {
  int signum = check_signal(L, 1);
  luaL_argexpected(L, greenlet_is_callable(L, 2), 2, "function");
  struct hub *hub = hub_of(L);
  int count = lua_gettop(L) - 1;
  lua_createtable(L, count, 1);
  lua_insert(L, 2);
  for (int i = count; i >= 1; i--)
    lua_rawseti(L, 2, i);
  lua_pushinteger(L, count);
  lua_setfield(L, 2, "n");
  struct handler *handler = class_new(L, &handler_kind);
  lua_pushvalue(L, 2);
  lua_setiuservalue(L, 3, UV_HANDLER);
  if (!claim(hub, signum))
    return luaL_error(L, "signal %d is handled by another runtime of this process", signum);
  lua_pushvalue(L, 3);
  handler->slot = hub_anchor(L, hub);
  handler->hub = hub;
  list_append(&hub->signals, &handler->link);
  hub->signal_count++;
  ev_signal_init(&handler->watcher, on_signal, signum);
  ev_signal_start(hub->loop, &handler->watcher);
  ev_unref(hub->loop);
  return 1;
}

/*** SignalHandle:cancel(), SignalHandle:close(): no more calls; may be called again. */
static int l_cancel(lua_State *L) {
  struct handler *handler = class_check(L, 1, &handler_kind);
  if (list_linked(&handler->link)) {
    cancel(handler);
    hub_release(handler->hub, handler->slot);
  }
  return 0;
}

static int l_tostring(lua_State *L) {
  const struct handler *handler = class_check(L, 1, &handler_kind);
  lua_pushfstring(L, "<signal handler: %s, %s>", strsignal(handler->watcher.signum),
                  list_linked(&handler->link) ? "active" : "cancelled");
  return 1;
}

static const luaL_Reg methods[] = {{"cancel", l_cancel},
                                   {"close", l_cancel},
                                   {"__close", l_cancel},
                                   {"__tostring", l_tostring},
                                   {NULL, NULL}};

/***
 * @class moonlet.SignalHandle: Object
 * What moonlet.signal() returns.  As a `<close>` variable it is cancelled.
 */
static const struct class_kind handler_kind = {
    .name = "signal handler", .size = sizeof(struct handler), .values = 1, .methods = methods};

/* ---- SIGINT ---- */

static _Atomic(struct hub *) sigint_hub; /* other threads ask whether it is theirs */
static ev_async sigint_wakeup;
static volatile sig_atomic_t sigint_pending;

/* Runs where the Lua code was when the signal came: main fails there, others let main run. */
static void sigint_hook(lua_State *L, lua_Debug *ar) {
  struct hub *hub = sigint_hub;
  (void)ar;
  lua_sethook(L, NULL, 0, 0);
  if (!hub || !sigint_pending || !hub->current)
    return;
  if (hub->current == hub->main) {
    sigint_pending = 0;
    luaL_error(L, "interrupted!");
  }
  moonlet_sleep(L, 0);
}

/* In the hub: main is blocked. */
static void on_sigint_wakeup(struct ev_loop *loop, ev_async *watcher, int revents) {
  struct hub *hub = sigint_hub;
  (void)loop, (void)watcher, (void)revents;
  if (!hub || !sigint_pending)
    return;
  sigint_pending = 0;
  if (!hub->sigint.target) {
    interrupt_aim(&hub->sigint, hub->main);
    interrupt_send(hub, &hub->sigint);
  }
}

/* A second one, before the first was noticed, ends the process. */
static void on_sigint(int signum) {
  struct hub *hub = sigint_hub;
  if (!hub || sigint_pending) {
    signal(signum, SIG_DFL);
    raise(signum);
    return;
  }
  sigint_pending = 1;
  if (hub->current)
    lua_sethook(hub_at_work(hub), sigint_hook,
                LUA_MASKCALL | LUA_MASKRET | LUA_MASKLINE | LUA_MASKCOUNT, 1);
  ev_async_send(hub->loop, &sigint_wakeup);
}

static void install_sigint(void) {
  struct sigaction action = {.sa_handler = on_sigint};
  sigaction(SIGINT, &action, NULL);
}

void hub_catch_sigint(lua_State *L) {
  struct hub *hub = hub_of(L);
  if (sigint_hub)
    return;
  ev_async_init(&sigint_wakeup, on_sigint_wakeup);
  ev_async_start(hub->loop, &sigint_wakeup);
  ev_unref(hub->loop);
  sigint_hub = hub;
  install_sigint();
}

void signals_restore_sigint(struct hub *hub) {
  if (sigint_hub == hub)
    install_sigint();
}

/* ---- with the runtime ---- */

void signals_open(struct hub *hub) { list_init(&hub->signals); }

void signals_close(struct hub *hub) {
  if (sigint_hub == hub) {
    signal(SIGINT, SIG_DFL);
    sigint_hub = NULL;
    ev_ref(hub->loop);
    ev_async_stop(hub->loop, &sigint_wakeup);
  }
  list_each(it, &hub->signals) cancel(container_of(it, struct handler, link));
}

const luaL_Reg signals_functions[] = {{"signal", l_signal}, {NULL, NULL}};
