-- Stores samples. KEYS: links. ARGV: floor_ms (nothing older is kept), now_ms, retention_ms, max_samples, then for all
-- links together: what each brings (how many samples as uint16, the lengths of its node, peer and region, a byte each),
-- their samples (each link's ordered by time; each: bucket, then the row as it is stored), and these texts.
-- Answers one text with for each link one byte of flags (1: the link is new, 2: its region changed, 4: who knew its
-- samples before does not know them now, whatever was stored, 255: what lies there is not ours), the number of changes
-- before these (uint32), and one byte of outcome a sample; then for each link with flags 255 "!" and the error.
local FLOOR, NOW, RETENTION, MAX = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local HEADS, ROWS, TEXTS = ARGV[5], ARGV[6], ARGV[7]
local HEAD_BYTES, WIRE_BYTES = 5, SAMPLE_BYTES + 4
local COMPACT_DEAD = 256 -- rows: what may lie dead in front of a bucket before it is rewritten
local FEW = 1024 -- a trimmed link with fewer samples may lack one that a window wants
-- How long before the newest sample those around the targets of a day ago lie, with as many as a process remembers
-- beyond (`hot.stretches`), on cadences at which so many samples are no more than that.
local DAY_AGO_FROM, DAY_AGO_UNTIL = DAY_MS - 6 * 3600000, DAY_MS - 9 * 60000
local COMPACT_BYTES = 640 -- a closed bucket shorter than this has no slack worth a rewrite
-- A bucket's key outlives its last sample a little, so that a link in use drops it by its own count.
local MARGIN = 3600000

local function ttl_ms(bucket)
  return string.format('%.0f', (bucket + 1) * BUCKET_MS + RETENTION + MARGIN - NOW)
end

local function rewrite(key, dead)
  local rows = call('GETRANGE', key, dead * SAMPLE_BYTES, -1)
  if rows ~= '' then call('SET', key, rows, 'KEEPTTL') end
end

-- What a bucket being appended to has reserved in vain is given back when the next one begins.
local function close_bucket(base, s)
  local key = bucket_key(base, s.hi)
  local dead = s.lo == s.hi and s.dead or 0
  if dead == 0 and call('STRLEN', key) < COMPACT_BYTES then return end
  rewrite(key, dead)
  if s.lo == s.hi then s.dead = 0 end
end

-- Stores the rows of one bucket; returns whether it became the newest one.
local function put_bucket(base, s, bucket, rows, outcomes)
  local known = s.n > 0
  local first = bucket * BUCKET_MS + offset_of(rows, 0, SAMPLE_BYTES)
  local last = bucket * BUCKET_MS + offset_of(rows, #rows / SAMPLE_BYTES - 1, SAMPLE_BYTES)
  if known and bucket > s.hi then close_bucket(base, s) end
  if known and bucket < s.lo and s.dead > 0 then
    rewrite(bucket_key(base, s.lo), s.dead)
    s.dead = 0
  end

  local key = bucket_key(base, bucket)
  if not known or bucket < s.lo or bucket > s.hi then call('UNLINK', key) end -- a leftover that is not counted
  local added, existed = merge(key, BUCKET_MS, known and bucket == s.lo and s.dead or 0, rows, SAMPLE_BYTES, outcomes)
  if not existed then call('PEXPIRE', key, ttl_ms(bucket)) end

  local newest = not known or bucket > s.hi
  s.n = s.n + added
  if not known or bucket < s.lo then s.lo = bucket end
  if newest then s.hi = bucket end
  if not known or first < s.oldest then s.oldest = first end
  if last > s.newest then s.newest = last end
  return newest
end

-- Goes on to the next bucket that exists, and counts again what lies from there on.
local function next_bucket(base, s)
  local lo = s.lo + 1
  while lo <= s.hi and call('STRLEN', bucket_key(base, lo)) < SAMPLE_BYTES do lo = lo + 1 end
  s.dead, s.n = 0, rows_between(base, lo, s.hi)
  if s.n > 0 then
    s.lo = lo
    s.oldest = lo * BUCKET_MS + offset_of(call('GETRANGE', bucket_key(base, lo), 0, 3), 0, 4)
  end
end

-- Drops what is too old or too many, oldest first.
local function trim(base, s)
  local trimmed = false
  while s.n > 0 and (s.n > MAX or s.oldest < FLOOR) do
    trimmed = true
    local key = bucket_key(base, s.lo)
    local rows = call('GET', key) or ''
    local have = floor_of(#rows / SAMPLE_BYTES)
    local cut = s.dead + math.max(s.n - MAX, 0)
    if cut < have then
      cut = math.max(cut, lower_bound(rows, s.dead, have, FLOOR - s.lo * BUCKET_MS, SAMPLE_BYTES))
    end
    if cut >= have then
      call('UNLINK', key)
      next_bucket(base, s)
    else
      s.n = s.n - (cut - s.dead)
      s.dead = cut
      s.oldest = s.lo * BUCKET_MS + offset_of(rows, cut, SAMPLE_BYTES)
      if cut >= COMPACT_DEAD then
        rewrite(key, cut)
        s.dead = 0
      end
    end
  end
  return trimmed
end

-- Whether somebody who knew the link before may count on one of the samples that were dropped, the oldest of which was
-- measured at `from`.
local function missed(s, from)
  return s.n < FEW or (s.newest - from >= DAY_AGO_FROM and s.newest - s.oldest < DAY_AGO_UNTIL)
end

-- The newest non-empty text is kept.
local function say(s, changes, field, stamp, old, new, at)
  if new == '' or at < s[stamp] then return false end
  s[stamp] = at
  if new == old then return false end
  changes[#changes + 1] = field
  changes[#changes + 1] = new
  return true
end

-- Numbers as texts, which the server would make of them at each call.
local shown = setmetatable({}, { __index = function(all, number)
  local text = string.format('%.0f', number)
  all[number] = text
  return text
end })

-- What nearly every push is: one sample that is newer than all others of its link, of which nothing new is said. Answers
-- nothing where it is anything else; then nothing has been changed.
local function append(base, row_at, nodes, peers, regions, text_at)
  local stored, said = nil, 0
  if nodes + peers + regions == 0 then
    stored = call('HMGET', base .. ':m', 'k', 'b')
  else
    stored = call('HMGET', base .. ':m', 'k', 'b', 'n', 'p', 'r')
    local peer_at, region_at = text_at + nodes, text_at + nodes + peers
    if nodes > 0 and stored[3] ~= sub(TEXTS, text_at, peer_at - 1) then return end
    if peers > 0 and stored[4] ~= sub(TEXTS, peer_at, region_at - 1) then return end
    if regions > 0 and stored[5] ~= sub(TEXTS, region_at, region_at + regions - 1) then return end
    said = (nodes > 0 and 1 or 0) + (peers > 0 and 2 or 0) + (regions > 0 and 4 or 0)
  end
  local counters, since = stored[1], stored[2]
  if not since or #since ~= SINCE_BYTES or #counters ~= COUNTERS_BYTES then return end
  local layout, n, _, _, hi, newest, oldest, _, _, _, changes = unpack_at(COUNTERS, counters)
  local rows, of_changes, said_since = unpack_at(SINCE, since)
  local bucket, offset = unpack_at('<I4I4', ROWS, row_at)
  if layout ~= LAYOUT or of_changes ~= changes or bucket ~= hi or oldest < FLOOR or said_since ~= said then return end

  -- The counters' newest row must lie where they tell of it: else the key is gone, or holds what is not ours.
  local key = base .. ':h:' .. shown[bucket]
  local added = rows > 0 and call('GETRANGE', key, shown[(rows - 1) * SAMPLE_BYTES], '-1') or ''
  local more = #added / SAMPLE_BYTES - 1
  if more < 0 or more >= MOST_SINCE or more ~= floor_of(more) or n + more >= MAX then return end
  local known, start = unpack_at('<I4', added), bucket * BUCKET_MS
  local last = more > 0 and unpack_at('<I4', added, more * SAMPLE_BYTES + 1) or known
  if start + known ~= newest or last < known or offset <= last or start + last < FLOOR then return end
  call('APPEND', key, sub(ROWS, row_at + 4, row_at + WIRE_BYTES - 1))
  return pack('<BI4B', 0, (changes + more) % 4294967296, STORED)
end

local function put_link(base, samples, row_at, nodes, peers, regions, text_at)
  if samples == 1 then
    local answer = append(base, row_at, nodes, peers, regions, text_at)
    if answer then return answer end
  end
  local peer_at, region_at = text_at + nodes, text_at + nodes + peers
  local node, peer = sub(TEXTS, text_at, peer_at - 1), sub(TEXTS, peer_at, region_at - 1)
  local region = sub(TEXTS, region_at, region_at + regions - 1)
  local meta = base .. ':m'
  local stored = call('HMGET', meta, 'k', 'n', 'p', 'r', 'b')
  local s = load(base, stored[1], stored[5])
  local flags = s.newest < FLOOR and 1 or 0
  if s.lost then flags = flags + 4 end
  if flags > 0 then s.changes = NOW % 4294967296 end
  local before, outcomes, newest = s.changes, { '' }, false
  if stored[1] and flags % 2 == 1 then -- what was learned of it and what it said of itself have expired as well
    call('UNLINK', base .. ':s')
    call('HDEL', meta, 'n', 'p', 'r')
    stored[2], stored[3], stored[4] = false, false, false
    s.node_ms, s.peer_ms, s.region_ms = -1, -1, -1
  end

  local i_row, rows_end = row_at, row_at + samples * WIRE_BYTES
  while i_row < rows_end do
    local bucket = unpack_at('<I4', ROWS, i_row)
    local rows = {}
    while i_row < rows_end and unpack_at('<I4', ROWS, i_row) == bucket do
      rows[#rows + 1] = sub(ROWS, i_row + 4, i_row + WIRE_BYTES - 1)
      i_row = i_row + WIRE_BYTES
    end
    newest = put_bucket(base, s, bucket, concat(rows), outcomes) or newest
  end
  local at = unpack_at('<I4', ROWS, rows_end - WIRE_BYTES) * BUCKET_MS + unpack_at('<I4', ROWS, rows_end - SAMPLE_BYTES)

  for i = 2, #outcomes do
    if outcomes[i] ~= char(DUPLICATE) then s.changes = (s.changes + 1) % 4294967296 end
  end
  local oldest = s.oldest
  if trim(base, s) and missed(s, oldest) and flags < 4 then flags = flags + 4 end
  if s.n == 0 then
    call('UNLINK', meta, base .. ':s')
    outcomes[1] = char(4) .. pack('<I4', before)
    return concat(outcomes)
  end
  local changes = {}
  say(s, changes, 'n', 'node_ms', stored[2], node, at)
  say(s, changes, 'p', 'peer_ms', stored[3], peer, at)
  if say(s, changes, 'r', 'region_ms', stored[4], region, at) then flags = flags + 2 end
  local said = (nodes > 0 and 1 or 0) + (peers > 0 and 2 or 0) + (regions > 0 and 4 or 0)
  local rows = floor_of(call('STRLEN', bucket_key(base, s.hi)) / SAMPLE_BYTES)
  call('HSET', meta, 'k', save(s), 'b', pack(SINCE, rows, s.changes, said), unpack(changes))
  if newest then
    call('PEXPIRE', meta, ttl_ms(s.hi))
    call('PEXPIRE', base .. ':s', ttl_ms(s.hi))
  end
  outcomes[1] = char(flags) .. pack('<I4', before)
  return concat(outcomes)
end

local answers, row_at, text_at = { '' }, 1, 1
local records = {}
for i = 1, #KEYS do
  local samples, nodes, peers, regions = unpack_at('<I2BBB', HEADS, (i - 1) * HEAD_BYTES + 1)
  local record, fault = attempt(put_link, KEYS[i], samples, row_at, nodes, peers, regions, text_at)
  if fault then
    answers[#answers + 1] = fault
    record = char(255) .. string.rep('\0', 4 + samples)
  end
  records[i] = record
  row_at, text_at = row_at + samples * WIRE_BYTES, text_at + nodes + peers + regions
end
answers[1] = concat(records)
return answers
