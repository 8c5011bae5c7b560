--- An HTTP/1.1 server for WSAPI applications.
--
--     local wsapi = require "moonlet.wsapi"
--
--     local function hello(env)
--       return 200, { ["Content-Type"] = "text/plain" }, "Hello " .. env.PATH_INFO .. "\n"
--     end
--     wsapi.WSAPIServer({ "127.0.0.1", 8000 }, hello):serve_forever()
--
-- An application is a function, a table with a function `run`, or the name of a module that is
-- one of both. It is called with a table `env` and returns
--
--     status    a number, or a string such as "200 OK"
--     headers   { Name = value }, or in an order of its own { { "Name", value }, ... }; the value
--               is a string, a number, or a list of them for a header that is repeated; or nil
--     body      an iterator, which gives one piece after another and may block: each is sent at
--               once; a string or a list of strings; nil for none
--
-- An iterator that is an object with a method `close` is closed once it is not needed any more,
-- whatever the reason. With its last result, nil, it may return a table of trailers. A length that
-- is known is sent as Content-Length; else HTTP/1.1 has the pieces as chunks, and HTTP/1.0 up to
-- the end of the connection.
--
-- `env` has what CGI has: REQUEST_METHOD, SCRIPT_NAME (""), PATH_INFO (its escapes decoded),
-- QUERY_STRING (as it was sent), REQUEST_URI, SERVER_NAME, SERVER_PORT, SERVER_PROTOCOL,
-- SERVER_SOFTWARE, GATEWAY_INTERFACE, REMOTE_ADDR, REMOTE_PORT, HTTPS ("on" or absent),
-- CONTENT_TYPE and CONTENT_LENGTH (absent if they were not sent), and HTTP_NAME for each other
-- header. `env.input` reads the body: read([what]), lines([what]), trailers(); `env.error` writes
-- to the error log: write(...). `env["wsapi.url_scheme"]` is "http" or "https",
-- `env["wsapi.multithread"]` false and `env["wsapi.multiprocess"]` whether there are workers. Some
-- of it is there through a metatable: use pairs, not next.
--
-- A request for a WebSocket has one as `env.websocket`, ready to be used (see moonlet.websocket).
-- It is closed when the application returns, whose results count only if it was not used.
--
-- What is wrong in a request is answered by the server, and the connection closed: 400, 408 (too
-- slow), 413 (too large a body), 414 (too long a first line), 431 (too long or too many headers),
-- 501 (unknown transfer coding). An error in the application is answered with 500 and no details,
-- which are in the error log; once the response has begun, the connection is cut.
-- Differs: pywsgi's application | start_response(status, headers), result | status, headers and
--   body are returned
-- Differs: "Connection: close, te" | not understood | closes
-- Differs: HEAD | sends what the application returns | sends no body
-- Differs: Expect | of HTTP/1.0 too, in lower case only | of HTTP/1.1, in any case
-- Differs: an empty line for a chunk's size | waits | closes
-- Differs: conflicting or malformed lengths, space before the colon, folded lines, unknown transfer
--   codings, a bare LF, NUL, no Host or two | accepted | 400 or 501
-- Differs: both Content-Length and chunks | the length is dropped | 400
-- Differs: limits of time, of lines, headers and bodies | of the first line | of all
-- Differs: the access log | its own format | Apache's combined format, with the seconds at the end
-- Differs: the rest of a request's body | is read, whatever its length | up to `max_discard`

return {
  WSAPIServer = require "moonlet.wsapi.server",
  gzip = require "moonlet.wsapi.gzip",
  static = require "moonlet.wsapi.static",
}
