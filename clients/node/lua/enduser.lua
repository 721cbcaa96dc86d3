-- Ends sessions of one user in one step.
--
-- KEYS[1]   the user's index: see signin.lua. The last 22 characters are the owner
-- KEYS[2]   the revocations of the bucket, a hash of values by owner. A value has numbers of 12
--           hexadecimal digits: since, until, then for each exception, in the order of names, the
--           session's name of 22 characters and its time of creation. It ends the user's sessions
--           that were created at since or earlier, except those. It may be forgotten after until
-- KEYS[3…]  sessions. The last 22 characters are their names
-- ARGV[1]   action
--           only   end the sessions KEYS[3…]
--           all    revoke all sessions, except KEYS[3…]
--           again  continue, or restore after a failover, a revocation: end those of KEYS[3…]
--                  that it covers
-- ARGV[2]   all: remember, for how long, in milliseconds. again: revocation, as stored. only: ""
-- ARGV[3]   global: when all users were revoked last; 0: never
--
-- Replies
--   {"ok", time, the revocation or "", {names of KEYS[3…] that were alive}, {names of those that
--          had expired}, {names of revoked sessions to remove}}
--          The last list has at most 500 names, the oldest first. Call "again" with them until the
--          list is empty
--   {"invalid", the argument's name in this text}
--
-- An ended session leaves an "ended" marker, as in end.lua. A revoked session ended at the time of
-- the revocation.
--
-- An end always succeeds. A malformed session ends like any other, if the index names it or "@u"
-- names its user, and is never excepted. A malformed revocation counts as one of this moment
-- without exceptions.

local index, revocations, owner, action = KEYS[1], KEYS[2], string.sub(KEYS[1], -22), ARGV[1]
local MOST_KEYS, MOST_TIME, MOST, ENDED_FOR, NO_ATTEMPT = 1000, 253402300799999, 500, 60000, string.rep('A', 22)

-- integer returns an argument that is a number from 0 to MOST_TIME, or nil.
local function integer(i)
  local n = ARGV[i] and #ARGV[i] < 16 and string.find(ARGV[i], '^%d+$') and tonumber(ARGV[i])
  if n and n <= MOST_TIME then return n end
end

-- number returns the fixed-width number in a part of a stored value, or nil.
local function number(text, from, to)
  local digits = string.sub(text, from, to)
  if #digits == to - from + 1 and not string.find(digits, '[^0-9a-f]') then return tonumber(digits, 16) end
end

-- parse returns a revocation, or nil if it is malformed.
local function parse(text)
  local r = {since = number(text, 1, 12), forget = number(text, 13, 24), kept = {}}
  if not r.since or not r.forget or #text % 34 ~= 24 then return nil end
  for i = 25, #text, 34 do
    local created = number(text, i + 22, i + 33)
    if not created then return nil end
    r.kept[string.sub(text, i, i + 21)] = created
  end
  return r
end

local function covers(r, name, created) return created <= r.since and not r.kept[name] end

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

if #KEYS < 2 or #KEYS > MOST_KEYS then return {'invalid', 'keys'} end
local remember, again = action == 'all' and integer(2), action == 'again' and ARGV[2] and parse(ARGV[2])
local global = integer(3)
if action ~= 'only' and action ~= 'all' and action ~= 'again' then return {'invalid', 'action'} end
if action == 'all' and not remember then return {'invalid', 'remember'} end
if action == 'again' and not again then return {'invalid', 'revocation'} end
if not global then return {'invalid', 'global'} end

local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local names = {}
for i = 3, #KEYS do names[i - 2] = string.sub(KEYS[i], -22) end
local count = action == 'all' and 0 or #names -- sessions to end

local entry = redis.call('HGET', revocations, owner) or ''
local current = entry ~= '' and parse(entry) or nil
if entry ~= '' and not current then current = {since = now, forget = now, kept = {}} end

-- A new revocation and the stored one are merged so that both hold.

local new = again
if action == 'all' then
  -- The newest session may be from another server, whose clock was ahead.
  local newest = redis.call('ZRANGE', index, -1, -1, 'WITHSCORES')
  local since = math.max(now, tonumber(newest[2] or 0))
  new = {since = since, forget = math.min(since + remember, MOST_TIME), kept = {}}
  for i = 1, #names do
    local life = redis.pcall('HGET', KEYS[i + 2], '@l')
    new.kept[names[i]] = type(life) == 'string' and number(life, 23, 34) or nil
  end
end
if new then
  local merged = new
  if current then
    merged = {since = math.max(current.since, new.since), forget = math.max(current.forget, new.forget), kept = {}}
    for _, r in pairs({current, new}) do
      for name, created in pairs(r.kept) do
        if not covers(current, name, created) and not covers(new, name, created) then merged.kept[name] = created end
      end
    end
  end
  local kept = {}
  for name, created in pairs(merged.kept) do kept[#kept + 1] = name .. string.format('%012x', created) end
  table.sort(kept)
  local text = string.format('%012x%012x', merged.since, merged.forget) .. table.concat(kept)
  if text ~= entry then
    -- HDEL is first: if memory is full, Redis refuses a script that begins with another write.
    redis.call('HDEL', revocations, owner)
    local latest, others = merged.forget, redis.call('HGETALL', revocations)
    for i = 1, #others, 2 do
      local forget = number(others[i + 1], 13, 24) or now + redis.call('PTTL', revocations)
      if forget < now then redis.call('HDEL', revocations, others[i]) else latest = math.max(latest, forget) end
    end
    redis.call('HSET', revocations, owner, text)
    redis.call('PEXPIREAT', revocations, latest)
  end
  entry, current = text, merged
end

local ended, expired, removed, keys = {}, {}, {}, {}
local scores = count > 0 and redis.call('ZMSCORE', index, unpack(names))
-- Usually all sessions are alive. Then their scores, which equal the times of creation, are enough.
local alive = count > 0 and redis.call('EXISTS', unpack(KEYS, 3)) == count
for i = 1, count do
  local name, key, created = names[i], KEYS[i + 2], tonumber(scores[i])
  if not created and action == 'only' then -- the index may be lost
    local have = redis.pcall('HMGET', key, '@u', '@l')
    if have[1] and string.sub(have[1], 1, 22) == owner then created = have[2] and number(have[2], 23, 34) or 0 end
  end
  if created then -- else it may be another user's session
    local exists = alive or redis.call('EXISTS', key) == 1
    local moved = exists and not alive and redis.pcall('HEXISTS', key, '@moved') == 1
    -- A session that moved leaves the index, and its "moved" marker stays in place.
    if not exists or moved or action == 'only' or covers(current, name, created) then
      removed[#removed + 1] = name
      if exists and not moved then
        ended[#ended + 1], keys[#keys + 1] = name, key
      elseif not moved and created > global then
        expired[#expired + 1] = name
      end
    end
  end
end
if #keys > 0 then
  local at = action == 'only' and now or math.min(now, current.since)
  local left = at + ENDED_FOR - now
  if left <= 0 then redis.call('DEL', unpack(keys)) end
  for i = 1, left > 0 and #keys or 0 do
    leave_marker(keys[i], '@ended', string.format('%012x', at) .. NO_ATTEMPT, left)
  end
end
if #removed > 0 then
  redis.call('ZREM', index, unpack(removed))
  redis.call('ZADD', index, 'XX', 'INCR', 1, '@rev')
end

local remove = {}
if action ~= 'only' and redis.call('ZCARD', index) > 1 then
  local kept = 0
  for _ in pairs(current.kept) do kept = kept + 1 end
  local members = redis.call('ZRANGE', index, 0, current.since, 'BYSCORE', 'LIMIT', 0, MOST + kept + 1)
  for _, name in ipairs(members) do
    if name ~= '@rev' and not current.kept[name] and #remove < MOST then remove[#remove + 1] = name end
  end
end
return {'ok', now, entry, ended, expired, remove}
