-- Stores the time at which all users were revoked. The time never goes back.
--
-- KEYS[1]  the time, in milliseconds
-- ARGV[1]  the time to store; "" for the server's time
-- ARGV[2]  "write" to write also if the stored time is later, so that WAIT has a write to wait for.
--          Else missing
--
-- Replies {"ok", seconds, microseconds, the time that is stored now}
--
-- The last command reads the key: that keeps it tracked.

local clock = redis.call('TIME')
local at = tonumber(ARGV[1]) or clock[1] * 1000 + math.floor(clock[2] / 1000)
local was = tonumber(redis.call('GET', KEYS[1]) or 0)
if at > was or ARGV[2] then
  -- DEL is first: if memory is full, Redis refuses a script that begins with another write.
  redis.call('DEL', KEYS[1])
  redis.call('SET', KEYS[1], math.max(at, was) .. '')
end
return {'ok', clock[1], clock[2], redis.call('GET', KEYS[1])}
