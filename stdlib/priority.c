/*
 * priority.c: PriorityQueue, which gives the smallest item first.
 *
 * The slots of the items form an AA tree (Andersson 1993), a balanced search tree with
 * short code.  Only put compares: a new item goes down the tree, to the right of its
 * equals, so these come out in the order in which they went in.  A comparison may raise,
 * which leaves the queue as it was, and may block; if others change the queue meanwhile,
 * the search begins anew.  A get takes the leftmost node: it never compares, so it neither
 * raises nor waits for one who does.
 */
#include "greenlet.h"
#include "protect.h"
#include "slots.h"

/* A tree of n nodes has at most 2 * log2(n + 1) levels, and a table less than 2^31 slots. */
#define MAX_DEPTH 64

/* ---- the tree ---- */

/* A left child is one level below its parent, a right child on the same level or one below,
   a right child's right child always below: a red-black tree whose red nodes are at the right. */

/* A left child on the same level goes up. */
static int skew(struct queue_node *nodes, int top) {
  int left = nodes[top].left;
  if (top == 0 || nodes[left].level != nodes[top].level)
    return top;
  nodes[top].left = nodes[left].right;
  nodes[left].right = top;
  return left;
}

/* The middle one of three on the same level goes up, and to the next level. */
static int split(struct queue_node *nodes, int top) {
  int right = nodes[top].right;
  if (top == 0 || nodes[nodes[right].right].level != nodes[top].level)
    return top;
  nodes[top].right = nodes[right].left;
  nodes[right].left = top;
  nodes[right].level++;
  return right;
}

/* The left side of `top` has lost a node: lowers levels that have become too high. */
static int lower(struct queue_node *nodes, int top) {
  int left = nodes[nodes[top].left].level, right = nodes[nodes[top].right].level;
  int level = (left < right ? left : right) + 1;
  if (nodes[top].level == level)
    return top;
  nodes[top].level = level;
  if (right > level)
    nodes[nodes[top].right].level = level;
  top = skew(nodes, top);
  int child = nodes[top].right = skew(nodes, nodes[top].right);
  nodes[child].right = skew(nodes, nodes[child].right);
  top = split(nodes, top);
  nodes[top].right = split(nodes, nodes[top].right);
  return top;
}

static int leftmost(const struct queue *q) {
  const struct queue_node *nodes = queue_nodes(q);
  int node = q->first;
  while (nodes[node].left)
    node = nodes[node].left;
  return node;
}

static int remove_leftmost(struct queue *q) {
  struct queue_node *nodes = queue_nodes(q);
  int path[MAX_DEPTH], depth = 0, node = q->first;
  for (; nodes[node].left; node = nodes[node].left)
    path[depth++] = node;
  int slot = node, top = nodes[node].right;
  nodes[node].right = q->free;
  q->free = node;
  while (depth > 0) {
    int parent = path[--depth], level = nodes[parent].level;
    nodes[parent].left = top;
    top = lower(nodes, parent);
    if (top == parent && nodes[top].level == level)
      return slot;
  }
  q->first = top;
  return slot;
}

/* ---- where an item belongs ---- */

/* From the root to the place below which a new node goes. */
struct path {
  int depth;
  int nodes[MAX_DEPTH];
  bool left[MAX_DEPTH]; /* how it goes on from there */
};

static int l_less_than(lua_State *L) {
  lua_pushboolean(L, lua_compare(L, 1, 2, LUA_OPLT));
  return 1;
}

/* The order is a function (at `less`, nil: <) that may do anything.  If it fails, the room
   that this put may have been woken for is the next one's. */
static bool call_less(lua_State *L, struct queue *q, int less, int item, int other) {
  int top = lua_gettop(L);
  if (lua_isnil(L, less))
    lua_pushcfunction(L, l_less_than);
  else
    lua_pushvalue(L, less);
  lua_pushvalue(L, item);
  lua_pushvalue(L, other);
  if (protect_call(L, 2, 0, NULL) != LUA_OK) {
    if (q->count < q->maxsize)
      wait_notify(&q->putters);
    protect_rethrow(L);
  }
  bool before = lua_toboolean(L, top + 2);
  lua_settop(L, top);
  return before;
}

