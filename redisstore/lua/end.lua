-- Ends a session.
--
-- KEYS[1]  the session's hash
-- KEYS[2]  its user's index, if it has one: see signin.lua
-- ARGV[1]  its name there
--
-- Reply {"ok", seconds, microseconds, 1 if it was alive, else 0}
--
-- A session that is in the index and not there any more is taken for one that expired: who ends it removes it from both.

local alive = redis.call('HEXISTS', KEYS[1], '@token')
redis.call('DEL', KEYS[1]) -- first: a script that begins with another write is refused when memory is full
if KEYS[2] then redis.call('ZREM', KEYS[2], ARGV[1]) end
local clock = redis.call('TIME')
return {'ok', clock[1], clock[2], alive}
