-- Removes sessions from a user's index that have no hash any more. Exactly one call reports each
-- session that expired.
--
-- KEYS[1]   the user's index: see signin.lua
-- KEYS[2]   the revocations of the bucket: see enduser.lua
-- KEYS[3…]  the hashes of sessions that the caller found missing
-- ARGV[1…]  the names of these sessions
--
-- Reply {"ok", seconds, microseconds, names of the sessions that expired …}
--
-- A session that was revoked, and expired before it was removed, has ended: it is not reported.

local since, kept = string.match(redis.call('HGET', KEYS[2], string.sub(KEYS[1], -22)) or '', '^(%d+)%.%d+(.*)$')
since = tonumber(since or 0)
local expired = {}
for i = 3, #KEYS do
  local name = ARGV[i - 2]
  local there = redis.call('HMGET', KEYS[i], '@token', '@moving')
  local created = not there[1] and redis.call('ZSCORE', KEYS[1], name)
  if created and redis.call('ZREM', KEYS[1], name) == 1 and there[2] ~= 'moved'
    and (tonumber(created) > since or string.find(kept, '.' .. name .. '.', 1, true)) then
    expired[#expired + 1] = name
  end
end
local clock = redis.call('TIME')
return {'ok', clock[1], clock[2], unpack(expired)}
