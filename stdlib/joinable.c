/*
 * joinable.c: JoinableQueue, which knows when the work for all its items is done.
 *
 * Every queue counts the items put; only this class counts down and lets one wait for 0.
 */
#include "queue.h"

static struct queue *check(lua_State *L) { return class_check(L, 1, &queue_joinable_kind); }

/***
 * JoinableQueue:task_done(): the work for an item that was got is done.
 * @raise an error if it is called more often than items were put
 */
static int l_task_done(lua_State *L) {
  struct queue *q = check(L);
  if (q->unfinished == 0)
    return luaL_error(L, "task_done() called more often than items were put");
  if (--q->unfinished == 0)
    wait_notify_all(&q->joiners);
  return 0;
}

/* Only the last task notifies: who waited for it need not look whether there are new ones. */
static int join_step(lua_State *L, bool timed_out) {
  lua_pushboolean(L, !timed_out);
  return 1;
}

/***
 * JoinableQueue:join([timeout]): waits until the work for all items put is done.
 * @param timeout? number|Timeout  seconds
 * @return boolean # true, or false at the timeout
 * Source: gevent.queue.JoinableQueue.
 */
static int l_join(lua_State *L) {
  static const struct wait_kind kind = {.name = "JoinableQueue:join", .step = join_step};
  struct queue *q = check(L);
  double limit = wait_limit(L, 2);
  return q->unfinished == 0 ? join_step(L, false) : wait_in(L, &q->joiners, limit, &kind);
}

static void get_unfinished(lua_State *L, void *object) {
  const struct queue *q = object;
  lua_pushinteger(L, q->unfinished);
}

static void init(lua_State *L, void *object) {
  (void)L;
  queue_init(object, &queue_fifo);
}

/***
 * @class moonlet.queue.JoinableQueue: Queue
 * A queue that knows when the work for all its items is done.
 * @field unfinished_tasks integer  items put, those at construction too, less the tasks done
 */
static const struct class_field fields[] = {{"unfinished_tasks", get_unfinished, NULL},
                                            {NULL, NULL, NULL}};

static const luaL_Reg methods[] = {{"task_done", l_task_done}, {"join", l_join}, {NULL, NULL}};

const struct class_kind queue_joinable_kind = {.name = "JoinableQueue",
                                               .base = &queue_kind,
                                               .size = sizeof(struct queue),
                                               .values = UV_ITEMS - CLASS_FIELDS,
                                               .init = init,
                                               .methods = methods,
                                               .fields = fields};
