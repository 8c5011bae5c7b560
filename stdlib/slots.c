/* slots.c: room for the items of a queue (see slots.h). */
#include "slots.h"

#include <limits.h>
#include <string.h>

#define FIRST_CAPACITY 8

_Static_assert(sizeof(lua_Number) <= sizeof(double), "a cell is a double");

/* ---- cells ---- */

static uint64_t number_cell(double number) {
  uint64_t cell;
  memcpy(&cell, &number, sizeof cell);
  return number == number ? cell : CELL_OBJECT;
}

static uint64_t address_cell(const void *address) {
  uint64_t cell = CELL_ADDRESS + (uintptr_t)address;
  return cell >= CELL_ADDRESS && cell < CELL_INTEGER ? cell : CELL_OBJECT;
}

uint64_t slots_cell(lua_State *L, int index) {
  switch (lua_type(L, index)) {
  case LUA_TNONE:
  case LUA_TNIL:
    return CELL_NIL;
  case LUA_TNUMBER:
    return lua_isinteger(L, index) ? CELL_OBJECT : number_cell(lua_tonumber(L, index));
  case LUA_TBOOLEAN:
    return lua_toboolean(L, index) ? CELL_TRUE : CELL_FALSE;
  case LUA_TLIGHTUSERDATA:
    return address_cell(lua_touserdata(L, index));
  default:
    return CELL_OBJECT;
  }
}

static void push_number(lua_State *L, uint64_t cell) {
  double number;
  memcpy(&number, &cell, sizeof number);
  lua_pushnumber(L, number);
}

void slots_push_cell(lua_State *L, uint64_t cell) {
  if (cell >= CELL_INTEGER)
    lua_pushinteger(L, (lua_Integer)(cell - CELL_ZERO));
  else if (cell < CELL_OBJECT)
    push_number(L, cell);
  else if (cell >= CELL_ADDRESS)
    lua_pushlightuserdata(L, (void *)(uintptr_t)(cell - CELL_ADDRESS));
  else
    lua_pushboolean(L, cell == CELL_TRUE);
}

/* ---- memory ---- */

static size_t cells_size(int capacity, bool table) {
  return table ? 0 : (size_t)capacity * sizeof(uint64_t);
}

static size_t nodes_size(const struct queue *q, int capacity) {
  return queue_is_tree(q) ? ((size_t)capacity + 1) * sizeof(struct queue_node) : 0;
}

/* Pushes memory for so many slots, or nil if they need none. */
static void push_memory(lua_State *L, const struct queue *q, int capacity, bool table) {
  size_t size = cells_size(capacity, table) + nodes_size(q, capacity);
  if (size)
    lua_newuserdatauv(L, size, 0);
  else
    lua_pushnil(L);
}

/* Gives the queue at `queue` the memory and the table on top of the stack; without a table
   anything is there.  A ring has no UV_NODES, and then no memory either. */
static void keep(lua_State *L, int queue, bool table) {
  if (table)
    lua_setiuservalue(L, queue, UV_ITEMS);
  else
    lua_pop(L, 1);
  lua_setiuservalue(L, queue, table ? UV_NODES : UV_ITEMS);
}

/* ---- room ---- */

/* All items go from their cells to the table at `table`; those of a tree are in no order. */
static void fill_table(lua_State *L, const struct queue *q, int table) {
  bool tree = queue_is_tree(q);
  int first = tree ? 0 : q->first, mask = tree ? INT_MAX : q->capacity - 1, used = q->count;
  for (int node = q->free; node; node = queue_nodes(q)[node].right)
    used++;
  for (int i = 0; i < used; i++) {
    int slot = (first + i) & mask;
    slots_push_cell(L, q->cells[slot]);
    lua_rawseti(L, table, slot + 1);
  }
}

/* The items of a ring that are in its first slots, coming after those in the last, go on behind
   these. */
