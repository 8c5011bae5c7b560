-- scripts/examples, as programs and as a user has them; the chat has a spec of its own.

local databases = require "support.databases"
local example = require "support.example"
local json = require "dkjson"
local lfs = require "lfs"
local moonlet = require "moonlet"
local queue = require "moonlet.queue"
local socket = require "moonlet.socket"
local subprocess = require "moonlet.subprocess"
local support = require "support"
local wsapi = require "moonlet.wsapi"

-- By so many bytes the memory of a program may grow; the address sanitizer keeps all that is freed.
local MEMORY = support.sanitized and math.huge or 16 << 20

-- A server of this spec, until it is closed.
local function serve(app)
  local server = wsapi.WSAPIServer({ "127.0.0.1", 0 }, app, { log = false, error_log = false })
  assert(server:start())
  return server, ("http://127.0.0.1:%d"):format(server.address[2])
end

local TempFolder = {
  __close = function(folder)
    os.execute("rm -rf " .. folder.path)
  end,
}

local function temp_folder()
  local path = subprocess.check_output { args = { "mktemp", "-d" } }:match("%S+")
  return setmetatable({ path = path }, TempFolder)
end

describe("the reverse proxy", function()
  it("passes a request on, and its answer back", function()
    local seen
    local server <close>, url = serve(function(env)
      seen = { method = env.REQUEST_METHOD, uri = env.REQUEST_URI, x = env.HTTP_X_THING,
               forwarded = env.HTTP_X_FORWARDED_FOR, hop = env.HTTP_X_HOP,
               type = env.CONTENT_TYPE, body = env.input:read() }
      return 201, { { "X-A", "1" }, { "Set-Cookie", "a=1" }, { "Set-Cookie", "b=2" } }, "made\n"
    end)
    local proxy <close> = example.serve("reverse-proxy.lua", url, "0")
    local response, body = proxy:request("/a%20b?c=d", {
      body = "content",
      headers = { ["X-Thing"] = "yes", ["Content-Type"] = "text/x", ["X-Hop"] = "no",
                  Connection = "X-Hop" },
    })
    assert.same({ method = "POST", uri = "/a%20b?c=d", x = "yes", forwarded = "127.0.0.1",
                  type = "text/x", body = "content" }, seen)
    assert.equal(201, response.status)
    assert.equal("made\n", body)
    assert.equal("1", response.headers["x-a"])
    local cookies = {}
    for i = 1, #response.headers, 2 do
      if response.headers[i]:lower() == "set-cookie" then
        table.insert(cookies, response.headers[i + 1])
      end
    end
    assert.same({ "a=1", "b=2" }, cookies)
    assert.is_true(server.started)
  end)

  it("passes pieces on as they come", function()
    local pieces = queue.Queue()
    local server <close>, url = serve(function()
      return 200, nil, function()
        return pieces:get(10) or nil
      end
    end)
    local proxy <close> = example.serve("reverse-proxy.lua", url, "0")
    pieces:put("one")
    local response <close> = assert(proxy.client:request { url = proxy.url .. "/" })
    for _, piece in ipairs { "one", "two", "three" } do
      if piece ~= "one" then
        pieces:put(piece)
      end
      assert.equal(piece, response:read(#piece))
    end
    pieces:put(false)
    assert.equal("", response:body())
    assert.is_true(server.started)
  end)

  it("holds no body in memory", function()
    local size = 64 << 20
    local server <close>, url = serve(function(env)
      local count = 0
      for piece in env.input:lines(65536) do
        count = count + #piece
      end
      local left = count
      return 200, { ["Content-Length"] = count }, function()
        left = left - 65536
        return left >= 0 and ("x"):rep(65536) or nil
      end
    end)
    local proxy <close> = example.serve("reverse-proxy.lua", url, "0")
    proxy:request("/", { body = ("x"):rep(65536) })
    local before, left = proxy:memory(), size
    local response <close> = assert(proxy.client:request {
      url = proxy.url .. "/", length = size, timeout = 20,
      body = function()
        left = left - 65536
        return left >= 0 and ("x"):rep(65536) or nil
      end,
    })
    local count = 0
    for piece in response do
      count = count + #piece
    end
    assert.equal(size, count)
    assert.is_true(proxy:memory() - before < MEMORY)
    assert.is_true(server.started)
  end)

  it("says so when the other server does not answer", function()
    local listener <close> = assert(socket.bind("127.0.0.1", 0))
    local _, port = listener:getsockname()
    listener:close()
    local proxy <close> = example.serve("reverse-proxy.lua", "http://127.0.0.1:" .. port, "0")
    assert.equal(502, proxy:request("/").status)
    assert.equal(0, proxy:stop())
  end)
end)

describe("the ticker", function()
  -- Reads events: a list of { id, data }.
  local function read_events(response, count)
    local events, text = {}, ""
    while #events < count do
      text = text .. assert(response())
      text = text:gsub("id: (%d+)\ndata: (%S+)\n\n", function(id, data)
        table.insert(events, { tonumber(id), tonumber(data) })
        return ""
      end)
    end
    return events
  end

  it("sends events without end, and what a client has missed", function()
    local ticker <close> = example.serve("ticker/server.lua", "0", "0.01")
    local first <close> = assert(ticker.client:request { url = ticker.url .. "/prices" })
    assert.equal("text/event-stream", first.headers["content-type"])
    local events = read_events(first, 10)
    for i, event in ipairs(events) do
      assert.equal(events[1][1] + i - 1, event[1])
      assert.is_true(event[2] >= 1)
    end
    local again <close> = assert(ticker.client:request {
      url = ticker.url .. "/prices", headers = { ["Last-Event-ID"] = events[4][1] },
    })
    assert.same({ events[5], events[6] }, { table.unpack(read_events(again, 2), 1, 2) })
    local _, page = ticker:request("/")
    assert.matches("EventSource", page)
    assert.equal(0, ticker:stop())
  end)
end)

describe("the crawler", function()
  it("visits every page once, several at a time, and names the broken ones", function()
    local visits, now, most = {}, 0, 0
    local server <close>, url = serve(function(env)
      local path = env.PATH_INFO
      visits[path] = (visits[path] or 0) + 1
      now = now + 1
      most = math.max(most, now)
      moonlet.sleep(0.05)
      now = now - 1
      if path == "/" then
        local links = { '<a href="http://example.invalid/">elsewhere</a>', '<a href="#top">top</a>',
                        '<a class=x href="/missing">missing</a>' }
        for i = 1, 20 do
          table.insert(links, ('<p><A HREF="page?%d&amp;a">%d</A>'):format(i, i))
        end
        return 200, { ["Content-Type"] = "text/html; charset=utf-8" }, links
      elseif path == "/page" then
        return 200, { ["Content-Type"] = "text/html" }, '<a href="/">1</a><a href="/text">2</a>'
      elseif path == "/text" then
        return 200, { ["Content-Type"] = "text/plain" }, '<a href="/hidden">'
      end
      return 404
    end)
    local code, output = example.run("crawler.lua", url .. "/", "5")
    assert.equal(("404 %s/missing (from %s/)\n"):format(url, url), output:match("^[^\n]*\n"))
    assert.matches("\n23 pages in [%d.]+ s, 1 broken\n$", output)
    assert.equal(1, code)
    assert.same({ ["/"] = 1, ["/page"] = 20, ["/text"] = 1, ["/missing"] = 1 }, visits)
    assert.equal(5, most)
    assert.is_true(server.started)
  end)

  it("knows how many pages are enough", function()
    local server <close>, url = serve(function(env)
      return 200, { ["Content-Type"] = "text/html" },
             ('<a href="/%s1"><a href="/%s2">'):format(env.PATH_INFO:sub(2), env.PATH_INFO:sub(2))
    end)
    local code, output = example.run("crawler.lua", url, "3", "50")
    assert.matches("^50 pages in [%d.]+ s, 0 broken\n$", output)
    assert.equal(0, code)
    assert.is_true(server.started)
  end)
end)

describe("the upload", function()
  local function read_file(path)
    local file <close> = assert(io.open(path, "rb"))
    return file:read("a")
  end

  local function files_in(path)
    local names = {}
    for name in lfs.dir(path) do
      if name:sub(1, 1) ~= "." then
        table.insert(names, name)
      end
    end
    table.sort(names)
    return names
  end

  it("stores curl's files, whatever is in them", function()
    local store <close> = temp_folder()
    local source <close> = temp_folder()
    local contents = { "", "a", "\r\n", "\r\n--", ("\r\n--------"):rep(30000), ("x"):rep(65536) }
    local words = { "curl", "-s", "-m", "20" }
    for i, content in ipairs(contents) do
      local path = ("%s/file %d"):format(source.path, i)
      local file <close> = assert(io.open(path, "wb"))
      file:write(content)
      table.insert(words, "-F")
      table.insert(words, "file=@" .. path)
    end
    local server <close> = example.serve("upload/server.lua", store.path, "0")
    table.insert(words, server.url .. "/")
    local output = subprocess.check_output { args = words }
    local i = 0
    for name, size in output:gmatch("(%S+): (%d+) bytes\n") do
      i = i + 1
      assert.matches("^%d+%-" .. i .. "%-file_" .. i .. "$", name)
      assert.equal(#contents[i], tonumber(size))
      assert.equal(contents[i], read_file(store.path .. "/" .. name))
    end
    assert.equal(#contents, i)
    assert.equal(#contents, #files_in(store.path))
    local _, page = server:request("/")
    assert.matches("multipart/form%-data", page)
    assert.equal(0, server:stop())
  end)

  local HEAD = '--b\r\nContent-Disposition: form-data; name="f"; filename="%s"\r\n\r\n'

  local function post(server, body)
    return server:request("/", {
      body = body, headers = { ["Content-Type"] = "multipart/form-data; boundary=b" },
    })
  end

  it("lets nobody choose a path, and takes only files", function()
    local store <close> = temp_folder()
    local server <close> = example.serve("upload/server.lua", store.path, "0")
    local field = '\r\n--b\r\nContent-Disposition: form-data; name="x"\r\n\r\nvalue\r\n--b--\r\n'
    local response = post(server, HEAD:format("../../..\\..\\.e/vil\0.sh") .. "data" .. field)
    assert.equal(201, response.status)
    local names = files_in(store.path)
    assert.equal(1, #names)
    assert.matches("^%d+%-1%-vil_%.sh$", names[1])
  end)

  it("leaves nothing of what is incomplete", function()
    local store <close> = temp_folder()
    local server <close> = example.serve("upload/server.lua", store.path, "0")
    for _, body in ipairs { "", "--b", "--bx", HEAD, HEAD .. "data", HEAD .. "data\r\n--b",
                            "--b\r\n" .. ("x"):rep(100000), "--c--" } do
      assert.equal(400, post(server, body).status)
    end
    assert.equal(415, server:request("/", { body = "x" }).status)
    local sock <close> = assert(socket.connect("127.0.0.1", tonumber(server.url:match("%d+$"))))
    sock:send("POST / HTTP/1.1\r\nHost: a\r\nContent-Type: multipart/form-data; boundary=b\r\n" ..
              "Content-Length: 1000000\r\n\r\n" .. HEAD .. ("x"):rep(100000))
    support.eventually(function()
      return #files_in(store.path) == 1
    end)
    sock:close()
    support.eventually(function()
      return #files_in(store.path) == 0
    end)
  end)

  it("keeps its memory flat", function()
    local store <close> = temp_folder()
    local server <close> = example.serve("upload/server.lua", store.path, "0")
    post(server, HEAD .. "data\r\n--b--\r\n")
    local before, piece, count = server:memory(), ("x"):rep(65536), 0
    local response = server:request("/", {
      timeout = 20, headers = { ["Content-Type"] = "multipart/form-data; boundary=b" },
      body = function()
        count = count + 1
        return count == 1 and HEAD or count <= 1025 and piece or
               count == 1026 and "\r\n--b--\r\n" or nil
      end,
    })
    assert.equal(201, response.status)
    assert.is_true(server:memory() - before < MEMORY)
    local path = store.path .. "/" .. files_in(store.path)[2]
    assert.equal(1024 * #piece, lfs.attributes(path, "size"))
  end)
end)

describe("the notes", function()
  it("are kept in PostgreSQL, and remembered by Redis", function()
    local postgres <close> = databases.postgres()
    local redis <close> = databases.redis()
    local server <close> = example.serve("notes/server.lua", postgres.where,
                                         "127.0.0.1:" .. redis.port, "0")
    local function ask(path, options)
      local response, body = server:request(path, options)
      return response.status, json.decode(body), response.headers
    end
    local function create(text)
      return ask("/notes", { body = json.encode { text = text } })
    end

    assert.same({}, (select(2, ask("/notes"))))
    local text = "Robert'); DROP TABLE notes; -- \\' $1 \u{1F319}"
    local status, note, headers = create(text)
    assert.equal(201, status)
    assert.same({ 1, text }, { note.id, note.text })
    assert.equal("/notes/1", headers.location)
    assert.equal(400, (create(nil)))
    assert.equal(400, (create(3)))
    assert.equal(400, (create("\0")))
    assert.equal(400, (ask("/notes", { body = "{" })))

    for _, cached in ipairs { "miss", "hit" } do
      local _, found, about = ask("/notes/1")
      assert.same(note, found)
      assert.equal(cached, about["x-cache"])
    end
    assert.equal(204, (ask("/notes/1", { method = "DELETE" })))
    assert.equal(404, (ask("/notes/1", { method = "DELETE" })))
    assert.equal(404, (ask("/notes/1")))
    assert.equal(404, (ask("/notes/99999999999")))
    assert.equal(405, (ask("/notes", { method = "PUT", body = "" })))

    local writers = {}
    for i = 1, 40 do
      writers[i] = moonlet.spawn(create, "note " .. i)
    end
    moonlet.joinall(writers, nil, true)
    local _, notes = ask("/notes")
    assert.equal(40, #notes)
    local seen = {}
    for _, one in ipairs(notes) do
      seen[one.text] = true
    end
    for i = 1, 40 do
      assert.is_true(seen["note " .. i])
    end

    server.client:close()
    assert.equal(0, server:stop())
  end)
end)
