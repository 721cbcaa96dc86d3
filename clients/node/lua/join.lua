-- Moves fields from a session of a user to the user's data, all of them or none.
--
-- It only compares and sets: the caller has read both hashes, and has computed the new values, such
-- as the sum of two counters. So it may be repeated: what was moved already is refused.
--
-- KEYS[1]  the session's hash
-- KEYS[2]  the user data's hash. The last 22 characters are the owner
-- KEYS[3]  the revocations of the bucket: see enduser.lua
-- ARGV[1]  verifier: hash of the verifier that the request presented
-- ARGV[2]  limit on the bytes of all keys and values of the user data
-- ARGV[3]  global: when all users were revoked last; 0: never
-- ARGV[4]  tracked: 1 if the caller keeps copies, as in apply.lua; else 0
-- ARGV[5]  number of fields to take from the session
-- ARGV[6…] for each of these its name and its value, and then for each field of the user data
--          three strings: its name, "=" and the old value or "" if it has none, the new value
--
-- Replies
--   {"ok", time, revision of the session, revision of the user data}
--   {"gone"}    there is no such session: it ended, expired or is revoked
--   {"moved"}   a sign-in has replaced the session
--   {"busy"}    the verifier is not the current one, or it replaced another and was not used yet,
--               or a sign-in is replacing the session. Join in a later request
--   {"none"}    there is no user data, or it has expired
--   {"refused", "session" or "data", index from 0, "conflict", present value or nil}
--   {"refused", "data", index from 0, why}    why: large fields
--   {"malformed", name of a stored value}, {"invalid", the argument's name in this text}

local call, find, sub, format = redis.call, string.find, string.sub, string.format
local MAX_FIELDS, MAX_TIME, HEX = 1024, 253402300799999, '^[0-9a-f]+$'

local function decimal(text, most)
  local n = text and #text < 16 and find(text, '^%d+$') and tonumber(text)
  return n and n <= most and n or nil
end

local presented, limit, global, tracked = ARGV[1], decimal(ARGV[2], 4294967295), decimal(ARGV[3], MAX_TIME), ARGV[4]
local owner, takes = sub(KEYS[2] or '', -22), decimal(ARGV[5], MAX_FIELDS)
if #KEYS ~= 3 then return {'invalid', 'keys'} end
if not presented or #presented ~= 22 or not find(presented, '^[%w_-]+$') then return {'invalid', 'verifier'} end
if not limit then return {'invalid', 'limit'} end
if not global then return {'invalid', 'global'} end
if tracked ~= '0' and tracked ~= '1' then return {'invalid', 'tracked'} end
local first = takes and 6 + 2 * takes -- of the user data's arguments
if not takes or #ARGV < first - 1 or (#ARGV - first + 1) % 3 ~= 0 or #ARGV >= first + 3 * MAX_FIELDS then
  return {'invalid', 'number'}
end

-- names returns the query for every step-th argument, or nil if one is not the name of a field.
local function names(key, from, to, step)
  local query, seen = {'HMGET', key, '@s', '@l', '@moving', '@u'}, {}
  for i = from, to, step do
    local name = ARGV[i]
    if name == '' or string.byte(name) == 64 or seen[name] then return nil end -- "@"
    seen[name] = true
    query[#query + 1] = name
  end
  return query
end

local taken, put = names(KEYS[1], 6, first - 1, 2), names(KEYS[2], first, #ARGV, 3)
if not taken or not put then return {'invalid', 'name'} end
taken, put = call(unpack(taken)), call(unpack(put))

local function number(text, from, to) return tonumber(sub(text, from, to), 16) end

local time = call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

-- parse returns what a hash's metadata says, or nil and the name of a malformed value.
local function parse(have)
  local state, life = have[1], have[2]
  if not state or #state ~= 56 or not find(state, '^1[0-3]') or not find(state, HEX, 25) then return nil, '@s' end
  if not life or #life ~= 58 or not find(life, HEX, 23) then return nil, '@l' end
  local r = {head = sub(state, 1, 24), revision = number(state, 25, 36) + 1, size = number(state, 37, 44),
    seen = number(state, 45, 56), created = number(life, 23, 34)}
  if r.revision > 281474976710655 then return nil, '@s' end
  local idle, deadline = number(life, 47, 58), number(life, 35, 46)
  r.expires, r.extended = math.min(r.seen + idle, deadline), math.min(now + idle, deadline)
  r.due = r.extended - r.expires > math.min(idle / 20, 60000)
  return r
end

-- The session.

if not taken[1] then
  if taken[2] then return {'malformed', '@s'} end
  return {call('HEXISTS', KEYS[1], '@moved') == 1 and 'moved' or 'gone'}
end
local session, wrong = parse(taken)
if not session then return {'malformed', wrong} end
if now >= session.expires or session.created <= global then return {'gone'} end
local user, name, excepted = taken[4], sub(KEYS[1], -22), false
if not user or #user ~= 41 then return {'malformed', '@u'} end
if sub(user, 1, 22) ~= owner then return {'invalid', 'keys'} end
local revocation = call('HGET', KEYS[3], owner)
if revocation then
  if #revocation % 34 ~= 24 or not find(sub(revocation, 1, 12), HEX) then return {'malformed', owner} end
  for i = 25, #revocation, 34 do excepted = excepted or sub(revocation, i, i + 21) == name end
  if session.created <= number(revocation, 1, 12) and not excepted then return {'gone'} end
end
local flags, moving = sub(session.head, 2, 2), taken[3]
if (moving and true or false) ~= (flags > '1') then return {'malformed', '@s'} end
if moving and (#moving ~= 34 or not find(moving, HEX, 23)) then return {'malformed', '@moving'} end
if sub(session.head, 3) ~= presented or flags % 2 == 1 or moving and now < number(moving, 23, 34) then return {'busy'} end
local remove = {'HDEL', KEYS[1]}
for i = 1, takes do
  local field, value = ARGV[4 + 2 * i], ARGV[5 + 2 * i]
  if taken[4 + i] ~= value then return {'refused', 'session', i - 1, 'conflict', taken[4 + i]} end
  remove[#remove + 1] = field
  session.size = session.size - #field - #value
end
if session.size < 0 then return {'malformed', '@s'} end

-- The user data. Its verifier is the owner, and it has no metadata but "@s" and "@l".

if not put[1] then
  if put[2] then return {'malformed', '@s'} end
  return {'none'}
end
local data, bad = parse(put)
if not data then return {'malformed', bad} end
if sub(data.head, 2) ~= '0' .. owner then return {'malformed', '@s'} end
if now >= data.expires then return {'none'} end
local set, fields = {'HSET', KEYS[2], '@s', ''}, call('HLEN', KEYS[2]) - 2
for i = first, #ARGV, 3 do
  local index = (i - first) / 3
  local field, old, new, present = ARGV[i], ARGV[i + 1], ARGV[i + 2], put[5 + index]
  if (present and '=' .. present or '') ~= old then return {'refused', 'data', index, 'conflict', present} end
  local more = present and #new - #present or #field + #new
  if not present then fields = fields + 1 end
  data.size = data.size + more
  if fields > MAX_FIELDS then return {'refused', 'data', index, 'fields'} end
  if more > 0 and data.size > limit then return {'refused', 'data', index, 'large'} end
  set[#set + 1] = field
  set[#set + 1] = new
end
if data.size < 0 then return {'malformed', '@s'} end

-- Write both. The first write is an HSET, which a server refuses if its memory is full.

local function state(r)
  local seen = r.due and math.max(now, r.seen) or r.seen
  return r.head .. format('%012x%08x%012x', r.revision, r.size, seen)
end

set[4] = state(data)
call(unpack(set))
call('HSET', KEYS[1], '@s', state(session))
if takes > 0 then call(unpack(remove)) end
if data.due then call('PEXPIREAT', KEYS[2], format('%.0f', data.extended)) end
if session.due then call('PEXPIREAT', KEYS[1], format('%.0f', session.extended)) end
if tracked == '1' then
  call('HLEN', KEYS[1])
  call('HLEN', KEYS[2])
end
return {'ok', now, session.revision, data.revision}
