-- The old session's part of a sign-in. The new session lies in another slot, so this is done in steps, each of which may be repeated:
-- "leave" before the new session is stored, then "left", or "stay" if it could not be.
--
-- KEYS[1]  the old session's hash
-- KEYS[2]  leave: the revocations of its bucket, as in apply.lua
--          left, again: the index of the old session's user, if it had one: see signin.lua
-- ARGV[1]  leave, left or stay; again, when a failover may have undone a "left"
-- ARGV[2]  what names this sign-in: the hash of the new session's selector
-- ARGV[3]  leave: hash of the verifier that the request presented
-- ARGV[4]  leave: when everybody was revoked last; 0: never
--          left, again: the old session's name in KEYS[2]
--
-- Replies
--   {"ok", seconds, microseconds, names and values of the hash …}   leave: nobody writes to the session any more, for 10 s at most
--   {"ok"}      left, again: for a minute the key tells late requests that the session moved; stay: it is as before
--   {"gone"}    no such session, or it is another sign-in's
--   {"moved"}   the verifier is not accepted, or another sign-in is under way

local key, action, attempt = KEYS[1], ARGV[1], ARGV[2]
local LEASE, REPLACED_FOR = 10000, 60000

local have = redis.call('HMGET', key, '@token', '@previous', '@moving', '@idle', '@deadline', '@seen', '@created')
local moving, lease
if have[3] then moving, lease = string.match(have[3], '^([^.]+)%.?(%d*)$') end

if action == 'left' or action == 'again' then
  if moving ~= 'moved' and have[1] then
    if action == 'left' and moving ~= attempt then return {'gone'} end
    redis.call('DEL', key)
    redis.call('HSET', key, '@moving', 'moved')
    redis.call('PEXPIRE', key, REPLACED_FOR)
  end
  if KEYS[2] then redis.call('ZREM', KEYS[2], ARGV[4]) end
  return {'ok'}
end
if action == 'stay' then
  if moving ~= attempt then return {'gone'} end
  redis.call('HDEL', key, '@moving')
  return {'ok'}
end

if not have[1] then return {moving == 'moved' and 'moved' or 'gone'} end
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
if now >= math.min(have[6] + have[4], tonumber(have[5])) then return {'gone'} end

-- What was revoked is gone, also where the key was not deleted yet.
local created = tonumber(have[7])
if created <= tonumber(ARGV[4]) then return {'gone'} end
if KEYS[2] and redis.call('EXISTS', KEYS[2]) == 1 then
  local owner = string.match(redis.call('HGET', key, '@principal') or '', '"owner":"([%w_-]+)"')
  local since, kept = string.match(owner and redis.call('HGET', KEYS[2], owner) or '', '^(%d+)%.%d+(.*)$')
  if since and created <= tonumber(since) and not string.find(kept, '.' .. string.sub(key, -22) .. '.', 1, true) then return {'gone'} end
end

if moving and moving ~= attempt and now < tonumber(lease) then return {'moved'} end

local presented, current = ARGV[3], string.sub(have[1], -22)
if presented ~= current then
  local state, before, number
  if have[2] then state, before, number = string.match(have[2], '^(%a+)%.([^.]+)%.(%d+)$') end
  if presented ~= before or not (state == 'pending' or state == 'grace' and now < tonumber(number)) then return {'moved'} end
end
redis.call('HSET', key, '@moving', attempt .. '.' .. now + LEASE)
local reply = redis.call('HGETALL', key)
table.insert(reply, 1, clock[2])
table.insert(reply, 1, clock[1])
table.insert(reply, 1, 'ok')
return reply
