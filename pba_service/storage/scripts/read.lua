-- Reads what predictions are made from. KEYS: links. ARGV: floor_ms, then for each link three numbers (doubles): how long
-- before its newest sample to read from, and from and until how long before it to read besides. Answers for each link
-- nothing, or version, blob, newest prediction, number of changes of its samples, time of its oldest sample, how many of
-- the stretches that follow are of what was read besides, and the stretches: bucket and rows in turn.
local FLOOR = tonumber(ARGV[1])

-- Adds the rows of the times from .. to; returns how many stretches they are.
local function stretch(base, s, from, to, newest_rows, reply)
  local count = 0
  for bucket = math.max(floor_of(from / BUCKET_MS), s.lo), math.min(floor_of(to / BUCKET_MS), s.hi) do
    local rows = bucket == s.hi and newest_rows or call('GET', bucket_key(base, bucket))
    if rows then
      local have = floor_of(#rows / SAMPLE_BYTES)
      local start, stop = bucket == s.lo and s.dead or 0, have
      if bucket * BUCKET_MS < from then
        start = lower_bound(rows, start, have, from - bucket * BUCKET_MS, SAMPLE_BYTES)
      end
      if to < s.newest and (bucket + 1) * BUCKET_MS > to then
        stop = lower_bound(rows, start, have, to + 1 - bucket * BUCKET_MS, SAMPLE_BYTES)
      end
      count = count + 1
      reply[#reply + 1] = bucket
      reply[#reply + 1] = sub(rows, start * SAMPLE_BYTES + 1, stop * SAMPLE_BYTES)
    end
  end
  return count
end

local function read_link(i)
  local base = KEYS[i]
  local context, besides_from, besides_to = unpack_at('<ddd', ARGV[i + 1])
  local stored = call('HMGET', base .. ':m', 'k', 'b')
  if not stored[1] then return false end
  local s = parse(stored[1])
  local newest_rows = call('GET', bucket_key(base, s.hi))
  catch_up(base, s, stored[2], newest_rows)
  if s.newest < FLOOR then return false end

  local oldest = math.max(s.oldest, FLOOR)
  local reply = call('HMGET', base .. ':s', 'v', 'b', 'p')
  reply[4], reply[5], reply[6] = string.format('%.0f', s.changes), string.format('%.0f', oldest), 0
  local from = math.max(s.newest - context, oldest)
  local besides_until = math.min(s.newest - besides_to, from - 1)
  local besides = math.max(s.newest - besides_from, oldest)
  if besides <= besides_until then reply[6] = stretch(base, s, besides, besides_until, newest_rows, reply) end
  stretch(base, s, from, s.newest, newest_rows, reply)
  return reply
end

return for_each(#KEYS, read_link)
