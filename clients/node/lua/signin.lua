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
--           caller confirms the session with touch.lua as its last step, since the caller may crash
--           before that. Else the idle limit
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

local argv, find, sub, format = ARGV, string.find, string.sub, string.format
local call, key, index, owner = redis.call, KEYS[1], KEYS[2], sub(KEYS[2] or '', -22)
local MOST_KEYS, MOST_ARGS, MOST_TIME, MOST_DURATION = 1000, 3000, 253402300799999, 9223372036854
local MEMORY = 86400000

-- The arguments. One search checks the form of all: each search in a script costs as much as a
-- command. The last character of a hash has four unused bits.

if #KEYS < 3 or #KEYS > MOST_KEYS then return {'invalid', 'keys'} end
if #argv < 14 or #argv > MOST_ARGS or #argv % 2 ~= 0 then return {'invalid', 'fields'} end
if not find(table.concat(argv, ' ', 1, 14), '^[%w_-]+[AQgw] [%w_-]+[AQgw] %d+ %d+ %d+ %d+ %d* %d+ %d+ %d+ [01] %d+ '
  .. '[%w_-]* [0-9a-f][0-9a-f][01][0-9a-f][0-9a-f][0-9a-f][0-9a-f]$') then
  local names = {'id', 'verifier', 'size', 'idle', 'lifetime', 'first', 'version', 'began', 'ago', 'max', 'refuse', 'global', 'old'}
  local forms = {id = '^[%w_-]+[AQgw]$', verifier = '^[%w_-]+[AQgw]$', version = '^%d*$', refuse = '^[01]$', old = '^[%w_-]*$'}
  for i, what in ipairs(names) do
    if not find(argv[i], forms[what] or '^%d+$') then return {'invalid', what} end
  end
  return {'invalid', 'user'}
end
local size, idle, lifetime, first = tonumber(argv[3]), tonumber(argv[4]), tonumber(argv[5]), tonumber(argv[6])
local began, ago, max, global = tonumber(argv[8]), tonumber(argv[9]), tonumber(argv[10]), tonumber(argv[12])
local info = tonumber(sub(argv[14], 4), 16)
local clock = call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
if #argv[1] ~= 22 then return {'invalid', 'id'} end
if #argv[2] ~= 22 then return {'invalid', 'verifier'} end
if idle > MOST_DURATION then return {'invalid', 'idle'} end
if lifetime > MOST_TIME - now then return {'invalid', 'lifetime'} end
if first > MOST_DURATION then return {'invalid', 'first'} end
if began > MOST_TIME then return {'invalid', 'began'} end
if ago > MOST_TIME then return {'invalid', 'ago'} end
if global > MOST_TIME then return {'invalid', 'global'} end
if argv[13] ~= '' and #argv[13] ~= 22 then return {'invalid', 'old'} end
if info < 1 or info > 12288 or sub(argv[14], 1, 2) > '63' then return {'invalid', 'user'} end
local part, fields = 0, {}
for i = 15, #argv, 2 do
  local first_byte, value = string.byte(argv[i]), argv[i + 1]
  if first_byte ~= 64 then -- "@"
    if not first_byte or fields[argv[i]] then return {'invalid', 'fields'} end
    fields[argv[i]], size = true, size - #argv[i] - #value
  else
    part = part + 1
    if argv[i] ~= (part == 1 and '@i' or '@i' .. part) then return {'invalid', 'fields'} end
    if info == 0 or #value ~= math.min(64, info) then return {'invalid', 'user'} end
    info = info - #value
  end
end
if info ~= 0 then return {'invalid', 'user'} end
if size ~= 0 then return {'invalid', 'size'} end

-- What is stored.

-- Usually neither the session nor a revocation in its bucket exists.
local since, revocation = 0, false
if call('EXISTS', key, KEYS[3]) > 0 then
  if call('EXISTS', key) == 1 then
    local life = redis.pcall('HGET', key, '@l')
    return {type(life) == 'string' and sub(life, 1, 22) == argv[1] and 'again' or 'exists'}
  end
  revocation = call('HGET', KEYS[3], owner)
end
if revocation then
  local digits = sub(revocation, 1, 12)
  if #revocation % 34 ~= 24 or find(digits, '[^0-9a-f]') then return {'malformed', owner} end
  since = tonumber(digits, 16)
