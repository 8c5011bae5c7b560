--- Makes blocking functions of Lua and of well-known modules cooperative, in the whole program.
-- To be called before anything else is loaded, as `moonlet --monkey` does: what has taken a
-- function out of its module already keeps the old one. Standard error then says who has it:
--
--     moonlet.monkey: module 'app' has taken 'socket.sleep' already; require moonlet.monkey and
--     patch first
--
-- Modules are patched in place if they are loaded, and otherwise when they get loaded:
--
--     patch_socket   socket, socket.core, socket.unix: moonlet.socket takes their place; the
--                    modules that LuaSocket has in Lua (socket.http, smtp, ftp ...) run on it
--     patch_ssl      ssl: moonlet.ssl takes its place; ssl.https
--     patch_os       os.execute, io.popen; and sleeping: socket.sleep, system.sleep,
--                    posix.unistd.sleep, posix.time.nanosleep
--     patch_io       io.stdin, and io.read, io.lines and io.input where they mean it
--     patch_select   socket.select, posix.poll.poll, posix.poll.rpoll
--     patch_c        no module: the functions of the C library that block, where C modules and
--                    the libraries that they use call them
--
-- Left as they are: files on disks, standard output, sockets made earlier, socket.serial.
-- Differs: threads, locks, queues, signals, epoll | patched or taken away | Lua has none of them
-- Differs: patching again with other arguments | warns | there are none; the second time does
--   nothing

local taken = require "moonlet.monkey.taken"

local monkey = {}

local NAMES = { "socket", "ssl", "os", "io", "select" }

local patched = { c = false } -- by the names that is_patched knows
for _, name in ipairs(NAMES) do
  patched[name] = false
end

-- Patches what is not patched yet; one search finds who has taken what was replaced.
local function patch(...)
  for _, name in ipairs { ... } do
    if not patched[name] then
      require("moonlet.monkey." .. name)()
      patched[name] = true
    end
  end
  taken.warn()
  return true
end

--- Puts moonlet.socket in place of LuaSocket.
-- A `socket` that is loaded already gets its functions and goes on working for whoever has it;
-- from now on `require "socket"` gives moonlet.socket itself.
-- Source: gevent.monkey.patch_socket.
---@return boolean # true
function monkey.patch_socket()
  return patch("socket")
end

--- Puts moonlet.ssl in place of LuaSec. It takes sockets of moonlet.socket only.
-- Source: gevent.monkey.patch_ssl.
---@return boolean # true
function monkey.patch_ssl()
  return patch("ssl")
end

--- Makes os.execute, io.popen and the sleeping of other modules cooperative.
-- What popen returns is a moonlet.os.File, which io.output refuses. During execute, SIGINT and
-- SIGQUIT are not ignored.
-- Source: gevent.monkey.patch_os, patch_subprocess, patch_time.
---@return boolean # true
function monkey.patch_os()
  return patch("os")
end

--- Makes reading standard input cooperative. What io.stdin has in its buffer already is lost.
-- Source: gevent.monkey.patch_sys.
---@return boolean # true
function monkey.patch_io()
  return patch("io")
end

--- Makes waiting for several descriptors cooperative.
-- Source: gevent.monkey.patch_select.
---@return boolean # true
function monkey.patch_select()
  return patch("select")
end

--- Makes blocking calls of C libraries cooperative.
-- Whatever shared libraries are loaded, now or later, lets other greenlets run where it would block
-- in input or output, poll or select, sleep, a lookup of names, a wait for children or a lock on a
-- file. Descriptors that do not block, and calls from other threads, are left alone. A library's
-- handle, such as a connection, belongs to one greenlet at a time, as ever.
--
-- A kill or a Timeout ends such a call with the error ECANCELED, and is raised when the library
-- returns to Lua; in a finalizer a call blocks the whole program, two seconds at most if it waits
-- for a descriptor. Left as they are: the command itself, libraries that make system calls of their
-- own, output through FILEs.
--
-- While a greenlet waits inside a library others may call the same library. What is the thread's is
-- the greenlet's meanwhile: errno, h_errno, the locale and the signal mask if it has changed them,
-- C++ exceptions, and what OpenSSL's libcrypto keeps, such as its queue of errors. (What libraries
-- declare thread_local, or keep by other pthread keys, all greenlets share.) Mutexes, read-write
-- locks, pthread_once, condition variables and semaphores let only those in whom they would let in
-- as threads: others wait in the hub. Such a wait is ended by no kill or Timeout, unless it is one
-- for a condition with a limit: the error is raised when the library returns. In handlers of
-- signals that libraries have installed since, in constructors, and in modules that look up users,
-- nothing waits.
-- Source: gevent has no such thing.
---@return boolean # true
---@raise an error on processors other than x86-64 and aarch64
function monkey.patch_c()
  return patch("c")
end

--- Does all of the above but patch_c.
-- Source: gevent.monkey.patch_all.
-- Differs: leaves standard input as it is | patches it too
---@return boolean # true
function monkey.patch_all()
  return patch(table.unpack(NAMES))
end

--- Whether something has been patched.
-- Source: gevent.monkey.is_module_patched.
---@param name "socket"|"ssl"|"os"|"io"|"select"|"c"
---@return boolean
---@raise an error for another name
function monkey.is_patched(name)
  if patched[name] == nil then
    error(("bad argument #1 to 'is_patched' (there is no '%s' to patch)"):format(name), 2)
  end
  return patched[name]
end

return monkey
