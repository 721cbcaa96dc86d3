-- Stores a signed-in session and its entry in the user's index, and keeps the limit on concurrent
-- sessions.
--
-- KEYS[1]   the new session's hash. The last 22 characters are its name
-- KEYS[2]   the user's index, a sorted set: names of sessions by time of creation; "@rev": the
--           version of the index. The last 22 characters are the owner
-- KEYS[3]   the revocations of the bucket: see enduser.lua
-- KEYS[4…]  sessions that the index named when the caller read it, the oldest first
-- ARGV[1]   id: the session's secret, a hash
-- ARGV[2]   verifier: the hash of the first verifier
-- ARGV[3]   size of the fields: bytes of their names and values
-- ARGV[4]   idle limit in milliseconds
-- ARGV[5]   lifetime in milliseconds
-- ARGV[6]   first: how long the session lives before its first use, in milliseconds. 60000 if the
--           caller confirms the session with touch.lua as its last step: the caller may crash before
--           that. Else the idle limit
-- ARGV[7]   version of the index when the caller read it; "" without a limit
-- ARGV[8]   began: when the authentication began, by the server's clock in milliseconds
-- ARGV[9]   ago: how long before the sign-in the user authenticated, in milliseconds
-- ARGV[10]  max: how many of the sessions KEYS[1] and KEYS[4…] the user may have; 0: any number
-- ARGV[11]  refuse: 1 to refuse the sign-in at the limit, 0 to end the oldest sessions
-- ARGV[12]  global: when all users were revoked last; 0: never
-- ARGV[13]  old: name of an old session of the same user that the new one replaces; "" for none.
--           If it is marked for this sign-in, it does not count, and this script replaces it by a
--           "moved" marker
-- ARGV[14]  user: the last 7 characters of "@u"
-- ARGV[15…] names and values: the parts of the info in order, and the fields
--
-- Replies
--   {"ok", time, {names of the sessions that were ended}, {names of sessions that had expired}}
--   {"again"}    this session is stored already, because an earlier reply was lost
--   {"exists"}   another session has the key, or the session has ended
--   {"changed"}  the index has another version: read it and try again
--   {"revoked"}  the user, or all users, were revoked after the authentication began
--   {"full"}     the user has as many sessions as allowed
--   {"malformed", owner}  the user's revocation is malformed
--   {"invalid", the argument's name in this text, "keys" or "fields"}
--
-- Another session of the user that is malformed counts as one, and ends like one. The script does
-- not keep the new session tracked.

local key, index, name, owner = KEYS[1], KEYS[2], string.sub(KEYS[1], -22), string.sub(KEYS[2], -22)
local MOST_KEYS, MOST_ARGS, MOST_TIME, MOST_DURATION = 1000, 3000, 253402300799999, 9223372036854
local NO_ATTEMPT = string.rep('A', 22)
local MEMORY, MOVED_FOR, ENDED_FOR = 86400000, 60000, 60000

-- decimal returns an argument that is an integer from 0 to most, or nil.
local function decimal(i, most)
  local n = #ARGV[i] < 16 and string.find(ARGV[i], '^%d+$') and tonumber(ARGV[i])
  return n and n <= most and n or nil
end

-- The last character of a hash has four unused bits.
local function is_hash(text) return #text == 22 and string.find(text, '^[%w_-]+[AQgw]$') end

-- number returns the fixed-width number in a part of a stored value, or nil.
local function number(text, from, to)
  local digits = string.sub(text, from, to)
  if #digits == to - from + 1 and not string.find(digits, '[^0-9a-f]') then return tonumber(digits, 16) end
end

-- The arguments.

if #KEYS < 3 or #KEYS > MOST_KEYS then return {'invalid', 'keys'} end
if #ARGV < 14 or #ARGV > MOST_ARGS or #ARGV % 2 ~= 0 then return {'invalid', 'fields'} end
if not is_hash(ARGV[1]) then return {'invalid', 'id'} end
if not is_hash(ARGV[2]) then return {'invalid', 'verifier'} end
local size, first = decimal(3, MOST_TIME), decimal(6, MOST_DURATION)
local idle, lifetime = decimal(4, MOST_DURATION), decimal(5, MOST_DURATION)
local began, ago, max, global = decimal(8, MOST_TIME), decimal(9, MOST_TIME), decimal(10, MOST_TIME), decimal(12, MOST_TIME)
if not idle then return {'invalid', 'idle'} end
if not lifetime then return {'invalid', 'lifetime'} end
if not first then return {'invalid', 'first'} end
if ARGV[7] ~= '' and not decimal(7, MOST_TIME) then return {'invalid', 'version'} end
if not began then return {'invalid', 'began'} end
if not ago then return {'invalid', 'ago'} end
if not max then return {'invalid', 'max'} end
if ARGV[11] ~= '0' and ARGV[11] ~= '1' then return {'invalid', 'refuse'} end
if not global then return {'invalid', 'global'} end
if ARGV[13] ~= '' and not is_hash(ARGV[13]) then return {'invalid', 'old'} end
local level, info = string.match(ARGV[14], '^(%x%x)[01](%x%x%x%x)$')
level, info = tonumber(level or 'ff', 16), tonumber(info or '0', 16)
if level > 99 or info < 1 or info > 12288 or string.find(ARGV[14], '%u') then return {'invalid', 'user'} end
local part, bytes, names = 0, 0, {}
for i = 15, #ARGV, 2 do
  local field, value = ARGV[i], ARGV[i + 1]
  if field == '' or names[field] then return {'invalid', 'fields'} end
  names[field] = true
  if string.byte(field) ~= 64 then -- "@"
    bytes = bytes + #field + #value
  else
    part = part + 1
    if field ~= '@i' .. (part > 1 and part or '') then return {'invalid', 'fields'} end
    if info == 0 or #value ~= math.min(64, info) then return {'invalid', 'user'} end
    info = info - #value
  end
end
if info ~= 0 then return {'invalid', 'user'} end
if bytes ~= size then return {'invalid', 'size'} end

-- What is stored.

if redis.call('EXISTS', key) == 1 then
  local life = redis.pcall('HGET', key, '@l')
  return {type(life) == 'string' and string.sub(life, 1, 22) == ARGV[1] and 'again' or 'exists'}
end

local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
if lifetime > MOST_TIME - now then return {'invalid', 'lifetime'} end
local since, revocation = 0, redis.call('HGET', KEYS[3], owner)
if revocation then
  since = #revocation % 34 == 24 and number(revocation, 1, 12)
  if not since then return {'malformed', owner} end
end
if math.min(now, began) <= math.max(since, global) then return {'revoked'} end
local version = redis.call('ZSCORE', index, '@rev') or '0'
if ARGV[7] ~= '' and version ~= ARGV[7] then return {'changed'} end

local function is_revoked(member, created)
  if created <= global then return true end
  if not revocation or created > since then return false end
  for i = 25, #revocation, 34 do
    if string.sub(revocation, i, i + 21) == member then return false end
  end
  return true
end

-- Before any write: a session that only the index names counts as expired.
local removed, live, expired, revoked, replaced = {}, {}, {}, {}, nil
for i = 4, #KEYS do
  local other, member = KEYS[i], string.sub(KEYS[i], -22)
  local have = redis.pcall('HMGET', other, '@l', '@moving', '@moved', '@ended')
  local created = have[1] and number(have[1], 23, 34)
  if not created and (have.err or have[1] or not have[3] and not have[4] and redis.call('EXISTS', other) == 1) then
    created = tonumber(redis.call('ZSCORE', index, member)) or now -- malformed
  end
  if created and is_revoked(member, created) then
    removed[#removed + 1], revoked[#revoked + 1] = member, other
  elseif created and member == ARGV[13] and have[2] and string.sub(have[2], 1, 22) == name then
    removed[#removed + 1], replaced = member, other
  elseif created then
    live[#live + 1] = other
  else
    removed[#removed + 1] = member
    if member ~= ARGV[13] and not have[3] then
      local score = since > 0 and redis.call('ZSCORE', index, member)
      if not score or not is_revoked(member, tonumber(score)) then expired[#expired + 1] = member end
    end
  end
end
if max > 0 and #live >= max and ARGV[11] == '1' then return {'full'} end

-- The writes.

local evicted = {}
if replaced or #revoked > 0 or max > 0 and #live >= max then
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

  -- mark_ended leaves an "ended" marker, as in end.lua.
  local function mark_ended(session, at)
    local left = at + ENDED_FOR - now
    if left <= 0 then
      redis.call('DEL', session)
    else
      leave_marker(session, '@ended', string.format('%012x', at) .. NO_ATTEMPT, left)
    end
  end

  if max > 0 then
    for i = 1, #live - max + 1 do
      mark_ended(live[i], now)
      evicted[i] = string.sub(live[i], -22)
      removed[#removed + 1] = evicted[i]
    end
  end
  for i = 1, #revoked do mark_ended(revoked[i], math.min(now, since)) end
  if replaced then leave_marker(replaced, '@moved', string.format('%012x', now), MOVED_FOR) end
end

local deadline, seen = now + lifetime, now - math.max(0, idle - first)
redis.call('HSET', key,
  '@t', '10' .. ARGV[2] .. '00000000000000000000',
  '@s', string.format('000000000001%08x%012x', size, math.max(0, seen)),
  '@l', ARGV[1] .. string.format('%012x%012x%012x', now, deadline, idle),
  '@u', owner .. string.format('%012x', math.max(0, now - ago)) .. ARGV[14], unpack(ARGV, 15))
redis.call('PEXPIREAT', key, string.format('%d', math.min(seen + idle, deadline)))

if #removed > 0 then redis.call('ZREM', index, unpack(removed)) end
redis.call('ZADD', index, string.format('%d', now), name, string.format('%d', version + 1), '@rev')
-- The index lives long enough to find the sessions that expired.
local forget = string.format('%d', now + math.max(lifetime, MEMORY))
if version == '0' then
  redis.call('PEXPIREAT', index, forget)
else
  redis.call('PEXPIREAT', index, forget, 'GT')
end
return {'ok', now, evicted, expired}
