-- The history of a topic: a stream, and its floor.

-- Return the run id of this Redis, shortened. A restarted server and a promoted replica have a different one.
local function run_id()
  return string.sub(string.match(redis.call('INFO', 'server'), 'run_id:(%x+)') or '', 1, 12)
end

-- The floor of a history is "<stream id> <run id>", and "<stream id> <run id> empty" before the first event. The stream
-- holds every event after the id, provided that Redis has had the run id ever since.
local function read_floor()
  local id, run, mark = string.match(try('GET', floor_key) or '', '^(%d+%-%d+) (%x*) ?(%a*)$')
  return id, run, mark == 'empty'
end

local function write_floor(id, run, is_empty)
  redis.call('SET', floor_key, id .. ' ' .. run .. (is_empty and ' empty' or ''), 'EX', history_ttl)
end

-- Append to the history and publish, under one id.
local function append(header, members)
  local id = replace('XADD', stream_key, '*', 'h', header, 'm', members)
  local length = redis.call('XLEN', stream_key)
  if length == 1 then  -- without a mark, the earlier events have expired, were evicted or got lost
    local floor, run, is_empty = read_floor()
    if is_empty then write_floor(floor, run) else write_floor(id, run_id()) end
  elseif length > history_size and redis.call('XTRIM', stream_key, 'MAXLEN', '~', history_size) > 0 then
    local _, run = read_floor()
    write_floor(redis.call('XRANGE', stream_key, '-', '+', 'COUNT', 1)[1][1], run or run_id())
  elseif redis.call('EXPIRE', floor_key, history_ttl) == 0 then
    write_floor(id, run_id())
  end
  redis.call('EXPIRE', stream_key, history_ttl)
  publish_message(id .. ' ' .. header, members)
  return id
end

local function now_in_milliseconds()
  local now = redis.call('TIME')
  return now[1] * 1000 + math.floor(now[2] / 1000)
end
