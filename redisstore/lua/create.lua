-- Stores a new session.
--
-- KEYS[1]  the session's hash
-- ARGV[1]  idle limit in milliseconds
-- ARGV[2]  lifetime in milliseconds
-- ARGV[3]  the session's secret, as "@id" has it
-- ARGV[4]  idle limit until the session is first used, in milliseconds: at most ARGV[1]. "@seen" is
--          set so far back that it applies until then
-- ARGV[5…] names and values of the rest of the hash. The script adds "@created", "@seen" and
--          "@deadline" from the server's time
--
-- Replies
--   {"ok", seconds, microseconds, revision}   stored
--   {"again"}    this session is stored already, because an earlier reply was lost
--   {"exists"}   another session has the key, or the session has ended

local key = KEYS[1]
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

local have = redis.call('HMGET', key, '@id', '@ended')
if have[1] or have[2] then return {have[1] == ARGV[3] and 'again' or 'exists'} end

local idle, lifetime, first = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[4])
local created, deadline = string.format('%.0f', now), string.format('%.0f', now + lifetime)
local seen = string.format('%.0f', now - idle + first)
local set = {
  'HSET', key, '@id', ARGV[3], '@idle', ARGV[1], '@created', created, '@seen', seen, '@deadline', deadline,
}
for i = 5, #ARGV do set[#set + 1] = ARGV[i] end
redis.call(unpack(set))
redis.call('PEXPIREAT', key, string.format('%.0f', now + math.min(first, lifetime)))
return {'ok', clock[1], clock[2], redis.call('HGET', key, '@rev')}
