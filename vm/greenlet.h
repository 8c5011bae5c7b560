/*
 * greenlet.h: the class Greenlet, as its own files share it.
 */
#ifndef MOONLET_GREENLET_H
#define MOONLET_GREENLET_H

#include "hub.h"

/* Keys of the table in UV_FIELDS for what few greenlets have. */
extern const char greenlet_key_name, greenlet_key_traceback, greenlet_key_links;

/* Registry: a weak table, number -> Greenlet, of those that have spawned others. */
extern const char greenlet_key_spawners;

/* The state that a new Greenlet starts with. */
void greenlet_init(lua_State *L, void *object);

/* Pushes the value under a private key of the Greenlet at `index`, or nil; sets it from the top. */
int greenlet_get_private(lua_State *L, int index, const char *key);
void greenlet_set_private(lua_State *L, int index, const char *key);

/* Stores `count` values on top of the stack (popped) in UV_OUTCOME of the Greenlet at `index`;
   pushes them again. */
void greenlet_store(lua_State *L, int index, int count);
int greenlet_push_stored(lua_State *L, int index, int count);

/* The same for its arguments, until its end; and when that has come. */
void greenlet_store_args(lua_State *L, int index, int count);
int greenlet_push_args(lua_State *L, int index);
void greenlet_drop_args(lua_State *L, int index);

/* The methods link, link_value, link_exception, unlink (links.c). */
extern const luaL_Reg greenlet_link_methods[];

/* Pushes what it is and in which state: "<Greenlet 'main': running>". */
void greenlet_describe(lua_State *L, int index);

/* For the module: spawn, spawn_later, kill. */
extern const luaL_Reg greenlet_functions[];

/* Kills the Greenlet below the error on top of the stack (nil: an exit); pops both. */
void greenlet_kill(lua_State *L);

/* A function, or something with __call, at `index`. */
bool greenlet_is_callable(lua_State *L, int index);

#endif
