-- Supervisors: actors that start others anew when they end.

local moonlet = require "moonlet"

local STRATEGIES = { one_for_one = true, one_for_all = true, rest_for_one = true }
local RESTARTS = { permanent = true, transient = true, temporary = true }

local function bad_child(i, what)
  error(("bad argument #1 to 'supervisor' (child %d: %s)"):format(i, what), 4)
end

-- The children as the supervisor needs them, in a table of its own: it may run more than once.
local function copy_children(list)
  local children = {}
  for i, child in ipairs(list) do
    if type(child) ~= "table" or type(child.start) ~= "function" then
      bad_child(i, "a table with the function 'start' expected")
    elseif child.restart and not RESTARTS[child.restart] then
      bad_child(i, "unknown restart '" .. tostring(child.restart) .. "'")
    end
    children[i] = {
      id = child.id or child.name or i,
      name = child.name,
      start = child.start,
      args = child.args or {},
      restart = child.restart or "permanent",
      patience = child.patience or 5,
    }
  end
  return children
end

return function(actor)
  local function start(self, child)
    child.actor = actor.spawn(child.start, table.unpack(child.args, 1, child.args.n or #child.args))
    if child.name then
      assert(actor.register(child.name, child.actor))
    end
    self:monitor(child.actor)
  end

  local function stop(self, child)
    if child.actor then
      self:demonitor(child.actor)
      child.actor:kill(child.patience)
      child.actor = nil
    end
  end

  -- In the reverse order of their start.
  local function stop_all(self, children, first)
    for i = #children, first, -1 do
      stop(self, children[i])
    end
  end

  -- Those which have to be started, too, if the one at `index` has: from there on.
  local function restart(self, children, index, strategy)
    if strategy == "one_for_one" then
      return start(self, children[index])
    end
    local first = strategy == "one_for_all" and 1 or index
    local running = {}
    for i = first, #children do
      running[i] = children[i].actor or i == index
    end
    stop_all(self, children, first)
    for i = first, #children do
      if running[i] then
        start(self, children[i])
      end
    end
  end

  local function find(children, which)
    for i, child in ipairs(children) do
      if child.actor == which then
        return i
      end
    end
  end

  local function shall_restart(child, reason)
    return child.restart == "permanent" or child.restart == "transient" and reason ~= nil
  end

  -- Whether there were too many restarts in the last seconds; notes one more.
  local function too_many(times, limit, within)
    local now = moonlet.now()
    table.insert(times, now)
    while times[1] < now - within do
      table.remove(times, 1)
    end
    return #times > limit
  end

  local function handle_end(self, children, options, times, down)
    local index = find(children, down.actor)
    if not index then
      return
    end
    local child = children[index]
    child.actor = nil
    if not shall_restart(child, down.reason) then
      return
    end
    if too_many(times, options.limit, options.within) then
      error(("child %s ends too often, last of: %s"):format(child.id,
        down.reason == nil and "its return" or tostring(down.reason)), 0)
    end
    restart(self, children, index, options.strategy)
  end

  local function list(children)
    local actors = {}
    for _, child in ipairs(children) do
      table.insert(actors, { id = child.id, actor = child.actor })
    end
    return actors
  end

  local function run(self, children, options)
    local _ <close> = setmetatable({}, { __close = function()
      stop_all(self, children, 1)
    end })
    for _, child in ipairs(children) do
      start(self, child)
    end
    local times = {}
    for message, call in self:messages() do
      if type(message) == "table" and message.is and message:is(actor.Down) then
        handle_end(self, children, options, times, message)
      elseif call and message == "children" then
        call:reply(list(children))
      end
    end
  end

  --- actor.supervisor(children [, options]): the body of an actor that starts others, its children,
  --- and starts them anew when they end; for actor.spawn, or as the child of another supervisor.
  --- A child is a table:
  ---
  ---     start     the body of the actor
  ---     args      a list of its arguments
  ---     name      to be registered, each time
  ---     id        what it goes by in `children`: its name or number, if nothing is said
  ---     restart   "permanent": always; "transient": unless it returned; "temporary": never
  ---     patience  seconds that its end may take when it is killed: 5
  ---
  --- Options:
  ---
  ---     strategy  "one_for_one": restarts the child that ended; "one_for_all": all of them;
  ---               "rest_for_one": it and those that were started after it
  ---     limit     so many restarts are no reason to give up: 3
  ---     within    in so many seconds: 5
  ---
  --- When the supervisor ends, it kills its children first, the last one first. It ends by an error
  --- if they end too often. The call "children" returns a list of tables { id =, actor = }.
  -- Source: Erlang's supervisor.
  ---@param children table[]
  ---@param options? table
  ---@return function
  return function(children, options)
    options = options or {}
    local strategy = options.strategy or "one_for_one"
    if type(children) ~= "table" then
      error(("bad argument #1 to 'supervisor' (table expected, got %s)"):format(type(children)), 2)
    elseif not STRATEGIES[strategy] then
      error(("bad argument #2 to 'supervisor' (unknown strategy '%s')"):format(strategy), 2)
    end
    copy_children(children)
    local limit, within = options.limit or 3, options.within or 5
    return function(self)
      run(self, copy_children(children), { strategy = strategy, limit = limit, within = within })
    end
  end
end
