-- Read the history for a new subscriber of a topic: the events since an id, or the snapshots.
-- The source depends on the kind: user (index of the tasks), task (its hash) or channel (its cached event). start and
-- limit select a page of a user's tasks: running ones first, then waiting, then ended ones, each newest first.
-- Return {position, resumed (1: missed events, 0: snapshots), messages}. With the messages, the subscriber has everything
-- up to the position.

-- Return whether the stream id a is smaller than b ("milliseconds-number", compared as two numbers).
local function is_before(a, b)
  local a_ms, a_number = string.match(a, '^(%d+)-(%d+)$')
  local b_ms, b_number = string.match(b, '^(%d+)-(%d+)$')
  a_ms, b_ms = tonumber(a_ms), tonumber(b_ms)
  return a_ms < b_ms or (a_ms == b_ms and tonumber(a_number) < tonumber(b_number))
end

-- Return a stream id that no later event can get: it is a millisecond old.
local function past_id()
  return string.format('%.0f-0', now_in_milliseconds() - 1)
end

if kind == 'task' and try('HEXISTS', source_key, 'workflow') == 1 then since = '' end  -- not in the history
local newest = (try('XREVRANGE', stream_key, '+', '-', 'COUNT', 1) or {})[1]
local floor, run, is_empty = read_floor()
local has_lost_data = since ~= '' and run ~= run_id()
local may_have_gap = has_lost_data and floor and not is_before(since, floor)
local position
if newest then
  position = newest[1]
  if not floor or has_lost_data then  -- the events before now may be incomplete
    floor = past_id()
    if is_before(floor, position) then floor = position else position = floor end
    write_floor(floor, run_id())
  end
elseif is_empty and not has_lost_data then
  position = floor
else  -- no event yet, or all events expired, were evicted or got lost: the history is complete from now on
  floor = past_id()
  position = floor
  if kind ~= 'task' then write_floor(floor, run_id(), true) end
end

-- Return the message of an entry; without members, which Python skips, for an entry of another program.
local function message_of(entry)
  return entry[1] .. ' ' .. entry[2][2] .. '\n' .. (entry[2][4] or '')
end

if since ~= '' and not is_before(since, floor) and not is_before(position, since) then
  local missed = {}
  for index, entry in ipairs(try('XRANGE', stream_key, '(' .. since, '+') or {}) do missed[index] = message_of(entry) end
  return {position, 1, missed}
end

local messages = {}
if may_have_gap and kind ~= 'task' then  -- the rest of the missed events; a user's tasks come as snapshots
  for _, entry in ipairs(try('XRANGE', stream_key, '(' .. since, '+') or {}) do
    if kind == 'channel' or string.sub(entry[2][2], 1, 2) == '- ' then messages[#messages + 1] = message_of(entry) end
  end
end
local function add_snapshot(key, task_id)
  local task = read_fields(key, {'seq', 'state', 'at', 'attempt', 'volatile_json', 'stable_json', 'cancel', 'rank', 'id'})
  if not is_snapshot(task) then
    if redis.call('EXISTS', key) == 1 then messages[#messages + 1] = task_id end  -- Python logs that it is malformed
    return false
  end
  messages[#messages + 1] = (task.id or '-') .. ' ' .. task_header(task_id, task.seq, 1) .. '\n' .. task_members(task)
  return true
end

if kind == 'user' then
  local is_last = false
  while limit > 0 and not is_last do
    local ids = try('ZREVRANGE', source_key, start, start + limit - 1) or {}
    is_last = #ids < limit
    for _, task_id in ipairs(ids) do
      if add_snapshot(task_prefix .. task_id, task_id) then
        start, limit = start + 1, limit - 1
      else
        redis.call('ZREM', source_key, task_id)
      end
    end
  end
elseif kind == 'task' then
  add_snapshot(source_key, string.sub(source_key, #task_prefix + 1))
else
  local cached = #messages == 0 and try('GET', source_key)
  if cached then messages[1] = cached end
end
return {position, 0, messages}
