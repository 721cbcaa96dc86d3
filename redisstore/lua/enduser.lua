-- Ends sessions of one user in one step.
--
-- KEYS[1]   the user's index: see signin.lua
-- KEYS[2]   the revocations of the bucket, a hash. The revocation of a user is
--             since "." until {"." name "." created}
--           It ends the user's sessions with "@created" <= since, except those it names. It may be
--           forgotten after until.
-- KEYS[3…]  the hashes of the sessions that ARGV names
-- ARGV[1]   the user, as "owner" of "@principal"
-- ARGV[2]   only   end the named sessions
--           all    revoke all sessions, except the named ones
--           again  continue, or restore after a failover, a revocation: end the named sessions that
--                  it covers
-- ARGV[3]   all: how long to remember the revocation, in milliseconds; again: the revocation
-- ARGV[4]   when all users were revoked last; 0: never
-- ARGV[5…]  names of sessions
--
-- Reply {"ok", seconds, microseconds, the revocation, a, e, names of the a named sessions that were
-- alive …, names of the e named sessions that had expired …, names of revoked sessions to remove …}
-- The last list has at most 500 names, the oldest first. Call "again" with them until the list is
-- empty.
--
-- An ended session leaves an "ended" marker, as in end.lua. A revoked session ended at the time of
-- the revocation.

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

local index, revocations, owner, action = KEYS[1], KEYS[2], ARGV[1], ARGV[2]
local MOST, ENDED_FOR = 500, 60000
local count = action == 'all' and 0 or #ARGV - 4 -- named sessions to end

local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

local function parse(entry)
  local r = {kept = {}}
  local since, forget, kept = string.match(entry, '^(%d+)%.(%d+)(.*)$')
  r.since, r.forget = tonumber(since), tonumber(forget)
  for name, created in string.gmatch(kept, '%.([%w_-]+)%.(%d+)') do r.kept[name] = tonumber(created) end
  return r
end

local function revoked(r, name, created) return created <= r.since and not r.kept[name] end

local entry = redis.call('HGET', revocations, owner)
local current = entry and parse(entry)

-- A new revocation and the stored one are merged so that both hold.

local new
if action == 'again' then
  new = parse(ARGV[3])
elseif action == 'all' then
  -- The newest session may be from another server, whose clock was ahead.
  local newest = redis.call('ZRANGE', index, -1, -1, 'WITHSCORES')
  local since = math.max(now, tonumber(newest[2] or 0))
  new = {since = since, forget = since + tonumber(ARGV[3]), kept = {}}
  for i = 1, #ARGV - 4 do
    local created = redis.call('HGET', KEYS[2 + i], '@created')
    if created then new.kept[ARGV[4 + i]] = tonumber(created) end
  end
end
if new then
  local merged = new
  if current then
    merged = {since = math.max(current.since, new.since), forget = math.max(current.forget, new.forget), kept = {}}
    for _, r in pairs({current, new}) do
      for name, created in pairs(r.kept) do
        if not revoked(current, name, created) and not revoked(new, name, created) then merged.kept[name] = created end
      end
    end
  end
  local names = {}
  for name in pairs(merged.kept) do names[#names + 1] = name end
  table.sort(names)
  local text = merged.since .. '.' .. merged.forget
  for _, name in ipairs(names) do text = text .. '.' .. name .. '.' .. merged.kept[name] end
  if text ~= entry then
    -- HDEL is first: if memory is full, Redis refuses a script that begins with another write.
    redis.call('HDEL', revocations, owner)
    local latest, others = merged.forget, redis.call('HGETALL', revocations)
    for i = 1, #others, 2 do
      local forget = tonumber(string.match(others[i + 1], '^%d+%.(%d+)'))
      if forget < now then redis.call('HDEL', revocations, others[i]) else latest = math.max(latest, forget) end
    end
    redis.call('HSET', revocations, owner, text)
    redis.call('PEXPIREAT', revocations, latest .. '')
  end
  entry, current = text, merged
end

local ended, expired, removed, keys = {}, {}, {}, {}
local scores = count > 0 and redis.call('ZMSCORE', index, unpack(ARGV, 5, 4 + count))
-- Usually all named sessions are alive. Then their scores, which equal "@created", are enough.
local alive = count > 0 and redis.call('EXISTS', unpack(KEYS, 3, 2 + count)) == count
for i = 1, count do
  local name, key, created = ARGV[4 + i], KEYS[2 + i], tonumber(scores[i])
  if not created and action == 'only' then -- the index may be lost
    local have = redis.call('HMGET', key, '@principal', '@created')
    if have[1] and string.match(have[1], '"owner":"([%w_-]+)"') == owner then created = tonumber(have[2]) end
  end
  if created then -- else it may be another user's session
    local have = alive or redis.call('HMGET', key, '@created', '@moving')
    local exists = alive or have[1]
    -- A session that moved leaves the index, and its "moved" marker stays in place.
    if not exists or action == 'only' or revoked(current, name, created) then
      removed[#removed + 1] = name
      if exists then
        ended[#ended + 1], keys[#keys + 1] = name, key
      elseif have[2] ~= 'moved' and created > tonumber(ARGV[4]) then
        expired[#expired + 1] = name
      end
    end
  end
end
if #keys > 0 then
  local at = action == 'only' and now or math.min(now, current.since)
  local left = at + ENDED_FOR - now
  if left <= 0 then redis.call('DEL', unpack(keys)) end
  for i = 1, left > 0 and #keys or 0 do leave_marker(keys[i], '@ended', at .. '.', left) end
end
if #removed > 0 then
  redis.call('ZREM', index, unpack(removed))
  redis.call('ZADD', index, 'XX', 'INCR', 1, '@rev')
end

local reply = {'ok', clock[1], clock[2], entry or '', #ended, #expired, unpack(ended)}
for i = 1, #expired do reply[#reply + 1] = expired[i] end
if action ~= 'only' and redis.call('ZCARD', index) > 1 then
  local kept = 0
  for _ in pairs(current.kept) do kept = kept + 1 end
  local members = redis.call('ZRANGE', index, 0, current.since .. '', 'BYSCORE', 'LIMIT', 0, MOST + kept + 1)
  for _, name in ipairs(members) do
    if name ~= '@rev' and not current.kept[name] and #reply < 6 + #removed + MOST then reply[#reply + 1] = name end
  end
end
return reply
