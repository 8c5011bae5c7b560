-- Real clients and real applications: curl, wrk, TLS, lua-wsapi's library, Orbit; many connections.

local certificates = require "support.certificates"
local http = require "support.http"
local moonlet = require "moonlet"
local peer = require "support.peer"
local support = require "support"
local wsapi = require "moonlet.wsapi"

local get, post, one = http.get, http.post, http.one

-- What curl prints, with a status of 0.
local function curl(arguments, ...)
  local it <close> = peer.start("curl -sS --max-time 15 " .. arguments:format(...))
  local status, output = it:finish()
  assert.equal(0, status, output)
  return (output:gsub("exit 0\n$", ""))
end

-- Tells what it was asked.
local function mirror(env)
  local body = env.input:read() or ""
  local shown = #body < 100 and body or ""
  return 200, { ["Content-Type"] = "text/plain" },
         ("%s %s %d %s\n"):format(env.REQUEST_METHOD, env.PATH_INFO, #body, shown)
end

describe("moonlet.wsapi: curl", function()
  local function serve(app, opts)
    local it = http.serve(app or mirror, opts)
    return it, ("%s://127.0.0.1:%d"):format(it.secure and "https" or "http", it.address[2])
  end

  it("gets, posts, asks for the head, and keeps its connection", function()
    local it, url = serve()
    local _ <close> = it
    assert.equal("GET /a b 0 \n", curl("%s/a%%20b", url))
    assert.equal("POST / 7 a=1&b=2\n", curl("-d 'a=1&b=2' %s/", url))
    assert.matches("^HTTP/1.1 200 OK\r\n", curl("-I %s/", url))
    assert.equal("GET /1 0 \n1GET /2 0 \n0", curl("%s/1 %s/2 -w '%%{num_connects}'", url, url))
    assert.equal("GET / 0 \n", curl("--http1.0 %s/", url))
    assert.equal("GET / 0 \n", curl("-X GET -H 'Connection: Upgrade, HTTP2-Settings' " ..
                                    "-H 'Upgrade: h2c' %s/", url))
  end)

  it("uploads much, by length and in chunks, after 100 Continue", function()
    local it, url = serve()
    local _ <close> = it
    local much = "head -c 3000000 /dev/zero | curl -sS --max-time 15 "
    for options, method in pairs { ["--data-binary @-"] = "POST", ["-T -"] = "PUT",
                                   ["-T - -H 'Expect: 100-continue'"] = "PUT" } do
      local upload <close> = peer.start(much .. options .. " " .. url .. "/up")
      local status, output = upload:finish()
      assert.same({ 0, method .. " /up 3000000 \nexit 0\n" }, { status, output })
    end
  end)

  it("is refused an upload that nobody reads, and gets the answer", function()
    local it, url = serve(function() return 403, nil, "no\n" end)
    local _ <close> = it
    local upload <close> = peer.start("head -c 30000000 /dev/zero | curl -sS --max-time 15 " ..
                                      "-o /dev/null -w '%{http_code}' -T - " .. url)
    local _, output = upload:finish()
    assert.matches("403", output)
  end)

  it("gets chunks as they come, and trailers", function()
    local it, url = serve(function()
      return 200, {}, coroutine.wrap(function()
        for i = 1, 3 do
          moonlet.sleep(0.01)
          coroutine.yield("piece " .. i .. "\n")
        end
      end)
    end)
    local _ <close> = it
    assert.equal("piece 1\npiece 2\npiece 3\n", curl("-N %s/", url))
  end)

  it("gets parts of files", function()
    local it, url = serve(wsapi.static("spec"))
    local _ <close> = it
    local file <close> = assert(io.open("spec/wsapi_clients_spec.lua"))
    local text = file:read("a")
    assert.equal(text, curl("%s/wsapi_clients_spec.lua", url))
    assert.equal(text:sub(11, 21), curl("-r 10-20 %s/wsapi_clients_spec.lua", url))
    assert.equal("404", curl("-o /dev/null -w '%%{http_code}' --path-as-is %s/../README.md", url))
  end)

  it("sees that a response was cut", function()
    local it, url = serve(function()
      return 200, {}, coroutine.wrap(function()
        coroutine.yield("some")
        error("late")
      end)
    end)
    local _ <close> = it
    for _, version in ipairs { "--http1.1", "--http1.0" } do
      local client <close> = peer.start(("curl -sS %s %s/"):format(version, url))
      local status = client:finish()
      assert.is_true(status == 18 or status == 56, status) -- a part of the file; receive error
    end
  end)

  it("talks over TLS", function()
    local folder = certificates.folder()
    local _ <close> = setmetatable({}, { __close = function() folder:remove() end })
    folder:root("ca")
    folder:issue("server", { names = "DNS:localhost,IP:127.0.0.1" })
    local it, url = serve(function(env)
      return 200, nil, env["wsapi.url_scheme"] .. env.HTTPS .. (env.input:read() or "")
    end, { ssl = folder:params("server", "server") })
    local _ <close> = it
    local trust = "--cacert " .. folder:file("ca.pem")
    assert.equal("httpson", curl("%s %s/", trust, url))
    assert.equal("httpsonx=y", curl("%s -d x=y %s/", trust, url))
    local files, address = serve(wsapi.static("spec"), { ssl = folder:params("server", "server") })
    local _ <close> = files
    assert.matches("talks over TLS", curl("%s %s/wsapi_clients_spec.lua", trust, address))
    local lines = {}
    local plain <close> = serve(wsapi.static("spec"), {
      ssl = folder:params("server", "server"),
      error_log = function(line)
        table.insert(lines, line)
      end,
    })
    http.talk(plain, http.get("/"))
    support.eventually(function() return #lines > 0 end)
    assert.matches("^handshake: ", lines[1])
  end)
end)

describe("moonlet.wsapi: many", function()
  it("requests at a time, by wrk", function()
    local served = 0
    local it <close> = http.serve(function()
      served = served + 1
      return 200, nil, "hello"
    end)
    local load <close> = peer.start(("wrk -t1 -c50 -d1 http://127.0.0.1:%d/"):format(it.address[2]))
    local status, output = load:finish()
    assert.equal(0, status)
    assert.not_matches("Non%-2xx", output)
    assert.not_matches("Socket errors", output)
    assert.is_true(served >= tonumber(output:match("(%d+) requests in")))
  end)

  -- As many as there may be descriptors for, both ends being here: 3,000 at most.
  local function many()
    local pipe <close> = assert(io.popen("ulimit -n"))
    local limit = tonumber(pipe:read()) or math.huge
    return math.min(support.sanitized and 300 or 3000, limit // 2 - 100)
  end

  it("idle connections, each for little memory, keep nobody waiting", function()
    local result = support.run_script([[
      local moonlet = require "moonlet"
      local socket = require "moonlet.socket"
      local wsapi = require "moonlet.wsapi"
      local count = tonumber(arg[1])
      local server <close> = wsapi.WSAPIServer({ "127.0.0.1", 0 }, function()
        return 200, nil, "hello"
      end, { log = false })
      assert(server:start())
      local function ask(client)
        assert(client:send "GET / HTTP/1.1\r\nHost: here\r\n\r\n")
        return assert(client:recv()):find("hello$")
      end
      ask(socket.create_connection(server.address))
      collectgarbage() collectgarbage()
      local before = collectgarbage "count"
      local clients = {}
      for i = 1, count do
        clients[i] = assert(socket.create_connection(server.address))
        assert(ask(clients[i]))
      end
      collectgarbage() collectgarbage()
      local each = (collectgarbage "count" - before) * 1024 / count
      assert(each < 6000, each .. " bytes a connection and its client")
      local _, start = nil, moonlet.now()
      for i = 1, 100 do
        assert(ask(clients[i]))
      end
      assert(moonlet.now() - start < 5)
      for _, client in ipairs(clients) do
        client:close()
      end
      moonlet.sleep(0.05)
      assert(server:stop(5))
      print "ok"
    ]], { args = { ("%d"):format(many()) } })
    assert.same({ "ok\n", "" }, { result.stdout, result.stderr })
  end)
end)

describe("moonlet.wsapi: applications of", function()
  local path, unpack = package.path, rawget(_G, "unpack")

  -- Debian has both for Lua 5.1 and 5.2; Orbit needs the global unpack of old.
  setup(function()
    package.path = path .. ";/usr/share/lua/5.2/?.lua;/usr/share/lua/5.1/?.lua"
    rawset(_G, "unpack", table.unpack)
  end)

  teardown(function()
    package.path = path
    rawset(_G, "unpack", unpack)
    for name in pairs(package.loaded) do
      if name:match("^wsapi") or name:match("^orbit") then
        package.loaded[name] = nil
      end
    end
  end)

  local FORM = "Content-Type: application/x-www-form-urlencoded"

  it("lua-wsapi run as they are", function()
    local request, response = require "wsapi.request", require "wsapi.response"
    local it <close> = http.serve {
      run = function(env)
        local req = request.new(env)
        local res = response.new(200, { ["Content-Type"] = "text/plain" })
        res:set_cookie("seen", "yes")
        res:set_cookie("more", "too")
        res:write(req.method, " ", req.path_info, " ", req.GET.q or "-", " ",
                  req.POST.name or "-", " ", req.cookies.id or "-", { " ", req.POST.post_data })
        return res:finish()
      end,
    }
    local answer = one(it, get("/a?q=1", "Cookie: id=me"))
    assert.equal("GET /a 1 - me ", answer.body)
    assert.equal("seen=yes, more=too", answer.headers["set-cookie"])
    assert.equal("POST / - b c - ", one(it, post("/", "name=b+c", FORM)).body)
    local multipart = "--X\r\nContent-Disposition: form-data; name=\"name\"\r\n\r\nfield\r\n" ..
      "--X--\r\n"
    assert.matches("field", one(it, post("/", multipart,
                                         "Content-Type: multipart/form-data; boundary=X")).body)
    assert.matches("raw$", one(it, post("/", "raw", "Content-Type: text/plain")).body)
  end)

  it("lua-wsapi see an empty string for what others see as absent", function()
    local seen
    local it <close> = http.serve(function(env)
      require("wsapi.request").new(env)
      seen = { env.CONTENT_TYPE, env.HTTP_COOKIE, rawget(env, "CONTENT_TYPE") }
      return 200
    end)
    assert.equal(200, one(it, get("/")).status)
    assert.same({}, seen)
  end)

  it("Orbit run as they are", function()
    local orbit = require "orbit"
    local app = orbit.new()
    app:dispatch_get(function(web) return "index of " .. web.path_info end, "/", "/index")
    app:dispatch_get(function(web, name)
      web:set_cookie("name", name)
      return "hello " .. name .. (web.input.mark or "")
    end, "/say/(%a+)")
    app:dispatch_post(function(web) return web.input.name end, "/form")
    app:dispatch_get(function(web) return web:redirect(web:link("/say/you", { mark = "!" })) end,
                     "/away")
    app:dispatch_wsapi(function(env) return 200, {}, http.iterator("raw ", env.PATH_INFO) end,
                       "/raw")
    local it <close> = http.serve(app)
    assert.equal("index of /", one(it, get("/")).body)
    local answer = one(it, get("/say/bob?mark=%21"))
    assert.same({ "hello bob!", "name=bob" }, { answer.body, answer.headers["set-cookie"] })
    assert.equal("a b", one(it, post("/form", "name=a+b", FORM)).body)
    answer = one(it, get("/away"))
    assert.same({ 302, "/say/you?mark=%21" }, { answer.status, answer.headers.location })
    assert.equal("raw /raw", one(it, get("/raw")).body)
    assert.equal(404, one(it, get("/nowhere")).status)
  end)
end)
