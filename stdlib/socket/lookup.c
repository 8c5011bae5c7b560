/* lookup.c: names being looked up (see lookup.h). */
#define _GNU_SOURCE
#include "lookup.h"

#include <errno.h>

#include "hub.h"

struct lookup {
  struct question *question;
  bool started; /* a thread has the question too */
};

#define LOOKUP_TYPE "moonlet.Lookup"

/* ---- giving up ---- */

static void let_go(struct question *question, bool started) {
  if (started)
    task_abandon(&question->task);
  else
    question_free(question);
}

/* A greenlet that is woken still has to leave the ring, which is in the question. */
void lookup_abandon(struct lookup *lookup) {
  struct question *question = lookup->question;
  lookup->question = NULL;
  if (!question)
    return;
  if (question->waiting == 0) {
    let_go(question, lookup->started);
  } else {
    question->given_up = true;
    wait_notify_all(&question->task.wakeup.waiting);
  }
}

void lookup_enter(struct link *ring) {
  container_of(ring, struct question, task.wakeup.waiting)->waiting++;
  wakeup_enter(ring);
}

void lookup_leave(struct link *ring) {
  struct question *question = container_of(ring, struct question, task.wakeup.waiting);
  wakeup_leave(ring);
  if (--question->waiting == 0 && question->given_up)
    let_go(question, true);
}

static int l_close(lua_State *L) {
  lookup_abandon(luaL_checkudata(L, 1, LOOKUP_TYPE));
  return 0;
}

/* ---- beginning ---- */

static void push_metatable(lua_State *L) {
  if (!luaL_newmetatable(L, LOOKUP_TYPE))
    return;
  lua_pushcfunction(L, l_close);
  lua_pushvalue(L, -1);
  lua_setfield(L, -3, "__close");
  lua_setfield(L, -2, "__gc");
  lua_pushboolean(L, 0);
  lua_setfield(L, -2, "__metatable");
}

struct lookup *lookup_new(lua_State *L, enum question_kind kind, const char *host,
                          const char *service) {
  luaL_checkstack(L, 4, NULL);
  struct lookup *lookup = lua_newuserdatauv(L, sizeof *lookup, 0);
  *lookup = (struct lookup){.question = NULL};
  push_metatable(L);
  lua_setmetatable(L, -2);
  lookup->question = question_new(kind, host, service);
  if (!lookup->question)
    luaL_error(L, "not enough memory");
  return lookup;
}

/* A thread that cannot be had is an answer too. */
void lookup_start(lua_State *L, struct lookup *lookup) {
  struct question *question = lookup->question;
  struct hub *hub = hub_of(L);
  if (question_answer_at_once(question))
    return;
  int failure = task_start(&question->task, hub, async_threads(hub));
  lookup->started = failure == 0;
  if (failure) {
    question->failure = failure == ENOMEM ? EAI_MEMORY : EAI_SYSTEM;
    question->error = failure;
  }
}

struct lookup *lookup_begin(lua_State *L, const char *host, const char *service, int family,
                            int socktype, int flags) {
  struct lookup *lookup = lookup_new(L, ASK_ADDRESSES, host, service);
  lookup->question->hints =
      (struct addrinfo){.ai_family = family, .ai_socktype = socktype, .ai_flags = flags};
  lookup_start(L, lookup);
  return lookup;
}

/* ---- the answer ---- */

bool lookup_done(const struct lookup *lookup) {
  return !lookup->question || !lookup->started || task_ended(&lookup->question->task);
}

struct link *lookup_ring(struct lookup *lookup) {
  return &lookup->question->task.wakeup.waiting;
}

struct question *lookup_question(const struct lookup *lookup) {
  return lookup->question;
}

const struct addrinfo *lookup_result(const struct lookup *lookup) {
  const struct question *question = lookup->question;
  return question && !question->failure ? question->addresses : NULL;
}

int lookup_push_failure(lua_State *L, const struct lookup *lookup) {
  const struct question *question = lookup->question;
  luaL_checkstack(L, 3, NULL);
  lua_pushnil(L);
  lua_pushstring(L, question ? question_message(question) : gai_strerror(EAI_CANCELED));
  lua_pushinteger(L, question ? question->failure : EAI_CANCELED);
  return 3;
}
