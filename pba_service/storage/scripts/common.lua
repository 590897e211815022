-- Shared beginning of all scripts. BUCKET_MS and DAY_MS are set before it by scripts.py.
--
-- A script is given the keys of several links and answers one entry per link. Where a link's keys hold what is not ours
-- (other bytes, another type), that entry is an error, and the other links are left alone.
--
-- On a Cluster a key of no link comes last (`guarded` in cluster.py): it is there for the node, which looks at it before.
if #KEYS > 1 and string.sub(KEYS[#KEYS], -2) == ':-' then KEYS[#KEYS] = nil end

local call, pack, unpack_at = redis.call, struct.pack, struct.unpack
local sub, find, char, byte, concat, floor_of =
  string.sub, string.find, string.char, string.byte, table.concat, math.floor

local SAMPLE_BYTES, LEDGER_BYTES = 20, 52
local FOREIGN = 'not ours: '
local STORED, DUPLICATE, REPLACED = 0, 1, 2

-- A link's counters ("k" of its hash), as they were when last written: layout version, alive samples, dead rows at the
-- front of the oldest bucket, oldest and newest bucket, times of the newest and oldest alive sample, and of what node,
-- peer and region were last said, and how many changes its samples have seen (modulo 2^32, from any number on). Layout 1
-- had no changes.
local COUNTERS, COUNTERS_1 = '<BI4I4I4I4dddddI4', '<BI4I4I4I4ddddd'
local COUNTERS_BYTES, COUNTERS_1_BYTES, LAYOUT = 61, 57, 2

-- Beside them ("b"), what tells of the samples that were only appended to the newest bucket since: its rows when the
-- counters were written, the changes of those counters, and what each sample since has said (1: node, 2: peer, 4: region;
-- the same text as before). The rows themselves are what there is to know of these samples.
local SINCE, SINCE_BYTES, MOST_SINCE = '<I4I4B', 9, 64

local function fresh()
  return {
    n = 0, dead = 0, lo = 0, hi = 0, newest = -1, oldest = -1, node_ms = -1, peer_ms = -1, region_ms = -1, changes = 0,
  }
end

-- Counters as they were written.
local function parse(blob)
  local s = {}
  local layout
  if #blob == COUNTERS_BYTES then
    layout, s.n, s.dead, s.lo, s.hi, s.newest, s.oldest, s.node_ms, s.peer_ms, s.region_ms, s.changes =
      unpack_at(COUNTERS, blob)
  elseif #blob == COUNTERS_1_BYTES then
    layout, s.n, s.dead, s.lo, s.hi, s.newest, s.oldest, s.node_ms, s.peer_ms, s.region_ms =
      unpack_at(COUNTERS_1, blob)
    layout, s.changes = layout + 1, 0
  end
  if layout ~= LAYOUT then error(FOREIGN .. 'counters of another layout') end
  return s
end

local function save(s)
  return pack(COUNTERS, LAYOUT, s.n, s.dead, s.lo, s.hi, s.newest, s.oldest, s.node_ms, s.peer_ms, s.region_ms,
    s.changes)
end

local function bucket_key(base, bucket)
  return base .. ':h:' .. bucket
end

-- The offset of row i (from 0) of rows of a width.
local function offset_of(rows, i, width)
  return (unpack_at('<I4', rows, i * width + 1))
end

-- The first row of [from, to) whose offset is at least `offset`.
local function lower_bound(rows, from, to, offset, width)
  while from < to do
    local middle = floor_of((from + to) / 2)
    if offset_of(rows, middle, width) < offset then from = middle + 1 else to = middle end
  end
  return from
end

-- Rows in the buckets from one to another.
local function rows_between(base, first, last)
  local rows = 0
  for bucket = first, last do
    rows = rows + floor_of(call('STRLEN', bucket_key(base, bucket)) / SAMPLE_BYTES)
  end
  return rows
end

-- Brings counters up to the samples appended since they were written. `newest_rows` are those of the newest bucket, where
-- they have been read already.
local function catch_up(base, s, since, newest_rows)
  if not since then return s end
  local key, rows, changes, said = bucket_key(base, s.hi), 0, nil, 0
  if #since == SINCE_BYTES then rows, changes, said = unpack_at(SINCE, since) end
  if changes ~= s.changes then
    -- A version that knows nothing of this has written the counters: what lies there is counted.
    s.lost, s.n = true, rows_between(base, s.lo, s.hi) - s.dead
    local last = call('GETRANGE', key, -SAMPLE_BYTES, -1)
    if #last == SAMPLE_BYTES then s.newest = math.max(s.newest, s.hi * BUCKET_MS + offset_of(last, 0, SAMPLE_BYTES)) end
    return s
  end
  if rows == 0 then return s end
  local from = (rows - 1) * SAMPLE_BYTES
  local added = newest_rows and sub(newest_rows, from + 1) or call('GETRANGE', key, from, -1)
  local more = #added / SAMPLE_BYTES - 1
  if more <= 0 then return s end
  local last = floor_of(more) == more and offset_of(added, more, SAMPLE_BYTES) or BUCKET_MS
  if last >= BUCKET_MS or s.hi * BUCKET_MS + last <= s.newest then error(FOREIGN .. 'the rows of ' .. key) end
  s.n, s.changes, s.newest = s.n + more, (s.changes + more) % 4294967296, s.hi * BUCKET_MS + last
  if said % 2 == 1 then s.node_ms = s.newest end
  if said % 4 > 1 then s.peer_ms = s.newest end
  if said > 3 then s.region_ms = s.newest end
  return s
