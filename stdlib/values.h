/*
 * values.h: messages of Lua values from one Lua state to another.
 *
 * A message is a block of memory of its own: its size, and a sequence of values.  It may
 * hold nil, booleans, integers, floats, strings, and tables of those; a table that is met
 * again, also within itself, is the same table on the other side.  Nothing else can be sent.
 */
#ifndef MOONLET_VALUES_H
#define MOONLET_VALUES_H

#include <lua.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* How deep tables may be nested. */
#define VALUES_DEPTH 200

/* What every message begins with; `size` counts all of it. */
struct values_header {
  uint64_t size;
  uint32_t tables; /* how many there are */
  uint32_t shared; /* whether one of them is met again */
};

struct values {
  char *data; /* malloc'ed; begins with a header; NULL: empty */
  size_t size, capacity;
};

/* Pushes an empty message, freed with the userdata. */
struct values *values_new(lua_State *L);

/* The message at argument `arg`. */
struct values *values_check(lua_State *L, int arg);

/*
 * Appends the `count` values from index `first` on.  If one cannot be sent, it returns false
 * and pushes the reason, which calls the values by `noun` and number: "argument 2: value at
 * .list[3].callback: functions cannot be sent".  Raises when out of memory.
 */
bool values_put(lua_State *L, struct values *values, int first, int count, const char *noun);

/* Pushes all values of a message and returns how many; raises if it is malformed. */
int values_get(lua_State *L, const struct values *values);

/* Empties it for another message. */
void values_clear(struct values *values);

/* The message in one piece is the receiver's now, who frees its data. */
struct values values_take(struct values *values);

#endif
