-- Ends a session. For a minute the key then holds an "ended" marker: a hash whose only field,
-- "@ended", is the server's time and the attempt.
--
-- KEYS[1]  the session's hash. The last 22 characters are its name
-- KEYS[2]  its user's index, if somebody was signed in: see signin.lua
-- ARGV[1]  attempt: 22 characters that identify this end and its repetitions; the zero hash: none
-- ARGV[2]  write: 1 to write also if there is nothing to end, so that WAIT has a write to wait for
--
-- Replies
--   {"ok", time, 1 if this attempt has ended a live session, else 0}
--   {"moved"}   a sign-in replaced the session. Its "moved" marker is left in place
--   {"invalid", the argument's name in this text}
--
-- A session that only the index names counts as expired. So an end removes both. A user's session
-- leaves no marker without KEYS[2], because a key that the index names is a session. A malformed
-- session ends like any other. A key that is no hash, or a hash without "@s", is deleted.

local key, attempt, write = KEYS[1], ARGV[1], ARGV[2]
local ENDED_FOR, NO_ATTEMPT = 60000, string.rep('A', 22)

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

if #KEYS > 2 then return {'invalid', 'keys'} end
if not attempt or #attempt ~= 22 or string.find(attempt, '[^%w_-]') then return {'invalid', 'attempt'} end
if write ~= '0' and write ~= '1' then return {'invalid', 'write'} end
local have = redis.pcall('HMGET', key, '@s', '@moved', '@ended', '@u')
local alive, moved, marker = have[1], have[2], have[3]
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

local ended = alive or marker and attempt ~= NO_ATTEMPT and string.sub(marker, 13) == attempt
if alive and (KEYS[2] or not have[4]) then
  leave_marker(key, '@ended', string.format('%012x', now) .. attempt, ENDED_FOR)
elseif alive or not moved and not marker then
  ended = redis.call('DEL', key) == 1
  if not ended and write == '1' then -- to delete no key is no write
    redis.call('SET', key, '')
    redis.call('DEL', key)
  end
elseif write == '1' then
  local ttl = redis.call('PTTL', key)
  if ttl > 0 then redis.call('PEXPIRE', key, ttl) end
end
if KEYS[2] then redis.pcall('ZREM', KEYS[2], string.sub(key, -22)) end
if not alive and moved then return {'moved'} end
return {'ok', now, ended and 1 or 0}
