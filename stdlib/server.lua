--- Servers for streams and for datagrams, each client in a greenlet of its own.
--
--     local function echo(client)
--       for line in function() return client:receive() end do
--         client:send(line .. "\n")
--       end
--     end
--     assert(server.StreamServer({ "127.0.0.1", 8000 }, echo):serve_forever())
--
-- Differs: start, serve_forever | raise if the address cannot be had | return nil, message, errno
-- Differs: stop without a pool | lets the handlers run on | waits for them, then kills them
-- Differs: stop with a pool | waits for all in it, then kills them | the same of its handlers only
-- Differs: SIGTERM | ends the program | stops servers in serve_forever
-- Differs: spawn | also any function; None: handlers run in the hub | a number, a Group, "raw"
-- Differs: spawn = "raw" | greenlets of another kind | as without it
-- Differs: backlog | 256 | 1024
-- Differs: a unix socket | is made by the program | "unix:/path"; its file is removed at the end
-- Differs: a client that leaves during the TLS handshake | an error is reported | it is not

return {
  BaseServer = require "moonlet.server.base",
  StreamServer = require "moonlet.server.stream",
  DatagramServer = require "moonlet.server.datagram",
}