static void unwrap(lua_State *L, const struct queue *q, int before, int table) {
  if (!q->table)
    memcpy(q->cells + before, q->cells, cells_size(q->first, false));
  for (int slot = 1; q->table && slot <= q->first; slot++) {
    lua_rawgeti(L, table, slot);
    lua_rawseti(L, table, before + slot);
    lua_pushboolean(L, 0);
    lua_rawseti(L, table, slot);
  }
}

/*
 * The items go to larger memory, and to the table if there is one, at `memory` and behind it.
 * When all slots of a table have been used, one more makes Lua double its array part, as memory:
 * much faster than to copy them.
 */
static void move(lua_State *L, struct queue *q, int memory, int capacity, bool table) {
  uint64_t *cells = lua_touserdata(L, memory);
  int before = q->capacity;
  const struct queue_node *nodes = before && queue_is_tree(q) ? queue_nodes(q) : NULL;
  if (q->table) {
    lua_pushboolean(L, 0);
    lua_rawseti(L, memory + 1, before + 1);
  } else if (table) {
    fill_table(L, q, memory + 1);
  } else if (before) {
    memcpy(cells, q->cells, cells_size(before, false));
  }
  q->cells = cells;
  q->capacity = capacity;
  q->table = table;
  q->version++;
  if (nodes)
    memcpy(queue_nodes(q), nodes, nodes_size(q, before));
  else if (queue_is_tree(q))
    queue_nodes(q)[0] = (struct queue_node){0};
  else if (capacity > before)
    unwrap(L, q, before, memory + 1);
  lua_settop(L, memory + 1);
  keep(L, 1, table);
}

/* Four times as many cells are no more memory than twice as many slots of a table. */
static int next_capacity(const struct queue *q, bool table) {
  if (q->count < q->capacity)
    return q->capacity;
  if (q->capacity == 0)
    return FIRST_CAPACITY;
  return q->capacity * (table || queue_is_tree(q) ? 2 : 4);
}

void slots_make_room(lua_State *L, struct queue *q, struct item item) {
  if (q->capacity > INT_MAX / 4)
    luaL_error(L, "too many items in a queue");
  bool table = q->table || item.cell == CELL_OBJECT;
  int capacity = next_capacity(q, table), top = lua_gettop(L);
  uint64_t version = q->version;
  push_memory(L, q, capacity, table);
  if (table && !q->table)
    lua_createtable(L, capacity, 0);
  else
    lua_getiuservalue(L, 1, UV_ITEMS);
  if (q->version == version)
    move(L, q, top + 1, capacity, table);
  lua_settop(L, top);
}

void slots_clear(lua_State *L, struct queue *q) {
  for (int value = UV_ITEMS; value <= UV_NODES; value++) {
    lua_pushnil(L);
    lua_setiuservalue(L, 1, value);
  }
  q->cells = NULL;
  q->table = false;
  q->count = q->capacity = q->first = q->free = 0;
  q->version++;
}

/* ---- copies ---- */

void slots_push_memory(lua_State *L, const struct queue *q) {
  push_memory(L, q, q->capacity, q->table);
  if (q->table)
    lua_createtable(L, q->capacity, 0);
  else
    lua_pushnil(L);
}

void slots_copy(lua_State *L, const struct queue *q, struct queue *copy) {
  if (q->capacity == 0)
    return;
  copy->cells = lua_touserdata(L, 3);
  copy->table = q->table;
  copy->count = q->count;
  copy->capacity = q->capacity;
  copy->first = q->first;
  copy->free = q->free;
  if (q->cells)
    memcpy(copy->cells, q->cells, cells_size(q->capacity, q->table) + nodes_size(q, q->capacity));
  lua_getiuservalue(L, 1, UV_ITEMS);
  for (int slot = 1; q->table && slot <= q->capacity; slot++) {
    lua_rawgeti(L, 5, slot);
    lua_rawseti(L, 4, slot);
  }
  lua_settop(L, 4);
  keep(L, 2, q->table);
}
