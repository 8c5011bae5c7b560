/*
 * slots.h: where the items of a queue are.
 *
 * Each slot has a cell of 8 bytes, in C.  Most numbers, booleans and light userdata fit in
 * one, so that neither a put nor a get of them touches a Lua table.  A cell is a double; bit
 * patterns that would be negative NaNs stand for what is none:
 *
 *     0xfff9...          an object, false, true
 *     0xfffa, 0xfffb...  a light userdata, whose address has 49 bits
 *     0xfffc to ffff...  an integer of 50 bits; the cells are in the order of the integers
 *
 * An object is anything else: a string or a table, but also a NaN, or an integer of more bits.
 * No slot has such a cell: with the first object all items go to a table, at the numbers of
 * their slots, and are there until the queue is cleared.  The array part of the table has all
 * slots, so that to set one allocates nothing.
 *
 * The queue is at index 1 of the stack.
 */
#ifndef MOONLET_SLOTS_H
#define MOONLET_SLOTS_H

#include "hub.h"
#include "queue.h"

#define CELL_OBJECT UINT64_C(0xfff9000000000000)
#define CELL_FALSE (CELL_OBJECT + 1)
#define CELL_TRUE (CELL_OBJECT + 2)
#define CELL_NIL (CELL_OBJECT + 3) /* no item */
#define CELL_ADDRESS UINT64_C(0xfffa000000000000)
#define CELL_INTEGER UINT64_C(0xfffc000000000000) /* the least */
#define CELL_ZERO UINT64_C(0xfffe000000000000)

uint64_t slots_cell(lua_State *L, int index); /* of all but integers that fit */

/* The value at `index`, looked at once. */
static inline struct item slots_item(lua_State *L, const struct queue *q, int index) {
  if (q->table)
    return (struct item){lua_type(L, index) > LUA_TNIL ? CELL_OBJECT : CELL_NIL, index};
  if (likely(lua_isinteger(L, index))) {
    uint64_t cell = CELL_ZERO + (uint64_t)lua_tointeger(L, index);
    if (likely(cell >= CELL_INTEGER))
      return (struct item){cell, index};
  }
  return (struct item){slots_cell(L, index), index};
}

void slots_make_room(lua_State *L, struct queue *q, struct item item);

/* Whether an item can be set without allocating; if not, room is made, and the queue may have
   changed meanwhile. */
static inline bool slots_ready(lua_State *L, struct queue *q, struct item item) {
  if (likely(q->count < q->capacity && (item.cell != CELL_OBJECT || q->table)))
    return true;
  slots_make_room(L, q, item);
  return false;
}

static inline void slots_set(lua_State *L, struct queue *q, int slot, struct item item) {
  if (!q->table) {
    q->cells[slot - 1] = item.cell;
  } else {
    lua_getiuservalue(L, 1, UV_ITEMS);
    lua_pushvalue(L, item.index);
    lua_rawseti(L, -2, slot);
  }
}

void slots_push_cell(lua_State *L, uint64_t cell);

/* Pushes the item of a slot, with the table below it if there is one. */
static inline void slots_push(lua_State *L, const struct queue *q, int slot) {
  if (!q->table) {
    slots_push_cell(L, q->cells[slot - 1]);
  } else {
    lua_getiuservalue(L, 1, UV_ITEMS);
    lua_rawgeti(L, -1, slot);
  }
}

/* The same for the last time: the slot keeps it alive no longer. */
static inline void slots_take(lua_State *L, const struct queue *q, int slot) {
  if (!q->table && likely(q->cells[slot - 1] >= CELL_INTEGER)) {
    lua_pushinteger(L, (lua_Integer)(q->cells[slot - 1] - CELL_ZERO));
    return;
  }
  slots_push(L, q, slot);
  if (q->table) {
    lua_pushboolean(L, 0);
    lua_rawseti(L, -3, slot);
  }
}

/* Throws away all items, and the slots with them.  Allocates nothing. */
void slots_clear(lua_State *L, struct queue *q);

/* For a copy: pushes memory and a table, and gives them, at 3 and 4, with the items to it, at 2. */
void slots_push_memory(lua_State *L, const struct queue *q);
void slots_copy(lua_State *L, const struct queue *q, struct queue *copy);

#endif
