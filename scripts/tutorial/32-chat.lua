-- 32. A chat server
-- Rooms and users meet over plain HTTP: each user has a queue, and a request that waits for it (a
-- long poll). The server is scripts/examples/chat, which has a page too; here requests drive it.

local folder = arg[0]:match("^(.*/)") or "./"
package.path = folder .. "../examples/chat/?.lua;" .. package.path

local app = require "app"
local json = require "dkjson"
local moonlet = require "moonlet"
local socket = require "moonlet.socket"
local wsapi = require "moonlet.wsapi"

local chat = app.new { rooms = { "topic1", "topic2" }, folder = folder .. "../examples/chat/page/",
                       poll_timeout = 0.3 }
local server <close> = wsapi.WSAPIServer({ "127.0.0.1", 0 }, chat, { log = false })
assert(server:start())

-- The status of the answer to a request, and what its body says.
local function request(method, path, form)
  local sock <close> = assert(socket.create_connection(server.address))
  form = form or ""
  assert(sock:send(("%s %s HTTP/1.0\r\nContent-Length: %d\r\n\r\n%s"):format(method, path, #form,
                                                                            form)))
  local status, body = assert(sock:receive("*a")):match("^HTTP/1%.1 (%d+).-\r\n\r\n(.*)$")
  return status, json.decode(body)
end

-- Messages as text: a list of "USER:TEXT".
local function shown(messages)
  local list = {}
  for i, message in ipairs(messages) do
    list[i] = ("%q"):format(message.from .. ":" .. message.text)
  end
  return "[" .. table.concat(list, ", ") .. "]"
end

local function join(room, user)
  local _, answer = request("GET", "/" .. room .. "/" .. user)
  return answer.messages
end

local function post(room, user, text)
  request("POST", "/put/" .. room .. "/" .. user, "message=" .. text)
end

local function poll(user)
  local _, answer = request("POST", "/poll/" .. user)
  return answer
end

-- What users get who poll at the same time, once f has been called.
local function poll_all(users, f)
  local polls = {}
  for i, user in ipairs(users) do
    polls[i] = moonlet.spawn(poll, user)
  end
  moonlet.sleep(0.1)
  f()
  for i, user in ipairs(users) do
    print(("%s gets %s"):format(user, shown(polls[i]:get())))
  end
end

print("alice joins topic1: " .. shown(join("topic1", "alice")))
print("bob joins topic1: " .. shown(join("topic1", "bob")))
print("carol joins topic2: " .. shown(join("topic2", "carol")))

print("All three poll, and alice posts")
poll_all({ "alice", "bob", "carol" }, function()
  post("topic1", "alice", "hi")
end)

print("alice joins again, and bob posts while nobody polls")
join("topic1", "alice")
post("topic1", "bob", "hello")
print("alice gets " .. shown(poll("alice")))
print("alice gets " .. shown(poll("alice")))

print("dave joins topic1: " .. shown(join("topic1", "dave")))

print("Nobody is eve, and there is no topic3")
print((request("POST", "/poll/eve")))
print((request("POST", "/put/topic1/eve", "message=hi")))
print((request("GET", "/topic3/alice")))
print((request("POST", "/put/topic3/alice", "message=hi")))

print("carol posts thirty messages")
for i = 1, 30 do
  post("topic2", "carol", i)
end
local backlog = join("topic2", "dave")
print(("dave joins topic2: %d messages, from %s to %s"):format(#backlog, backlog[1].text,
                                                              backlog[#backlog].text))
