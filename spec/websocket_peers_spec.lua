-- Other programs at the other end: python3-websockets and node's ws, as client and as server.

local peer = require "support.peer"
local ends = require "support.websocket"
local websocket = require "moonlet.websocket"

local function quote(code)
  return "'" .. code:gsub("'", [['\'']]) .. "'"
end

-- Each is given a port, and "on" or "off" for compression; servers end after the code 4002.
local PYTHON = "exec /usr/bin/python3 -u -c %s %s %s"
local NODE = "NODE_PATH=/usr/share/nodejs exec node -e %s %s %s"

-- Sends messages of many sizes, which must come back; pings; closes.
local PYTHON_CLIENT = [[
import asyncio, sys, websockets
port, compression = sys.argv[1], "deflate" if sys.argv[2] == "on" else None
async def main():
    async with websockets.connect("ws://127.0.0.1:%s/" % port, compression=compression,
                                  subprotocols=["x", "echo"], max_size=None) as ws:
        print("protocol", ws.subprotocol)
        print("extensions", len(ws.extensions))
        for size in (0, 1, 125, 126, 65535, 65536, 300000):
            for data in ("gr\u00fcn "[:5].ljust(size)[:size], bytes(range(256)) * (size // 256)):
                await ws.send(data)
                assert await ws.recv() == data, size
        await ws.send(["frag", "men", "ted"])
        print(await ws.recv())
        await asyncio.wait_for(await ws.ping(), 10)
        print("pong")
        await ws.close(4000, "done")
        print("closed", ws.close_code, ws.close_reason)
asyncio.run(main())
]]

local PYTHON_SERVER = [[
import asyncio, sys, websockets
compression = "deflate" if sys.argv[2] == "on" else None
async def answer(ws, data):
    if data == "close":
        await ws.close(4001, "as you wish")
    elif data == "ping":
        await asyncio.wait_for(await ws.ping(), 10)
        await ws.send("pong")
    else:
        await ws.send(data)
async def echo(ws):
    try:
        while True:
            await answer(ws, await ws.recv())
    except websockets.ConnectionClosed:
        pass
    print("closed", ws.close_code, ws.close_reason)
    if ws.close_code == 4002:
        done.set_result(None)
async def main():
    global done
    done = asyncio.Future()
    server = await websockets.serve(echo, "127.0.0.1", 0, compression=compression,
                                    subprotocols=["echo"], max_size=None)
    print("port", server.sockets[0].getsockname()[1])
    await done
asyncio.run(main())
]]

local NODE_CLIENT = [[
const WebSocket = require("ws");
const [port, compress] = process.argv.slice(1);
const ws = new WebSocket("ws://127.0.0.1:" + port + "/", ["x", "echo"],
                         { perMessageDeflate: compress === "on" && { threshold: 0 } });
const sizes = [0, 1, 125, 126, 65535, 65536, 300000];
const sent = [];
ws.on("open", () => {
  console.log("protocol", ws.protocol);
  console.log("extensions", ws.extensions ? 1 : 0);
  for (const size of sizes)
    for (const data of ["grün ".padEnd(size).slice(0, size), Buffer.alloc(size, "node")]) {
      sent.push(data);
      ws.send(data);
    }
});
ws.on("message", (data, binary) => {
  const expected = sent.shift();
  if (binary ? !data.equals(expected) : data.toString() !== expected) process.exit(3);
  if (!sent.length) ws.ping("beat");
});
ws.on("pong", data => { console.log("pong"); ws.close(4000, "done"); });
ws.on("close", (code, reason) => console.log("closed", code, reason.toString()));
]]

local NODE_SERVER = [[
const { WebSocketServer } = require("ws");
const compress = process.argv[2];
const server = new WebSocketServer({ port: 0, host: "127.0.0.1",
  perMessageDeflate: compress === "on" && { threshold: 0 } },
  () => console.log("port", server.address().port));
server.on("connection", ws => {
  ws.on("message", (data, binary) => {
    const text = data.toString();
    if (text === "close") ws.close(4001, "as you wish");
    else if (text === "ping") { ws.once("pong", () => ws.send("pong")); ws.ping("p"); }
    else ws.send(data, { binary });
  });
  ws.on("close", (code, reason) => {
    console.log("closed", code, reason.toString());
    if (code === 4002) process.exit(0);
  });
});
]]

local CLIENTS = { { "python3-websockets", PYTHON, PYTHON_CLIENT, "text frag" },
                  { "node's ws", NODE, NODE_CLIENT } }
local SERVERS = { { "python3-websockets", PYTHON, PYTHON_SERVER },
                  { "node's ws", NODE, NODE_SERVER } }

for _, compress in ipairs { "off", "on" } do
  for _, other in ipairs(CLIENTS) do
    it(("serves %s, compression %s"):format(other[1], compress), function()
      local code, reason
      local port, stop = ends.serve(function(ws)
        ends.echo(ws)
        local _
        _, _, code, reason = ws:receive()
      end, { compress = true, protocols = { "echo" } })
      do
        local client <close> = peer.start(other[2]:format(quote(other[3]), port, compress))
        local status, output = client:finish()
        assert.equal(0, status, output)
        assert.truthy(output:find("protocol echo\nextensions " .. (compress == "on" and 1 or 0) ..
                                  "\n", 1, true), output)
        assert.truthy(output:find("pong\nclosed 4000 ", 1, true), output)
      end
      assert.same({ 4000, "done" }, { code, reason })
      stop()
    end)
  end

  for _, other in ipairs(SERVERS) do
    it(("talks to a server of %s, compression %s"):format(other[1], compress), function()
      local server <close> = peer.start(other[2]:format(quote(other[3]), 0, compress))
      local port = server:expect("port (%d+)")
      local ws = assert(websocket.connect(("ws://127.0.0.1:%d/"):format(port), {
        compress = true, protocols = { "echo" },
      }))
      assert.equal(compress == "on", ws.headers["sec-websocket-extensions"] ~= nil)
      for _, size in ipairs { 0, 1, 125, 126, 65535, 65536, 300000 } do
        for _, kind in ipairs { "text", "binary" } do
          local data = ("Moonlet "):rep(size // 8 + 1):sub(1, size)
          assert.is_true(ws:send(data, kind))
          assert.same({ data, kind }, { ws:receive() })
        end
      end
      assert.is_true(ws:send("ping"))
      assert.equal("pong", ws:receive())
      assert.is_true(ws:send("close"))
      assert.same({ nil, "closed", 4001, "as you wish" }, { ws:receive() })

      local another = assert(websocket.connect(("ws://127.0.0.1:%d/"):format(port)))
      assert.is_true(another:close(4002, "mine"))
      assert.equal(0, server:finish())
      assert.truthy(server:output():find("closed 4002 mine", 1, true))
    end)
  end
end

it("is understood by a client of python3-websockets that is fed mistakes", function()
  local port, stop = ends.serve(function(ws)
    ws:receive()
  end, { max_message = 100 })
  local client <close> = peer.start(PYTHON:format(quote [[
import asyncio, sys, websockets
async def main():
    ws = await websockets.connect("ws://127.0.0.1:%s/" % sys.argv[1])
    await ws.send("x" * 2000000)
    try:
        await ws.recv()
    except websockets.ConnectionClosed as error:
        print("closed", error.rcvd.code, error.rcvd.reason)
asyncio.run(main())
]], port, ""))
  local status, output = client:finish()
  assert.equal(0, status, output)
  assert.truthy(output:find("closed 1009 frame too long", 1, true), output)
  stop()
end)
