-- Stores a signed-in session and its entry in the user's index, and keeps the limit on concurrent
-- sessions.
--
-- KEYS[1]   the new session's hash
-- KEYS[2]   the user's index, a sorted set: names of sessions (hash of the selector) by creation;
--           "@rev": the index's version
-- KEYS[3]   the revocations of the bucket: see enduser.lua
-- KEYS[4…]  the hashes of the sessions that the index named when the caller read it
-- ARGV[1]   the new session's name
-- ARGV[2]   idle limit in milliseconds
-- ARGV[3]   lifetime in milliseconds
-- ARGV[4]   the session's secret, as "@id" has it
-- ARGV[5]   the index's version when the caller read it; "" without a limit
-- ARGV[6]   when the authentication began, by the server's clock in milliseconds
-- ARGV[7]   how many sessions the user may have, this one included; 0: any number
-- ARGV[8]   "refuse": refuse the sign-in at the limit; else end the oldest sessions
-- ARGV[9]   name of an old session of the same user that the new one replaces; "" for none. If it
--           is marked for this sign-in, it does not count, and this script replaces it by a "moved"
--           marker
-- ARGV[10]  "@principal" up to the time of the authentication
-- ARGV[11]  "@principal" after that time
-- ARGV[12]  how many sessions KEYS[4…] are
-- ARGV[13]  when all users were revoked last; 0: never
-- ARGV[14]  "confirm": the caller confirms the session with touch.lua as its last step. Until then
--           the session lives for a minute, in case the caller crashes. Else ""
-- ARGV[15…] the names of these sessions, the oldest first; then names and values of the rest of the
--           hash, without the times
-- ARGV[last] how long before the sign-in the user authenticated, in milliseconds
--
-- Replies
--   {"ok", seconds, microseconds, n, names of the n sessions that were ended …, names of sessions
--               that had expired …}
--   {"again"}    this session is stored already, because an earlier reply was lost
--   {"exists"}   another session has the key, or the session has ended
--   {"changed"}  the index has another version: read it and try again
--   {"revoked"}  the user, or all users, were revoked after the authentication began
--   {"full"}     the user has as many sessions as allowed

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

local key, index, name = KEYS[1], KEYS[2], ARGV[1]
local idle, lifetime, max, count = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[7]), tonumber(ARGV[12])
local UNCONFIRMED, MEMORY, MOVED_FOR, ENDED_FOR = 60000, 86400000, 60000, 60000

local have = redis.call('HMGET', key, '@id', '@ended')
if have[1] or have[2] then return {have[1] == ARGV[4] and 'again' or 'exists'} end

local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local global, since, kept = tonumber(ARGV[13]), 0, ''
local revocation = redis.call('HGET', KEYS[3], string.sub(index, -22))
if revocation then
  since, kept = string.match(revocation, '^(%d+)%.%d+(.*)$')
  since = tonumber(since)
end
if math.min(now, tonumber(ARGV[6])) <= math.max(since, global) then return {'revoked'} end
local version = redis.call('ZSCORE', index, '@rev') or '0'
if ARGV[5] ~= '' and version ~= ARGV[5] then return {'changed'} end

local removed, live, expired, revoked, replaced = {}, {}, {}, {}, nil
local function is_revoked(member, created)
  return created <= global or created <= since and not string.find(kept, '.' .. member .. '.', 1, true)
end
for i = 1, count do
  local member, other = ARGV[14 + i], KEYS[3 + i]
  local have = redis.call('HMGET', other, '@created', '@moving')
  local created = tonumber(have[1] or 0)
  if created > 0 and is_revoked(member, created) then
    removed[#removed + 1], revoked[#revoked + 1] = member, other
  elseif member == ARGV[9] and created > 0 and have[2] and string.sub(have[2], 1, #name + 1) == name .. '.' then
    removed[#removed + 1], replaced = member, other
  elseif created > 0 then
    live[#live + 1] = i
  else
    removed[#removed + 1] = member
    if member ~= ARGV[9] and have[2] ~= 'moved' then
      local score = since > 0 and redis.call('ZSCORE', index, member)
      if not score or not is_revoked(member, tonumber(score)) then expired[#expired + 1] = member end
    end
  end
end

-- mark_ended leaves an "ended" marker, as in end.lua.
local function mark_ended(session, at)
  local left = at + ENDED_FOR - now
  if left <= 0 then
    redis.call('DEL', session)
  else
    leave_marker(session, '@ended', at .. '.', left)
  end
end

local evicted = {}
if max > 0 and #live >= max then
  -- Before any write: a session that only the index names counts as expired.
  if ARGV[8] == 'refuse' then return {'full'} end
  for j = 1, #live - max + 1 do
    local i = live[j]
    mark_ended(KEYS[3 + i], now)
    evicted[#evicted + 1] = ARGV[14 + i]
    removed[#removed + 1] = ARGV[14 + i]
  end
end

for i = 1, #revoked do mark_ended(revoked[i], math.min(now, since)) end
if replaced then leave_marker(replaced, '@moving', 'moved', MOVED_FOR) end

local deadline = now + lifetime
local seen = now
if ARGV[14] == 'confirm' then seen = now - math.max(0, idle - UNCONFIRMED) end
local authenticated = math.max(0, now - ARGV[#ARGV])
local set = {
  'HSET', key, '@id', ARGV[4], '@idle', ARGV[2], '@created', now .. '', '@seen', seen .. '',
  '@deadline', deadline .. '', '@principal', ARGV[10] .. authenticated .. ARGV[11],
}
for i = 15 + count, #ARGV - 1 do set[#set + 1] = ARGV[i] end
redis.call(unpack(set))
redis.call('PEXPIREAT', key, math.min(seen + idle, deadline) .. '')

for i = 1, #removed, 1000 do redis.call('ZREM', index, unpack(removed, i, math.min(i + 999, #removed))) end
redis.call('ZADD', index, now .. '', name, version + 1 .. '', '@rev')
local memory = math.max(lifetime, MEMORY) -- long enough to find the sessions that expired
if redis.call('PTTL', index) < memory then redis.call('PEXPIREAT', index, now + memory .. '') end

redis.call('HLEN', key) -- this read keeps the key tracked
local reply = {'ok', clock[1], clock[2], #evicted}
for i = 1, #evicted do reply[#reply + 1] = evicted[i] end
for i = 1, #expired do reply[#reply + 1] = expired[i] end
return reply
