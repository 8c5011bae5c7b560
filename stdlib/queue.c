/* queue.c: moonlet.queue, and its classes Queue and LifoQueue (see queue.h). */
/***
 * @module moonlet.queue
 * Queues, through which greenlets hand items to each other.
 * @field Empty userdata  why a get returned nil: there was no item in time
 * @field Full userdata  why a put returned nil: there was no room in time
 * @field ShutDown userdata  why either returned nil: the queue is shut down
 * @field StopIteration userdata  an item that ends the `for` loop that gets it
 * Differs: Empty, Full, ShutDown | errors, which are raised | values, returned after nil
 * Differs: SimpleQueue | there | not there: a Queue does all it does
 * Differs: task_done and join, in gevent's newest version | in every Queue | in JoinableQueue
 * Differs: nil | None is an item as any other | nil cannot be put; false can
 */
#include "queue.h"

#include "hub.h"
#include "slots.h"

MOONLET_API int luaopen_moonlet_queue(lua_State *L);

/* Compilers think these too long to be inlined, which makes a put and a get a twentieth cheaper. */
#define HOT static inline __attribute__((always_inline))

#define KEPT_CAPACITY 2048 /* slots that an empty queue keeps for later */

static const struct class_kind lifo_kind;

/* As class_check, which is quick only for objects of the kind itself. */
static struct queue *check_others(lua_State *L) {
  struct queue *q = lua_touserdata(L, 1);
  const struct class_kind *kind = NULL;
  if (q && lua_rawlen(L, 1) >= sizeof q->object)
    kind = q->object.kind;
  bool known = kind == &queue_joinable_kind || kind == &lifo_kind || kind == &queue_priority_kind;
  return known ? q : class_check_slowly(L, 1, &queue_kind);
}

static inline struct queue *check(lua_State *L) {
  struct queue *q = class_quick(L, 1, &queue_kind);
  return likely(q != NULL) ? q : check_others(L);
}

/* ---- markers ---- */

static const char *const marker_names[] = {[QUEUE_EMPTY] = "Empty",
                                           [QUEUE_FULL] = "Full",
                                           [QUEUE_SHUT_DOWN] = "ShutDown",
                                           [QUEUE_STOP_ITERATION] = "StopIteration"};

static int l_marker_tostring(lua_State *L) {
  luaL_getmetafield(L, 1, "__name");
  return 1;
}

/* A marker is an empty userdata, made once, in the registry under its name's address. */
static void push_marker(lua_State *L, enum queue_marker marker) {
  if (likely(lua_rawgetp(L, LUA_REGISTRYINDEX, &marker_names[marker]) == LUA_TUSERDATA))
    return;
  lua_pop(L, 1);
  lua_newuserdatauv(L, 0, 0);
  lua_createtable(L, 0, 2);
  lua_pushfstring(L, "queue.%s", marker_names[marker]);
  lua_setfield(L, -2, "__name");
  lua_pushcfunction(L, l_marker_tostring);
  lua_setfield(L, -2, "__tostring");
  lua_setmetatable(L, -2);
  lua_pushvalue(L, -1);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &marker_names[marker]);
}

int queue_fail(lua_State *L, enum queue_marker marker) {
  lua_pushnil(L);
  push_marker(L, marker);
  return 2;
}

void queue_hide_stop(lua_State *L) {
  if (lua_type(L, -1) != LUA_TUSERDATA)
    return;
  push_marker(L, QUEUE_STOP_ITERATION);
  bool stop = lua_rawequal(L, -1, -2);
  lua_pop(L, 1);
  if (stop) {
    lua_pushnil(L);
    lua_replace(L, -2);
  }
}

/* ---- the order of a ring ---- */

static int ring_slot(const struct queue *q, int position) {
  return ((q->first + position) & (q->capacity - 1)) + 1;
}

static int oldest(const struct queue *q) { return q->first + 1; }

static int remove_oldest(struct queue *q) {
  int slot = oldest(q);
  q->first = slot & (q->capacity - 1);
  return slot;
}

static int latest(const struct queue *q) { return ring_slot(q, q->count - 1); }

static int remove_latest(struct queue *q) { return latest(q); }

const struct queue_order queue_fifo = {.next = oldest, .remove = remove_oldest};

