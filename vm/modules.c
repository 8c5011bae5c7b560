/* modules.c: see modules.h. */
#include "modules.h"

#include <stdbool.h>

#include "class.h"
#include "moonlet.h"
#include "searcher.h"

MOONLET_API int luaopen_moonlet_callout_core(lua_State *L);
MOONLET_API int luaopen_moonlet_edge_core(lua_State *L);
MOONLET_API int luaopen_moonlet_event(lua_State *L);
MOONLET_API int luaopen_moonlet_select(lua_State *L);
MOONLET_API int luaopen_moonlet_local(lua_State *L);
MOONLET_API int luaopen_moonlet_lock(lua_State *L);
MOONLET_API int luaopen_moonlet_os_core(lua_State *L);
MOONLET_API int luaopen_moonlet_processpool_core(lua_State *L);
MOONLET_API int luaopen_moonlet_queue(lua_State *L);
MOONLET_API int luaopen_moonlet_socket_dns(lua_State *L);
MOONLET_API int luaopen_moonlet_socket_core(lua_State *L);
MOONLET_API int luaopen_moonlet_subprocess_core(lua_State *L);
MOONLET_API int luaopen_moonlet_testing_core(lua_State *L);
MOONLET_API int luaopen_moonlet_threadpool_core(lua_State *L);
MOONLET_API int luaopen_moonlet_values_core(lua_State *L);
MOONLET_API int luaopen_moonlet_workers_core(lua_State *L);
MOONLET_API int luaopen_moonlet_wsapi_core(lua_State *L);

const luaL_Reg moonlet_modules[] = {{"moonlet", luaopen_moonlet},
                                    {"moonlet.class", luaopen_moonlet_class},
                                    {"moonlet.callout.core", luaopen_moonlet_callout_core},
                                    {"moonlet.edge.core", luaopen_moonlet_edge_core},
                                    {"moonlet.event", luaopen_moonlet_event},
                                    {"moonlet.select", luaopen_moonlet_select},
                                    {"moonlet.local", luaopen_moonlet_local},
                                    {"moonlet.lock", luaopen_moonlet_lock},
                                    {"moonlet.os.core", luaopen_moonlet_os_core},
                                    {"moonlet.processpool.core", luaopen_moonlet_processpool_core},
                                    {"moonlet.queue", luaopen_moonlet_queue},
                                    {"moonlet.socket.dns", luaopen_moonlet_socket_dns},
                                    {"moonlet.socket.core", luaopen_moonlet_socket_core},
                                    {"moonlet.subprocess.core", luaopen_moonlet_subprocess_core},
                                    {"moonlet.testing.core", luaopen_moonlet_testing_core},
                                    {"moonlet.threadpool.core", luaopen_moonlet_threadpool_core},
                                    {"moonlet.values.core", luaopen_moonlet_values_core},
                                    {"moonlet.workers.core", luaopen_moonlet_workers_core},
                                    {"moonlet.wsapi.core", luaopen_moonlet_wsapi_core},
                                    {NULL, NULL}};

const struct extension moonlet_extensions[] = {
    {"moonlet.ares.core", "c-ares", "libc-ares-dev"},
    {"moonlet.llhttp.core", "llhttp", "node-llhttp"},
    {"moonlet.nghttp2.core", "nghttp2", "libnghttp2-dev"},
    {"moonlet.ssl.core", "OpenSSL 3", "libssl-dev"},
    {"moonlet.wslay.core", "wslay, zlib or nettle", "libwslay-dev, zlib1g-dev and nettle-dev"},
    {"moonlet.zlib.core", "zlib", "zlib1g-dev"},
    {"moonlet.zmq.core", "ZeroMQ", "libzmq3-dev"},
    {NULL, NULL, NULL}};

/* Registry: set once the searcher is there. */
static const char installed;

void modules_install(lua_State *L) {
  luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_PRELOAD_TABLE);
  luaL_setfuncs(L, moonlet_modules, 0);
  if (lua_rawgetp(L, LUA_REGISTRYINDEX, &installed) == LUA_TNIL)
    searcher_install(L);
  lua_pushboolean(L, true);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &installed);
  lua_pop(L, 2);
}
