-- Ends sessions of one user in one step.
--
-- KEYS[1]   the user's index: see signin.lua
-- KEYS[2]   the revocations of the bucket, a hash: for each user who has one
--             since "." until {"." name "." created}
--           A session of the user with "@created" <= since is none, unless it is named. All is forgotten after until.
-- KEYS[3…]  the hashes of the sessions that ARGV names
-- ARGV[1]   the user, as "owner" of "@principal"
-- ARGV[2]   only   end the named sessions, whatever else there is
--           all    revoke the sessions that there are, but the named ones
--           again  go on with a revocation, which a failover may have undone: end the named ones that it covers
-- ARGV[3]   all: how long to remember it, in milliseconds; again: the revocation
-- ARGV[4]   when everybody was revoked last; 0: never
-- ARGV[5…]  names of sessions
--
-- Replies {"ok", seconds, microseconds, the revocation, a, e, names of the a of the named that were alive …, of the e that had expired …, names
-- of others to end …}
-- The last ones are 500 at most, the oldest first: call with "again" until there are none. Revoked they are already.

local index, revocations, owner, action = KEYS[1], KEYS[2], ARGV[1], ARGV[2]
local MOST = 500
local count = action == 'all' and 0 or #ARGV - 4 -- of the named ones, those to end

local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

local function parse(entry)
  local r = {kept = {}}
  local since, til, kept = string.match(entry, '^(%d+)%.(%d+)(.*)$')
  r.since, r.til = tonumber(since), tonumber(til)
  for name, created in string.gmatch(kept, '%.([%w_-]+)%.(%d+)') do r.kept[name] = tonumber(created) end
  return r
end

local function revoked(r, name, created) return created <= r.since and not r.kept[name] end

local entry = redis.call('HGET', revocations, owner)
local is = entry and parse(entry)

-- A revocation only ever grows: what it refused once it refuses for good.

local new
if action == 'again' then
  new = parse(ARGV[3])
elseif action == 'all' then
  local newest = redis.call('ZRANGE', index, -1, -1, 'WITHSCORES') -- perhaps of another server, whose clock was ahead
  local since = math.max(now, tonumber(newest[2] or 0))
  new = {since = since, til = since + tonumber(ARGV[3]), kept = {}}
  for i = 1, #ARGV - 4 do
    local created = redis.call('HGET', KEYS[2 + i], '@created')
    if created then new.kept[ARGV[4 + i]] = tonumber(created) end
  end
end
if new then
  local sum = new
  if is then
    sum = {since = math.max(is.since, new.since), til = math.max(is.til, new.til), kept = {}}
    for _, r in pairs({is, new}) do
      for name, created in pairs(r.kept) do
        if not revoked(is, name, created) and not revoked(new, name, created) then sum.kept[name] = created end
      end
    end
  end
  local names = {}
  for name in pairs(sum.kept) do names[#names + 1] = name end
  table.sort(names)
  local text = sum.since .. '.' .. sum.til
  for _, name in ipairs(names) do text = text .. '.' .. name .. '.' .. sum.kept[name] end
  if text ~= entry then
    redis.call('HDEL', revocations, owner) -- first: a script that begins with another write is refused when memory is full
    local latest, others = sum.til, redis.call('HGETALL', revocations)
    for i = 1, #others, 2 do
      local til = tonumber(string.match(others[i + 1], '^%d+%.(%d+)'))
      if til < now then redis.call('HDEL', revocations, others[i]) else latest = math.max(latest, til) end
    end
    redis.call('HSET', revocations, owner, text)
    redis.call('PEXPIREAT', revocations, latest .. '')
  end
  entry, is = text, sum
end

local ended, expired, named, keys = {}, {}, {}, {}
local scores = count > 0 and redis.call('ZMSCORE', index, unpack(ARGV, 5, 4 + count))
-- Mostly all are alive, and nothing more needs to be asked: the score of a session is its "@created".
local alive = count > 0 and redis.call('EXISTS', unpack(KEYS, 3, 2 + count)) == count
for i = 1, count do
  local name, key, created = ARGV[4 + i], KEYS[2 + i], tonumber(scores[i])
  if not created and action == 'only' then -- the index may have been lost
    local have = redis.call('HMGET', key, '@principal', '@created')
    if have[1] and string.match(have[1], '"owner":"([%w_-]+)"') == owner then created = tonumber(have[2]) end
  end
  if created then -- another user's session is not touched
    local there = alive or redis.call('HMGET', key, '@created', '@moving')
    local lives = alive or there[1]
    if not lives or action == 'only' or revoked(is, name, created) then
      named[#named + 1] = name
      if lives then
        ended[#ended + 1], keys[#keys + 1] = name, key
      elseif there[2] ~= 'moved' and created > tonumber(ARGV[4]) then -- what has word of where the session moved stays
        expired[#expired + 1] = name
      end
    end
  end
end
if #keys > 0 then redis.call('DEL', unpack(keys)) end
if #named > 0 then
  redis.call('ZREM', index, unpack(named))
  redis.call('ZADD', index, 'XX', 'INCR', 1, '@rev')
end

local reply = {'ok', clock[1], clock[2], entry or '', #ended, #expired, unpack(ended)}
for i = 1, #expired do reply[#reply + 1] = expired[i] end
if action ~= 'only' and redis.call('ZCARD', index) > 1 then
  local kept = 0
  for _ in pairs(is.kept) do kept = kept + 1 end
  local members = redis.call('ZRANGE', index, 0, is.since .. '', 'BYSCORE', 'LIMIT', 0, MOST + kept + 1)
  for _, name in ipairs(members) do
    if name ~= '@rev' and not is.kept[name] and #reply < 6 + #named + MOST then reply[#reply + 1] = name end
  end
end
return reply
