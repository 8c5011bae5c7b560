-- moonlet.monkey patches a whole program, so each spec runs one of its own.

local program = require "support.program"
local support = require "support"

local run, run_quietly = program.run, program.run_quietly

-- A server greenlet that answers after a while; `url` is its address, `busiest` the most clients
-- that it had at once.
local SERVER = [[
  local server = require("moonlet.socket").bind("127.0.0.1", 0)
  local url = ("http://127.0.0.1:%d/"):format(select(2, server:getsockname()))
  local clients, busiest = 0, 0
  local function serve(client)
    local path = client:receive():match("GET (%S+)")
    repeat until client:receive() == ""
    clients = clients + 1
    busiest = math.max(busiest, clients)
    moonlet.sleep(0.02)
    clients = clients - 1
    client:send("HTTP/1.0 200 OK\r\nContent-Length: " .. #path .. "\r\n\r\n" .. path)
    client:close()
  end
  moonlet.spawn(function()
    while true do
      moonlet.spawn(serve, server:accept())
    end
  end)
]]

describe("patch_socket", function()
  it("makes socket, socket.core and socket.unix ours", function()
    run_quietly [[
      require("moonlet.monkey").patch_socket()
      local ours = require "moonlet.socket"
      equal(ours, require "socket")
      equal(ours, require "socket.core")
      equal(ours.unix, require "socket.unix")
      package.loaded.socket = nil
      equal(ours, require "socket")
    ]]
  end)

  it("lets LuaSocket's http run on it, many requests at once", function()
    run_quietly([[
      require("moonlet.monkey").patch_socket()
    ]] .. SERVER .. [[
      local http = require "socket.http"
      local function get(path)
        local body, code = http.request(url .. path)
        equal(200, code)
        return body
      end
      equal("/alone", cooperative(get, "alone"))
      equal(1, busiest)
      local greenlets = {}
      for i = 1, 20 do
        greenlets[i] = moonlet.spawn(get, i)
      end
      moonlet.joinall(greenlets, nil, true)
      for i = 1, 20 do
        equal("/" .. i, greenlets[i].value)
      end
      assert(busiest > 1, "one after the other")
    ]])
  end)

  it("lets LuaSocket's other modules run on it", function()
    run_quietly([[
      require("moonlet.monkey").patch_socket()
    ]] .. SERVER .. [[
      local http, ltn12, mime = require "socket.http", require "ltn12", require "mime"
      local words = {}
      local ok, code = http.request { url = url .. "sink", sink = ltn12.sink.table(words) }
      equal(1, ok)
      equal(200, code)
      equal("/sink", table.concat(words))
      equal("L3Npbms=", (mime.b64("/sink")))
      local smtp = require "socket.smtp"
      local sent, message = smtp.send { from = "<a@b>", rcpt = "<c@d>", server = "127.0.0.1",
                                        port = 1, source = smtp.message { body = "text" } }
      equal(nil, sent)
      equal("connection refused", message)
      local body, problem = require("socket.ftp").get("ftp://127.0.0.1:1/file")
      equal(nil, body)
      equal("connection refused", problem)
    ]])
  end)

  it("patches in place what is loaded already", function()
    run_quietly([[
      local socket, http = require "socket", require "socket.http"
      local unix = require "socket.unix"
      require("moonlet.monkey").patch_socket()
      local ours = require "moonlet.socket"
      for _, name in ipairs { "tcp", "udp4", "connect", "bind", "select", "sleep", "socketpair" } do
        equal(ours[name], socket[name])
      end
      equal(ours.dns.toip, socket.dns.toip)
      equal(ours.unix.stream, unix.stream)
      assert(unix():is(require("moonlet.socket.core").Socket))
      equal(http, require("socket").http)
      cooperative(socket.sleep, 0.02)
    ]] .. SERVER .. [[
      equal("/old", cooperative(http.request, url .. "old"))
      local body, message = http.request("http://127.0.0.1:1/")
      equal(nil, body)
      equal("connection refused", message)
    ]])
  end)

  it("leaves the old try to the old protect", function()
    run_quietly [[
      local old = require "socket"
      local protected = old.protect(function() old.try(nil, "old") end)
      require("moonlet.monkey").patch_socket()
      local new = require "socket"
      local result, message = protected()
      equal(nil, result)
      equal("old", message)
      result, message = new.protect(function() new.try(nil, "new") end)()
      equal(nil, result)
      equal("new", message)
    ]]
  end)

  it("leaves its hands off socket.serial", function()
    run_quietly [[
      require("moonlet.monkey").patch_socket()
      equal("function", type(require "socket.serial"))
    ]]
  end)
end)

describe("patch_ssl", function()
  -- A server with a certificate of its own making; `url` is its address.
  local TLS_SERVER = [[
    local dir = os.tmpname()
    os.remove(dir)
    assert(os.execute(("mkdir %s && cd %s && openssl req -x509 -newkey ec -pkeyopt " ..
      "ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost -addext " ..
      "subjectAltName=IP:127.0.0.1 -keyout key.pem -out cert.pem 2>/dev/null"):format(dir, dir)))
    local ours = require "moonlet.ssl"
    local context = assert(ours.newcontext { mode = "server", key = dir .. "/key.pem",
                                             certificate = dir .. "/cert.pem" })
    local cafile = dir .. "/cert.pem"
    local server = require("moonlet.socket").bind("127.0.0.1", 0)
    local url = ("https://127.0.0.1:%d"):format((select(2, server:getsockname())))
    local function serve(client)
      client = ours.wrap(client, context)
      if client:dohandshake() then
        local path = client:receive():match("GET (%S+)")
        repeat until client:receive() == ""
        moonlet.sleep(0.02)
        local head = path == "/moved" and "302 Found\r\nLocation: " .. url .. "/there" or "200 OK"
        client:send("HTTP/1.0 " .. head .. "\r\n\r\n" .. path)
      end
      client:close()
    end
    moonlet.spawn(function()
      while true do
        moonlet.spawn(serve, server:accept())
      end
    end)
    local function get(request, path, params)
      local words = {}
      local full = { url = url .. path, sink = require("ltn12").sink.table(words) }
      for name, value in pairs(params) do
        full[name] = value
      end
      local ok, code = request(full)
      return ok and table.concat(words), code
    end
  ]]

  local function run_with_server(before, code)
    run_quietly(before .. TLS_SERVER .. code .. "os.execute('rm -r ' .. dir)")
  end

  it("makes ssl ours, and LuaSocket's http run over it", function()
    run_with_server([[
      local monkey = require "moonlet.monkey"
      monkey.patch_socket()
      monkey.patch_ssl()
    ]], [[
      equal(ours, require "ssl")
      local http = require "socket.http"
      equal("/file", cooperative(get, http.request, "/file", { cafile = cafile }))
      local refused, message = get(http.request, "/file", {})
      equal(nil, refused)
      assert(message:find("certificate verify failed", 1, true), message)
    ]])
  end)

  it("has an ssl.https, which verifies certificates", function()
    run_with_server([[
      local monkey = require "moonlet.monkey"
      monkey.patch_socket()
      monkey.patch_ssl()
    ]], [[
      local https = require "ssl.https"
      equal("/a", cooperative(get, https.request, "/a", { cafile = cafile }))
      equal("/b", get(https.request, "/b", { verify = "none" }))
      equal("/there", get(https.request, "/moved", { cafile = cafile }))
      local refused, message = https.request(url)
      equal(nil, refused)
      assert(message:find("certificate verify failed", 1, true), message)
      equal("proxy not supported", select(2, get(https.request, "/", { proxy = url })))
      equal("create function not permitted", select(2, get(https.request, "/", { create = print })))
      equal("connection refused", select(2, https.request("https://127.0.0.1:1/")))
      https.TIMEOUT = 0.001
      equal("timeout", select(2, get(https.request, "/", { cafile = cafile })))
    ]])
  end)

  it("patches in place what is loaded already", function()
    run_with_server([[
      local ssl, https = require "ssl", require "ssl.https"
      local monkey = require "moonlet.monkey"
      monkey.patch_socket()
      monkey.patch_ssl()
    ]], [[
      equal(ours.wrap, ssl.wrap)
      equal(ours.newcontext, ssl.newcontext)
      equal("/", cooperative(get, https.request, "/", { cafile = cafile }))
    ]])
  end)
end)

describe("patch_select", function()
  it("lets others run during LuaSocket's select", function()
    run_quietly [[
      local socket = require "socket"
      local server = socket.bind("127.0.0.1", 0)
      require("moonlet.monkey").patch_select()
      local readable, writable, problem = cooperative(socket.select, { server }, nil, 0.02)
      equal(0, #readable)
      equal(0, #writable)
      equal("timeout", problem)
      local client = assert(socket.connect("127.0.0.1", (select(2, server:getsockname()))))
      readable = socket.select({ server }, nil, 5)
      equal(server, readable[1])
      client:close()
    ]]
  end)

  it("patches a socket that is loaded later", function()
    run_quietly [[
      require("moonlet.monkey").patch_select()
      local socket = require "socket"
      assert(socket ~= require "moonlet.socket")
      cooperative(socket.select, nil, nil, 0.02)
    ]]
  end)

  -- A stand-in with luaposix's interface, whose functions say how long they were to wait.
  local POSIX = [[
    local ours = require "moonlet.socket"
    local near, far = ours.socketpair()
    local waited = 0
    local function look(fd)
      return #require("moonlet.select").select({ fd }, nil, nil, 0)
    end
    package.preload["posix.poll"] = function()
      return {
        poll = function(fds, timeout)
          waited = math.max(waited, timeout or 1 / 0)
          local count = 0
          for fd, entry in pairs(fds) do
            local ready = entry.events.IN and look(fd) or 0
            entry.revents = { IN = ready > 0 }
            count = count + ready
          end
          return count
        end,
        rpoll = function(fd, timeout)
          waited = math.max(waited, timeout)
          if fd < 0 then
            return nil, "bad", 9
          end
          return look(fd)
        end,
      }
    end
  ]]

  it("lets others run during luaposix's poll and rpoll", function()
    run_quietly(POSIX .. [[
      require("moonlet.monkey").patch_select()
      local poll = require "posix.poll"
      local fds = { [near:getfd()] = { events = { IN = true } } }
      equal(0, cooperative(poll.poll, fds, 20))
      equal(0, cooperative(poll.rpoll, near:getfd(), 20))
      moonlet.spawn_later(0.02, far.send, far, "x")
      equal(1, cooperative(poll.poll, fds))
      equal(true, fds[near:getfd()].revents.IN)
      equal(1, poll.rpoll(near:getfd(), -1))
      near:receive(1)
      moonlet.spawn_later(0.02, far.send, far, "x")
      equal(1, cooperative(poll.rpoll, near:getfd(), -1))
      equal(0, poll.poll({}, 0))
      equal("nil bad 9", table.concat({ "nil", select(2, poll.rpoll(-1, 1000)) }, " "))
      equal(0, waited)
    ]])
  end)
end)

describe("patch_all", function()
  it("patches everything that there is, and tells", function()
    run_quietly [[
      local monkey = require "moonlet.monkey"
      local names = { "socket", "ssl", "os", "io", "select" }
      for _, name in ipairs(names) do
        equal(false, monkey.is_patched(name))
      end
      equal(true, monkey.patch_all())
      for _, name in ipairs(names) do
        equal(true, monkey.is_patched(name))
      end
      equal(false, monkey.is_patched("c"))
    ]]
  end)

  it("does nothing when everything is patched", function()
    run_quietly [[
      local monkey = require "moonlet.monkey"
      local socket = require "socket"
      monkey.patch_select()
      local select_before = socket.select
      monkey.patch_socket()
      monkey.patch_all()
      local execute, read, sleep = os.execute, io.read, socket.sleep
      monkey.patch_all()
      monkey.patch_os()
      equal(execute, os.execute)
      equal(read, io.read)
      equal(sleep, socket.sleep)
      equal(select_before, socket.select)
      equal(sleep, require("moonlet.socket").sleep)
    ]]
  end)

  it("is all that --monkey does, before anything else loads", function()
    if support.is_moonlet then
      local stdout = run_quietly([[
        print(require("socket") == require("moonlet.socket"), patched_early)
      ]], { options = { "--monkey" },
            env = { LUA_INIT = "patched_early = package.loaded['moonlet.monkey'] ~= nil" } })
      assert.equal("true\ttrue\n", stdout)
    end
  end)
end)

describe("is_patched", function()
  it("refuses names that it does not know", function()
    run_quietly [[
      local monkey = require "moonlet.monkey"
      local ok, message = pcall(monkey.is_patched, "thread")
      equal(false, ok)
      equal("bad argument #1 to 'is_patched' (there is no 'thread' to patch)", message)
      equal(false, (pcall(monkey.is_patched)))
    ]]
  end)
end)

describe("patch_c", function()
  it("is a patch like others, but not one of patch_all's", function()
    run_quietly [[
      local monkey = require "moonlet.monkey"
      monkey.patch_all()
      equal(false, monkey.is_patched("c"))
      equal(true, monkey.patch_c())
      equal(true, monkey.is_patched("c"))
      equal(true, monkey.patch_c())
    ]]
  end)
end)

describe("who has taken a function before it was patched", function()
  local function warnings(code)
    local _, stderr = run(code)
    local list = {}
    for line in stderr:gmatch("[^\n]+") do
      list[#list + 1] = line:match("^moonlet.monkey: (.*) already; require moonlet.monkey and " ..
                                   "patch first$") or "not a warning: " .. line
    end
    return list
  end

  it("is named, with the function: a module's field, upvalue or table", function()
    assert.same({ "module 'deep' has taken 'socket.dns.toip'",
                  "module 'field' has taken 'socket.tcp'",
                  "module 'function' has taken 'os.execute'",
                  "module 'method' has taken 'io.popen'",
                  "module 'the.upvalue' has taken 'socket.sleep'" }, warnings [[
      local modules = {
        field = function() return { make = require("socket").tcp } end,
        ["the.upvalue"] = function()
          local sleep = require("socket").sleep
          return { nap = function() sleep(1) end }
        end,
        deep = function()
          local toip = require("socket").dns.toip
          local function resolve() return toip("localhost") end
          return { { { resolve } } }
        end,
        method = function()
          return setmetatable({}, { __index = { popen = io.popen } })
        end,
        ["function"] = function() return os.execute end,
        innocent = function()
          local socket = require("socket")
          return { nap = function() socket.sleep(1) end, time = socket.gettime }
        end,
      }
      for name, load in pairs(modules) do
        package.preload[name] = load
        require(name)
      end
      require("moonlet.monkey").patch_all()
    ]])
  end)

  it("is named if it is a global or a local of the running script", function()
    local list = warnings [[
      nap = require("socket").sleep
      local system = require "system"
      local pause = system.sleep
      local function patch()
        require("moonlet.monkey").patch_os()
      end
      patch()
      return pause
    ]]
    assert.equal(2, #list)
    assert.equal("a global has taken 'socket.sleep'", list[1])
    assert.truthy(list[2]:find(" has taken 'system.sleep'", 1, true), list[2])
  end)

  it("is named once", function()
    local list = warnings [[
      popen, popen_again = io.popen, io.popen
      local monkey = require "moonlet.monkey"
      monkey.patch_os()
      monkey.patch_os()
      monkey.patch_all()
    ]]
    assert.same({ "a global has taken 'io.popen'" }, list)
  end)

  it("is nobody, if all have patched first or look functions up when they call them", function()
    assert.same({}, warnings [[
      local monkey = require "moonlet.monkey"
      local socket, system = require "socket", require "system"
      local http, smtp, ftp = require "socket.http", require "socket.smtp", require "socket.ftp"
      monkey.patch_all()
      local execute, sleep, read = os.execute, system.sleep, io.read
      monkey.patch_all()
      return { http, smtp, ftp, socket, execute, sleep, read }
    ]])
  end)
end)