static const struct queue_order lifo = {.next = latest, .remove = remove_latest};

/* ---- items in and out; the queue is at 1 ---- */

/* Whoever waits for an item is told of one at a time, and takes it when it runs. */
static inline void added(struct queue *q) {
  q->count++;
  q->unfinished++;
  q->version++;
  if (!list_empty(&q->getters))
    wait_notify(&q->getters);
}

/* False: the queue may have changed. */
HOT bool add(lua_State *L, struct queue *q, struct item item) {
  if (unlikely(!slots_ready(L, q, item)))
    return false;
  if (likely(!q->order->add))
    slots_set(L, q, ring_slot(q, q->count), item);
  else if (!q->order->add(L, q, item))
    return false;
  added(q);
  return true;
}

/* Pushes the next item, which leaves the queue.  Allocates nothing. */
HOT void take(lua_State *L, struct queue *q) {
  bool fifo = q->order == &queue_fifo;
  slots_take(L, q, likely(fifo) ? remove_oldest(q) : q->order->remove(q));
  q->count--;
  q->version++;
  if (unlikely(q->count == 0 && q->capacity > KEPT_CAPACITY))
    slots_clear(L, q);
  if (!list_empty(&q->putters) && q->count < q->maxsize)
    wait_notify(&q->putters);
}

/* A get or a peek without an item to return. */
static int find_none(lua_State *L, const struct queue *q, bool timed_out) {
  if (q->shut)
    return queue_fail(L, QUEUE_SHUT_DOWN);
  return timed_out ? queue_fail(L, QUEUE_EMPTY) : WAIT_AGAIN;
}

HOT int get(lua_State *L, struct queue *q, bool timed_out) {
  if (unlikely(q->count == 0))
    return find_none(L, q, timed_out);
  take(L, q);
  return 1;
}

static int get_step(lua_State *L, bool timed_out) {
  return get(L, lua_touserdata(L, 1), timed_out);
}

static int peek(lua_State *L, const struct queue *q, bool timed_out) {
  if (q->count == 0)
    return find_none(L, q, timed_out);
  slots_push(L, q, q->order->next(q));
  return 1;
}

/* The item that this one was woken for is still there for the next. */
static int peek_step(lua_State *L, bool timed_out) {
  struct queue *q = lua_touserdata(L, 1);
  int results = peek(L, q, timed_out);
  if (results == 1)
    wait_notify(&q->getters);
  return results;
}

/* A put without room for its item. */
static int find_no_room(lua_State *L, const struct queue *q, bool timed_out) {
  if (q->shut)
    return queue_fail(L, QUEUE_SHUT_DOWN);
  return timed_out ? queue_fail(L, QUEUE_FULL) : WAIT_AGAIN;
}

HOT int put(lua_State *L, struct queue *q, struct item item, bool timed_out) {
  do {
    if (unlikely(q->shut || q->count >= q->maxsize))
      return find_no_room(L, q, timed_out);
  } while (unlikely(!add(L, q, item)));
  lua_pushboolean(L, 1);
  return 1;
}

static int put_step(lua_State *L, bool timed_out) {
  struct queue *q = lua_touserdata(L, 1);
  return put(L, q, slots_item(L, q, 2), timed_out);
}

/* The item to be put, at 2. */
static inline struct item check_item(lua_State *L, const struct queue *q) {
  struct item item = slots_item(L, q, 2);
  if (unlikely(item.cell == CELL_NIL))
    queue_check_item(L, 2);
  return item;
}

/***
 * Queue:put(item [, timeout]): puts an item in, waiting for room.
 * Putters are served first come, first served; but a caller that finds room does not wait.
 * @param item any  not nil
 * @param timeout? number|Timeout  seconds
 * @return boolean? # true; nil if the item is not in
 * @return userdata? reason # queue.Full at the timeout, queue.ShutDown after shutdown()
 * Source: gevent.queue.
 * Differs: raises Full | returns nil, queue.Full
 */
static int l_put(lua_State *L) {
  static const struct wait_kind kind = {.name = "Queue:put", .step = put_step, .passes_on = true};
  struct queue *q = check(L);
  struct item item = check_item(L, q);
  double limit = wait_limit(L, 3);
  int results = put(L, q, item, limit <= 0);
  return likely(results != WAIT_AGAIN) ? results : wait_in(L, &q->putters, limit, &kind);
}