end

-- A link's counters as of now.
local function load(base, counters, since)
  if not counters then return fresh() end
  return catch_up(base, parse(counters), since)
end

-- Whether a link has samples that are not too old.
local function alive(base, floor)
  local counters = call('HGET', base .. ':m', 'k')
  if not counters then return false end
  local s = parse(counters)
  return s.newest >= floor or catch_up(base, s, call('HGET', base .. ':m', 'b')).newest >= floor
end

-- Puts ordered rows into the ordered rows of a key, which spans `span` ms; of several at one offset the last counts.
-- `dead` rows at the front are not looked at. Returns how many rows were added and whether the key existed;
-- appends what became of each row to `outcomes`.
local function merge(key, span, dead, rows, width, outcomes)
  local last = call('GETRANGE', key, -width, -1)
  local existed = last ~= ''
  if existed and (#last < width or offset_of(last, 0, width) >= span) then error(FOREIGN .. 'the rows of ' .. key) end
  local stored, have = '', 0
  local appending = not existed or offset_of(last, 0, width) < offset_of(rows, 0, width)
  if appending and #rows == width then -- what nearly every call is
    call('APPEND', key, rows)
    outcomes[#outcomes + 1] = char(STORED)
    return 1, existed
  end
  if not appending then
    stored = call('GET', key)
    have = floor_of(#stored / width)
  end

  local at = lower_bound(stored, dead, have, offset_of(rows, 0, width), width)
  local start, parts, added, changed = at, {}, 0, false
  if appending then at, have, start = 0, 0, 0 end
  local before
  for i = 0, #rows / width - 1 do
    local row = sub(rows, i * width + 1, (i + 1) * width)
    local offset = offset_of(row, 0, width)
    local outcome = STORED
    if offset == before then
      outcome = parts[#parts] == row and DUPLICATE or REPLACED
      parts[#parts] = row
    else
      local next_at = lower_bound(stored, at, have, offset, width)
      if next_at > at then
        parts[#parts + 1] = sub(stored, at * width + 1, next_at * width)
        at = next_at
      end
      parts[#parts + 1] = row
      if at < have and offset_of(stored, at, width) == offset then
        outcome = sub(stored, at * width + 1, (at + 1) * width) == row and DUPLICATE or REPLACED
        at = at + 1
      else
        added = added + 1
      end
    end
    before = offset
    changed = changed or outcome ~= DUPLICATE
    outcomes[#outcomes + 1] = char(outcome)
  end

  if appending then
    call('APPEND', key, concat(parts))
  elseif changed then
    parts[#parts + 1] = sub(stored, at * width + 1, have * width)
    call('SETRANGE', key, start * width, concat(parts))
  end
  return added, existed
end

-- Adds predictions to the stream of events as one entry. The stream is bounded by what it holds, roughly.
local function announce(events, token, predictions)
  if #predictions == 0 then return end
  local parts = {}
  for i = 1, #predictions do
    parts[2 * i - 1] = pack('<I4', #predictions[i])
    parts[2 * i] = predictions[i]
  end
  local entries = string.format('%.0f', math.max(100, math.min(EVENTS_KEPT, 10 * EVENTS_KEPT / #predictions)))
  call('XADD', events, 'MAXLEN', '~', entries, '*', 't', token, 'p', concat(parts))
end

-- Runs `work` for a link. Where it meets what is not ours, the answer is nothing and the text "!<error>". Any other error
-- (no memory, not the primary any more) says nothing about the link's data and ends the script.
local function attempt(work, ...)
  local ok, reply = pcall(work, ...)
  if ok then return reply end
  local text = type(reply) == 'table' and reply.err or tostring(reply)
  if not (find(text, 'WRONGTYPE', 1, true) or find(text, FOREIGN, 1, true)) then error(reply) end
  return nil, '!' .. text
end

-- Runs `work` for each link, and answers for each what it answers, or the text "!<error>".
local function for_each(count, work)
  local replies = {}
  for i = 1, count do
    local reply, fault = attempt(work, i)
    replies[i] = fault or reply
  end
  return replies
end
