/* file.c: see file.h. */
#define _GNU_SOURCE
#include "file.h"

#include <errno.h>
#include <fcntl.h>
#include <lauxlib.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int fail(lua_State *L, int error) {
  luaL_pushfail(L);
  lua_pushstring(L, strerror(error));
  lua_pushinteger(L, error);
  return 3;
}

static int close_file(lua_State *L) {
  luaL_Stream *stream = luaL_checkudata(L, 1, LUA_FILEHANDLE);
  return luaL_fileresult(L, fclose(stream->f) == 0, NULL);
}

int wsapi_open(lua_State *L) {
  const char *path = luaL_checkstring(L, 1);
  luaL_Stream *stream = lua_newuserdatauv(L, sizeof *stream, 0);
  stream->closef = NULL;
  luaL_setmetatable(L, LUA_FILEHANDLE);
  int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
  if (fd < 0)
    return fail(L, errno);
  struct stat about;
  int error = fstat(fd, &about) != 0 ? errno : 0;
  if (!error && S_ISREG(about.st_mode) && (stream->f = fdopen(fd, "rb"))) {
    stream->closef = close_file;
    lua_pushinteger(L, about.st_size);
    lua_pushinteger(L, about.st_mtim.tv_sec);
    lua_pushinteger(L, about.st_mtim.tv_nsec);
    return 4;
  }
  close(fd);
  if (error || !S_ISDIR(about.st_mode))
    return fail(L, error ? error : EACCES);
  luaL_pushfail(L);
  lua_pushliteral(L, "directory");
  return 2;
}
