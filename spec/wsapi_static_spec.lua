-- wsapi.static: the files of a folder.

local http = require "support.http"
local httpdate = require "moonlet.wsapi.httpdate"
local lfs = require "lfs"
local wsapi = require "moonlet.wsapi"

local get, one = http.get, http.one

describe("moonlet.wsapi.static", function()
  local root, big

  local function write(name, text)
    local file <close> = assert(io.open(root .. "/" .. name, "wb"))
    assert(file:write(text))
  end

  setup(function()
    root = os.tmpname()
    os.remove(root)
    assert(lfs.mkdir(root))
    for _, folder in ipairs { "empty", "folder", ".hidden", "a b" } do
      assert(lfs.mkdir(root .. "/" .. folder))
    end
    big = ("0123456789"):rep(100000)
    write("hello.txt", "hello\n")
    write("index.html", "<p>root</p>")
    write("folder/index.html", "<p>folder</p>")
    write("folder/page.HTM", "page")
    write("a b/c%d.css", "css")
    write(".secret", "secret")
    write(".hidden/file", "secret")
    write("nothing", "")
    write("big.bin", big)
    os.execute("mkfifo " .. root .. "/fifo")
  end)

  teardown(function()
    os.execute("rm -r " .. root)
  end)

  local function serve(opts)
    return http.serve(wsapi.static(root, opts))
  end

  it("serves files with their length and type", function()
    local it <close> = serve()
    for path, expected in pairs {
      ["/hello.txt"] = { "hello\n", "text/plain; charset=utf-8" },
      ["/"] = { "<p>root</p>", "text/html; charset=utf-8" },
      ["/folder/"] = { "<p>folder</p>", "text/html; charset=utf-8" },
      ["/folder//page.HTM"] = { "page", "text/html; charset=utf-8" },
      ["/a%20b/c%25d.css"] = { "css", "text/css; charset=utf-8" },
      ["/nothing"] = { "", "application/octet-stream" },
      ["/big.bin"] = { big, "application/octet-stream" },
      ["/hello.txt?query"] = { "hello\n", "text/plain; charset=utf-8" },
    } do
      local answer = one(it, get(path))
      assert.same({ 200, expected[1], expected[2], tostring(#expected[1]), "bytes" },
                  { answer.status, answer.body, answer.headers["content-type"],
                    answer.headers["content-length"], answer.headers["accept-ranges"] }, path)
    end
  end)

  it("keeps the connection, after large files too", function()
    local it <close> = serve()
    local list = http.ask(it, get("/big.bin") .. get("/hello.txt") .. get("/big.bin"))
    assert.equal(3, #list)
    assert.equal(big, list[3].body)
  end)

  it("sends files piece by piece in HTTP/1.0 and to a slow reader", function()
    local it <close> = serve()
    local client <close> = http.connect(it)
    assert(client:send("GET /big.bin HTTP/1.0\r\n\r\n"))
    local parts = {}
    for part in function() return client:recv(1000) end do
      parts[#parts + 1] = part
    end
    assert.equal(big, table.concat(parts):match("\r\n\r\n(.*)$"))
  end)

  it("answers HEAD without the file", function()
    local it <close> = serve()
    for _, path in ipairs { "/hello.txt", "/big.bin" } do
      local answer = one(it, http.text("HEAD " .. path .. " HTTP/1.1"), true)
      assert.same({ 200, "" }, { answer.status, answer.body })
      assert.is_true(tonumber(answer.headers["content-length"]) > 0)
    end
  end)

  it("refuses other methods", function()
    local it <close> = serve()
    local answer = one(it, http.post("/hello.txt", "x"))
    assert.same({ 405, "GET, HEAD" }, { answer.status, answer.headers.allow })
  end)

  it("gives nothing outside of the folder, nothing hidden, and nothing that is no file", function()
    local it <close> = serve()
    for path, status in pairs {
      ["/nowhere"] = 404, ["/../" .. root:match("[^/]*$") .. "/hello.txt"] = 404,
      ["/%2e%2e/hello.txt"] = 404, ["/..%2fhello.txt"] = 404, ["/folder/../hello.txt"] = 404,
      ["/./hello.txt"] = 404, ["/.secret"] = 404, ["/.hidden/file"] = 404, ["/%2esecret"] = 404,
      ["/hello.txt%00.html"] = 404, ["/hello.txt/"] = 404, ["/empty/"] = 404, ["/fifo"] = 403,
      ["/hello.txt/x"] = 404,
    } do
      assert.equal(status, one(it, get(path)).status, path)
    end
    assert.equal(405, one(it, http.text("OPTIONS * HTTP/1.1")).status)
  end)

  it("sends a client to the folder behind a name without a slash", function()
    local it <close> = serve()
    for path, location in pairs {
      ["/folder"] = "/folder/", ["/folder?a=b"] = "/folder/?a=b", ["/a%20b"] = "/a%20b/",
      ["//folder"] = "/folder/",
    } do
      local answer = one(it, get(path))
      assert.same({ 301, location }, { answer.status, answer.headers.location })
    end
  end)

  it("does as its options say", function()
    local it <close> = serve { hidden = true, index = "page.HTM", types = { bin = "text/x" },
                               cache_control = "max-age=60" }
    assert.equal("secret", one(it, get("/.secret")).body)
    assert.equal("page", one(it, get("/folder/")).body)
    local answer = one(it, get("/big.bin"))
    assert.same({ "text/x; charset=utf-8", "max-age=60" },
                { answer.headers["content-type"], answer.headers["cache-control"] })
    assert.equal(404, one(it, get("/../x")).status)
    assert.error_matches(function() wsapi.static() end, "bad argument #1 to 'static'")
  end)

  describe("conditions:", function()
    local function status(it, ...)
      return one(it, get("/hello.txt", ...)).status
    end

    it("an entity tag", function()
      local it <close> = serve()
      local tag = one(it, get("/hello.txt")).headers.etag
      assert.matches('^"[%x-]+"$', tag)
      assert.equal(304, status(it, "If-None-Match: " .. tag))
      assert.equal(304, status(it, 'If-None-Match: "x", W/' .. tag))
      assert.equal(304, status(it, "If-None-Match: *"))
      assert.equal(200, status(it, 'If-None-Match: "x"'))
      assert.equal(200, status(it, "If-Match: " .. tag))
      assert.equal(200, status(it, "If-Match: *"))
      assert.equal(412, status(it, 'If-Match: "x"'))
      assert.equal(412, status(it, "If-Match: W/" .. tag))
    end)

    it("the time of the last change", function()
      local it <close> = serve()
      local modified = one(it, get("/hello.txt")).headers["last-modified"]
      local time = assert(httpdate.parse(modified))
      assert.equal(lfs.attributes(root .. "/hello.txt", "modification"), time)
      local function date(seconds)
        return httpdate.format(time + seconds)
      end
      assert.equal(304, status(it, "If-Modified-Since: " .. date(0)))
      assert.equal(304, status(it, "If-Modified-Since: " .. date(1)))
      assert.equal(200, status(it, "If-Modified-Since: " .. date(-1)))
      assert.equal(200, status(it, "If-Modified-Since: some time"))
      assert.equal(412, status(it, "If-Unmodified-Since: " .. date(-1)))
      assert.equal(200, status(it, "If-Unmodified-Since: " .. date(0)))
      assert.equal(200, status(it, "If-Unmodified-Since: some time"))
    end)

    it("tags count more than times", function()
      local it <close> = serve()
      local first = one(it, get("/hello.txt"))
      assert.equal(200, status(it, 'If-None-Match: "x"', "If-Modified-Since: " ..
                               first.headers["last-modified"]))
      assert.equal(200, status(it, "If-Match: " .. first.headers.etag,
                               "If-Unmodified-Since: Thu, 01 Jan 1970 00:00:00 GMT"))
    end)

    it("304 has the headers for a cache, and nothing of a body", function()
      local it <close> = serve()
      local list = http.ask(it, get("/hello.txt", "If-None-Match: *"):rep(2))
      assert.equal(2, #list)
      assert.is_string(list[1].headers.etag)
      assert.is_nil(list[1].headers["content-length"])
    end)
  end)

  describe("ranges:", function()
    local function range(it, value, ...)
      local answer = one(it, get("/hello.txt", "Range: " .. value, ...))
      return { answer.status, answer.headers["content-range"], answer.body }
    end

    it("a part of the file", function()
      local it <close> = serve()
      assert.same({ 206, "bytes 1-3/6", "ell" }, range(it, "bytes=1-3"))
      assert.same({ 206, "bytes 4-5/6", "o\n" }, range(it, "bytes=4-"))
      assert.same({ 206, "bytes 4-5/6", "o\n" }, range(it, "bytes=-2"))
      assert.same({ 206, "bytes 0-5/6", "hello\n" }, range(it, "bytes=-10"))
      assert.same({ 206, "bytes 0-5/6", "hello\n" },
                  range(it, "bytes=-99999999999999999999"))
      assert.same({ 206, "bytes 4-5/6", "o\n" }, range(it, "Bytes=4-99999999999999999999"))
      assert.same({ 206, "bytes 0-5/6", "hello\n" }, range(it, "bytes=0-99"))
      assert.same({ 206, "bytes 0-0/6", "h" }, range(it, "bytes=0-0"))
    end)

    it("a part of a large file", function()
      local it <close> = serve()
      local list = http.ask(it, get("/big.bin", "Range: bytes=5-300004") .. get("/hello.txt"))
      assert.equal(2, #list)
      assert.equal(big:sub(6, 300005), list[1].body)
    end)

    it("what the file does not have", function()
      local it <close> = serve()
      for _, value in ipairs { "bytes=6-", "bytes=100-200", "bytes=-0",
                               "bytes=99999999999999999999-" } do
        local answer = range(it, value)
        assert.same({ 416, "bytes */6" }, { answer[1], answer[2] })
      end
    end)

    it("what is not understood, and several at a time: the whole file", function()
      local it <close> = serve()
      for _, value in ipairs { "bytes=3-1", "bytes=a-b", "lines=1-2", "bytes=-",
                               "bytes=1-2,4-5" } do
        assert.same({ 200, nil, "hello\n" }, range(it, value))
      end
    end)

    it("only of the very file that the client has a part of", function()
      local it <close> = serve()
      local headers = one(it, get("/hello.txt")).headers
      assert.equal(206, range(it, "bytes=1-3", "If-Range: " .. headers.etag)[1])
      assert.equal(206, range(it, "bytes=1-3", "If-Range: " .. headers["last-modified"])[1])
      assert.equal(200, range(it, "bytes=1-3", 'If-Range: "x"')[1])
      assert.equal(200, range(it, "bytes=1-3", "If-Range: W/" .. headers.etag)[1])
      assert.equal(200, range(it, "bytes=1-3", "If-Range: Thu, 01 Jan 1970 00:00:00 GMT")[1])
    end)

    it("not of HEAD", function()
      local it <close> = serve()
      assert.equal(200, one(it, http.text("HEAD /hello.txt HTTP/1.1", { "Range: bytes=1-2" }),
                            true).status)
    end)
  end)

  it("closes its files, whether the client stays or leaves", function()
    local it <close> = serve()
    local function descriptors()
      local count = 0
      for _ in lfs.dir("/proc/self/fd") do
        count = count + 1
      end
      return count
    end
    one(it, get("/big.bin"))
    local before = descriptors()
    for _ = 1, 20 do
      one(it, get("/big.bin"))
      one(it, get("/hello.txt", "If-None-Match: *"))
      one(it, get("/big.bin", "Range: bytes=2000000-"))
      local client = http.connect(it)
      assert(client:send(get("/big.bin")))
      client:recv(10)
      client:close()
    end
    it:stop()
    assert.is_true(descriptors() <= before, ("%d, before %d"):format(descriptors(), before))
  end)
end)

describe("dates of headers", function()
  it("are read as they are written", function()
    for _, time in ipairs { 0, 1, 68169600, 951782400, 951868800, 4102444799, 784111777 } do
      assert.equal(time, httpdate.parse(httpdate.format(time)))
    end
    assert.equal(784111777, httpdate.parse("Sun, 06 Nov 1994 08:49:37 GMT"))
    for _, text in ipairs { "", "Sun, 06 Nov 1994 08:49:37", "Sun, 06 Foo 1994 08:49:37 GMT" } do
      assert.is_nil(httpdate.parse(text))
    end
  end)
end)
