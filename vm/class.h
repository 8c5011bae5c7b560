/*
 * class.h: Moonlet's classes, for objects made in C and in Lua.
 *
 * A class is a table and the metatable of its instances.  It is called to construct;
 * Class:extend([name]) makes a subclass, Class.super is the class above, Class:new(...)
 * the initialiser, object:is(Class) asks.  Instances are full userdata (size > 0) with a
 * table for fields of the user's own, or plain tables (size 0).
 */
#ifndef MOONLET_CLASS_H
#define MOONLET_CLASS_H

#include <lauxlib.h>
#include <lua.h>
#include <stdbool.h>
#include <stddef.h>

#include "moonlet.h"

/* The user value that holds the user's own fields; a kind's further ones follow it. */
#define CLASS_FIELDS 1

struct class_kind;

/* The first member of every userdata of a class: a quick proof of what it is. */
struct class_object {
  const struct class_kind *kind;
};

/* A field that is computed; `get` pushes one value, `set` takes the value at index 3. */
struct class_field {
  const char *name;
  void (*get)(lua_State *L, void *object);
  void (*set)(lua_State *L, void *object);
};

struct class_kind {
  const char *name;
  const struct class_kind *base;            /* NULL: Object */
  size_t size;                              /* of a struct that begins with a class_object */
  int values;                               /* user values beyond the first */
  void (*init)(lua_State *L, void *object); /* a valid state before `new` runs; zeroed memory */
  const luaL_Reg *methods;                  /* with `new` and metamethods */
  const struct class_field *fields;
  /* For moonlet.wait: the ring to be told by, or NULL if it is ready now. */
  struct link *(*watch)(void *object);
  bool watch_passes; /* that ring wakes one waiter at a time */
};

/* Pushes the class of a kind; made at its first use in this state. */
void class_push(lua_State *L, const struct class_kind *kind);

/* Pushes a new instance of the kind itself, initialised but without `new`. */
void *class_new(lua_State *L, const struct class_kind *kind);

/* The same, quicker: the class is on the stack of `from` at `index`. */
void *class_new_from(lua_State *L, const struct class_kind *kind, lua_State *from, int index);

void *class_check_slowly(lua_State *L, int arg, const struct class_kind *kind);
void *class_test_slowly(lua_State *L, int arg, const struct class_kind *kind);

/* No other userdata begins with the address of a kind, so the metatable is rarely asked; of
   light userdata and of what is no userdata at all, one of the two is zero. */
static inline void *class_quick(lua_State *L, int arg, const struct class_kind *kind) {
  struct class_object *object = lua_touserdata(L, arg);
  return object && lua_rawlen(L, arg) >= sizeof *object && object->kind == kind ? object : NULL;
}

/* The object at `arg` if it is of `kind` or a kind below, else a bad argument. */
static inline void *class_check(lua_State *L, int arg, const struct class_kind *kind) {
  void *object = class_quick(L, arg, kind);
  return __builtin_expect(object != NULL, 1) ? object : class_check_slowly(L, arg, kind);
}

/* The same object, or NULL. */
static inline void *class_test(lua_State *L, int arg, const struct class_kind *kind) {
  void *object = class_quick(L, arg, kind);
  return __builtin_expect(object != NULL, 1) ? object : class_test_slowly(L, arg, kind);
}

/* The kind of the object at `arg`, or NULL. */
const struct class_kind *class_kind_of(lua_State *L, int arg);

/* Whether the value at `arg` is a class; class_instance replaces it by a fresh instance. */
bool class_is_class(lua_State *L, int arg);

/* "bad argument" for initialisers, which see `self` as argument 1 and have no name. */
int class_argerror(lua_State *L, int arg, const char *message);
int class_typeerror(lua_State *L, int arg, const char *expected);
lua_Number class_optnumber(lua_State *L, int arg, lua_Number otherwise);

/* Pushes the name of the object's class. */
void class_push_name(lua_State *L, int arg);

/* require "moonlet.class": the root class, Object. */
MOONLET_API int luaopen_moonlet_class(lua_State *L);

#endif