/***
 * Queue:put_nowait(item): put(item, 0).
 * @param item any
 * @return boolean?
 * @return userdata? reason
 */
static int l_put_nowait(lua_State *L) {
  struct queue *q = check(L);
  return put(L, q, check_item(L, q), true);
}

/***
 * Queue:get([timeout]): takes the next item, waiting for one.  Getters are served as putters are.
 * @param timeout? number|Timeout  seconds
 * @return any item
 * @return userdata? reason # for nil: queue.Empty at the timeout; queue.ShutDown once the queue is
 *   shut down and has no items left
 * Source: gevent.queue.
 * Differs: raises Empty | returns nil, queue.Empty
 */
static int l_get(lua_State *L) {
  static const struct wait_kind kind = {.name = "Queue:get", .step = get_step, .passes_on = true};
  struct queue *q = check(L);
  double limit = wait_limit(L, 2);
  int results = get(L, q, limit <= 0);
  return likely(results != WAIT_AGAIN) ? results : wait_in(L, &q->getters, limit, &kind);
}

/***
 * Queue:get_nowait(): get(0).
 * @return any item
 * @return userdata? reason
 */
static int l_get_nowait(lua_State *L) { return get(L, check(L), true); }

/***
 * Queue:peek([timeout]): the item that a get would return, which it leaves there.
 * @param timeout? number|Timeout  seconds
 * @return any item
 * @return userdata? reason # for nil, as of get()
 */
static int l_peek(lua_State *L) {
  static const struct wait_kind kind = {.name = "Queue:peek", .step = peek_step, .passes_on = true};
  struct queue *q = check(L);
  double limit = wait_limit(L, 2);
  int results = peek(L, q, limit <= 0);
  return results != WAIT_AGAIN ? results : wait_in(L, &q->getters, limit, &kind);
}

/***
 * Queue:peek_nowait(): peek(0).
 * @return any item
 * @return userdata? reason
 */
static int l_peek_nowait(lua_State *L) { return peek(L, check(L), true); }

static int iterate_step(lua_State *L, bool timed_out) {
  int results = get_step(L, timed_out);
  if (results == 1)
    queue_hide_stop(L);
  return results;
}

/***
 * Queue:__call(): what `for item in queue do` calls: gets items until it gets
 * queue.StopIteration, or until the queue is shut down and has no items left.
 * @return any item
 * Differs: the loop over a queue that was shut down ends by the error ShutDown | it ends as others
 */
static int l_iterate(lua_State *L) {
  static const struct wait_kind kind = {
      .name = "Queue:get", .step = iterate_step, .passes_on = true};
  struct queue *q = check(L);
  lua_settop(L, 1);
  return wait_for(L, &q->getters, 2, &kind);
}

/***
 * Queue:shutdown([immediate]): from now on puts return nil, queue.ShutDown, those that
 * wait too; and gets once there are no items left.
 * @param immediate? boolean  throw away the items there are; their tasks count as done
 * Source: queue.Queue.shutdown of Python 3.13.
 */
static int l_shutdown(lua_State *L) {
  struct queue *q = check(L);
  q->shut = true;
  if (lua_toboolean(L, 2)) {
    q->unfinished -= q->unfinished < q->count ? q->unfinished : q->count;
    slots_clear(L, q);
    if (q->unfinished == 0)
      wait_notify_all(&q->joiners);
  }
  wait_notify_all(&q->getters);
  wait_notify_all(&q->putters);
  return 0;
}

/* ---- size ---- */

/***
 * Queue:qsize(), Queue:__len(): how many items are in; `#queue` says the same.
 * @return integer
 */
static int l_qsize(lua_State *L) {
  lua_pushinteger(L, check(L)->count);
  return 1;
}

/***
 * Queue:empty(): whether there is no item.
 * @return boolean
 */
static int l_empty(lua_State *L) {
  lua_pushboolean(L, check(L)->count == 0);
  return 1;
}

/***
 * Queue:full(): whether there are as many items as maxsize, or more.
 * @return boolean
 */
