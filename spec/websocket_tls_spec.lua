-- WebSockets under TLS.

local certificates = require "support.certificates"
local moonlet = require "moonlet"
local socket = require "moonlet.socket"
local ssl = require "moonlet.ssl"
local ends = require "support.websocket"
local websocket = require "moonlet.websocket"

describe("wss://", function()
  local folder, context, listener, server, url

  setup(function()
    folder = certificates.folder()
    folder:root("ca")
    folder:issue("server", { names = "DNS:localhost,IP:127.0.0.1" })
    context = assert(ssl.newcontext(folder:params("server", "server")))
  end)

  teardown(function()
    folder:remove()
  end)

  -- Serves one client.
  before_each(function()
    listener = assert(socket.bind("127.0.0.1", 0))
    url = ("wss://localhost:%d/"):format(select(2, listener:getsockname()))
    server = moonlet.spawn(function()
      local sock = listener:accept()
      if not sock then
        return
      end
      local stream <close> = assert(ssl.wrap(sock, context))
      if not stream:dohandshake() then
        return
      end
      local ws <close> = ends.serve_one(stream, { compress = true })
      if ws then
        ends.echo(ws)
      end
    end)
  end)

  after_each(function()
    listener:close()
    server:join()
  end)

  local function trusting()
    return { cafile = folder:file("ca.pem") }
  end

  it("carries messages in both directions", function()
    local ws = assert(websocket.connect(url, { ssl = trusting(), timeout = 10 }))
    local data = ("0123456789abcdef"):rep(50000)
    local g = moonlet.spawn(ws.send, ws, data, "binary")
    assert.same({ data, "binary" }, { ws:receive() })
    assert.is_true(g:get())
    assert.same({ nil, "timeout" }, { ws:receive(0.01) })
    assert.same({ nil, "timeout" }, { ws:receive(0) })
    assert.is_true(ws:send("still there"))
    assert.equal("still there", ws:receive())
    assert.is_true(ws:close())
    server:join()
  end)

  it("compresses under TLS, too", function()
    local ws = assert(websocket.connect(url, { ssl = trusting(), compress = true }))
    for i = 1, 20 do
      assert.is_true(ws:send(("word %d "):format(i):rep(1000)))
      assert.equal(("word %d "):format(i):rep(1000), ws:receive())
    end
    assert.is_true(ws:close())
    server:join()
  end)

  it("tells of a certificate that is not to be trusted", function()
    local ws, message = websocket.connect(url)
    assert.is_nil(ws)
    assert.truthy(message:find("certificate", 1, true), message)
    server:join()
  end)

  it("is closed without a word when the connection is cut", function()
    local ws = assert(websocket.connect(url, { ssl = trusting() }))
    moonlet.kill(server)
    server:join()
    local data, word, code = ws:receive()
    assert.same({ nil, "closed" }, { data, word })
    assert.truthy(code == 1001 or code == 1006, code)
  end)

  it("bounds the time of the handshake of TLS", function()
    local silent = assert(socket.bind("127.0.0.1", 0))
    local _, port = silent:getsockname()
    assert.same({ nil, "timeout" },
                { websocket.connect(("wss://127.0.0.1:%d/"):format(port), { timeout = 0.05 }) })
    silent:close()
    listener:close()
    server:join()
  end)
end)
