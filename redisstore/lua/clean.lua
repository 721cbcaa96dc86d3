-- Removes from a user's index sessions that are there no longer. Of all who call it one is told that a session expired.
--
-- KEYS[1]   the user's index: see signin.lua
-- KEYS[2…]  the hashes of sessions that are gone, as far as the caller knows
-- ARGV[1…]  their names, as KEYS
--
-- Reply {"ok", seconds, microseconds, names of those that had expired …}

local expired = {}
for i = 2, #KEYS do
  local there = redis.call('HMGET', KEYS[i], '@token', '@moving')
  if not there[1] and redis.call('ZREM', KEYS[1], ARGV[i - 1]) == 1 and there[2] ~= 'moved' then expired[#expired + 1] = ARGV[i - 1] end
end
local clock = redis.call('TIME')
return {'ok', clock[1], clock[2], unpack(expired)}
