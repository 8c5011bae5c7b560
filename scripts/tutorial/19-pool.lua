-- 19. Pools
-- A pool is a group with a limit: of three jobs two run at first, and the third starts when a place
-- is free.

local Pool = require("moonlet.pool").Pool

local pool = Pool(2)

local function hello_from()
  print(("Size of pool %d"):format(#pool))
end

pool:map(hello_from, { 0, 1, 2 })
