-- Ends sessions of one user in one step.
--
-- KEYS[1]   the user's index: see signin.lua
-- KEYS[2…]  the hashes of the sessions to end
-- ARGV[1]   the index's version when the caller read it; "" if named sessions are ended, whatever else there is
-- ARGV[2]   "since" to refuse sign-ins whose authentication began before now
-- ARGV[3…]  names of the sessions, as KEYS
--
-- Replies
--   {"ok", seconds, microseconds, n, names of the n that were alive …, names of those that had expired …}
--   {"changed"}  the index is of another version: read it and try again

local index, MEMORY = KEYS[1], 86400000
local version = redis.call('ZSCORE', index, '@rev') or '0'
if ARGV[1] ~= '' and version ~= ARGV[1] then return {'changed'} end

local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local ended, expired, named = {}, {}, {}
for i = 2, #KEYS do
  local name = ARGV[1 + i]
  if redis.call('ZSCORE', index, name) then -- another user's session is not touched
    named[#named + 1] = name
    local there = redis.call('HMGET', KEYS[i], '@token', '@moving')
    if there[1] then
      ended[#ended + 1] = name
    elseif there[2] ~= 'moved' then
      expired[#expired + 1] = name
    end
    redis.call('DEL', KEYS[i])
  end
end
if #named > 0 then redis.call('ZREM', index, unpack(named)) end
if ARGV[2] == 'since' then
  redis.call('ZADD', index, now .. '', '@since')
  if redis.call('PTTL', index) < MEMORY then redis.call('PEXPIREAT', index, now + MEMORY .. '') end
end
if redis.call('EXISTS', index) == 1 then redis.call('ZADD', index, version + 1 .. '', '@rev') end
table.insert(ended, 1, #ended)
for i = 1, #expired do ended[#ended + 1] = expired[i] end
return {'ok', clock[1], clock[2], unpack(ended)}