/* Whether the item belongs before that of a node. */
static bool comes_before(lua_State *L, struct queue *q, int less, struct item item, int node) {
  bool plain = lua_isnil(L, less);
  if (plain && !q->table && item.cell >= CELL_INTEGER && q->cells[node - 1] >= CELL_INTEGER)
    return item.cell < q->cells[node - 1];
  slots_push(L, q, node);
  int type = lua_type(L, item.index), top = lua_gettop(L);
  plain = plain && (type == LUA_TNUMBER || type == LUA_TSTRING) && lua_type(L, top) == type;
  bool before =
      plain ? lua_compare(L, item.index, top, LUA_OPLT) : call_less(L, q, less, item.index, top);
  lua_settop(L, less);
  return before;
}

/* Finds the path for an item; false if the queue has changed meanwhile. */
static bool find_path(lua_State *L, struct queue *q, struct item item, struct path *path) {
  uint64_t version = q->version;
  int less = lua_gettop(L);
  path->depth = 0;
  for (int node = q->first; node;) {
    bool before = comes_before(L, q, less, item, node);
    if (q->version != version)
      return false;
    path->nodes[path->depth] = node;
    path->left[path->depth++] = before;
    node = before ? queue_nodes(q)[node].left : queue_nodes(q)[node].right;
  }
  return true;
}

/* A node that was used before, or else the first that was not. */
static int take_free(struct queue *q) {
  if (!q->free)
    return q->count + 1;
  int node = q->free;
  q->free = queue_nodes(q)[node].right;
  return node;
}

static void insert(struct queue *q, const struct path *path, int node) {
  struct queue_node *nodes = queue_nodes(q);
  nodes[node] = (struct queue_node){.level = 1};
  for (int i = path->depth - 1; i >= 0; i--) {
    int parent = path->nodes[i];
    if (path->left[i])
      nodes[parent].left = node;
    else
      nodes[parent].right = node;
    node = split(nodes, skew(nodes, parent));
  }
  q->first = node;
}

static bool add(lua_State *L, struct queue *q, struct item item) {
  struct path path;
  int top = lua_gettop(L);
  lua_getiuservalue(L, 1, UV_LESS);
  bool found = find_path(L, q, item, &path);
  if (found) {
    int node = take_free(q);
    slots_set(L, q, node, item);
    insert(q, &path, node);
  }
  lua_settop(L, top);
  return found;
}

static const struct queue_order smallest_first = {
    .next = leftmost, .remove = remove_leftmost, .add = add};

/* ---- the class ---- */

static void init(lua_State *L, void *object) {
  (void)L;
  queue_init(object, &smallest_first);
}

/***
 * PriorityQueue([maxsize [, items [, less]]]): a queue that gives the smallest item first.
 * Only put compares; it raises what less raises, and then has put nothing.  less may block,
 * but a put goes on from the start of its search when others have changed the queue meanwhile,
 * and its timeout bounds the wait for room, not less.
 * @param maxsize? integer  as for a Queue
 * @param items? any[]
 * @param less? fun(a: any, b: any):boolean  whether a comes before b; Lua's < if nothing is said
 * Source: gevent.queue.PriorityQueue.
 * Differs: items are compared by their own < | less() may say how
 */
static int l_new(lua_State *L) {
  struct queue *q = class_check(L, 1, &queue_priority_kind);
  if (!lua_isnoneornil(L, 4)) {
    if (!greenlet_is_callable(L, 4))
      return class_typeerror(L, 4, "function");
    lua_pushvalue(L, 4);
    lua_setiuservalue(L, 1, UV_LESS);
  }
  queue_construct(L, q);
  return 0;
}

static const luaL_Reg methods[] = {{"new", l_new}, {NULL, NULL}};

/***
 * @class moonlet.queue.PriorityQueue: Queue
 * A queue that gives the smallest item first, and equal ones in the order in which they went in.
 * Differs: equal items come out in no certain order | in the order in which they went in
 */
const struct class_kind queue_priority_kind = {.name = "PriorityQueue",
                                               .base = &queue_kind,
                                               .size = sizeof(struct queue),
                                               .values = UV_LESS - CLASS_FIELDS,
                                               .init = init,
                                               .methods = methods};
