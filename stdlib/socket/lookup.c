/* lookup.c: names being looked up (see lookup.h). */
#define _GNU_SOURCE
#include "lookup.h"

#include "hub.h"
#include "query.h"
#include "resolver.h"

struct lookup {
  struct question *question; /* NULL: given up */
};

#define LOOKUP_TYPE "moonlet.Lookup"

/* ---- giving up ---- */

/* A greenlet that is woken still has to leave the ring, which is in the question. */
void lookup_abandon(struct lookup *lookup) {
  struct question *question = lookup->question;
  lookup->question = NULL;
  if (!question)
    return;
  question->given_up = question->awaited;
  if (question->awaited)
    wait_notify(&question->task.wakeup.waiting);
  else
    question_drop(question);
}

static struct question *question_of(struct link *ring) {
  return container_of(ring, struct question, task.wakeup.waiting);
}

void lookup_enter(struct link *ring) {
  struct question *question = question_of(ring);
  paranoid(!question->awaited);
  question->awaited = true;
  if (question->threaded)
    wakeup_enter(ring);
  else
    query_watch(question->query);
}

void lookup_leave(struct link *ring) {
  struct question *question = question_of(ring);
  question->awaited = false;
  if (question->threaded)
    wakeup_leave(ring);
  else
    query_unwatch(question->query);
  if (question->given_up)
    question_drop(question);
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

void lookup_start(lua_State *L, struct lookup *lookup) {
  if (!question_answer_at_once(lookup->question, false))
    resolver_start(L, lookup->question);
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
  const struct question *question = lookup->question;
  if (!question)
    return true;
  if (question->threaded)
    return task_ended(&question->task);
  return !question->query || query_process(question->query);
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