end
if math.min(now, began) <= math.max(since, global) then return {'revoked'} end
local version = call('ZSCORE', index, '@rev') or '0'
if argv[7] ~= '' and version ~= argv[7] then return {'changed'} end

-- The user's other sessions, before any write: a session that only the index names counts as
-- expired.

local removed, live, evicted, expired, revoked, replaced = {}, {}, {}, {}, {}, nil
if #KEYS > 3 then
  local function is_revoked(member, created)
    if created <= global then return true end
    if not revocation or created > since then return false end
    for i = 25, #revocation, 34 do
      if sub(revocation, i, i + 21) == member then return false end
    end
    return true
  end

  for i = 4, #KEYS do
    local other, member = KEYS[i], sub(KEYS[i], -22)
    local have = redis.pcall('HMGET', other, '@l', '@moving', '@moved', '@ended')
    local digits = have[1] and sub(have[1], 23, 34)
    local created = digits and #digits == 12 and not find(digits, '[^0-9a-f]') and tonumber(digits, 16)
    if not created and (have.err or have[1] or not have[3] and not have[4] and call('EXISTS', other) == 1) then
      created = tonumber(call('ZSCORE', index, member)) or now -- malformed
    end
    if created and is_revoked(member, created) then
      removed[#removed + 1], revoked[#revoked + 1] = member, other
    elseif created and member == argv[13] and have[2] and sub(have[2], 1, 22) == sub(key, -22) then
      removed[#removed + 1], replaced = member, other
    elseif created then
      live[#live + 1] = other
    else
      removed[#removed + 1] = member
      if member ~= argv[13] and not have[3] then
        local score = since > 0 and call('ZSCORE', index, member)
        if not score or not is_revoked(member, tonumber(score)) then expired[#expired + 1] = member end
      end
    end
  end
  if max > 0 and #live >= max and argv[11] == '1' then return {'full'} end
end

-- The writes.

if replaced or #revoked > 0 or max > 0 and #live >= max then
  local ENDED_FOR, MOVED_FOR, NO_ATTEMPT = 60000, 60000, string.rep('A', 22)

  -- leave_marker replaces a session by a marker. The key exists all the time: if its slot is moving
  -- to another server, a script cannot create it again. HDEL is first: if memory is full, Redis
  -- refuses a script that begins with HSET.
  local function leave_marker(session, marker, value, ttl)
    local names = redis.pcall('HKEYS', session)
    if names.err or #names > 5000 then return call('DEL', session) end -- malformed
    local last = names[#names]
    names[#names] = ''
    call('HDEL', session, unpack(names))
    call('HSET', session, marker, value)
    if last ~= marker then call('HDEL', session, last) end
    call('PEXPIRE', session, ttl)
  end

  -- mark_ended leaves an "ended" marker, as in end.lua.
  local function mark_ended(session, at)
    local left = at + ENDED_FOR - now
    if left <= 0 then
      call('DEL', session)
    else
      leave_marker(session, '@ended', format('%012x', at) .. NO_ATTEMPT, left)
    end
  end

  for i = 1, max > 0 and #live - max + 1 or 0 do
    mark_ended(live[i], now)
    evicted[i] = sub(live[i], -22)
    removed[#removed + 1] = evicted[i]
  end
  for i = 1, #revoked do mark_ended(revoked[i], math.min(now, since)) end
  if replaced then leave_marker(replaced, '@moved', format('%012x', now), MOVED_FOR) end
end

local deadline, seen = now + lifetime, now - math.max(0, idle - first)
call('HSET', key, '@s', format('10%s000000000001%08x%012x', argv[2], tonumber(argv[3]), math.max(0, seen)),
  '@l', format('%s%012x%012x%012x', argv[1], now, deadline, idle),
  '@u', format('%s%012x%s', owner, math.max(0, now - ago), argv[14]), unpack(argv, 15))
call('PEXPIREAT', key, format('%d', math.min(seen + idle, deadline)))

if #removed > 0 then call('ZREM', index, unpack(removed)) end
call('ZADD', index, format('%d', now), sub(key, -22), format('%d', version + 1), '@rev')
-- The index lives long enough to find the sessions that expired.
local forget = format('%d', now + math.max(lifetime, MEMORY))
if version == '0' then
  call('PEXPIREAT', index, forget)
else
  call('PEXPIREAT', index, forget, 'GT')
end
return {'ok', now, evicted, expired}
