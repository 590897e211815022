-- Stores samples. KEYS: links. ARGV: floor_ms (nothing older is kept), now_ms, retention_ms, max_samples, then for each
-- link one text: the lengths of its node, peer and region (a byte each), these, and its samples ordered by time (each:
-- bucket, then the row as it is stored).
-- Answers for each link one byte of flags (1: the link is new, 2: its region changed, 4: who knew its samples before does
-- not know them now, whatever was stored), the number of changes before these (uint32), and one byte of outcome a sample.
local FLOOR, NOW, RETENTION, MAX = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local WIRE_BYTES = SAMPLE_BYTES + 4
local COMPACT_DEAD = 256 -- rows: what may lie dead in front of a bucket before it is rewritten
local FEW = 1024 -- a trimmed link with fewer samples may lack one that a window wants
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
  s.dead, s.n = 0, 0
  local lo
  for bucket = s.lo + 1, s.hi do
    local rows = floor_of(call('STRLEN', bucket_key(base, bucket)) / SAMPLE_BYTES)
    if rows > 0 then
      lo = lo or bucket
      s.n = s.n + rows
    end
  end
  if lo then
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

-- The newest non-empty text is kept.
local function say(s, changes, field, stamp, old, new, at)
  if new == '' or at < s[stamp] then return false end
  s[stamp] = at
  if new == old then return false end
  changes[#changes + 1] = field
  changes[#changes + 1] = new
  return true
end

-- What nearly every push is: one sample that is newer than all others of its link, of which nothing new is said. Answers
-- nothing where it is anything else; then nothing has been changed.
local function append(base, said, texts)
  local nodes, peers, regions = byte(said, 1, 3)
  local stored = texts > 0 and call('HMGET', base .. ':m', 'k', 'n', 'p', 'r') or { call('HGET', base .. ':m', 'k') }
  if not stored[1] or #stored[1] ~= COUNTERS_BYTES then return end
  if nodes > 0 and stored[2] ~= sub(said, 4, 3 + nodes) then return end
  if peers > 0 and stored[3] ~= sub(said, 4 + nodes, 3 + nodes + peers) then return end
  if regions > 0 and stored[4] ~= sub(said, 4 + nodes + peers, 3 + texts) then return end
  local layout, n, dead, lo, hi, newest, oldest, node_ms, peer_ms, region_ms, changes = unpack_at(COUNTERS, stored[1])
  local bucket, offset = unpack_at('<I4I4', said, 4 + texts)
  local at = bucket * BUCKET_MS + offset
  if layout ~= LAYOUT or bucket ~= hi or at <= newest or n >= MAX or newest < FLOOR or oldest < FLOOR then return end

  -- The newest row must be the one that the counters tell of: else the key is gone, or holds what is not ours.
  local key = bucket_key(base, bucket)
  local last = call('GETRANGE', key, -SAMPLE_BYTES, -1)
  if #last < SAMPLE_BYTES or bucket * BUCKET_MS + offset_of(last, 0, SAMPLE_BYTES) ~= newest then return end
  call('APPEND', key, sub(said, 8 + texts))
  if nodes > 0 then node_ms = at end
  if peers > 0 then peer_ms = at end
  if regions > 0 then region_ms = at end
  call('HSET', base .. ':m', 'k', pack(COUNTERS, LAYOUT, n + 1, dead, lo, hi, at, oldest, node_ms, peer_ms, region_ms,
    (changes + 1) % 4294967296))
  return pack('<BI4B', 0, changes, STORED)
end

local function put_link(i)
  local base, said = KEYS[i], ARGV[4 + i]
  local nodes, peers, regions = byte(said, 1, 3)
  local texts = nodes + peers + regions
  if #said == 3 + texts + WIRE_BYTES then
    local answer = append(base, said, texts)
    if answer then return answer end
  end
  local node, peer = sub(said, 4, 3 + nodes), sub(said, 4 + nodes, 3 + nodes + peers)
  local region, wire = sub(said, 4 + nodes + peers, 3 + texts), sub(said, 4 + texts)
  local meta = base .. ':m'
  local stored = call('HMGET', meta, 'k', 'n', 'p', 'r')
  local s = load(stored[1])
  local flags = s.newest < FLOOR and 1 or 0
  if flags == 1 then s.changes = NOW % 4294967296 end
  local before, outcomes, newest = s.changes, { '' }, false
  if stored[1] and flags == 1 then call('UNLINK', base .. ':s') end -- what was learned of it has expired as well

  local count, i_row = #wire / WIRE_BYTES, 0
  while i_row < count do
    local bucket = unpack_at('<I4', wire, i_row * WIRE_BYTES + 1)
    local rows = {}
    while i_row < count and unpack_at('<I4', wire, i_row * WIRE_BYTES + 1) == bucket do
      rows[#rows + 1] = sub(wire, i_row * WIRE_BYTES + 5, (i_row + 1) * WIRE_BYTES)
      i_row = i_row + 1
    end
    newest = put_bucket(base, s, bucket, concat(rows), outcomes) or newest
  end
  local at = unpack_at('<I4', wire, (count - 1) * WIRE_BYTES + 1) * BUCKET_MS
    + unpack_at('<I4', wire, (count - 1) * WIRE_BYTES + 5)

  for i = 2, #outcomes do
    if outcomes[i] ~= char(DUPLICATE) then s.changes = (s.changes + 1) % 4294967296 end
  end
  if trim(base, s) and s.n < FEW then flags = flags + 4 end
  if s.n == 0 then
    call('UNLINK', meta, base .. ':s')
    outcomes[1] = char(4) .. pack('<I4', before)
    return concat(outcomes)
  end
  local changes = {}
  say(s, changes, 'n', 'node_ms', stored[2], node, at)
  say(s, changes, 'p', 'peer_ms', stored[3], peer, at)
  if say(s, changes, 'r', 'region_ms', stored[4], region, at) then flags = flags + 2 end
  call('HSET', meta, 'k', save(s), unpack(changes))
  if newest then
    call('PEXPIRE', meta, ttl_ms(s.hi))
    call('PEXPIRE', base .. ':s', ttl_ms(s.hi))
  end
  outcomes[1] = char(flags) .. pack('<I4', before)
  return concat(outcomes)
end

return for_each(#KEYS, put_link)
