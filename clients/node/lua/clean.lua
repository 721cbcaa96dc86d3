-- Removes sessions from a user's index that do not exist any more. Exactly one call reports each
-- session that expired.
--
-- KEYS[1]   the user's index: see signin.lua. The last 22 characters are the owner
-- KEYS[2]   the revocations of the bucket: see enduser.lua
-- KEYS[3…]  sessions that the caller found missing. The last 22 characters are their names
--
-- Replies
--   {"ok", time, {names of the sessions that expired}}
--   {"malformed", owner}   the user's revocation is malformed
--   {"invalid", "keys"}
--
-- A session that was revoked, and expired before it was removed, has ended: it is not reported. A
-- malformed session exists, so it stays.

local MOST_KEYS, owner, since = 1000, string.sub(KEYS[1], -22), 0

if #KEYS > MOST_KEYS then return {'invalid', 'keys'} end
local revocation = redis.call('HGET', KEYS[2], owner)
if revocation then
  local digits = string.sub(revocation, 1, 12)
  if #revocation % 34 ~= 24 or string.find(digits, '[^0-9a-f]') then return {'malformed', owner} end
  since = tonumber(digits, 16)
end

local function is_revoked(name, created)
  if not revocation or created > since then return false end
  for i = 25, #revocation, 34 do
    if string.sub(revocation, i, i + 21) == name then return false end
  end
  return true
end

local expired = {}
for i = 3, #KEYS do
  local name, there = string.sub(KEYS[i], -22), redis.call('EXISTS', KEYS[i]) == 1
  local moved = there and redis.pcall('HEXISTS', KEYS[i], '@moved') == 1
  local created = (moved or not there) and redis.call('ZSCORE', KEYS[1], name)
  if created then
    redis.call('ZREM', KEYS[1], name)
    if not moved and not is_revoked(name, tonumber(created)) then expired[#expired + 1] = name end
  end
end
local clock = redis.call('TIME')
return {'ok', clock[1] * 1000 + math.floor(clock[2] / 1000), expired}
