-- The server's half for HTTP/2 with the clients of others: curl, nghttp, h2load.

local certificates = require "support.certificates"
local http = require "support.http"
local moonlet = require "moonlet"
local peer = require "support.peer"
local support = require "support"

local SIZE = 4 * 1024 * 1024

local function app(env)
  local path = env.PATH_INFO
  if path == "/count" then
    local count = 0
    for piece in env.input:lines(65536) do
      count = count + #piece
    end
    return 200, nil, count .. "\n"
  elseif path == "/large" then
    return 200, nil, ("x"):rep(SIZE)
  elseif path == "/stream" then
    local step = 0
    return 200, nil, function()
      step = step + 1
      moonlet.sleep(0.001)
      if step <= 10 then
        return ("piece %d\n"):format(step)
      end
      return nil, { ["X-Steps"] = "10" }
    end
  elseif path == "/ignore" then
    return 200, nil, "ignored\n"
  end
  return 200, nil, ("%s %s %s\n"):format(env.SERVER_PROTOCOL, env["wsapi.url_scheme"], path)
end

-- What a command prints, without its exit status, which is 0.
local function run(command, ...)
  local other <close> = peer.start(command:format(...))
  local status, output = other:finish()
  assert.equal(0, status, output)
  return (output:gsub("exit 0\n$", ""))
end

describe("moonlet.wsapi with HTTP/2", function()
  local folder, large

  setup(function()
    folder = certificates.folder()
    folder:root("ca")
    folder:issue("server", { names = "DNS:localhost,IP:127.0.0.1" })
    large = folder:file("large")
    local file <close> = assert(io.open(large, "w"))
    file:write(("x"):rep(SIZE))
  end)

  teardown(function()
    folder:remove()
  end)

  -- Calls f with the server's URL, and what runs curl in the way that is right for it.
  local function serving(name, secure, f)
    it(name .. (secure and ", under TLS" or ", in clear text"), function()
      local server <close> = http.serve(app, { ssl = secure and folder:params("server", "server") })
      local url = ("%s://127.0.0.1:%d"):format(secure and "https" or "http", server.address[2])
      local options = secure and "--http2 --cacert " .. folder:file("ca.pem") or
                      "--http2-prior-knowledge"
      f(url, "curl -sS --noproxy '*' --max-time 15 " .. options .. " ")
    end)
  end

  for _, secure in ipairs { false, true } do
    serving("serves curl", secure, function(url, curl)
      local scheme = secure and "https" or "http"
      assert.equal(("HTTP/2.0 %s /\n2 200\n"):format(scheme),
                   run("%s -w '%%{http_version} %%{http_code}\n' %s/", curl, url))
      assert.equal(SIZE .. "\n", run("%s --data-binary @%s %s/count", curl, large, url))
      assert.equal(SIZE .. "\n", run("%s %s/large | wc -c", curl, url))
      assert.matches("^piece 1\n.*piece 10\n$", run("%s %s/stream", curl, url))
      assert.matches("content%-length: " .. SIZE, run("%s -I %s/large", curl, url))
      assert.equal("ignored\n", run("head -c 500000 %s | %s --data-binary @- %s/ignore", large,
                                    curl, url))
    end)

    serving("serves nghttp", secure, function(url)
      local output = run("nghttp -v -m 20 -d %s %s/count", large, url)
      local _, count = output:gsub("\n4194304\n", "")
      assert.equal(20, count)
      assert.matches("x%-steps: 10", (run("nghttp -v %s/stream", url)))
    end)

    serving("serves h2load with a hundred streams at once", secure, function(url)
      local output = run("h2load -n 2000 -c 3 -m 100 %s/", url)
      assert.matches("2000 succeeded, 0 failed, 0 errored", output)
      output = run("h2load -n 60 -c 2 -m 30 -d %s %s/count", large, url)
      assert.matches("60 succeeded, 0 failed, 0 errored", output)
      output = run("h2load -n 60 -c 2 -m 30 %s/large", url)
      assert.matches("60 succeeded, 0 failed, 0 errored", output)
    end)
  end

  -- (Without TLS curl 7.88 fails by itself.)
  serving("serves curl many requests at once", true, function(url, curl)
    local output = run("%s --parallel --parallel-max 50 '%s/[1-100]'", curl, url)
    local seen = {}
    for number in output:gmatch("HTTP/2.0 https /(%d+)\n") do
      seen[#seen + 1] = tonumber(number)
    end
    table.sort(seen)
    assert.equal(100, #seen)
    assert.equal(100, seen[100])
  end)

  it("speaks HTTP/1.1 under TLS with who wants that", function()
    local server <close> = http.serve(app, { ssl = folder:params("server", "server") })
    assert.equal("HTTP/1.1 https /\n", run("curl -sS --noproxy '*' --http1.1 --cacert %s %s:%d/",
                                           folder:file("ca.pem"), "https://127.0.0.1",
                                           server.address[2]))
  end)

  it("lets go of requests whose client is killed", function()
    local entered, closed = 0, 0
    local server <close> = http.serve(function()
      entered = entered + 1
      local body = { close = function() closed = closed + 1 end }
      return 200, nil, setmetatable(body, { __call = function()
        moonlet.sleep(0.001)
        return ("x"):rep(1000)
      end })
    end)
    local other <close> = peer.start(("timeout 1 nghttp -n -m 20 http://127.0.0.1:%d/")
      :format(server.address[2]))
    support.eventually(function() return entered == 20 end)
    assert.is_true(other:finish() ~= 0)
    support.eventually(function() return closed == 20 end)
  end)
end)
