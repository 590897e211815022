-- Reads a stretch of samples. KEYS: links. ARGV: from_ms, until_ms (exclusive), and how many samples are enough. Answers
-- for each link nothing, or the bucket to go on with (-1: none), buckets and rows in turn, and the newest sample's time.
local function range(i)
  local base, from, to, enough = KEYS[i], tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
  local stored = call('HMGET', base .. ':m', 'k', 'b')
  if not stored[1] then return false end
  local s = load(base, stored[1], stored[2])
  local reply, rows_read = { -1 }, 0
  for bucket = math.max(floor_of(from / BUCKET_MS), s.lo), math.min(floor_of((to - 1) / BUCKET_MS), s.hi) do
    if rows_read >= enough then
      reply[1] = bucket
      break
    end
    local rows = call('GET', bucket_key(base, bucket))
    if rows then
      local have = floor_of(#rows / SAMPLE_BYTES)
      local start, stop = bucket == s.lo and s.dead or 0, have
      if bucket * BUCKET_MS < from then
        start = lower_bound(rows, start, have, from - bucket * BUCKET_MS, SAMPLE_BYTES)
      end
      if (bucket + 1) * BUCKET_MS > to then
        stop = lower_bound(rows, start, have, to - bucket * BUCKET_MS, SAMPLE_BYTES)
      end
      if stop > start then
        reply[#reply + 1] = bucket
        local whole = stop - start == have and #rows == have * SAMPLE_BYTES -- as nearly all are: copied once less
        reply[#reply + 1] = whole and rows or sub(rows, start * SAMPLE_BYTES + 1, stop * SAMPLE_BYTES)
        rows_read = rows_read + stop - start
      end
    end
  end
  reply[#reply + 1] = string.format('%.0f', s.newest)
  return reply
end

return for_each(#KEYS, range)