static int l_full(lua_State *L) {
  const struct queue *q = check(L);
  lua_pushboolean(L, q->count >= q->maxsize);
  return 1;
}

/* The size at `arg`; 0 if it is none that a queue can have. */
static lua_Integer to_maxsize(lua_State *L, int arg) {
  if (lua_isnoneornil(L, arg))
    return QUEUE_UNBOUNDED;
  int is;
  lua_Number size = lua_tonumberx(L, arg, &is);
  lua_Integer whole = 0;
  if (is && (size <= 0 || size >= (lua_Number)QUEUE_UNBOUNDED))
    return QUEUE_UNBOUNDED;
  return is && lua_numbertointeger(size, &whole) && (lua_Number)whole == size ? whole : 0;
}

static void get_maxsize(lua_State *L, void *object) {
  const struct queue *q = object;
  if (q->maxsize == QUEUE_UNBOUNDED)
    lua_pushnil(L);
  else
    lua_pushinteger(L, q->maxsize);
}

/* Those who wait for room that there is now are let in. */
static void set_maxsize(lua_State *L, void *object) {
  struct queue *q = object;
  lua_Integer maxsize = to_maxsize(L, 3);
  if (maxsize == 0)
    luaL_error(L, "maxsize must be an integer or nil");
  q->maxsize = maxsize;
  lua_Integer room = q->maxsize - q->count;
  while (room-- > 0 && wait_notify(&q->putters))
    ;
}

/* ---- making ---- */

void queue_init(struct queue *q, const struct queue_order *order) {
  q->order = order;
  q->maxsize = QUEUE_UNBOUNDED;
  list_init(&q->getters);
  list_init(&q->putters);
  list_init(&q->joiners);
}

static void init(lua_State *L, void *object) {
  (void)L;
  queue_init(object, &queue_fifo);
}

static void init_lifo(lua_State *L, void *object) {
  (void)L;
  queue_init(object, &lifo);
}

void queue_construct(lua_State *L, struct queue *q) {
  lua_Integer maxsize = to_maxsize(L, 2);
  if (maxsize == 0)
    class_typeerror(L, 2, "integer");
  bool filled = !lua_isnoneornil(L, 3);
  if (filled && !lua_istable(L, 3))
    class_typeerror(L, 3, "table");
  q->maxsize = maxsize;
  lua_Integer count = filled ? luaL_len(L, 3) : 0;
  for (lua_Integer i = 1; i <= count; i++) {
    lua_settop(L, 3);
    if (lua_geti(L, 3, i) == LUA_TNIL)
      class_argerror(L, 3, lua_pushfstring(L, "item %I is nil", i));
    while (!add(L, q, slots_item(L, q, 4)))
      ;
  }
}

/***
 * Queue([maxsize [, items]]), LifoQueue([maxsize [, items]]), JoinableQueue([maxsize [, items]]):
 * a queue with so many items in it at most.
 * @param maxsize? integer  when as many are in, put waits; nil, 0 or less: never
 * @param items? any[]  in from the start, all of them even beyond maxsize
 * Source: gevent.queue.Queue.
 * Differs: items of any kind that can be iterated | items in an array
 */
static int l_new(lua_State *L) {
  queue_construct(L, check(L));
  return 0;
}

/* Gives the object at `to` a table of its own with the fields of the queue. */
static void copy_fields(lua_State *L, int to) {
  if (lua_getiuservalue(L, 1, CLASS_FIELDS) == LUA_TTABLE) {
    lua_newtable(L);
    for (lua_pushnil(L); lua_next(L, -3);) {
      lua_pushvalue(L, -2);
      lua_insert(L, -2);
      lua_rawset(L, -4);
    }
    lua_setiuservalue(L, to, CLASS_FIELDS);
  }
  lua_pop(L, 1);
}

/***
 * Queue:copy(): a new queue of the same class with the same items, maxsize and fields.
 * Nobody waits for it, and it is not shut down.
 * @return Queue
 */
