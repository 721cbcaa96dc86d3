-- Applies one change to a live session, all of it or nothing.
--
-- KEYS[1]  the session's hash
-- ARGV[1]  hash of the verifier that the request presented
-- ARGV[2]  limit on the bytes of all keys and values
-- ARGV[3]  hash of a new verifier; "" to keep the token
-- ARGV[4]  with a new verifier: 0 for a renewal, else the grace of a rotation in milliseconds
-- ARGV[5…] operations, four strings each: kind, key, a, b
--            set            key    value      ""
--            unset          key    ""         ""
--            unset-entries  field  ""         ""
--            clear          ""     ""         ""
--            add            key    delta      "" or "min max"
--            take           key    ""         ""
--            swap           key    "=" old    "=" new     each without "=" where there is no value
--
-- Replies
--   {"ok", time, revision, value of each operation or nil …}    values only if an operation has one
--   {"gone"}                                no such session
--   {"moved"}                               the verifier is not accepted
--   {"refused", index from 0, why}          why: integer overflow large fields
--   {"refused", index from 0, "conflict", value that is there or nil}
--
-- Redis does not roll back, so the first pass works on a copy, and the second writes. The last command reads the key: it is then
-- tracked for the connection that sent the script (CLIENT TRACKING), whose copy the caller brings up to date itself.

local key, presented, limit = KEYS[1], ARGV[1], tonumber(ARGV[2])
local FIRST, MAX_FIELDS, METADATA, REPLACED_FOR = 5, 1024, 9, 60000

local query = {'HMGET', key, '@token', '@previous', '@idle', '@deadline', '@seen', '@rev', '@size'}
local head = #query - 2
for i = FIRST, #ARGV, 4 do query[#query + 1] = ARGV[i + 1] end
local have = redis.call(unpack(query))
local token, previous = have[1], have[2]
if not token then return {'gone'} end
local idle, deadline, seen, revision, size = tonumber(have[3]), tonumber(have[4]), tonumber(have[5]), tonumber(have[6]), tonumber(have[7])

local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
if now >= math.min(seen + idle, deadline) then return {'gone'} end

-- The token.

local generation, current = string.match(token, '^(%d+)%.(.+)$')
if ARGV[3] ~= '' and current == ARGV[3] then -- this very renewal was done before, and its answer was lost
  return {'ok', string.format('%.0f', now), redis.call('HGET', key, '@rev')}
end
local state, before, number -- number: of pending the grace, else until when
if previous then state, before, number = string.match(previous, '^(%a+)%.([^.]+)%.(%d+)$') end
if presented ~= current then
  if presented ~= before then return {'moved'} end
  if state == 'grace' then
    -- The browser has shown the current one, so this one does not rotate any more.
    if now >= tonumber(number) or (ARGV[3] ~= '' and ARGV[4] ~= '0') then return {'moved'} end
  elseif state ~= 'pending' then
    return {'moved'}
  end
end
local first_use = state == 'pending' and presented == current

-- Integers are decimal strings: Lua's numbers are exact to 2^53 only.

local function is_integer(s)
  if not (s == '0' or string.find(s, '^-?[1-9]%d*$')) then return false end
  local digits = string.gsub(s, '^-', '')
  if #digits ~= 19 then return #digits < 19 end
  return digits <= (string.sub(s, 1, 1) == '-' and '9223372036854775808' or '9223372036854775807')
end

