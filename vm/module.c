/* module.c: require "moonlet". */
/***
 * @module moonlet
 * Greenlets, what runs them, and time limits.
 *
 * Some rules hold in all modules.  Time is in seconds, with fractions.  Without a timeout a call
 * waits for ever, with 0 or less not at all; a started Timeout may be given instead, which raises
 * itself when it expires.  What is to be expected is returned, such as nil, "timeout"; what is a
 * mistake or a failure is raised.  Any call that waits may be made anywhere, in callbacks of C
 * functions and in coroutines too, only not in a finalizer.  Greenlets run in the order in which
 * they became ready, and are served in the order in which they came.  A wait that ends, however
 * it does, leaves nothing behind.
 *
 * When the script ends the program ends, whatever greenlets are left.
 *
 * A forked child has a hub of its own, in which only the greenlet lives that called fork: it is
 * the child's main greenlet, and the process ends with it (see keep_at_fork).
 * @field _VERSION string
 * Differs: a timeout that expires | an error in most calls | returned in all: nil, "timeout",
 *   nil, queue.Empty or Full, or false where the answer is yes or no
 * Differs: negative timeouts | refused, undefined or endless, each call its own way | as 0
 * Differs: arguments block, timeout_value and other keywords | there | positions: a timeout of 0
 *   does not block
 * Differs: `with` blocks of greenlets, groups, timeouts, locks | context managers | `<close>`
 *   variables, and functions such as Timeout:run and Semaphore:with
 * Differs: truth of a greenlet | true while it runs | always true, as any object: ask started
 * Differs: greenlets of equal delay, started by spawn_later from a timer | in no certain order |
 *   in the order of the calls
 * Differs: spawn_later after long computation | counts from the latest pass of the loop, so it
 *   comes too early | counts from the call
 * Differs: the loop: get_hub(), watchers, run_callback, ref | for scripts | only for C programs,
 *   in `moonlet.h`
 * Differs: spawn_raw, spawn_tree_locals, callbacks at each spawn | there | not there
 * Differs: a forked child | runs all greenlets and timers of its parent too | runs only the one
 *   that forked, unless keep_at_fork(true) was called
 * Differs: try, shield, now | not in gevent | there
 * Differs: Ctrl-C | an error in the greenlet that runs | an error in main (plain lua5.4: Lua's
 *   own handling)
 * Differs: an exit from within a greenlet | SystemExit is raised in main | os.exit ends the
 *   program where it stands
 */
#include "control.h"
#include "fork.h"
#include "greenlet.h"
#include "hub.h"
#include "modules.h"
#include "report.h"
#include "signals.h"
#include "timeout.h"
#include "waits.h"
#include "watchdog.h"

#ifndef MOONLET_VERSION
#define MOONLET_VERSION "scm"
#endif

static void set_class(lua_State *L, const struct class_kind *kind) {
  class_push(L, kind);
  lua_setfield(L, -2, kind->name);
}

int luaopen_moonlet(lua_State *L) {
  luaL_checkversion(L);
  hub_open(L, NULL);
  modules_install(L);
  lua_createtable(L, 0, 32);
  luaL_setfuncs(L, control_functions, 0);
  luaL_setfuncs(L, greenlet_functions, 0);
  luaL_setfuncs(L, timeout_functions, 0);
  luaL_setfuncs(L, waits_functions, 0);
  luaL_setfuncs(L, report_functions, 0);
  luaL_setfuncs(L, signals_functions, 0);
  luaL_setfuncs(L, watchdog_functions, 0);
  luaL_setfuncs(L, fork_functions, 0);
  set_class(L, &greenlet_kind);
  set_class(L, &timeout_kind);
  set_class(L, &greenlet_exit_kind);
  set_class(L, &loop_exit_kind);
  lua_pushliteral(L, "Moonlet " MOONLET_VERSION);
  lua_setfield(L, -2, "_VERSION");
  return 1;
}
