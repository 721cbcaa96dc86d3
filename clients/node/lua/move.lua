-- Handles the browser's old session at a sign-in. The new session lies in another slot, so this
-- goes in steps, and each may be repeated: "leave" before the new session is stored, "left" after
-- it, or "stay" if it could not be stored.
--
-- KEYS[1]  the old session's hash. The last 22 characters are its name
-- KEYS[2]  leave: the revocations of its bucket, as in apply.lua
--          left, again: the index of the old session's user, if there is one: see signin.lua
-- ARGV[1]  action: leave, left or stay; again: repeat a "left" that a failover may have undone
-- ARGV[2]  attempt: identifies this sign-in, the name of the new session. Not used by "again"
-- ARGV[3]  leave: hash of the verifier that the request presented
-- ARGV[4]  leave: global, when all users were revoked last; 0: never
--
-- Replies
--   {"ok", time, {names and values of the hash}}   leave: the session accepts no changes for 10 s
--   {"ok"}      left, again: for a minute the key holds a "moved" marker for late requests: a hash
--               whose only field, "@moved", is the server's time
--               stay: the session accepts changes again
--   {"gone"}    there is no such session, or another sign-in has closed it
--   {"moved"}   the verifier is not accepted, or another sign-in is under way
--   {"malformed", name of a stored value}
--   {"invalid", the argument's name in this text}
--
-- A malformed session cannot be left. The other steps need only "@moving" and "@s" of it.

local key, action, attempt = KEYS[1], ARGV[1], ARGV[2] or ''
local LEASE, MOVED_FOR = 10000, 60000

local function is_hash(text) return text and #text == 22 and string.find(text, '^[%w_-]+$') end

-- number returns the fixed-width number in a part of a stored value, or nil.
local function number(text, from, to)
  local digits = string.sub(text, from, to)
  if #digits == to - from + 1 and not string.find(digits, '[^0-9a-f]') then return tonumber(digits, 16) end
end

local function now_ms()
  local clock = redis.call('TIME')
  return clock[1] * 1000 + math.floor(clock[2] / 1000)
end

-- leave_marker replaces a session by a marker. The key exists all the time: if its slot is moving
-- to another server, a script cannot create it again. HDEL is first: if memory is full, Redis
-- refuses a script that begins with HSET.
local function leave_marker(session, marker, value, ttl)
  local names = redis.pcall('HKEYS', session)
  if names.err or #names > 5000 then return redis.call('DEL', session) end -- malformed
  local last = names[#names]
  names[#names] = ''
  redis.call('HDEL', session, unpack(names))
  redis.call('HSET', session, marker, value)
  if last ~= marker then redis.call('HDEL', session, last) end
  redis.call('PEXPIRE', session, ttl)
end

if #KEYS > 2 then return {'invalid', 'keys'} end
if action ~= 'again' and not is_hash(attempt) then return {'invalid', 'attempt'} end
local have = redis.pcall('HMGET', key, '@s', '@moving', '@moved', '@l', '@previous', '@u')
if have.err then return {'malformed', '@s'} end
local state, moving, moved = have[1], have[2], have[3]

if action == 'left' or action == 'again' then
  if state and not moved then
    if action == 'left' and (not moving or string.sub(moving, 1, 22) ~= attempt) then return {'gone'} end
    leave_marker(key, '@moved', string.format('%012x', now_ms()), MOVED_FOR)
  end
  if KEYS[2] then redis.call('ZREM', KEYS[2], string.sub(key, -22)) end
  return {'ok'}
end

-- The flags: 1, the current verifier was not used yet; 2, a sign-in is under way.
local flags = state and #state == 56 and string.match(state, '^1([0-3])')
if action == 'stay' then
  if not moving or string.sub(moving, 1, 22) ~= attempt then return {'gone'} end
  if not flags then return {'malformed', '@s'} end
  redis.call('HDEL', key, '@moving')
  if flags > '1' then redis.call('HSET', key, '@s', '1' .. flags - 2 .. string.sub(state, 3)) end
  return {'ok'}
end

if action ~= 'leave' then return {'invalid', 'action'} end
if not is_hash(ARGV[3]) then return {'invalid', 'verifier'} end
local global = ARGV[4] and #ARGV[4] < 16 and string.find(ARGV[4], '^%d+$') and tonumber(ARGV[4])
if not global then return {'invalid', 'global'} end
if not state then
  if moved then return {'moved'} end
  return have[4] and {'malformed', '@s'} or {'gone'}
end
local seen = flags and number(state, 45, 56)
if not seen then return {'malformed', '@s'} end
local created = have[4] and #have[4] == 58 and number(have[4], 23, 34)
local deadline, idle = created and number(have[4], 35, 46), created and number(have[4], 47, 58)
if not deadline or not idle then return {'malformed', '@l'} end

local now = now_ms()
if now >= math.min(seen + idle, deadline) then return {'gone'} end

-- A revoked session is gone, even if its key is not deleted yet.
if created <= global then return {'gone'} end
if KEYS[2] and have[6] and redis.call('EXISTS', KEYS[2]) == 1 then
  if #have[6] ~= 41 then return {'malformed', '@u'} end
  local owner, name, excepted = string.sub(have[6], 1, 22), string.sub(key, -22), false
  local revocation = redis.call('HGET', KEYS[2], owner)
  if revocation then
    local since = #revocation % 34 == 24 and number(revocation, 1, 12)
    if not since then return {'malformed', owner} end
    for i = 25, #revocation, 34 do excepted = excepted or string.sub(revocation, i, i + 21) == name end
    if created <= since and not excepted then return {'gone'} end
  end
end

if moving and flags < '2' then return {'malformed', '@s'} end
if flags > '1' then
  local lease = moving and #moving == 34 and number(moving, 23, 34)
  if not lease then return {'malformed', '@moving'} end
  if string.sub(moving, 1, 22) ~= attempt and now < lease then return {'moved'} end
end

local presented, previous = ARGV[3], have[5]
local kind = previous and #previous == 55 and string.match(previous, '^[ar]')
local until_ms = kind and number(previous, 24, 35)
if previous and not until_ms or not previous and flags % 2 == 1 then return {'malformed', '@previous'} end
if presented ~= string.sub(state, 3, 24) then
  local accepted = kind == 'a' and presented == string.sub(previous, 2, 23) and (flags % 2 == 1 or now < until_ms)
  if not accepted then return {'moved'} end
end
redis.call('HSET', key, '@moving', attempt .. string.format('%012x', now + LEASE),
  '@s', '1' .. flags % 2 + 2 .. string.sub(state, 3))
return {'ok', now, redis.call('HGETALL', key)}
