-- Appends events to the feed: see "Events" in format/README.md.
--
-- KEYS[1]  the feed, a stream
-- ARGV[1]  how many entries it keeps, about
-- ARGV[2]  what names the publisher
-- ARGV[3…] for each event: a mark, 16 random characters of the caller's; the publisher's number of it; the event, "" for none
--
-- Reply {"ok"}
--
-- Entries are numbered without a gap, and each has the mark of the one before. A failover that loses the end of the stream, after which
-- numbers are given anew, breaks the chain of marks, so that who follows sees it.

local number, before = 0, ''
local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
if last then
  number = tonumber(string.match(last[1], '^%d+'))
  for i = 1, #last[2], 2 do
    if last[2][i] == 'mark' then before = last[2][i + 1] end
  end
end
local function append(i)
  number = number + 1
  local done = redis.pcall('XADD', KEYS[1], 'MAXLEN', '~', ARGV[1], string.format('%.0f-0', number), 'mark', ARGV[i], 'before', before, 'node', ARGV[2],
    'n', ARGV[i + 1], 'event', ARGV[i + 2])
  before = ARGV[i]
  return type(done) == 'table' and done.err
end
for i = 3, #ARGV, 3 do
  local err = append(i)
  if err and string.find(err, 'stream', 1, true) then -- somebody removed the last entries, and the server does not give their numbers again
    redis.call('DEL', KEYS[1])
    number, before = 0, ''
    err = append(i)
  end
  if err then return redis.error_reply(err) end
end
return {'ok'}
