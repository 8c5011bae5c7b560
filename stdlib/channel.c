/*
 * channel.c: Channel, where a put and a get meet.
 *
 * A channel holds nothing.  The item of a blocked put stays on the stack of its greenlet,
 * from where a get takes it; a put that must not block lays its item on the stack of a
 * blocked get.  Either way the two are done with each other at that moment.
 */
#include "hub.h"
#include "queue.h"

struct channel {
  struct class_object object;
  struct link getters, putters;
  struct link lookers; /* peeks, and those of moonlet.wait */
  bool shut;
};

/* Where the stacks of put and get have the item. */
enum { OFFERED = 2, RECEIVED = 3 };

static struct channel *check(lua_State *L) { return class_check(L, 1, &queue_channel_kind); }

/* ---- meeting ---- */

/* Nothing but a greenlet's own waiter is in these two rings. */
static struct greenlet *first(const struct link *ring) {
  return list_empty(ring) ? NULL : container_of(ring->next, struct greenlet, wait.link);
}

static bool interrupt_due(const struct greenlet *g) {
  list_each(it, &g->aimed) {
    if (list_linked(&container_of(it, struct interrupt, aimed)->run.link))
      return true;
  }
  return false;
}

/* Wakes a greenlet whose put or get is done.  A kill or a Timeout that is due already must
   not undo that: it goes first, and the error meets it where it blocks next. */
static void finish(struct greenlet *g) {
  g->wait.notify(&g->wait);
  if (interrupt_due(g)) {
    list_remove(&g->run.link);
    list_prepend(&g->hub->ready, &g->run.link);
  }
}

/* Pushes the item of a blocked put. */
static void push_offer(lua_State *L, const struct greenlet *putter) {
  lua_pushvalue(putter->blocked, OFFERED);
  lua_xmove(putter->blocked, L, 1);
}

/* The same, and the put is done: nil in its place tells it. */
static void take(lua_State *L, struct greenlet *putter) {
  push_offer(L, putter);
  lua_pushnil(putter->blocked);
  lua_replace(putter->blocked, OFFERED);
  finish(putter);
}

/* Gives the item of a put that must not block to a blocked get. */
static void hand_over(lua_State *L, struct greenlet *getter) {
  lua_pushvalue(L, OFFERED);
  lua_xmove(L, getter->blocked, 1);
  lua_replace(getter->blocked, RECEIVED);
  finish(getter);
}

/* ---- put ---- */

static int put_step(lua_State *L, bool timed_out) {
  if (!lua_isnil(L, OFFERED))
    return queue_fail(L, timed_out ? QUEUE_FULL : QUEUE_SHUT_DOWN);
  lua_pushboolean(L, 1);
  return 1;
}

/* Whoever waits for an item looks when it runs, and one get takes it. */
static void offer(struct link *ring) {
  struct channel *c = container_of(ring, struct channel, putters);
  wait_notify_all(&c->lookers);
  wait_notify(&c->getters);
}

static int put(lua_State *L, struct channel *c, double limit) {
  static const struct wait_kind kind = {.name = "Channel:put", .step = put_step, .enter = offer};
  if (c->shut)
    return queue_fail(L, QUEUE_SHUT_DOWN);
  if (limit > 0)
    return wait_in(L, &c->putters, limit, &kind);
  struct greenlet *getter = first(&c->getters);
  if (!getter)
    return queue_fail(L, QUEUE_FULL);
  hand_over(L, getter);
  lua_pushboolean(L, 1);
  return 1;
}

/***
 * Channel:put(item [, timeout]): offers an item until a get has taken it.
 * The getter runs on first.
 * @param item any  not nil
 * @param timeout? number|Timeout  seconds
 * @return boolean? # true; nil if the item was not taken
 * @return userdata? reason # queue.Full at the timeout, queue.ShutDown after shutdown()
 */
static int l_put(lua_State *L) {
  struct channel *c = check(L);
  queue_check_item(L, 2);
  return put(L, c, wait_limit(L, 3));
}

/***
 * Channel:put_nowait(item): put(item, 0), which a get must be waiting for.
 * @param item any
 * @return boolean?
 * @return userdata? reason
 */
static int l_put_nowait(lua_State *L) {
  struct channel *c = check(L);
  queue_check_item(L, 2);
  return put(L, c, 0);
}

/* ---- get ---- */

static int find_none(lua_State *L, const struct channel *c, bool timed_out) {
  if (c->shut)
    return queue_fail(L, QUEUE_SHUT_DOWN);
  return timed_out ? queue_fail(L, QUEUE_EMPTY) : WAIT_AGAIN;
}

static int get_step(lua_State *L, bool timed_out) {
  struct channel *c = lua_touserdata(L, 1);
  if (!lua_isnil(L, RECEIVED)) {
    lua_pushvalue(L, RECEIVED);
    return 1;
  }
  struct greenlet *putter = first(&c->putters);
  if (!putter)
    return find_none(L, c, timed_out);
  take(L, putter);
  return 1;
}

/***
 * Channel:get([timeout]): takes the item of the put that waits longest, or waits for one.
 * @param timeout? number|Timeout  seconds
 * @return any item
 * @return userdata? reason # for nil: queue.Empty at the timeout, queue.ShutDown after shutdown()
 */
static int l_get(lua_State *L) {
  static const struct wait_kind kind = {.name = "Channel:get", .step = get_step, .passes_on = true};
  struct channel *c = check(L);
  lua_settop(L, 2);
  lua_pushnil(L);
  return wait_for(L, &c->getters, 2, &kind);
}

