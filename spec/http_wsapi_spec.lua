local http = require "moonlet.http"
local moonlet = require "moonlet"
local wsapi = require "moonlet.wsapi"

describe("moonlet.http and moonlet.wsapi", function()
  local server, client

  -- Starts a server for an application.
  local function start(app)
    client = http.Client { proxy = false }
    server = wsapi.WSAPIServer({ "127.0.0.1", 0 }, app, { log = false,
                                                              error_log = false })
    server:start()
    finally(function()
      client:close()
      server:stop()
    end)
  end

  local function get(path, options)
    options = options or {}
    options.url = ("http://127.0.0.1:%d%s"):format(server.address[2], path)
    return assert(client:request(options))
  end

  it("understand each other", function()
    start(function(env)
      local body = env.input:read() or ""
      return 200, { ["X-Path"] = env.PATH_INFO, ["X-Query"] = env.QUERY_STRING },
             env.REQUEST_METHOD .. " " .. body
    end)
    local response = get("/a b?c d")
    assert.equal("GET ", response:body())
    assert.equal("/a b", response.headers["x-path"])
    assert.equal("c%20d", response.headers["x-query"])
    assert.equal("PUT hello", get("/", { method = "PUT", body = "hello" }):body())
    assert.equal("", get("/", { method = "HEAD" }):body())
    local count = 0
    assert.equal("POST 123", get("/", { body = function()
      count = count + 1
      return count <= 3 and tostring(count) or nil
    end }):body())
    assert.equal("POST x", get("/", { body = "x", headers = { Expect = "100-continue" } }):body())
    local large = ("0123456789"):rep(100000)
    assert.is_true(get("/", { body = large }):body() == "POST " .. large)
    assert.equal("<Client: 1 idle connections>", tostring(client))
  end)

  it("stream both ways", function()
    start(function(env)
      return 200, nil, function()
        return env.input:read(7)
      end
    end)
    local count, parts = 0, {}
    local response = get("/", { body = function()
      count = count + 1
      moonlet.sleep(0)
      return count <= 100 and "piece " .. count % 10 or nil
    end })
    for part in response do
      table.insert(parts, part)
    end
    assert.equal(700, #table.concat(parts))
    assert.equal("piece 1piece 2", table.concat(parts):sub(1, 14))
  end)

  it("part as errors have it", function()
    start(function(env)
      if env.PATH_INFO == "/early" then
        error("before the head", 0)
      end
      local count = 0
      return 200, nil, function()
        count = count + 1
        return count == 1 and "part" or error("amid the body", 0)
      end
    end)
    assert.equal(500, get("/early").status)
    assert.same({ n = 3, nil, "closed", "part" }, table.pack(get("/late"):body()))
  end)
end)
