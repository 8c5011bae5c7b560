/*
 * threadpool.c: Lua functions in other threads, for moonlet.threadpool.
 *
 * Each thread has a Lua state of its own, which it opens for its first task and closes as it
 * ends.  A task (task.h) takes a message there and brings one back; when it is given up, it
 * still runs to its end, and whoever lets go last frees it.
 */
#include <errno.h>
#include <lualib.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "hub.h"
#include "modules.h"
#include "state.h"
#include "task.h"
#include "worker.h"

MOONLET_API int luaopen_moonlet_threadpool_core(lua_State *L);

#define FOREVER 1e9 /* seconds */

/* ---- in the threads ---- */

static pthread_key_t state_key;
static pthread_once_t once = PTHREAD_ONCE_INIT;

/* As a thread ends. */
static void close_state(void *state) {
  moonlet_close(state);
  state_close(state);
}

static void make_key(void) { pthread_key_create(&state_key, close_state); }

static int l_no_exit(lua_State *L) {
  return luaL_error(L, "os.exit in a thread would end the whole program");
}

static int l_open(lua_State *L) {
  luaL_openlibs(L);
  modules_install(L);
  lua_getglobal(L, LUA_OSLIBNAME);
  lua_pushcfunction(L, l_no_exit);
  lua_setfield(L, -2, "exit");
  return 0;
}

/* The calling thread's state; NULL: out of memory. */
static lua_State *own_state(void) {
  lua_State *L = pthread_getspecific(state_key);
  if (L)
    return L;
  L = state_new();
  if (!L)
    return NULL;
  lua_pushcfunction(L, l_open);
  if (lua_pcall(L, 0, 0, 0) != LUA_OK || pthread_setspecific(state_key, L) != 0) {
    state_close(L);
    return NULL;
  }
  return L;
}

struct errand {
  struct task task;
  struct values request, answer;
};

static void work(struct task *task) {
  struct errand *errand = container_of(task, struct errand, task);
  lua_State *L = own_state();
  if (L)
    worker_perform(L, &errand->request, &errand->answer);
  values_clear(&errand->request);
}

static void free_errand(struct task *task) {
  struct errand *errand = container_of(task, struct errand, task);
  values_clear(&errand->request);
  values_clear(&errand->answer);
  free(errand);
}

/* ---- a pool's threads ---- */

struct crew {
  struct class_object object;
  struct threads *threads; /* NULL: none have been needed since they were closed */
  int max;
  double patience; /* seconds without work until a thread ends */
};

struct ticket {
  struct class_object object;
  struct errand *errand;
  pid_t process; /* that has its thread */
};

enum { UV_CREW = CLASS_FIELDS + 1 }; /* of a ticket */

static const struct class_kind crew_kind, ticket_kind;

static struct crew *check_crew(lua_State *L) { return class_check(L, 1, &crew_kind); }

static struct ticket *check_ticket(lua_State *L) { return class_check(L, 1, &ticket_kind); }

static struct threads *need_threads(lua_State *L, struct crew *crew) {
  if (!crew->threads)
    crew->threads = threads_new(crew->max, crew->patience);
  if (!crew->threads)
    luaL_error(L, "not enough memory");
  return crew->threads;
}

static int fail(lua_State *L, int failure) {
  lua_pushfstring(L, "cannot start a thread: %s", strerror(failure));
  return lua_error(L);
}

/* Crew(max, idle): no thread is there yet. */
static int l_crew_new(lua_State *L) {
  struct crew *crew = check_crew(L);
  lua_Number idle = luaL_checknumber(L, 3);
  crew->max = (int)luaL_checkinteger(L, 2);
  crew->patience = idle < FOREVER ? idle : FOREVER;
  return 0;
}

/* Crew:begin(request) -> the task, which a thread does in its turn. */
static int l_begin(lua_State *L) {
  struct threads *threads = need_threads(L, check_crew(L));
  struct values *request = values_check(L, 2);
  struct ticket *ticket = class_new(L, &ticket_kind);
  lua_pushvalue(L, 1);
  lua_setiuservalue(L, -2, UV_CREW);
  struct errand *errand = calloc(1, sizeof *errand);
  if (!errand)
    return luaL_error(L, "not enough memory");
  errand->task.work = work;
  errand->task.free = free_errand;
  errand->request = values_take(request);
  int failure = task_start(&errand->task, hub_of(L), threads);
  if (failure) {
    free_errand(&errand->task);
    return fail(L, failure);
  }
  ticket->errand = errand;
  ticket->process = getpid();
  return 1;
}

