-- Appends events to the feed: see "Events" in format/README.md.
--
-- KEYS[1]  the feed, a stream
-- ARGV[1]  about how many entries to keep
-- ARGV[2]  the publisher's random name
-- ARGV[3…] for each event: a mark of 16 random characters; the publisher's number; the event, ""
--          for a gap
--
-- Reply {"ok"}
--
-- Entries are numbered without a gap, and each has the mark of the entry before it. If a failover
-- loses the newest entries, their numbers are given again with other marks. So followers notice.

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
  local done = redis.pcall('XADD', KEYS[1], 'MAXLEN', '~', ARGV[1], string.format('%.0f-0', number),
    'mark', ARGV[i], 'before', before, 'node', ARGV[2], 'n', ARGV[i + 1], 'event', ARGV[i + 2])
  before = ARGV[i]
  return type(done) == 'table' and done.err
end
for i = 3, #ARGV, 3 do
  local err = append(i)
  -- Somebody removed the newest entries, and the server refuses their numbers: begin a new stream.
  if err and string.find(err, 'stream', 1, true) then
    redis.call('DEL', KEYS[1])
    number, before = 0, ''
    err = append(i)
  end
  if err then return redis.error_reply(err) end
end
return {'ok'}
