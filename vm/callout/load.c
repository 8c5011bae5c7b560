/*
 * load.c: dlopen and close, and the switch that turns it all on.
 *
 * An object that is loaded while callouts are on is patched before dlopen returns.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <unistd.h>

#include "callout.h"

static void *(*real_dlopen)(const char *file, int mode); /* where it is called here, it is ours */
static bool spare_executable;

/* Constructors run inside of it, with the linker's lock held: nothing may wait there. */
static void *callout_dlopen(const char *file, int mode) {
  callout_barred++;
  void *handle = real_dlopen(file, mode);
  callout_barred--;
  callout_rewrite(spare_executable);
  return handle;
}

const struct callout_name callout_load_names[] = {
    {"dlopen", (void *)callout_dlopen, (void *)dlopen, true}, CALLOUT_END};

static void open_once(void) {
  real_dlopen = dlopen;
  callout_open();
}

/* An executable that is the host of the loop has reasons of its own to wait. */
static int l_patch(lua_State *L) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  spare_executable = hub_of(L)->hosted;
  pthread_once(&once, open_once);
  if (callout_rewrite(spare_executable) < 0)
    return luaL_error(L, "callouts are not known on this processor");
  return 0;
}

MOONLET_API int luaopen_moonlet_callout_core(lua_State *L);

int luaopen_moonlet_callout_core(lua_State *L) {
  lua_createtable(L, 0, 1);
  lua_pushcfunction(L, l_patch);
  lua_setfield(L, -2, "patch");
  return 1;
}
