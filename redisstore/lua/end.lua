-- Ends a session.
--
-- KEYS[1]  the session's hash
-- KEYS[2]  its user's index, if somebody was signed in: see signin.lua
-- ARGV[1]  the session's name in the index; "" without KEYS[2]
-- ARGV[2]  "write" to write also if there is nothing to end, so that WAIT has a write to wait for.
--          Else missing
--
-- Replies
--   {"ok", seconds, microseconds, 1 if the session was alive, else 0}
--   {"moved"}   a sign-in replaced the session. Its "moved" marker is left in place
--
-- A session that only the index names counts as expired. So an end removes both.

local alive = redis.call('HEXISTS', KEYS[1], '@token')
local moved = alive == 0 and redis.call('HGET', KEYS[1], '@moving') == 'moved'
if moved then
  local ttl = redis.call('PTTL', KEYS[1])
  if ARGV[2] and ttl > 0 then redis.call('PEXPIRE', KEYS[1], ttl .. '') end
else
  -- DEL is first: if memory is full, Redis refuses a script that begins with another write.
  redis.call('DEL', KEYS[1])
  if ARGV[2] and alive == 0 then
    redis.call('SET', KEYS[1], '')
    redis.call('DEL', KEYS[1])
  end
end
if KEYS[2] then redis.call('ZREM', KEYS[2], ARGV[1]) end
if moved then return {'moved'} end
local clock = redis.call('TIME')
return {'ok', clock[1], clock[2], alive}
