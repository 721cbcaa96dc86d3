-- Ends a session. For a minute the key then holds an "ended" marker: a hash whose only field,
-- "@ended", is the server's time in milliseconds, ".", and the attempt.
--
-- KEYS[1]  the session's hash
-- KEYS[2]  its user's index, if somebody was signed in: see signin.lua
-- ARGV[1]  the session's name in the index; "" without KEYS[2]
-- ARGV[2]  the attempt: 22 characters that identify this end and its repetitions; "" for none
-- ARGV[3]  "write" to write also if there is nothing to end, so that WAIT has a write to wait for.
--          Else missing
--
-- Replies
--   {"ok", seconds, microseconds, 1 if this attempt has ended a live session, else 0}
--   {"moved"}   a sign-in replaced the session. Its "moved" marker is left in place
--
-- A session that only the index names counts as expired. So an end removes both. A user's session
-- leaves no marker without KEYS[2], because a key that the index names is a session.

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

local key, attempt, ENDED_FOR = KEYS[1], ARGV[2], 60000
local have = redis.call('HMGET', key, '@token', '@moving', '@ended', '@principal')
local alive, moved = have[1], not have[1] and have[2] == 'moved'
local ended = alive or attempt ~= '' and have[3] and string.sub(have[3], -22) == attempt
local clock = redis.call('TIME')

if alive and (KEYS[2] or not have[4]) then
  local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
  leave_marker(key, '@ended', now .. '.' .. attempt, ENDED_FOR)
elseif alive then
  redis.call('DEL', key)
elseif ARGV[3] then
  local ttl = redis.call('PTTL', key)
  if ttl > 0 then -- a marker
    redis.call('PEXPIRE', key, ttl .. '')
  elseif ttl == -2 then -- no key
    redis.call('DEL', key)
    redis.call('SET', key, '')
    redis.call('DEL', key)
  end
end
if KEYS[2] then redis.call('ZREM', KEYS[2], ARGV[1]) end
if moved then return {'moved'} end
return {'ok', clock[1], clock[2], ended and 1 or 0}