local function split(s) -- sign, and three limbs of seven digits, the lowest first
  local sign, digits = string.match(s, '^(-?)(%d+)$')
  digits = string.rep('0', 21 - #digits) .. digits
  return sign == '-', tonumber(string.sub(digits, 15)), tonumber(string.sub(digits, 8, 14)), tonumber(string.sub(digits, 1, 7))
end

local function add(a, b)
  local x, y = tonumber(a), tonumber(b)
  if math.abs(x) < 2 ^ 52 and math.abs(y) < 2 ^ 52 then return string.format('%.0f', x + y) end
  local an, a1, a2, a3 = split(a)
  local bn, b1, b2, b3 = split(b)
  if an then a1, a2, a3 = -a1, -a2, -a3 end
  if bn then b1, b2, b3 = -b1, -b2, -b3 end
  local s1, s2, s3 = a1 + b1, a2 + b2, a3 + b3
  local negative = s3 < 0 or (s3 == 0 and (s2 < 0 or (s2 == 0 and s1 < 0)))
  if negative then s1, s2, s3 = -s1, -s2, -s3 end
  local base = 10000000
  local carry = math.floor(s1 / base)
  s1, s2 = s1 - carry * base, s2 + carry
  carry = math.floor(s2 / base)
  s2, s3 = s2 - carry * base, s3 + carry
  local digits = string.gsub(string.format('%.0f%07.0f%07.0f', s3, s2, s1), '^0+', '')
  if digits == '' then return '0' end
  return (negative and '-' or '') .. digits
end

local function less(a, b)
  local an, bn = string.sub(a, 1, 1) == '-', string.sub(b, 1, 1) == '-'
  if an ~= bn then return an end
  local smaller = #a < #b or (#a == #b and a < b)
  if an then return a ~= b and not smaller end
  return smaller
end

-- Pass 1: the operations, on a copy.

local was, is, touched = {}, {}, {} -- values by key, false where there is none; the keys in is that may differ from was
for i = FIRST, #ARGV, 4 do
  local k = ARGV[i + 1]
  if ARGV[i] ~= 'clear' and ARGV[i] ~= 'unset-entries' then
    was[k] = have[head + (i - FIRST) / 4 + 1]
    is[k] = was[k]
  end
end

local all = false
local function load_all()
  if all then return end
  all = true
  local pairs_ = redis.call('HGETALL', key)
  for j = 1, #pairs_, 2 do
    local k = pairs_[j]
    if string.sub(k, 1, 1) ~= '@' and is[k] == nil then was[k], is[k] = pairs_[j + 1], pairs_[j + 1] end
  end
end

local added, fields = 0, nil
local function remove(k)
  if is[k] then
    size, added = size - #k - #is[k], added - 1
    is[k], touched[k] = false, true
  end
end

local function put(k, v) -- returns why not
  local grown = size + #v
  if is[k] then
    grown = grown - #is[k]
  else
    grown = grown + #k
    if not fields then
      fields = redis.call('HLEN', key) - METADATA - (previous and 1 or 0)
      if fields + #ARGV / 4 > MAX_FIELDS then fields = fields - redis.call('HEXISTS', key, '@principal') end
    end
    if fields + added >= MAX_FIELDS then return 'fields' end
  end
  if grown > limit and grown > size then return 'large' end
  if not is[k] then added = added + 1 end
  size, is[k], touched[k] = grown, v, true
end

local values, some = {}, false
for i = FIRST, #ARGV, 4 do
  local kind, k, a, b, n = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3], (i - FIRST) / 4
  values[n + 1] = false
  local why
  if kind == 'set' then
    why = put(k, a)
  elseif kind == 'unset' then
    remove(k)
  elseif kind == 'add' then
    local present = is[k] or '0'
    if not is_integer(present) then return {'refused', n, 'integer'} end
    local sum = add(present, a)
    if not is_integer(sum) then return {'refused', n, 'overflow'} end
    if b ~= '' then
      local min, max = string.match(b, '^(%S+) (%S+)$')
      if less(sum, min) or less(max, sum) then return {'refused', n, 'conflict', is[k]} end
    end
    why = put(k, sum)
    values[n + 1], some = sum, true
  elseif kind == 'take' then
    if is[k] then values[n + 1], some = is[k], true end
    remove(k)
  elseif kind == 'swap' then
    if (is[k] and '=' .. is[k] or '') ~= a then return {'refused', n, 'conflict', is[k]} end
    if b == '' then remove(k) else why = put(k, string.sub(b, 2)) end
  elseif kind == 'unset-entries' or kind == 'clear' then
    load_all()
    local prefix = k .. ':'
    for e in pairs(is) do
      if kind == 'clear' or string.sub(e, 1, #prefix) == prefix then remove(e) end
    end
  end
  if why then return {'refused', n, why} end
end

-- Pass 2: write what differs.

local set, unset = {'HSET', key, '@rev', string.format('%.0f', revision + 1)}, {'HDEL', key}
local function write(k, v) set[#set + 1], set[#set + 2] = k, v end
for k in pairs(touched) do
  if is[k] then
    if is[k] ~= was[k] then write(k, is[k]) end
  elseif was[k] then
    unset[#unset + 1] = k
  end
end
if size ~= tonumber(have[7]) then write('@size', string.format('%.0f', size)) end

if ARGV[3] ~= '' then
  write('@token', string.format('%.0f', generation + 1) .. '.' .. ARGV[3])
  if ARGV[4] == '0' then
    write('@previous', 'replaced.' .. current .. '.' .. string.format('%.0f', now + REPLACED_FOR))
  else
    write('@previous', 'pending.' .. presented .. '.' .. ARGV[4])
  end
elseif first_use then
  write('@previous', 'grace.' .. before .. '.' .. string.format('%.0f', now + number))
end

local prolonged = math.min(now + idle, deadline)
local due = prolonged - math.min(seen + idle, deadline) > math.min(idle / 20, 60000) or first_use
if due and now > seen then write('@seen', string.format('%.0f', now)) end

redis.call(unpack(set))
if #unset > 2 then redis.call(unpack(unset)) end
if due then redis.call('PEXPIREAT', key, string.format('%.0f', prolonged)) end

local reply = {'ok', string.format('%.0f', now), redis.call('HGET', key, '@rev')}
if some then
  for j = 1, #values do reply[3 + j] = values[j] end
end
return reply
