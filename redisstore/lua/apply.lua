-- Makes one change to a live session, all of it or nothing.
--
-- KEYS[1]  the session's hash
-- KEYS[2]  the revocations of its bucket: see enduser.lua. They are not checked if it is missing
-- ARGV[1]  hash of the verifier that the request presented
-- ARGV[2]  limit on the bytes of all keys and values
-- ARGV[3]  hash of a new verifier; "" to keep the token
-- ARGV[4]  with a new verifier: 0 for a renewal, else the grace of a rotation in milliseconds
-- ARGV[5]  how old the current verifier must be for a rotation, in milliseconds
-- ARGV[6]  when all users were revoked last; 0: never
-- ARGV[7]  1 if the request issued the token with the verifier itself, by creating or renewing the
--          session, else 0. With 1, its use does not show that the client has the token
-- ARGV[8…] operations, four strings each: kind, key, a, b
--            set            key    value      ""
--            unset          key    ""         ""
--            unset-entries  field  ""         ""
--            clear          ""     ""         ""
--            add            key    delta      "" or "min max"
--            take           key    ""         ""
--            swap           key    "=" old    "=" new     "" for a missing value
--
-- Replies
--   {"ok", seconds, microseconds, revision, value of each operation or nil …}   the server's time.
--               Values are there only if an operation has one
--   {"kept", seconds … as "ok"}       done, but without the rotation: the verifier is not old
--               enough, or its successor is in use
--   {"gone"}    there is no such session
--   {"moved"}   the verifier is not accepted
--   {"refused", index from 0, why}    why: integer overflow large fields
--   {"refused", index from 0, "conflict", present value or nil}
--
-- Redis does not roll back, so the first pass works on a copy, and the second writes. The last
-- command reads the key: that keeps it tracked for the connection that sent the script. The caller
-- updates its own copy.

local key, presented, limit = KEYS[1], ARGV[1], tonumber(ARGV[2])
local FIRST, COUNT, MAX_FIELDS, METADATA, SUPERSEDED_FOR = 8, #ARGV, 1024, 9, 60000

