-- Connections under TLS for specs.

local moonlet = require "moonlet"
local socket = require "moonlet.socket"
local ssl = require "moonlet.ssl"

local tls = {}

--- A client's and a server's end, before the handshake.
function tls.wrap(server, client, name)
  local a, b = assert(socket.socketpair())
  local server_conn, client_conn = assert(ssl.wrap(a, server)), assert(ssl.wrap(b, client))
  if name then
    client_conn:sni(name)
  end
  return server_conn, client_conn
end

--- Makes the handshake of two ends at once; returns what the server's and the client's call
--- returned, each as a list. An end whose handshake fails is closed.
function tls.handshake(server, client)
  local function shake(conn)
    local results = table.pack(conn:dohandshake())
    if not results[1] then
      conn:close()
    end
    return results
  end
  local greenlet = moonlet.spawn(shake, server)
  local of_client = shake(client)
  return greenlet:get(), of_client
end

--- Both ends after the handshake, which must succeed.
function tls.pair(server, client, name)
  local server_conn, client_conn = tls.wrap(server, client, name)
  local of_server, of_client = tls.handshake(server_conn, client_conn)
  assert(table.unpack(of_client))
  assert(table.unpack(of_server))
  return server_conn, client_conn
end

--- Closes all that is not nil.
function tls.close(...)
  for _, conn in pairs { ... } do
    conn:close()
  end
end

return tls
