-- Ends a session.
--
-- KEYS[1]  the session's hash
-- KEYS[2]  its user's index, if it has one: see signin.lua
-- ARGV[1]  its name there; "" without it
-- ARGV[2]  "write" if replicas are to be waited for: something is written though there be nothing to end. Else missing
--
-- Replies
--   {"ok", seconds, microseconds, 1 if it was alive, else 0}
--   {"moved"}   it was replaced at a sign-in. The word of that stays
--
-- A session that is in the index and not there any more is taken for one that expired: who ends it removes it from both.

local alive = redis.call('HEXISTS', KEYS[1], '@token')
local moved = alive == 0 and redis.call('HGET', KEYS[1], '@moving') == 'moved'
if moved then
  local left = redis.call('PTTL', KEYS[1])
  if ARGV[2] and left > 0 then redis.call('PEXPIRE', KEYS[1], left .. '') end
else
  redis.call('DEL', KEYS[1]) -- first: a script that begins with another write is refused when memory is full
  if ARGV[2] and alive == 0 then
    redis.call('SET', KEYS[1], '')
    redis.call('DEL', KEYS[1])
  end
end
if KEYS[2] then redis.call('ZREM', KEYS[2], ARGV[1]) end
if moved then return {'moved'} end
local clock = redis.call('TIME')
return {'ok', clock[1], clock[2], alive}
