--- An HTTP client: connections that are kept, streaming both ways, redirections, cookies, proxies,
-- TLS.
--
--     local response = assert(http.request { url = "http://127.0.0.1:8080/", timeout = 10 })
--     print(response.status, response.headers["content-type"], response:body())
--
-- What a request may say (all but `url` may be left out):
--
-- - `url`: http or https; a user in it is sent as Basic authorization
-- - `method`: "GET"; "POST" if there is a body
-- - `headers`: a table of names and values; a value may be a list, for a repeated field, or false,
--   for one that would be sent otherwise ("User-Agent")
-- - `body`: a string, or a function that returns the next piece and nil at the end. It is called in
--   a greenlet of its own, while the answer is waited for and read
-- - `length`: of a function's body, in bytes; else it is sent in chunks
-- - `timeout`: seconds for everything: connecting, sending, the answer up to the end of its body
-- - `connect_timeout`: for looking up the name, connecting, the handshake; `send_timeout`: for
--   sending the request; `answer_timeout`: from then on to the answer's head
-- - `redirects`: how many are followed (10); 0 or false: none
-- - `decode`: false leaves bodies packed by gzip or deflate as they are
-- - `proxy`: "http://user:password@host:port"; false: none; else the environment says (http_proxy,
--   https_proxy, all_proxy, no_proxy)
-- - `unix`: the path of a unix socket to connect to instead of the host
-- - `ssl`: parameters or a context of moonlet.ssl; certificates are verified unless they say
--   otherwise
--
-- A timeout may also be a started Timeout, which then raises itself.
--
-- A request is sent again if the server has closed the connection, kept from an earlier one, as
-- it went out, provided that its method is idempotent and its body no function. Redirections
-- from https to http are not followed, and another server gets no credentials.
--
-- Servers that have HTTP/2 are spoken to by that where nghttp2 is there: one connection carries
-- all requests to one of them. A body that ends with its connection counts as whole under TLS only
-- if TLS says that it is.
--
-- A Client has connections and settings of its own; the functions of the module share one.
-- Differs: HTTP client | none of its own | there

local Client = require "moonlet.http.client"
local Cookies = require "moonlet.http.cookies"

local http = { Client = Client, Cookies = Cookies }

local shared = Client()

--- Sends a request by the client that all share, and returns once the head of the answer is there.
---@param options string|table  a URL, or what the module's description lists
---@return moonlet.http.Response|nil
---@return string # "timeout", "closed", "connection refused" or what else went wrong
---@return integer # errno, or the resolver's number
---@raise what the body's function raises
function http.request(options)
  return shared:request(options)
end

return http
