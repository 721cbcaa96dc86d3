-- Stores a new session.
--
-- KEYS[1]  the session's hash
-- ARGV[1]  id: the session's secret, as "@l" has it
-- ARGV[2]  verifier: hash of the verifier of the first token
-- ARGV[3]  size: bytes of all names and values of fields
-- ARGV[4]  idle limit in milliseconds
-- ARGV[5]  lifetime in milliseconds
-- ARGV[6]  first: how long the session lives until its first use, in milliseconds. At most the idle
--          limit counts
-- ARGV[7]  tracked: 1 if the caller keeps a copy, as in apply.lua; else 0
-- ARGV[8…] names and values of the fields. If somebody is signed in, also "@u" and the parts of the
--          info in order. signin.lua is for users: this script does not add to their index
--
-- Replies
--   {"ok", time, revision}   stored
--   {"again"}    this session is stored already, because an earlier reply was lost
--   {"exists"}   another session has the key, or the session has ended
--   {"invalid", the argument's name in this text}

local key, id, verifier = KEYS[1], ARGV[1], ARGV[2]
local MAX_FIELDS, MAX_DURATION = 1024, 9223372036854

local function decimal(text, most)
  local n = text and #text < 16 and string.find(text, '^%d+$') and tonumber(text)
  return n and n <= most and n or nil
end

-- The last character of a hash has four unused bits.
local function is_hash(text) return text and #text == 22 and string.find(text, '^[%w_-]+[AQgw]$') end

if not is_hash(id) then return {'invalid', 'id'} end
if not is_hash(verifier) then return {'invalid', 'verifier'} end
local size, first = decimal(ARGV[3], 4294967295), decimal(ARGV[6], MAX_DURATION)
local idle, lifetime = decimal(ARGV[4], MAX_DURATION), decimal(ARGV[5], MAX_DURATION)
if not idle then return {'invalid', 'idle'} end
if not lifetime then return {'invalid', 'lifetime'} end
if not first then return {'invalid', 'first'} end
if ARGV[7] ~= '0' and ARGV[7] ~= '1' then return {'invalid', 'tracked'} end

local set, sum, names, user, info, part = {'HSET', key}, 0, {}, nil, 0, 1
if #ARGV % 2 == 0 or #ARGV > 7 + 2 * (MAX_FIELDS + 130) then return {'invalid', 'fields'} end
for i = 8, #ARGV, 2 do
  local name, value = ARGV[i], ARGV[i + 1]
  if name == '' or names[name] then return {'invalid', 'fields'} end
  names[name] = true
  set[i - 1], set[i] = name, value
  if string.byte(name) ~= 64 then -- "@"
    sum = sum + #name + #value
  elseif name == '@u' and #value == 41 then
    user = value
  elseif name == '@i' .. (part > 1 and part or '') and #value <= 64 then
    info, part = info + #value, part + 1
  else
    return {'invalid', 'fields'}
  end
end
if info ~= (user and tonumber(string.sub(user, 38), 16) or 0) then return {'invalid', 'fields'} end
if size ~= sum then return {'invalid', 'size'} end

if redis.call('HLEN', key) > 0 then
  local life = redis.call('HGET', key, '@l')
  return {life and string.sub(life, 1, 22) == id and 'again' or 'exists'}
end

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local deadline, seen = now + lifetime, now - math.max(0, idle - first)
set[3], set[4] = '@s', string.format('10%s%012x%08x%012x', verifier, 1, size, math.max(0, seen))
set[5], set[6] = '@l', string.format('%s%012x%012x%012x', id, now, deadline, idle)
redis.call(unpack(set))
redis.call('PEXPIREAT', key, string.format('%.0f', math.min(seen + idle, deadline)))
if ARGV[7] == '1' then redis.call('HLEN', key) end -- this read keeps the key tracked
return {'ok', now, 1}
