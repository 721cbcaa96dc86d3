-- Notes that a session was used, if that extends it by more than the touch interval, or if it is
-- the first use of a token that replaced another.
--
-- KEYS[1]  the session's hash
-- KEYS[2]  the revocations of its bucket, as in apply.lua
-- ARGV[1]  hash of the verifier that the request presented
-- ARGV[2]  when all users were revoked last; 0: never
--
-- Replies {"ok", seconds, microseconds, revision}, {"gone"} or {"moved"}, as apply.lua does.

local key, presented = KEYS[1], ARGV[1]
local have = redis.call('HMGET', key,
  '@token', '@previous', '@idle', '@deadline', '@seen', '@rev', '@moving', '@created')
if not have[1] then return {have[7] == 'moved' and 'moved' or 'gone'} end
local idle, deadline, seen = tonumber(have[3]), tonumber(have[4]), tonumber(have[5])

local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local expires = math.min(seen + idle, deadline)
if now >= expires then return {'gone'} end

-- A revoked session is gone, even if its key is not deleted yet.
local created = tonumber(have[8])
if created <= tonumber(ARGV[2]) then return {'gone'} end
if KEYS[2] and redis.call('EXISTS', KEYS[2]) == 1 then
  local owner = string.match(redis.call('HGET', key, '@principal') or '', '"owner":"([%w_-]+)"')
  local since, kept = string.match(owner and redis.call('HGET', KEYS[2], owner) or '', '^(%d+)%.%d+(.*)$')
  local excepted = string.find(kept or '', '.' .. string.sub(key, -22) .. '.', 1, true)
  if since and created <= tonumber(since) and not excepted then return {'gone'} end
end

if have[7] and now < tonumber(string.match(have[7], '%d+$')) then return {'moved'} end

local current = string.sub(have[1], -22)
-- "pending" and "renewed": the current verifier was not used yet.
local state, before, number -- number: with "pending" the grace, else until when
if have[2] then state, before, number = string.match(have[2], '^(%a+)%.([^.]+)%.(%d+)$') end
if presented ~= current then
  local accepted = presented == before and (state == 'pending' or state == 'grace' and now < tonumber(number))
  if not accepted then return {'moved'} end
end
local first_use = presented == current and (state == 'pending' or state == 'renewed')

local extended = math.min(now + idle, deadline)
if extended - expires <= math.min(idle / 20, 60000) and not first_use then
  return {'ok', clock[1], clock[2], have[6]}
end
local set = {'HSET', key, '@rev', string.format('%.0f', have[6] + 1)}
if now > seen then set[#set + 1], set[#set + 2] = '@seen', string.format('%.0f', now) end
if first_use then
  if state == 'pending' then
    state, number = 'grace', string.format('%.0f', now + number)
  else
    state = 'replaced'
  end
  set[#set + 1], set[#set + 2] = '@previous', state .. '.' .. before .. '.' .. number
end
redis.call(unpack(set))
redis.call('PEXPIREAT', key, string.format('%.0f', extended))
return {'ok', clock[1], clock[2], redis.call('HGET', key, '@rev')}
