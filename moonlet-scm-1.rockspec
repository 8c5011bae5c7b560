rockspec_format = "3.0"
package = "moonlet"
version = "scm-1"

source = {
  url = "git+file://.", -- the checkout this file lies in
}

description = {
  summary = "Green threads for Lua 5.4: gevent's model, in C on libev",
  detailed = [[
Moonlet runs Lua functions as greenlets: threads of control that switch when they would block,
wherever they block, with queues, events, locks, pools and timeouts to go with them.
This rock is the module for a plain lua5.4; the command `moonlet` is installed by `make install`.
]],
  license = "MIT",
  labels = { "concurrency", "coroutine", "async" },
}

dependencies = {
  "lua >= 5.4, < 5.5",
}

external_dependencies = {
  LIBEV = { header = "ev.h", library = "ev" },
}

build = {
  type = "make",
  build_target = "module",
  install_target = "install-module",
  -- The same in both passes, so that the second one finds everything up to date.
  variables = {
    BUILD = "build/rock",
    CC = "$(CC)",
    CFLAGS = "$(CFLAGS)",
    LIBFLAG = "$(LIBFLAG)",
    LUA_INCDIR = "$(LUA_INCDIR)",
    LIBEV_INCDIR = "$(LIBEV_INCDIR)",
    LIBEV_LIBDIR = "$(LIBEV_LIBDIR)",
    LUADIR = "$(LUADIR)",
    CMODDIR = "$(LIBDIR)",
  },
}
