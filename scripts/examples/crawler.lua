-- A crawler: follows the links of a site, several at a time, and tells which pages are broken.
--
--     moonlet scripts/examples/crawler.lua URL [GREENLETS [PAGES]]
--
-- Greenlets of a Pool take addresses from a queue and put there what they find, until every
-- address has been done: that is what a JoinableQueue knows.

local Pool = require("moonlet.pool").Pool
local http = require "moonlet.http"
local moonlet = require "moonlet"
local queue = require "moonlet.queue"
local url = require "socket.url" -- of LuaSocket: does not wait

local GREENLETS, PAGES = 10, 500
local TIMEOUT = 10 -- seconds for a page
local MAX_SIZE = 1 << 20 -- bytes of a page

local start, greenlets, max_pages = arg[1], tonumber(arg[2] or GREENLETS), tonumber(arg[3] or PAGES)
if not start or not start:find("^https?://") then
  io.stderr:write("usage: crawler.lua URL [GREENLETS [PAGES]]\n")
  os.exit(2)
end

local site = start:match("^https?://[^/]+")
local client = http.Client { timeout = TIMEOUT }
local todo = queue.JoinableQueue()
local found, count, broken = {}, 0, 0

-- An address to be visited, unless it was found before, is elsewhere, or is one too many.
local function add(address, from)
  address = address:gsub("#.*$", "")
  if not found[address] and count < max_pages and
     (address .. "/"):sub(1, #site + 1) == site .. "/" then
    found[address] = from
    count = count + 1
    todo:put(address)
  end
end

local function add_links(page, address)
  for link in page:gmatch("<[aA]%s[^>]-[hH][rR][eE][fF]%s*=%s*[\"']([^\"'>]+)[\"']") do
    add(url.absolute(address, link:gsub("&amp;", "&")), address)
  end
end

-- What became of an address: a status, or a word for why there is none.
local function visit(address)
  local response <close>, problem = client:request { url = address }
  if not response then
    return problem
  end
  local kind = response.headers["content-type"] or ""
  if response.status == 200 and kind:find("^text/html") then
    local page = response:read(MAX_SIZE)
    if not page then
      return "incomplete"
    end
    add_links(page, response.url)
  end
  return response.status
end

local function work()
  for address in todo do
    local ok, result = moonlet.try(visit, address)
    if not ok or result ~= 200 then
      broken = broken + 1
      print(("%s %s (from %s)"):format(result, address, found[address]))
    end
    todo:task_done()
  end
end

local began = moonlet.now()
add(start, "the command line")
local pool = Pool(greenlets)
for _ = 1, greenlets do
  pool:spawn(work)
end
todo:join()
pool:kill()
client:close()
print(("%d pages in %.1f s, %d broken"):format(count, moonlet.now() - began, broken))
os.exit(broken == 0, true)
