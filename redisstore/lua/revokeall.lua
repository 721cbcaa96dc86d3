-- Notes when everybody's sessions were ended. The time never goes back.
--
-- KEYS[1]  the time, in milliseconds
-- ARGV[1]  the time to note; "" for the server's
--
-- Replies {"ok", seconds, microseconds, the time that stands there now}

-- The last command reads the key, which keeps it tracked.

local clock = redis.call('TIME')
local at = tonumber(ARGV[1]) or clock[1] * 1000 + math.floor(clock[2] / 1000)
local was = tonumber(redis.call('GET', KEYS[1]) or 0)
if at > was then
  redis.call('DEL', KEYS[1]) -- first: a script that begins with another write is refused when memory is full
  redis.call('SET', KEYS[1], at .. '')
end
return {'ok', clock[1], clock[2], redis.call('GET', KEYS[1])}