/* Crew:limit(max): how many threads there may be from now on. */
static int l_limit(lua_State *L) {
  struct crew *crew = check_crew(L);
  crew->max = (int)luaL_checkinteger(L, 2);
  if (crew->threads)
    threads_limit(crew->threads, crew->max);
  return 0;
}

/* Crew:count() -> how many threads there are. */
static int l_count(lua_State *L) {
  const struct crew *crew = check_crew(L);
  lua_pushinteger(L, crew->threads ? threads_count(crew->threads) : 0);
  return 1;
}

/* Crew:resize(count): starts threads, or has idle ones leave. */
static int l_resize(lua_State *L) {
  struct threads *threads = need_threads(L, check_crew(L));
  int failure = threads_resize(threads, (int)luaL_checkinteger(L, 2));
  return failure ? fail(L, failure) : 0;
}

/* Crew:close(): idle threads end now, the others after their tasks. */
static int l_close(lua_State *L) {
  struct crew *crew = check_crew(L);
  if (crew->threads)
    threads_close(crew->threads);
  crew->threads = NULL;
  return 0;
}

static const luaL_Reg crew_methods[] = {
    {"new", l_crew_new},  {"begin", l_begin}, {"limit", l_limit}, {"count", l_count},
    {"resize", l_resize}, {"close", l_close}, {"__gc", l_close},  {NULL, NULL}};

static const struct class_kind crew_kind = {
    .name = "Crew", .size = sizeof(struct crew), .methods = crew_methods};

/* ---- tasks ---- */

static int finish_step(lua_State *L, bool timed_out) {
  const struct ticket *ticket = lua_touserdata(L, 1);
  (void)timed_out;
  if (!task_ended(&ticket->errand->task))
    return WAIT_AGAIN;
  return worker_deliver(L, &ticket->errand->answer);
}

/* Whether a thread of this process has the task, so that its end may be waited for. */
static struct link *ring_of(lua_State *L, struct ticket *ticket) {
  if (ticket->process != getpid())
    luaL_error(L, "the thread of this task is in the parent process");
  return &ticket->errand->task.wakeup.waiting;
}

/* Ticket:finish() -> the task's results; raises its error. */
static int l_finish(lua_State *L) {
  static const struct wait_kind kind = {.name = "ThreadPool",
                                        .step = finish_step,
                                        .external = true,
                                        .enter = wakeup_enter,
                                        .leave = wakeup_leave};
  return wait_for(L, ring_of(L, check_ticket(L)), 2, &kind);
}

static int end_step(lua_State *L, bool timed_out) {
  const struct ticket *ticket = lua_touserdata(L, 1);
  (void)timed_out;
  return task_ended(&ticket->errand->task) ? 0 : WAIT_AGAIN;
}

/* Ticket:wait(): until the task has ended. */
static int l_wait(lua_State *L) {
  static const struct wait_kind kind = {.name = "ThreadPool, for a task given up",
                                        .step = end_step,
                                        .external = true,
                                        .enter = wakeup_enter,
                                        .leave = wakeup_leave};
  return wait_for(L, ring_of(L, check_ticket(L)), 2, &kind);
}

/* Ticket:cancel() -> whether nothing of the task is left to be done: it had not begun, has
   ended, or is the parent process's. */
static int l_cancel(lua_State *L) {
  struct ticket *ticket = check_ticket(L);
  lua_getiuservalue(L, 1, UV_CREW);
  const struct crew *crew = lua_touserdata(L, -1);
  struct task *task = &ticket->errand->task;
  lua_pushboolean(L, ticket->process != getpid() || task_ended(task) ||
                         (crew->threads && task_cancel(task, crew->threads)));
  return 1;
}

static int l_abandon(lua_State *L) {
  struct ticket *ticket = check_ticket(L);
  if (ticket->errand)
    task_abandon(&ticket->errand->task);
  ticket->errand = NULL;
  return 0;
}

static const luaL_Reg ticket_methods[] = {{"finish", l_finish},
                                          {"wait", l_wait},
                                          {"cancel", l_cancel},
                                          {"__gc", l_abandon},
                                          {NULL, NULL}};

static const struct class_kind ticket_kind = {
    .name = "Ticket", .size = sizeof(struct ticket), .values = 1, .methods = ticket_methods};

/* ---- the module ---- */

int luaopen_moonlet_threadpool_core(lua_State *L) {
  pthread_once(&once, make_key);
  luaL_requiref(L, "moonlet", luaopen_moonlet, 0);
  lua_pop(L, 1);
  class_push(L, &crew_kind);
  return 1;
}