local query = {
  'HMGET', key, '@token', '@previous', '@idle', '@deadline', '@seen', '@rev', '@size', '@moving', '@created',
}
local HEAD = 9 -- names of metadata in the query
for i = FIRST, COUNT, 4 do query[#query + 1] = ARGV[i + 1] end
local have = redis.call(unpack(query))
local token, previous = have[1], have[2]
if not token then return {have[8] == 'moved' and 'moved' or 'gone'} end
local idle, deadline, seen, size = tonumber(have[3]), tonumber(have[4]), tonumber(have[5]), tonumber(have[7])

-- Lua converts numbers below 10^14 to text exactly. Times, sizes and revisions are below that. It
-- is slow, so the script converts only what it needs.
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local expires = math.min(seen + idle, deadline)
if now >= expires then return {'gone'} end

-- A revoked session is gone, even if its key is not deleted yet.
local created = tonumber(have[9])
if created <= tonumber(ARGV[6]) then return {'gone'} end
if KEYS[2] and redis.call('EXISTS', KEYS[2]) == 1 then
  local owner = string.match(redis.call('HGET', key, '@principal') or '', '"owner":"([%w_-]+)"')
  local since, kept = string.match(owner and redis.call('HGET', KEYS[2], owner) or '', '^(%d+)%.%d+(.*)$')
  local excepted = string.find(kept or '', '.' .. string.sub(key, -22) .. '.', 1, true)
  if since and created <= tonumber(since) and not excepted then return {'gone'} end
end

-- A sign-in is under way.
if have[8] and now < tonumber(string.match(have[8], '%d+$')) then return {'moved'} end

-- The token. A hash has 22 characters.

local current = string.sub(token, -22)
if ARGV[3] ~= '' and current == ARGV[3] then -- the renewal is done already: its reply was lost
  return {'ok', clock[1], clock[2], redis.call('HGET', key, '@rev')}
end
-- "pending" and "renewed": the current verifier was not used yet.
local state, before, number -- number: with "pending" the grace, else until when
if previous then state, before, number = string.match(previous, '^(%a+)%.([^.]+)%.(%d+)$') end
if presented ~= current then
  if presented ~= before then return {'moved'} end
  if state == 'grace' then
    if now >= tonumber(number) then return {'moved'} end
  elseif state ~= 'pending' then
    return {'moved'}
  end
end
local shown = presented == current and ARGV[7] ~= '1' -- the client has the current verifier
local unused = state == 'pending' or state == 'renewed'
local first_use = unused and shown

local done, renew = 'ok', ARGV[3] ~= ''
if renew and ARGV[4] ~= '0' then
  local issued = string.match(token, '%.(%d+)%.')
  if issued == '0' then issued = created end
  -- The old verifier may rotate only until the current one is used: the response with the current
  -- one was lost. The current verifier may rotate only when the old one is not accepted any more.
  local may = state == 'pending'
  if shown then may = not may and not (state == 'grace' and now < tonumber(number)) end
  if now - issued < tonumber(ARGV[5]) or not may then done, renew = 'kept', false end
end

-- Integers are decimal strings. Lua's numbers are exact only up to 2^53, so larger ones are added
-- digit by digit.

-- small returns the number if s is a canonical integer far below 2^53.
local function small(s)
  if #s < 14 and (string.find(s, '^-?[1-9]%d*$') or s == '0') then return tonumber(s) end
end

local large -- functions on large integers, made when they are needed
local function make_large()
  large = {}

  function large.valid(s)
    if s ~= '0' and not string.find(s, '^-?[1-9]%d*$') then return false end
    local digits = string.gsub(s, '^-', '')
    if #digits ~= 19 then return #digits < 19 end
    return digits <= (string.sub(s, 1, 1) == '-' and '9223372036854775808' or '9223372036854775807')
  end

  -- limbs returns three numbers of seven digits with the sign of s, the lowest first.
  local function limbs(s)
    local sign, digits = string.match(s, '^(-?)(%d+)$')
    digits = string.rep('0', 21 - #digits) .. digits
    local f = sign == '-' and -1 or 1
    return f * string.sub(digits, 15), f * string.sub(digits, 8, 14), f * string.sub(digits, 1, 7)
  end

  function large.add(a, b)
    local a1, a2, a3 = limbs(a)
    local b1, b2, b3 = limbs(b)
    local s1, s2, s3 = a1 + b1, a2 + b2, a3 + b3
    local negative = s3 < 0 or (s3 == 0 and (s2 < 0 or (s2 == 0 and s1 < 0)))
    if negative then s1, s2, s3 = -s1, -s2, -s3 end
    local carry = math.floor(s1 / 1e7)
    s1, s2 = s1 - carry * 1e7, s2 + carry
    carry = math.floor(s2 / 1e7)
    s2, s3 = s2 - carry * 1e7, s3 + carry
    local digits = string.gsub(string.format('%.0f%07.0f%07.0f', s3, s2, s1), '^0+', '')
    if digits == '' then return '0' end
    return (negative and '-' or '') .. digits
  end

  function large.less(a, b)
    local an, bn = string.sub(a, 1, 1) == '-', string.sub(b, 1, 1) == '-'
    if an ~= bn then return an end
    local smaller = #a < #b or (#a == #b and a < b)
    if an then return a ~= b and not smaller end
    return smaller
  end
end

-- add returns the sum, or nil and the reason.
local function add(a, b, range)
  local x, y = small(a), small(b)
  if x and y and range == '' then
    return x + y .. ''
  end
  if not large then make_large() end
  if not large.valid(a) then return nil, 'integer' end
  local sum = large.add(a, b)
  if not large.valid(sum) then return nil, 'overflow' end
  if range ~= '' then
    local min, max = string.match(range, '^(%S+) (%S+)$')
    if large.less(sum, min) or large.less(max, sum) then return nil, 'conflict' end
  end
  return sum
end

-- Pass 1: the operations, on a copy. A missing value is false.

local stored, draft = {}, {}
for i = FIRST, COUNT, 4 do
  local kind = ARGV[i]
  if kind ~= 'clear' and kind ~= 'unset-entries' then
    local k = ARGV[i + 1]
    stored[k] = have[HEAD + (i - FIRST) / 4 + 1]
    draft[k] = stored[k]
  end
end

local added, fields, everything = 0, nil, false

-- put sets a value, or removes it if v is false. It returns the reason if that is refused.
local function put(k, v)
  local old = draft[k]
  local grown = size + (v and #v or 0) - (old and #old or 0)
  if v and not old then
    grown = grown + #k
    if not fields then
      fields = redis.call('HLEN', key) - METADATA - (previous and 1 or 0) - (have[8] and 1 or 0)
      if fields + COUNT / 4 > MAX_FIELDS then
        fields = fields - redis.call('HEXISTS', key, '@principal') - redis.call('HEXISTS', key, '@overtaken')
      end
    end
    if fields + added >= MAX_FIELDS then return 'fields' end
    added = added + 1
  elseif old and not v then
    grown, added = grown - #k, added - 1
  end
  if grown > limit and grown > size then return 'large' end
  size, draft[k] = grown, v
end

local values, some = {}, false
for i = FIRST, COUNT, 4 do
  local kind, k, a, b, n = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3], (i - FIRST) / 4
  local why
  values[n + 1] = false
  if kind == 'add' then
    local sum
    sum, why = add(draft[k] or '0', a, b)
    if sum then
      values[n + 1], some = sum, true
      why = put(k, sum)
    end
  elseif kind == 'set' then
    why = put(k, a)
  elseif kind == 'unset' then
    put(k, false)
  elseif kind == 'take' then
    if draft[k] then values[n + 1], some = draft[k], true end
    put(k, false)
  elseif kind == 'swap' then
    if (draft[k] and '=' .. draft[k] or '') ~= a then
      why = 'conflict'
    else
      why = put(k, b ~= '' and string.sub(b, 2))
    end
  else -- unset-entries, clear
    if not everything then
      everything = redis.call('HGETALL', key)
      for j = 1, #everything, 2 do
        local e = everything[j]
        if string.sub(e, 1, 1) ~= '@' and draft[e] == nil then
          stored[e], draft[e] = everything[j + 1], everything[j + 1]
        end
      end
    end
    local prefix = k .. ':'
    for e in pairs(draft) do
      if kind == 'clear' or string.sub(e, 1, #prefix) == prefix then put(e, false) end
    end
  end
  if why == 'conflict' then return {'refused', n, why, draft[k]} end
  if why then return {'refused', n, why} end
end

-- Pass 2: write what differs.

local revision = have[6] + 1 .. ''
local set, unset = {'HSET', key, '@rev', revision}, nil
local last = 4
for k, v in pairs(draft) do
  if v ~= stored[k] then
    if v then
      set[last + 1], set[last + 2], last = k, v, last + 2
    else
      unset = unset or {'HDEL', key}
      unset[#unset + 1] = k
    end
  end
end
local function write(k, v) set[last + 1], set[last + 2], last = k, v, last + 2 end
if size ~= tonumber(have[7]) then write('@size', size .. '') end

if renew then
  local generation = string.match(token, '^%d+')
  if unused and not shown then
    -- The current verifier is replaced before it was used. Its token may arrive late.
    write('@overtaken', generation)
  else
    if redis.call('HGET', key, '@overtaken') == generation then write('@overtaken', generation .. '.' .. current) end
    before, generation = current, generation + 1
  end
  write('@token', generation .. '.' .. now .. '.' .. ARGV[3])
  if ARGV[4] == '0' then
    write('@previous', 'renewed.' .. before .. '.' .. now + SUPERSEDED_FOR)
  else
    write('@previous', 'pending.' .. before .. '.' .. ARGV[4])
  end
elseif first_use and state == 'pending' then
  write('@previous', 'grace.' .. before .. '.' .. now + number)
elseif first_use then
  write('@previous', 'replaced.' .. before .. '.' .. number)
end

local extended = math.min(now + idle, deadline)
local due = first_use or extended - expires > math.min(idle / 20, 60000)
if ARGV[7] == '1' and seen < created then due = false end -- not the first use: see create.lua
if due and now > seen then write('@seen', now .. '') end

redis.call(unpack(set))
if unset then redis.call(unpack(unset)) end
if due then redis.call('PEXPIREAT', key, extended .. '') end

redis.call('HLEN', key) -- this read keeps the key tracked

if not some then return {done, clock[1], clock[2], revision} end
return {done, clock[1], clock[2], revision, unpack(values)}
