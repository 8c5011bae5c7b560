/*
 * embed_coroutines.c: coroutines in which greenlets block, and code that knows nothing of it: the
 * library's own functions, kept from before the runtime was opened, and C functions.
 */
#include "support.h"

/* resume(co): as C code does it, with the same from where it cannot yield. */
static int l_resume(lua_State *L) {
  lua_State *co = lua_tothread(L, 1);
  int count;
  int status = lua_resume(co, L, 0, &count);
  lua_pushinteger(L, status);
  luaL_checkstack(L, count, NULL);
  lua_xmove(co, L, count);
  return count + 1;
}

/* A state with the library's functions in `old`, and a queue. */
static lua_State *open_test(void) {
  lua_State *L = new_state();
  lua_register(L, "resume", l_resume);
  run(L, "old = {}\n"
         "for name, f in pairs(coroutine) do old[name] = f end");
  if (moonlet_open(L, NULL) != LUA_OK)
    fail_check(__FILE__, __LINE__, "moonlet_open", lua_tostring(L, -1));
  run(L, "moonlet = require 'moonlet'\n"
         "moonlet.set_error_handler(function() end)\n"
         "queue = require 'moonlet.queue'.Queue()\n"
         "function pinned() return moonlet.stats().pinned end\n"
         "function get() return queue:get() end\n"
         "function blocked(f)\n"
         "  local g = moonlet.spawn(f)\n"
         "  moonlet.sleep(0)\n"
         "  return g\n"
         "end");
  return L;
}

/* Nothing may be left of any wait. */
static void close_test(lua_State *L) {
  run(L, "local stats = moonlet.stats()\n"
         "assert(stats.watchers == 0 and stats.timers == 0 and stats.pinned == 0)\n"
         "assert(stats.greenlets == 0 and stats.ready == 0)");
  close_state(L);
}

/* Whatever part of the way out is not ours, the greenlet keeps its stack. */
static void old_functions_wait_on_a_stack(void) {
  lua_State *L = open_test();
  run(L, "local function with(inner, outer)\n"
         "  return function() return outer(function() return inner(get)() end)() end\n"
         "end\n"
         "for i, f in ipairs {with(old.wrap, coroutine.wrap), with(coroutine.wrap, old.wrap),\n"
         "                    function() return resume(coroutine.create(get)) end} do\n"
         "  local g = blocked(f)\n"
         "  assert(pinned() == 1, i)\n"
         "  queue:put('item')\n"
         "  local a, b = g:get()\n"
         "  assert(a == 'item' or b == 'item')\n"
         "end\n"
         "local g = blocked(with(coroutine.wrap, coroutine.wrap))\n"
         "assert(pinned() == 0)\n"
         "queue:put('item')\n"
         "assert(g:get() == 'item')");
  close_test(L);
}

/* One coroutine that has waited on a stack is none the lighter for it, and none the heavier. */
static void each_resume_decides(void) {
  lua_State *L = open_test();
  run(L, "local co = coroutine.create(function()\n"
         "  while true do coroutine.yield(get()) end\n"
         "end)\n"
         "for i = 1, 6 do\n"
         "  local light = i % 2 == 0\n"
         "  local g = blocked(function() return (light and coroutine or old).resume(co) end)\n"
         "  assert(pinned() == (light and 0 or 1))\n"
         "  queue:put(i)\n"
         "  local ok, item = g:get()\n"
         "  assert(ok and item == i)\n"
         "end");
  close_test(L);
}

static void strangers_are_refused(void) {
  lua_State *L = open_test();
  run(L, "local inner, outer, own\n"
         "local g = blocked(function()\n"
         "  own = coroutine.running()\n"
         "  outer = coroutine.create(function()\n"
         "    inner = coroutine.create(get)\n"
         "    return select(2, coroutine.resume(inner))\n"
         "  end)\n"
         "  return select(2, coroutine.resume(outer))\n"
         "end)\n"
         "assert(pinned() == 0)\n"
         "for i = 1, 3 do\n"
         "  for _, co in ipairs {inner, outer, own} do\n"
         "    local ok, item, message = old.resume(co, 'from', 'a', 'stranger')\n"
         "    assert(ok and item == nil)\n"
         "    assert(message == 'cannot resume non-suspended coroutine', message)\n"
         "    local status, item, message = resume(co)\n"
         "    assert(item == nil and message == 'cannot resume non-suspended coroutine')\n"
         "    local ok, message = coroutine.resume(co)\n"
         "    assert(not ok and message == 'cannot resume non-suspended coroutine')\n"
         "    old.wrap(function() assert(not coroutine.resume(co)) end)()\n"
         "  end\n"
         "end\n"
         "moonlet.sleep(0)\n"
         "assert(not g:ready())\n"
         "queue:put('item')\n"
         "assert(g:get() == 'item')");
  close_test(L);
}

/* The library's close takes a blocked coroutine for a suspended one: the wait in it is over. */
static void closed_by_a_stranger(void) {
  lua_State *L = open_test();
  run(L, "for _, which in ipairs {'inner', 'outer'} do\n"
         "  for _, ending in ipairs {'woken', 'killed', 'limited'} do\n"
         "    local co, closed = {}, 0\n"
         "    local function closes()\n"
         "      return setmetatable({}, {__close = function() closed = closed + 1 end})\n"
         "    end\n"
         "    local g = blocked(function()\n"
         "      local limit <close> = ending == 'limited' and moonlet.Timeout.start_new(0.001)\n"
         "      co.limit = limit\n"
         "      co.outer = coroutine.create(function()\n"
         "        local guard <close> = closes()\n"
         "        co.inner = coroutine.create(function()\n"
         "          local guard <close> = closes()\n"
         "          return queue:get(ending == 'woken' and 10 or nil)\n"
         "        end)\n"
         "        return coroutine.resume(co.inner)\n"
         "      end)\n"
         "      local results = {coroutine.resume(co.outer)}\n"
         "      moonlet.sleep(0)\n"
         "      return table.unpack(results)\n"
         "    end)\n"
         "    local other = blocked(get)\n"
         "    assert(old.close(co[which]) and closed == 1)\n"
         "    if ending == 'killed' then g:kill() end\n"
         "    if ending == 'woken' then\n"
         "      queue:put('first')\n"
         "      assert(other:get() == 'first')\n"
         "    end\n"
         "    local results = {pcall(g.get, g)}\n"
         "    local err = results[#results]\n"
         "    if ending == 'killed' then assert(err:is(moonlet.GreenletExit)) end\n"
         "    if ending == 'limited' then assert(err == co.limit) end\n"
         "    if ending == 'woken' then assert(err == 'cannot resume dead coroutine') end\n"
         "    queue:put('next')\n"
         "    assert(other:get() == (ending == 'woken' and 'first' or 'next'))\n"
         "    assert(#queue == (ending == 'woken' and 1 or 0))\n"
         "    if ending == 'woken' then queue:get() end\n"
         "  end\n"
         "end");
  close_test(L);
}

int main(void) {
  limit_time(60);
  old_functions_wait_on_a_stack();
  each_resume_decides();
  strangers_are_refused();
  closed_by_a_stranger();
  return 0;
}
