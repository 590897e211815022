-- Shared beginning of all scripts. BUCKET_MS and DAY_MS are set before it by scripts.py.
--
-- A script is given the keys of several links and answers one entry per link. Where a link's keys hold what is not ours
-- (other bytes, another type), that entry is an error, and the other links are left alone.

local call, pack, unpack_at = redis.call, struct.pack, struct.unpack
local sub, find, char, byte, concat, floor_of =
  string.sub, string.find, string.char, string.byte, table.concat, math.floor

local SAMPLE_BYTES, LEDGER_BYTES = 20, 52
local FOREIGN = 'not ours: '
local STORED, DUPLICATE, REPLACED = 0, 1, 2

-- A link's counters: layout version, alive samples, dead rows at the front of the oldest bucket, oldest and newest
-- bucket, times of the newest and oldest alive sample, and of what node, peer and region were last said, and how many
-- changes its samples have seen (modulo 2^32, from any number on). Layout 1 had no changes.
local COUNTERS, COUNTERS_1 = '<BI4I4I4I4dddddI4', '<BI4I4I4I4ddddd'
local COUNTERS_BYTES, COUNTERS_1_BYTES, LAYOUT = 61, 57, 2

local function fresh()
  return {
    n = 0, dead = 0, lo = 0, hi = 0, newest = -1, oldest = -1, node_ms = -1, peer_ms = -1, region_ms = -1, changes = 0,
  }
end

local function load(blob)
  if not blob then return fresh() end
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

-- The time of the newest sample, by a link's counters; -1 where there are none.
local function newest_of(blob)
  if not blob then return -1 end
  if #blob ~= COUNTERS_BYTES then return load(blob).newest end
  local layout, _, _, _, _, newest = unpack_at(COUNTERS, blob)
  return layout == LAYOUT and newest or load(blob).newest
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

-- Runs `work` for each link. Where it meets what is not ours, the answer is the text "!<error>". Any other error (no
-- memory, not the primary any more) says nothing about the link's data and ends the script.
local function for_each(count, work)
  local replies = {}
  for i = 1, count do
    local ok, reply = pcall(work, i)
    if not ok then
      local text = type(reply) == 'table' and reply.err or tostring(reply)
      if not (find(text, 'WRONGTYPE', 1, true) or find(text, FOREIGN, 1, true)) then error(reply) end
      reply = '!' .. text
    end
    replies[i] = reply
  end
  return replies
end
