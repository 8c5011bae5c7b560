-- Random programs of greenlets in whose coroutines everything may happen at every depth. What one
-- does depends on its seed and on nothing else.

local moonlet = require "moonlet"
local queue = require "moonlet.queue"
local testing = require "moonlet.testing"

local courses = {}

local DEEPEST = 7
local GREENLETS = 4

-- Lists of what a program may do: f(course, depth) each, some more than once.
local actions = {}

local function action(weight, f)
  for _ = 1, weight do
    actions[#actions + 1] = f
  end
end

local Course = {}
Course.__index = Course

function Course:random(n)
  self.state = self.state * 6364136223846793005 + 1442695040888963407
  return (self.state >> 33) % n + 1
end

-- Writes down what can be compared.
function Course:note(...)
  local words = table.pack(...)
  for i = 1, words.n do
    words[i] = tostring(words[i]):gsub("0x%x+", "at"):gsub("\n%s*", " | ")
  end
  self[#self + 1] = table.concat(words, " ", 1, words.n)
end

function Course:try(f, ...)
  self:note("tried", pcall(f, ...))
end

-- What others see of all coroutines that were made so far.
function Course:look()
  for i, co in ipairs(self.coroutines) do
    self:note(i, coroutine.status(co), coroutine.isyieldable(co), debug.traceback(co))
  end
end

function Course:act(depth, count)
  for _ = 1, count do
    actions[self:random(#actions)](self, depth)
  end
end

-- A function for a coroutine at that depth.
function Course:body(depth)
  local count = self:random(4)
  return function(...)
    self:note("began", depth, ...)
    local _ <close> = self:random(3) == 1 and setmetatable({}, { __close = function(_, err)
      self:note("closed", depth, type(err))
      if self:random(2) == 1 then
        moonlet.sleep(0)
      end
      if self:random(6) == 1 then
        error "in __close"
      end
    end })
    self:act(depth, count)
    self:note("ended", depth)
    return depth, "end"
  end
end

action(4, function(course, depth)
  local me = coroutine.running()
  moonlet.sleep(0)
  course:note("slept", depth, coroutine.running() == me, moonlet.getcurrent().name)
end)

action(1, function(course)
  moonlet.sleep(course:random(3) * 0.01)
end)

action(1, function(course, depth)
  course:note("put", course.queue:put(depth, 0.01))
end)

action(1, function(course)
  course:note("got", course.queue:get(0.02))
end)

action(1, function(course, depth)
  course:note("offered", course.channel:put(depth, 0.01))
end)

action(1, function(course)
  course:note("taken", course.channel:get(0.02))
end)

action(1, function(course)
  course:note("joined", moonlet.spawn(function()
    moonlet.sleep(0)
    return "child"
  end):get())
end)

action(2, function(course, depth)
  if coroutine.isyieldable() then
    course:note("yielded", coroutine.yield(depth, nil))
  end
end)

action(2, function(course, depth)
  if depth < DEEPEST then
    local co = coroutine.create(course:body(depth + 1))
    table.insert(course.coroutines, co)
    course:note("resumed", coroutine.resume(co, 1, 2))
    course:note("resumed", coroutine.resume(co))
  end
end)

action(3, function(course, depth)
  if depth < DEEPEST then
    local generate = coroutine.wrap(course:body(depth + 1))
    course:try(generate, "argument")
    course:try(generate)
  end
end)

action(1, function(course, depth)
  if depth < DEEPEST then
    for value in coroutine.wrap(course:body(depth + 1)) do
      course:note("for", value)
      if course:random(3) > 1 then
        break
      end
    end
  end
end)

action(1, function()
  table.sort({ 1, 2 }, function(a, b)
    moonlet.sleep(0)
    return a < b
  end)
end)

action(1, function(course, depth)
  if depth < DEEPEST then
    course:try(string.gsub, "x", "x", coroutine.wrap(course:body(depth + 1)))
  end
end)

action(1, function(course)
  error(course:random(2) == 1 and "failure" or {})
end)

-- One coroutine that may be anybody's, and blocked.
action(1, function(course)
  local co = course.coroutines[course:random(#course.coroutines + 1)]
  if not co then
    course:note("none")
  elseif course:random(3) == 1 then
    course:try(coroutine.close, co)
  else
    course:note("other", coroutine.resume(co, "stranger"))
  end
end)

action(1, function(course, depth)
  if depth < DEEPEST then
    course:note("limited", moonlet.with_timeout(0.015, course:body(depth + 1)))
  end
end)

action(1, Course.look)

local function play(course)
  local list = {}
  for i = 1, GREENLETS do
    list[i] = moonlet.spawn(function()
      course:note("greenlet", pcall(course:body(0)))
    end)
    list[i].name = "greenlet " .. i
  end
  moonlet.sleep(course:random(3) * 0.01)
  if course:random(3) == 1 then
    list[course:random(GREENLETS)]:kill(nil, 0)
  end
  course:look()
  moonlet.joinall(list)
  course:look()
end

--- The course that the program of this seed takes, as text.
function courses.run(seed)
  local course = setmetatable({
    state = seed * 7919 + 13,
    coroutines = {},
    queue = queue.Queue(2),
    channel = queue.Channel(),
  }, Course)
  testing.virtual_clock(play, course)
  return table.concat(course, "\n")
end

return courses
