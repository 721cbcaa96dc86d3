-- Notes that a session was used, if that extends it by more than the touch interval, or if it is
-- the first use of a token that replaced another.
--
-- KEYS[1]  the session's hash
-- KEYS[2]  the revocations of its bucket, as in apply.lua
-- ARGV[1]  verifier: hash of the verifier that the request presented
-- ARGV[2]  global: when all users were revoked last, as in apply.lua
-- ARGV[3]  tracked: 1 if the caller keeps a copy, as in apply.lua; else 0
--
-- Replies {"ok", time, revision}, {"gone"}, {"moved"}, {"malformed", name} or {"invalid", name}, as
-- apply.lua does.

local key, presented = KEYS[1], ARGV[1]
local MAX_TIME, HEX = 253402300799999, '^[0-9a-f]+$'

if not presented or #presented ~= 22 or not string.find(presented, '^[%w_-]+$') then return {'invalid', 'verifier'} end
local global = ARGV[2] and #ARGV[2] < 16 and string.find(ARGV[2], '^%d+$') and tonumber(ARGV[2])
if not global or global > MAX_TIME then return {'invalid', 'global'} end
if ARGV[3] ~= '0' and ARGV[3] ~= '1' then return {'invalid', 'tracked'} end

local have = redis.call('HMGET', key, '@s', '@l', '@previous', '@moving')
local state, life, previous, moving = have[1], have[2], have[3], have[4]
if not state then
  if life then return {'malformed', '@s'} end
  return {redis.call('HEXISTS', key, '@moved') == 1 and 'moved' or 'gone'}
end

-- The flags: 1, the current verifier was not used yet; 2, a sign-in is under way.
local flags = #state == 56 and string.find(state, HEX, 25) and string.match(state, '^1([0-3])')
if not flags then return {'malformed', '@s'} end
local unused, leaving, current = flags % 2 == 1, flags % 4 >= 2, string.sub(state, 3, 24)
if moving and not leaving then return {'malformed', '@s'} end
if not life or #life ~= 58 or not string.find(life, HEX, 23) then return {'malformed', '@l'} end
local well_formed = not previous and not unused
  or previous and #previous == 55 and string.find(previous, '^[ar]') and string.find(previous, HEX, 24)
if not well_formed then return {'malformed', '@previous'} end
if leaving and (not moving or #moving ~= 34 or not string.find(moving, HEX, 23)) then return {'malformed', '@moving'} end

local function number(text, from, to) return tonumber(string.sub(text, from, to), 16) end

local revision, seen, created = number(state, 25, 36), number(state, 45, 56), number(life, 23, 34)
local deadline, idle = number(life, 35, 46), number(life, 47, 58)
if revision >= 281474976710655 then return {'malformed', '@s'} end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local expires = math.min(seen + idle, deadline)
if now >= expires then return {'gone'} end

-- A revoked session is gone, even if its key is not deleted yet.
if created <= global then return {'gone'} end
if KEYS[2] and redis.call('EXISTS', KEYS[2]) == 1 then
  local user, name, excepted = redis.call('HGET', key, '@u'), string.sub(key, -22), false
  if user and #user ~= 41 then return {'malformed', '@u'} end
  local owner = user and string.sub(user, 1, 22)
  local revocation = owner and redis.call('HGET', KEYS[2], owner)
  if revocation then
    if #revocation % 34 ~= 24 or not string.find(string.sub(revocation, 1, 12), HEX) then return {'malformed', owner} end
    for i = 25, #revocation, 34 do excepted = excepted or string.sub(revocation, i, i + 21) == name end
    if created <= number(revocation, 1, 12) and not excepted then return {'gone'} end
  end
end
if leaving and now < number(moving, 23, 34) then return {'moved'} end

local accepted = previous and string.sub(previous, 1, 1) == 'a'
if presented ~= current then
  local may = accepted and presented == string.sub(previous, 2, 23) and (unused or now < number(previous, 24, 35))
  if not may then return {'moved'} end
end
local first_use = unused and presented == current
local extended = math.min(now + idle, deadline)
if first_use or extended - expires > math.min(idle / 20, 60000) then
  revision = revision + 1
  local head = first_use and (leaving and '12' or '10') .. current or string.sub(state, 1, 24)
  local set = {'HSET', key, '@s', head .. string.format('%012x', revision) .. string.sub(state, 37, 44)
    .. string.format('%012x', math.max(now, seen))}
  if first_use and accepted then -- the grace period begins
    local ends = string.format('%012x', now + number(previous, 24, 35))
    set[5], set[6] = '@previous', string.sub(previous, 1, 23) .. ends .. string.sub(previous, 36)
  end
  redis.call(unpack(set))
  redis.call('PEXPIREAT', key, string.format('%.0f', extended))
  if ARGV[3] == '1' then redis.call('HLEN', key) end -- this read keeps the key tracked
end
return {'ok', now, revision}
