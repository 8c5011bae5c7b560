/*
 * moonlet.h: green threads for Lua 5.4, for C programs.
 *
 * A program opens the runtime in a Lua state, and every C function called from
 * Lua may then block: it blocks only the greenlet that called it, wherever that
 * greenlet stands (a comparator of table.sort, a metamethod, a coroutine of the
 * script's own).  All functions here but those marked otherwise must be called on
 * the thread that opened the runtime; they raise Lua errors, among them the
 * GreenletExit of a kill and Timeouts, like any C function of Lua's.
 *
 *     lua_State *L = luaL_newstate();
 *     luaL_openlibs(L);
 *     if (moonlet_open(L, NULL) != LUA_OK)
 *       fprintf(stderr, "%s\n", lua_tostring(L, -1));
 *     luaL_dostring(L, "require 'moonlet'.spawn(print, 'hello')");
 *     moonlet_run(L, -1);
 *     moonlet_close(L);
 *     lua_close(L);
 */
#ifndef MOONLET_H
#define MOONLET_H

#include <lua.h>

#ifdef __cplusplus
extern "C" {
#endif

#ifndef MOONLET_API
#define MOONLET_API __attribute__((visibility("default")))
#endif

struct ev_loop;
typedef struct moonlet_waiter moonlet_waiter;

/* ---- the runtime ---- */

/* require "moonlet": opens the runtime with a loop of its own, if there is none yet. */
MOONLET_API int luaopen_moonlet(lua_State *L);

/*
 * Opens the runtime.  loop NULL: Moonlet makes a loop and runs it whenever the main
 * greenlet blocks.  Else the host runs `loop`, and greenlets run between its own
 * watchers; the state that called may block too, but not from inside a callback of
 * the loop.  Returns LUA_OK, or another status with the message on the stack.
 */
MOONLET_API int moonlet_open(lua_State *L, struct ev_loop *loop);

/*
 * Ends every greenlet: those on a C stack by an error raised in them, the others by
 * closing their variables.  Call it before lua_close, from the main greenlet; a
 * second call does nothing.  (lua_close alone frees all memory, but runs no `<close>`.)
 *
 * lua_close waits for work of moonlet_offload.  Work that owns its memory (a ThreadPool's
 * tasks, look-ups of names) goes on in its threads until it is done, without the state.
 */
MOONLET_API void moonlet_close(lua_State *L);

/*
 * Runs greenlets until nothing is left that could run: 1; or until `timeout` seconds
 * have passed (negative: no limit): 0.  From the main greenlet only.
 */
MOONLET_API int moonlet_run(lua_State *L, double timeout);

/* ---- greenlets ---- */

/*
 * Starts a greenlet.  The function and `nargs` arguments on top of the stack are
 * replaced by its Greenlet object.  Returns 1, the number of values pushed.
 */
MOONLET_API int moonlet_spawn(lua_State *L, int nargs);

/* Blocks for so many seconds; 0 or less lets every ready greenlet run once. */
MOONLET_API void moonlet_sleep(lua_State *L, double seconds);

/* ---- waiting for descriptors ---- */

/*
 * Blocks until `fd` is ready for `events` (EV_READ | EV_WRITE of <ev.h>), at most
 * `timeout` seconds (negative: no limit).  Returns the events that are, or 0 at the
 * timeout.  A descriptor that is not open raises an error.
 */
MOONLET_API int moonlet_wait_fd(lua_State *L, int fd, int events, double timeout);

/*
 * The same for a C function that ends here: where Lua can yield, no C stack is held.
 * Use: return moonlet_wait_fdk(L, fd, events, timeout, ctx, k);
 * k runs with the events (or 0) pushed on the stack, its status being LUA_YIELD or LUA_OK.
 */
MOONLET_API int moonlet_wait_fdk(lua_State *L, int fd, int events, double timeout, lua_KContext ctx,
                                 lua_KFunction k);

/* ---- waiting for something of your own ---- */

/*
 * A waiter lets one greenlet wait for an event that C code announces.  moonlet_waiter_new
 * pushes it as a userdata, which must stay referenced while it is in use.
 */
MOONLET_API moonlet_waiter *moonlet_waiter_new(lua_State *L);

/*
 * Blocks the calling greenlet until the waiter is unparked: 1, or 0 at the timeout
 * (seconds, negative: none).  An unpark that came before counts: park returns at once.
 * Kills and Timeouts are raised in the state that made the waiter: make it where you park.
 */
MOONLET_API int moonlet_park(moonlet_waiter *waiter, double timeout);

/* Wakes the greenlet parked there, or the next one to park.  From the runtime's thread. */
MOONLET_API void moonlet_unpark(moonlet_waiter *waiter);

/* The same from any thread. */
MOONLET_API void moonlet_unpark_async(moonlet_waiter *waiter);

/* ---- work in other threads ---- */

/*
 * Runs work(arg) in a pool of threads while the calling greenlet waits.  The work
 * must not touch Lua.  Returns 0, or an errno when no thread could be had.  The call
 * returns (or raises a pending kill or Timeout) only once the work has ended, since
 * `arg` usually lives in the caller's frame.
 */
MOONLET_API int moonlet_offload(lua_State *L, void (*work)(void *), void *arg);

#ifdef __cplusplus
}
#endif

#endif