/***
 * Channel:get_nowait(): get(0), which a put must be waiting for.
 * @return any item
 * @return userdata? reason
 */
static int l_get_nowait(lua_State *L) {
  check(L);
  lua_settop(L, 1);
  lua_settop(L, RECEIVED);
  return get_step(L, true);
}

static int look_step(lua_State *L, bool timed_out) {
  const struct channel *c = lua_touserdata(L, 1);
  const struct greenlet *putter = first(&c->putters);
  if (!putter)
    return find_none(L, c, timed_out);
  push_offer(L, putter);
  return 1;
}

/***
 * Channel:peek([timeout]): the item that a get would return, which it leaves there.
 * @param timeout? number|Timeout  seconds
 * @return any item
 * @return userdata? reason # for nil, as of get()
 */
static int l_peek(lua_State *L) {
  static const struct wait_kind kind = {.name = "Channel:peek", .step = look_step};
  struct channel *c = check(L);
  return wait_for(L, &c->lookers, 2, &kind);
}

/***
 * Channel:peek_nowait(): peek(0).
 * @return any item
 * @return userdata? reason
 */
static int l_peek_nowait(lua_State *L) {
  check(L);
  return look_step(L, true);
}

static int iterate_step(lua_State *L, bool timed_out) {
  int results = get_step(L, timed_out);
  if (results == 1)
    queue_hide_stop(L);
  return results;
}

/***
 * Channel:__call(): what `for item in channel do` calls: gets items until it gets
 * queue.StopIteration or is shut down.
 * @return any item
 */
static int l_iterate(lua_State *L) {
  static const struct wait_kind kind = {
      .name = "Channel:get", .step = iterate_step, .passes_on = true};
  struct channel *c = check(L);
  lua_settop(L, 1);
  lua_settop(L, RECEIVED);
  return wait_for(L, &c->getters, 2, &kind);
}

/* ---- the rest ---- */

/*** Channel:shutdown(): every put and get returns nil, queue.ShutDown, those that wait too. */
static int l_shutdown(lua_State *L) {
  struct channel *c = check(L);
  c->shut = true;
  wait_notify_all(&c->getters);
  wait_notify_all(&c->putters);
  wait_notify_all(&c->lookers);
  return 0;
}

/***
 * Channel:qsize(), Channel:__len(): 0.
 * @return integer
 */
static int l_qsize(lua_State *L) {
  check(L);
  lua_pushinteger(L, 0);
  return 1;
}

/***
 * Channel:empty(), Channel:full(): true.
 * @return boolean
 */
static int l_true(lua_State *L) {
  check(L);
  lua_pushboolean(L, 1);
  return 1;
}

/* How many puts wait; less than 0: how many gets do. */
static void get_balance(lua_State *L, void *object) {
  struct channel *c = object;
  lua_Integer balance = 0;
  list_each(it, &c->putters) balance++;
  list_each(it, &c->getters) balance--;
  lua_pushinteger(L, balance);
}

/* "<Channel>", "<Channel, 2 putters, shut down>" */
static int l_tostring(lua_State *L) {
  struct channel *c = check(L);
  class_push_name(L, 1);
  lua_pushfstring(L, "<%s", lua_tostring(L, -1));
  queue_describe_ring(L, &c->getters, "getter");
  queue_describe_ring(L, &c->putters, "putter");
  lua_pushstring(L, c->shut ? ", shut down>" : ">");
  lua_concat(L, 2);
  return 1;
}

static void init(lua_State *L, void *object) {
  struct channel *c = object;
  (void)L;
  list_init(&c->getters);
  list_init(&c->putters);
  list_init(&c->lookers);
}

/***
 * Channel([maxsize]): a channel on which nobody waits yet.
 * @param maxsize? integer  may be given as 1, as in gevent, and is no other
 * Source: gevent.queue.Channel.
 */
static int l_new(lua_State *L) {
  check(L);
  if (class_optnumber(L, 2, 1) != 1)
    return class_argerror(L, 2, "a channel has no size");
  return 0;
}

static struct link *watch(void *object) {
  struct channel *c = object;
  return !list_empty(&c->putters) || c->shut ? NULL : &c->lookers;
}

/***
 * @class moonlet.queue.Channel: Object
 * A queue without room: put waits until a get takes its item.
 * @field balance integer  how many puts wait; if gets do, how many as a negative number
 */
static const struct class_field fields[] = {{"balance", get_balance, NULL}, {NULL, NULL, NULL}};

static const luaL_Reg methods[] = {{"new", l_new},
                                   {"put", l_put},
                                   {"put_nowait", l_put_nowait},
                                   {"get", l_get},
                                   {"get_nowait", l_get_nowait},
                                   {"peek", l_peek},
                                   {"peek_nowait", l_peek_nowait},
                                   {"qsize", l_qsize},
                                   {"empty", l_true},
                                   {"full", l_true},
                                   {"shutdown", l_shutdown},
                                   {"__call", l_iterate},
                                   {"__len", l_qsize},
                                   {"__tostring", l_tostring},
                                   {NULL, NULL}};

const struct class_kind queue_channel_kind = {.name = "Channel",
                                              .size = sizeof(struct channel),
                                              .init = init,
                                              .methods = methods,
                                              .fields = fields,
                                              .watch = watch};