static int l_copy(lua_State *L) {
  const struct queue *q = check(L);
  struct queue *copy;
  uint64_t version;
  do {
    lua_settop(L, 1);
    version = q->version;
    copy = class_new(L, class_kind_of(L, 1));
    slots_push_memory(L, q);
  } while (q->version != version);
  slots_copy(L, q, copy);
  copy->unfinished = q->count;
  copy->maxsize = q->maxsize;
  lua_getiuservalue(L, 1, UV_LESS);
  lua_setiuservalue(L, 2, UV_LESS);
  lua_getmetatable(L, 1);
  lua_setmetatable(L, 2);
  copy_fields(L, 2);
  return 1;
}

/* ---- tostring ---- */

void queue_describe_ring(lua_State *L, struct link *ring, const char *what) {
  int count = 0;
  list_each(it, ring) count++;
  if (count == 0)
    return;
  lua_pushfstring(L, ", %d %s%s", count, what, count == 1 ? "" : "s");
  lua_concat(L, 2);
}

/* "<Queue 3/10, 2 putters>", "<JoinableQueue 0, 1 getter, 5 unfinished>", "<Queue 0, shut down>" */
static int l_tostring(lua_State *L) {
  struct queue *q = check(L);
  class_push_name(L, 1);
  lua_pushfstring(L, "<%s %I", lua_tostring(L, -1), q->count);
  if (q->maxsize != QUEUE_UNBOUNDED) {
    lua_pushfstring(L, "/%I", q->maxsize);
    lua_concat(L, 2);
  }
  queue_describe_ring(L, &q->getters, "getter");
  queue_describe_ring(L, &q->putters, "putter");
  if (class_test(L, 1, &queue_joinable_kind)) {
    lua_pushfstring(L, ", %I unfinished", q->unfinished);
    lua_concat(L, 2);
  }
  lua_pushstring(L, q->shut ? ", shut down>" : ">");
  lua_concat(L, 2);
  return 1;
}

/* ---- the classes ---- */

/* For moonlet.wait: a get would return at once. */
static struct link *watch(void *object) {
  struct queue *q = object;
  return q->count > 0 || q->shut ? NULL : &q->getters;
}

/***
 * @class moonlet.queue.Queue: Object
 * Items go through it from greenlet to greenlet, first in, first out.
 * @field maxsize? integer  may be set; nil: without a limit
 */
static const struct class_field fields[] = {{"maxsize", get_maxsize, set_maxsize},
                                            {NULL, NULL, NULL}};

static const luaL_Reg methods[] = {{"new", l_new},
                                   {"put", l_put},
                                   {"put_nowait", l_put_nowait},
                                   {"get", l_get},
                                   {"get_nowait", l_get_nowait},
                                   {"peek", l_peek},
                                   {"peek_nowait", l_peek_nowait},
                                   {"qsize", l_qsize},
                                   {"empty", l_empty},
                                   {"full", l_full},
                                   {"shutdown", l_shutdown},
                                   {"copy", l_copy},
                                   {"__call", l_iterate},
                                   {"__len", l_qsize},
                                   {"__tostring", l_tostring},
                                   {NULL, NULL}};

const struct class_kind queue_kind = {.name = "Queue",
                                      .size = sizeof(struct queue),
                                      .values = UV_ITEMS - CLASS_FIELDS,
                                      .init = init,
                                      .methods = methods,
                                      .fields = fields,
                                      .watch = watch,
                                      .watch_passes = true};

/***
 * @class moonlet.queue.LifoQueue: Queue
 * A queue that gives the latest item first.
 */
static const struct class_kind lifo_kind = {.name = "LifoQueue",
                                            .base = &queue_kind,
                                            .size = sizeof(struct queue),
                                            .values = UV_ITEMS - CLASS_FIELDS,
                                            .init = init_lifo};

/* ---- the module ---- */

int luaopen_moonlet_queue(lua_State *L) {
  static const struct class_kind *const kinds[] = {&queue_kind, &lifo_kind, &queue_priority_kind,
                                                   &queue_joinable_kind, &queue_channel_kind};
  luaL_requiref(L, "moonlet", luaopen_moonlet, 0);
  lua_pop(L, 1);
  lua_newtable(L);
  for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
    class_push(L, kinds[i]);
    lua_setfield(L, -2, kinds[i]->name);
  }
  for (int marker = QUEUE_EMPTY; marker <= QUEUE_STOP_ITERATION; marker++) {
    push_marker(L, marker);
    lua_setfield(L, -2, marker_names[marker]);
  }
  return 1;
}
