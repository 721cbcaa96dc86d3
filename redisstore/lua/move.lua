-- Handles the browser's old session at a sign-in. The new session lies in another slot, so this
-- goes in steps, and each may be repeated: "leave" before the new session is stored, "left" after
-- it, or "stay" if it could not be stored.
--
-- KEYS[1]  the old session's hash
-- KEYS[2]  leave: the revocations of its bucket, as in apply.lua
--          left, again: the index of the old session's user, if there is one: see signin.lua
-- ARGV[1]  leave, left or stay; again: repeat a "left" that a failover may have undone
-- ARGV[2]  identifies this sign-in: the hash of the new session's selector
-- ARGV[3]  leave: hash of the verifier that the request presented
-- ARGV[4]  leave: when all users were revoked last; 0: never
--          left, again: the old session's name in KEYS[2]
--
-- Replies
--   {"ok", seconds, microseconds, names and values of the hash …}   leave: the session accepts no
--               changes for 10 s
--   {"ok"}      left, again: for a minute the key holds a "moved" marker for late requests
--               stay: the session accepts changes again
--   {"gone"}    there is no such session, or another sign-in has closed it
--   {"moved"}   the verifier is not accepted, or another sign-in is under way

-- leave_marker replaces a session by a marker. The key exists all the time: if its slot is moving
-- to another server, a script cannot create it again. HDEL is first: if memory is full, Redis
-- refuses a script that begins with HSET.
local function leave_marker(key, name, value, ttl)
  local others = {}
  for _, field in ipairs(redis.call('HKEYS', key)) do
    if field ~= '@v' and field ~= name then others[#others + 1] = field end
  end
  if #others > 0 then redis.call('HDEL', key, unpack(others)) end
  redis.call('HSET', key, name, value)
  redis.call('HDEL', key, '@v')
  redis.call('PEXPIRE', key, ttl .. '')
end

local key, action, attempt = KEYS[1], ARGV[1], ARGV[2]
local LEASE, MOVED_FOR = 10000, 60000

local have = redis.call('HMGET', key, '@token', '@previous', '@moving', '@idle', '@deadline', '@seen', '@created')
local moving, lease
if have[3] then moving, lease = string.match(have[3], '^([^.]+)%.?(%d*)$') end

if action == 'left' or action == 'again' then
  if moving ~= 'moved' and have[1] then
    if action == 'left' and moving ~= attempt then return {'gone'} end
    leave_marker(key, '@moving', 'moved', MOVED_FOR)
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

-- A revoked session is gone, even if its key is not deleted yet.
local created = tonumber(have[7])
if created <= tonumber(ARGV[4]) then return {'gone'} end
if KEYS[2] and redis.call('EXISTS', KEYS[2]) == 1 then
  local owner = string.match(redis.call('HGET', key, '@principal') or '', '"owner":"([%w_-]+)"')
  local since, kept = string.match(owner and redis.call('HGET', KEYS[2], owner) or '', '^(%d+)%.%d+(.*)$')
  local excepted = string.find(kept or '', '.' .. string.sub(key, -22) .. '.', 1, true)
  if since and created <= tonumber(since) and not excepted then return {'gone'} end
end

if moving and moving ~= attempt and now < tonumber(lease) then return {'moved'} end

local presented, current = ARGV[3], string.sub(have[1], -22)
if presented ~= current then
  local state, before, number
  if have[2] then state, before, number = string.match(have[2], '^(%a+)%.([^.]+)%.(%d+)$') end
  local accepted = presented == before and (state == 'pending' or state == 'grace' and now < tonumber(number))
  if not accepted then return {'moved'} end
end
redis.call('HSET', key, '@moving', attempt .. '.' .. now + LEASE)
local reply = redis.call('HGETALL', key)
table.insert(reply, 1, clock[2])
table.insert(reply, 1, clock[1])
table.insert(reply, 1, 'ok')
return reply
