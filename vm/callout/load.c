/*
 * load.c: dlopen and close, and the switch that turns it all on.
 *
 * An object that is loaded while callouts are on is patched before dlopen returns.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ev.h has names of elf.h's. */
#undef EV_NONE
#undef EV_CURRENT
#include "callout.h"

/* Where dlopen is called here, it is ours.  (Volatile: a compiler that sees what the value always
   is would call that by its name.) */
static void *(*volatile real_dlopen)(const char *file, int mode);
static bool spare_executable;

#ifdef __GLIBC__

static bool has_paths(const struct link_map *object) {
  for (const ElfW(Dyn) *entry = object->l_ld; entry->d_tag != DT_NULL; entry++)
    if (entry->d_tag == DT_RUNPATH || entry->d_tag == DT_RPATH)
      return true;
  return false;
}

/* Where the object would find such a file by the paths that are written in it; NULL. */
static char *find_for(struct link_map *object, const char *file) {
  Dl_serinfo size, *paths = NULL;
  char *found = NULL;
  if (dlinfo(object, RTLD_DI_SERINFOSIZE, &size) == 0)
    paths = malloc(size.dls_size);
  if (!paths)
    return NULL;
  paths->dls_size = size.dls_size;
  paths->dls_cnt = size.dls_cnt;
  unsigned count = dlinfo(object, RTLD_DI_SERINFO, paths) == 0 ? paths->dls_cnt : 0;
  for (unsigned i = 0; i < count && !found; i++)
    if (asprintf(&found, "%s/%s", paths->dls_serpath[i].dls_name, file) >= 0 &&
        access(found, R_OK) != 0) {
      free(found);
      found = NULL;
    }
  free(paths);
  return found;
}

/*
 * A file without a folder is looked for by the paths of whoever calls dlopen, which is us now: if
 * the real caller has some, they are gone through here.  NULL: the linker will find it as well.
 */
static char *find_file(const void *caller, const char *file) {
  Dl_info about;
  struct link_map *object = NULL;
  if (!file || strchr(file, '/') || !dladdr1(caller, &about, (void **)&object, RTLD_DL_LINKMAP) ||
      !object || !has_paths(object))
    return NULL;
  void *loaded = real_dlopen(file, RTLD_LAZY | RTLD_NOLOAD);
  if (loaded)
    dlclose(loaded);
  return loaded ? NULL : find_for(object, file);
}

#else

static char *find_file(const void *caller, const char *file) {
  return (void)caller, (void)file, NULL;
}

#endif

/* Constructors run inside of it, with the linker's lock held: nothing may wait there. */
static void *callout_dlopen(const char *file, int mode) {
  char *path = find_file(__builtin_return_address(0), file);
  callout_barred++;
  void *handle = real_dlopen(path ? path : file, mode);
  callout_barred--;
  free(path);
  callout_rewrite(spare_executable);
  return handle;
}

const struct callout_name callout_load_names[] = {
    {"dlopen", (void *)callout_dlopen, (void *)dlopen, true, NULL}, CALLOUT_END};

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
