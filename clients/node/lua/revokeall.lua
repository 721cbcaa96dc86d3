-- Stores the time at which all users were revoked. The time never goes back.
--
-- KEYS[1]  the time, as 12 hexadecimal digits
-- ARGV[1]  at: the time to store, in milliseconds; "" for the server's time
-- ARGV[2]  write: 1 to write also if the stored time is later, so that WAIT has a write to wait for
--
-- Replies
--   {"ok", time, the time that is stored now}
--   {"invalid", the argument's name in this text}
--
-- A malformed time is replaced, because nobody could be signed in until it is. A caller that knows
-- a later time stores it again. The last command reads the key: that keeps it tracked.

local MOST_TIME = 253402300799999

local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local at = now
if ARGV[1] ~= '' then
  at = ARGV[1] and #ARGV[1] < 16 and string.find(ARGV[1], '^%d+$') and tonumber(ARGV[1])
  if not at or at > MOST_TIME then return {'invalid', 'at'} end
end
if ARGV[2] ~= '0' and ARGV[2] ~= '1' then return {'invalid', 'write'} end

local stored, was = redis.pcall('GET', KEYS[1]), nil
if type(stored) == 'string' and #stored == 12 and not string.find(stored, '[^0-9a-f]') then was = tonumber(stored, 16) end
if not was or at > was or ARGV[2] == '1' then
  -- DEL is first: if memory is full, Redis refuses a script that begins with another write.
  redis.call('DEL', KEYS[1])
  redis.call('SET', KEYS[1], string.format('%012x', math.max(at, was or 0)))
end
return {'ok', now, tonumber(redis.call('GET', KEYS[1]), 16)}
