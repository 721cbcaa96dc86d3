-- Makes one change to a live session, all of it or nothing.
--
-- KEYS[1]  the session's hash
-- KEYS[2]  the revocations of its bucket: see enduser.lua. They are not checked if it is missing.
--          Leave it out only if nobody is signed in, or while the slot is moving
-- ARGV[1]  verifier: hash of the verifier that the request presented
-- ARGV[2]  limit on the bytes of all keys and values
-- ARGV[3]  global: when all users were revoked last; 0: never, or the caller knows that the session
--          was created later
-- ARGV[4]  flags, three digits 0 or 1:
--            clock    check the limits on the session's time, and note its use if that is due.
--                     Pass 0 only if the caller knows the session, and that no touch is due
--            tracked  the caller keeps a copy: read the key at the end, which keeps it tracked for
--                     the connection that sent the script
--            issued   the request issued the token with the verifier itself: it created or renewed
--                     the session. So its use does not show that the client has the token
-- ARGV[5…] operations, four strings each: kind, key, a, b
--            renew          verifier  ""     ""         only first: a new verifier
--            rotate         verifier  grace  min age    only first: a new verifier, if the current
--                           one is at least that old; in milliseconds
--            set            key    value      ""
--            unset          key    ""         ""
--            unset-entries  field  ""         ""
--            clear          ""     ""         ""
--            add            key    delta      "" or "min max"
--            take           key    ""         ""
--            swap           key    "=" old    "=" new     "" for a missing value
--            limit          field  most       ""     refuse the change if the map has more entries
--                           than most, and one that it did not have before the change
--
-- Replies
--   {"ok", time, revision, value of each operation or nil …}   time: the server's; 0 if the script
--               did not read it. Values are there only if an operation has one
--   {"ok", time, revision, generation, value …}   if the first operation is renew or rotate: the
--               generation after it, and then the values of the others
--   {"kept", time … as "ok"}          done, but without the rotation: the verifier is not old
--               enough, or its successor is in use
--   {"gone"}    there is no such session: it ended, expired or is revoked
--   {"moved"}   the verifier is not accepted, or a sign-in is replacing or has replaced the session
--   {"refused", index from 0, why}    why: integer overflow large fields entries. The index does
--               not count renew and rotate
--   {"refused", index from 0, "conflict", present value or nil}
--   {"malformed", name of a stored value}, {"invalid", the argument's name in this text}
--
-- Redis does not roll back, so all checks come before the first write.

local key, argv, flags, call = KEYS[1], ARGV, ARGV[4], redis.call
local find, sub, format, count = string.find, string.sub, string.format, #argv

-- The straight path: one to four operations set, add and swap, on a session whose current verifier
-- is in use. It makes no functions, and tables only for several operations, because they cost the
-- most. What is not usual goes the long way below, which begins anew.
local kind = argv[5]
if (kind == 'add' or kind == 'set' or kind == 'swap') and count <= 20 and count % 4 == 0
  and (flags == '010' or flags == '110' or flags == '000' or flags == '100') then
  local clock, have, life = flags == '110' or flags == '100', nil, nil
  if count > 8 then
    have = call('HMGET', key, '@s', argv[6], argv[10], argv[14] or '@', argv[18] or '@', '@l')
    life = clock and have[6]
  elseif clock then
    have = call('HMGET', key, '@s', argv[6], '@l')
    life = have[3]
  else
    have = call('HMGET', key, '@s', argv[6])
  end
  -- The version, no flags, and the verifier are one prefix of "@s". A write keeps it.
  local state, head = have[1], '10' .. argv[1]
  local seen, now, extended = nil, 0, nil
  local live = not clock and argv[3] == '0'
  if life and state and #life == 58 and find(life, '^[0-9a-f]+$', 23) then
    local time, deadline, idle = call('TIME'), tonumber(sub(life, 35, 46), 16), tonumber(sub(life, 47), 16)
    now, extended = time[1] * 1000 + math.floor(time[2] / 1000), deadline
    local expires = math.min((tonumber(sub(state, 45), 16) or 0) + idle, deadline)
    live = now < expires and (argv[3] == '0'
      or find(argv[3], '^%d+$') and tonumber(argv[3]) < tonumber(sub(life, 23, 34), 16))
    if now + idle < deadline then extended = now + idle end
    if extended - expires > math.min(idle / 20, 60000) then seen = format('%012x', now) else extended = nil end
  end
  if live and state and #state == 56 and #head == 24 and find(state, head, 1, true) == 1
    and find(state, '^[0-9a-f]+$', 25) and not (KEYS[2] and call('EXISTS', KEYS[2]) == 1) then
    local grown, delta, new, usual, k, v, sum, set, values = 0, 0, 0
    for i = 5, count, 4 do
      local old = have[(i + 3) / 4]
      kind, k, v = argv[i], argv[i + 1], argv[i + 2]
      if kind == 'add' then
        -- The sum of two integers of 13 characters is exact.
        usual = #v < 14 and (v == '1' or find(v, '^-?[1-9]%d*$'))
          and (not old or #old < 14 and (find(old, '^-?[1-9]%d*$') or old == '0'))
        if not usual then break end
        sum = (old or 0) + v
        if argv[i + 3] ~= '' then -- bounds: the long way decides about a sum that is not within
          local least, most = string.match(argv[i + 3], '^(%S+) (%S+)$')
          least, most = tonumber(least), tonumber(most)
          usual = least and most and format('%d %d', least, most) == argv[i + 3] and sum >= least and sum <= most
        end
        v = format('%d', sum)
        sum = v
      elseif kind == 'swap' then
        usual = old and v == '=' .. old and string.byte(argv[i + 3]) == 61 -- "="
        if not usual then break end
        v = sub(argv[i + 3], 2)
      else
        usual = kind == 'set'
      end
      -- Not for another kind, no key, one of metadata, or one that comes again.
      usual = usual and (string.byte(k) or 64) ~= 64 and not have[k] -- "@"
      if not usual then break end
      local more = #v
      if old then more = more - #old else more, new = more + #k, new + 1 end
      delta = delta + more
      if more > 0 then grown = grown + more end
      if count > 8 then
        set, values = set or {'HSET', key, '@s', ''}, values or {}
        set[#set + 1] = k
        set[#set + 1] = v
        values[#values + 1] = kind == 'add' and v
        have[k] = true
      end
    end
    local revision, rest = tonumber(sub(state, 25, 36), 16) + 1, sub(state, 37)
    if usual and (delta ~= 0 or grown > 0) then
      local size, limit = tonumber(sub(rest, 1, 8), 16), argv[2]
      usual = size + delta >= 0 and #limit < 10 and find(limit, '^%d+$') and size + grown <= tonumber(limit)
      rest = format('%08x', size + delta) .. sub(rest, 9)
    end
    usual = usual and revision < 281474976710656
    if usual and (new == 0 or call('HLEN', key) + new < 1027) then
      if seen then rest = sub(rest, 1, 8) .. seen end
      state = head .. format('%012x', revision) .. rest
      if set then
        set[4] = state
        call(unpack(set))
      else
        call('HSET', key, '@s', state, k, v)
      end
      if extended then call('PEXPIREAT', key, format('%.0f', extended)) end
      if flags == '010' or flags == '110' then call('HLEN', key) end -- keeps the key tracked
      if set and sum then return {'ok', now, revision, unpack(values)} end
      return {'ok', now, revision, sum}
    end
  end
end

local MAX_FIELDS, MAX_OPERATIONS, MAX_TIME, SUPERSEDED_FOR = 1024, 4096, 253402300799999, 60000
local HEX = '^[0-9a-f]+$'

-- decimal returns the number in an argument, or nil.
local function decimal(text, most)
  local n = text and #text < 16 and find(text, '^%d+$') and tonumber(text)
  return n and n <= most and n or nil
end

local function is_hash(text) return text and #text == 22 and find(text, '^[%w_-]+$') end

local presented, limit, global = argv[1], decimal(argv[2], 4294967295), decimal(argv[3], MAX_TIME)
local clock, tracked, issued = string.match(flags or '', '^([01])([01])([01])$')
local renewal, verifier = argv[5] == 'renew' or argv[5] == 'rotate', argv[6]
local grace, min_age = decimal(argv[7], 9223372036854), decimal(argv[8], 9223372036854)
local FIRST = renewal and 9 or 5
if not is_hash(presented) then return {'invalid', 'verifier'} end
if not limit then return {'invalid', 'limit'} end
if not global then return {'invalid', 'global'} end
if not clock then return {'invalid', 'flags'} end
if count % 4 > 0 or count >= FIRST + 4 * MAX_OPERATIONS then return {'invalid', 'operations'} end
if renewal then
  -- The last character of a hash has four unused bits.
  if not is_hash(verifier) or not find(verifier, '[AQgw]$') then return {'invalid', 'verifier'} end
  if argv[5] == 'rotate' and (not grace or grace == 0) then return {'invalid', 'grace'} end
  if argv[5] == 'rotate' and not min_age then return {'invalid', 'min age'} end
end

local HEAD = 4 -- names of metadata in the query
local query = {'HMGET', key, '@s', '@l', '@previous', '@moving'}
for i = FIRST, count, 4 do query[#query + 1] = argv[i + 1] end
local have = call(unpack(query))
local state, life, previous, moving = have[1], have[2], have[3], have[4]
if not state then
  if life then return {'malformed', '@s'} end
  return {call('HEXISTS', key, '@moved') == 1 and 'moved' or 'gone'}
end

-- The flags of the session: 1, the current verifier was not used yet; 2, a sign-in is under way.
local marks = #state == 56 and find(state, HEX, 25) and string.match(state, '^1([0-3])')
if not marks then return {'malformed', '@s'} end
local unused, leaving, current = marks % 2 == 1, marks % 4 >= 2, sub(state, 3, 24)
if moving and not leaving then return {'malformed', '@s'} end
if not life or #life ~= 58 or not find(life, HEX, 23) then return {'malformed', '@l'} end
local well_formed = not previous and not unused
  or previous and #previous == 55 and find(previous, '^[ar]') and find(previous, HEX, 24)
if not well_formed then return {'malformed', '@previous'} end
if leaving and (not moving or #moving ~= 34 or not find(moving, HEX, 23)) then return {'malformed', '@moving'} end

local function number(text, from, to) return tonumber(sub(text, from, to), 16) end

local revision, size, seen = number(state, 25, 36) + 1, number(state, 37, 44), number(state, 45, 56)
local generation, created = previous and number(previous, 36, 43) or 0, number(life, 23, 34)
if revision > 281474976710655 then return {'malformed', '@s'} end

local now, expires, deadline, idle
if clock == '1' or unused or leaving or renewal or presented ~= current then
  local time = call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
  deadline, idle = number(life, 35, 46), number(life, 47, 58)
  expires = math.min(seen + idle, deadline)
  if now >= expires then return {'gone'} end
end

-- A revoked session is gone, even if its key is not deleted yet.
if created <= global then return {'gone'} end
if KEYS[2] and call('EXISTS', KEYS[2]) == 1 then
  local user, name, excepted = call('HGET', key, '@u'), sub(key, -22), false
  if user and #user ~= 41 then return {'malformed', '@u'} end
  local owner = user and sub(user, 1, 22)
  local revocation = owner and call('HGET', KEYS[2], owner)
  if revocation then
    if #revocation % 34 ~= 24 or not find(sub(revocation, 1, 12), HEX) then return {'malformed', owner} end
    for i = 25, #revocation, 34 do excepted = excepted or sub(revocation, i, i + 21) == name end
    if created <= number(revocation, 1, 12) and not excepted then return {'gone'} end
  end
end
if leaving and now < number(moving, 23, 34) then return {'moved'} end

-- The verifier.

if renewal and current == verifier then -- it is done already: its reply was lost
  return {'ok', now, revision - 1, generation}
end
-- until_ms: when the previous verifier stops being accepted or remembered. Until the first use of a
-- rotated verifier it is the grace period.
local accepted, before, until_ms = false, nil, nil
if previous then
  accepted, before, until_ms = sub(previous, 1, 1) == 'a', sub(previous, 2, 23), number(previous, 24, 35)
end
local pending = accepted and unused
local in_grace = accepted and not unused and now and now < until_ms
if presented ~= current and not (presented == before and (pending or in_grace)) then return {'moved'} end
local shown = presented == current and issued == '0' -- the client has the current verifier
local first_use = unused and shown

local done, renew = 'ok', renewal
if argv[5] == 'rotate' then
  local since = previous and number(previous, 44, 55) or created
  -- The old verifier may rotate only until the current one is used: the response with the current
  -- one was lost. The current verifier may rotate only when the old one is not accepted any more.
  local may = pending
  if shown then may = not pending and not in_grace end
  if now - since < min_age or not may then done, renew = 'kept', false end
end

-- Integers are decimal strings. Lua's numbers are exact only up to 2^53, so larger ones are added
-- digit by digit.

-- small returns the number if s is a canonical integer far below 2^53.
local function small(s)
  if #s < 14 and (find(s, '^-?[1-9]%d*$') or s == '0') then return tonumber(s) end
end

local large -- functions on large integers, made when they are needed
local function make_large()
  large = {}

  function large.valid(s)
    if s ~= '0' and not find(s, '^-?[1-9]%d*$') then return false end
    local digits = string.gsub(s, '^-', '')
    if #digits ~= 19 then return #digits < 19 end
    return digits <= (sub(s, 1, 1) == '-' and '9223372036854775808' or '9223372036854775807')
  end

  -- limbs returns three numbers of seven digits with the sign of s, the lowest first.
  local function limbs(s)
    local sign, digits = string.match(s, '^(-?)(%d+)$')
    digits = string.rep('0', 21 - #digits) .. digits
    local f = sign == '-' and -1 or 1
    return f * sub(digits, 15), f * sub(digits, 8, 14), f * sub(digits, 1, 7)
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
    local digits = string.gsub(format('%.0f%07.0f%07.0f', s3, s2, s1), '^0+', '')
    if digits == '' then return '0' end
    return (negative and '-' or '') .. digits
  end

  function large.less(a, b)
    local an, bn = sub(a, 1, 1) == '-', sub(b, 1, 1) == '-'
    if an ~= bn then return an end
    local smaller = #a < #b or (#a == #b and a < b)
    if an then return a ~= b and not smaller end
    return smaller
  end
end

-- add returns the sum, or nil and why it is refused, or nil and the argument that is invalid.
-- present is false if there is no count. A count that is out of its range may come closer.
local function add(present, b, range)
  local a = present or '0'
  local x, y = small(a), small(b)
  if x and y and range == '' then return format('%d', x + y) end
  local min, max = string.match(range, '^(%S+) (%S+)$')
  local least, most = min and small(min), max and small(max)
  if x and y and least and most then
    if x + y < least and not (present and y > 0) or x + y > most and not (present and y < 0) then
      return nil, 'conflict'
    end
    return format('%d', x + y)
  end
  if not large then make_large() end
  if not large.valid(b) then return nil, nil, 'delta' end
  if not large.valid(a) then return nil, 'integer' end
  if range ~= '' and not (min and large.valid(min) and large.valid(max)) then return nil, nil, 'range' end
  local sum = large.add(a, b)
  if not large.valid(sum) then return nil, 'overflow' end
  local falls = sub(b, 1, 1) == '-'
  local rises = not falls and b ~= '0'
  if min and (large.less(sum, min) and not (present and rises) or large.less(max, sum) and not (present and falls)) then
    return nil, 'conflict'
  end
  return sum
end

-- Pass 1: the operations, on a copy. A missing value is false.

local stored, draft = {}, {}
for i = FIRST, count, 4 do
  local k = argv[i + 1]
  if argv[i] ~= 'clear' and argv[i] ~= 'unset-entries' and argv[i] ~= 'limit' then
    stored[k] = have[HEAD + (i - FIRST) / 4 + 1]
    draft[k] = stored[k]
  end
end

-- count_fields returns how many fields and entries are stored.
local function count_fields(most)
  local n = call('HLEN', key) - 2
  if n <= most then return n end -- metadata included
  local user = call('HGET', key, '@u')
  local parts = user and #user == 41 and math.ceil(number(user, 38, 41) / 64) + 1 or 0
  return n - parts - (previous and 1 or 0) - (moving and 1 or 0) - call('HEXISTS', key, '@overtaken')
end

local added, fields, everything, by_field = 0, nil, false, nil

-- put sets a value, or removes it if v is false. It returns the reason if that is refused.
local function put(k, v)
  local old = draft[k]
  local grown = size + (v and #v or 0) - (old and #old or 0)
  if v and not old then
    grown = grown + #k
    fields = fields or count_fields(MAX_FIELDS - count / 4)
    if fields + added >= MAX_FIELDS then return 'fields' end
    added = added + 1
  elseif old and not v then
    grown, added = grown - #k, added - 1
  end
  if grown > limit and grown > size then return 'large' end
  size, draft[k] = grown, v
end

-- entries_of returns the names of a map's entries. A change may clear thousands of maps.
local function entries_of(field)
  if not by_field then
    by_field = {}
    for e in pairs(draft) do
      local f = string.match(e, '^([^:]*):')
      if f then
        by_field[f] = by_field[f] or {}
        table.insert(by_field[f], e)
      end
    end
  end
  return by_field[field] or {}
end

-- exceeds reports whether a map has a new entry, and more entries than most. The names of the
-- stored entries are read only if the answer depends on them.
local function exceeds(field, most)
  local prefix, n, new = field .. ':', 0, false
  local function is_entry(e) return sub(e, 1, #prefix) == prefix end
  for e, v in pairs(draft) do
    if v and is_entry(e) then n, new = n + 1, new or not stored[e] end
  end
  if not new or fields + added <= most then return false end -- fields is set: see put
  if not everything then
    for _, e in ipairs(call('HKEYS', key)) do
      if draft[e] == nil and is_entry(e) then n = n + 1 end
    end
  end
  return n > most
end

local values, some = {}, false
for i = FIRST, count, 4 do
  local kind, k, a, b, n = argv[i], argv[i + 1], argv[i + 2], argv[i + 3], (i - FIRST) / 4
  local why, invalid
  values[n + 1] = false
  if kind ~= 'clear' and (string.byte(k) or 64) == 64 then -- "@" is metadata
    invalid = 'key'
  elseif kind == 'add' then
    local sum
    sum, why, invalid = add(draft[k], a, b)
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
    if a ~= '' and string.byte(a) ~= 61 then -- "="
      invalid = 'old'
    elseif b ~= '' and string.byte(b) ~= 61 then
      invalid = 'new'
    elseif (draft[k] and '=' .. draft[k] or '') ~= a then
      why = 'conflict'
    else
      why = put(k, b ~= '' and sub(b, 2))
    end
  elseif kind == 'unset-entries' or kind == 'clear' then
    if not everything then
      everything = call('HGETALL', key)
      for j = 1, #everything, 2 do
        local e = everything[j]
        if string.byte(e) ~= 64 and draft[e] == nil then stored[e], draft[e] = everything[j + 1], everything[j + 1] end
      end
    end
    if kind == 'clear' then
      for e in pairs(draft) do put(e, false) end
    else
      for _, e in ipairs(entries_of(k)) do put(e, false) end
    end
  elseif kind == 'limit' then
    local most = decimal(a, 4294967295)
    if not most then
      invalid = 'most'
    elseif exceeds(k, most) then
      why = 'entries'
    end
  else
    invalid = 'kind'
  end
  if invalid then return {'invalid', invalid} end
  if why == 'conflict' then return {'refused', n, why, draft[k]} end
  if why then return {'refused', n, why} end
end
if size < 0 then return {'malformed', '@s'} end

-- Pass 2: write what differs.

local set, unset, last = {'HSET', key, '@s', ''}, nil, 4
local function write(k, v) set[last + 1], set[last + 2], last = k, v, last + 2 end
for k, v in pairs(draft) do
  if v ~= stored[k] then
    if v then
      write(k, v)
    else
      unset = unset or {'HDEL', key}
      unset[#unset + 1] = k
    end
  end
end

local function hex(n, width) return format('%0' .. width .. 'x', n) end

local head = sub(state, 1, 24)
if renew then
  local overtaken = call('HGET', key, '@overtaken')
  if overtaken and (#overtaken ~= 30 or not find(sub(overtaken, 1, 8), HEX)) then return {'malformed', '@overtaken'} end
  if unused and not shown then
    -- The current verifier is replaced before it was used. Its token may arrive late.
    write('@overtaken', hex(generation, 8) .. string.rep('A', 22))
  else
    if overtaken and number(overtaken, 1, 8) == generation then write('@overtaken', hex(generation, 8) .. current) end
    before, generation = current, (generation + 1) % 4294967296
  end
  head = (leaving and '13' or '11') .. verifier
  local replaced = argv[5] == 'rotate' and 'a' .. before .. hex(grace, 12) or 'r' .. before .. hex(now + SUPERSEDED_FOR, 12)
  write('@previous', replaced .. hex(generation, 8) .. hex(now, 12))
elseif first_use then
  head = (leaving and '12' or '10') .. current
  if pending then write('@previous', 'a' .. before .. hex(now + until_ms, 12) .. sub(previous, 36)) end
end

local due = false
if now then
  local extended = math.min(now + idle, deadline)
  due = first_use or extended - expires > math.min(idle / 20, 60000)
  if issued == '1' and seen < created then due = false end -- not the first use: see create.lua
  if due then
    seen, expires = math.max(now, seen), extended
  end
end
set[4] = head .. hex(revision, 12) .. hex(size, 8) .. hex(seen, 12)

call(unpack(set))
if unset then call(unpack(unset)) end
if due then call('PEXPIREAT', key, format('%.0f', expires)) end
if tracked == '1' then call('HLEN', key) end

if not some then values = {} end
if renewal then return {done, now, revision, generation, unpack(values)} end
return {done, now or 0, revision, unpack(values)}
