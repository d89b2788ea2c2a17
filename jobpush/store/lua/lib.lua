-- Functions shared by all scripts. scripts.py puts the generated constants and the script's named keys and arguments in
-- front of this file, so the functions here use the keys of the script that calls them.
-- A message is "<place> <task id or -> <seq> <pinned> <excluded socket or ->\n<members of the frame>". The place is the
-- stream id in the history; "-" for none, where a message about a task is for the task's own channel only; "*" for none,
-- where it is for the user's channels too.

-- Other programs may write to Redis too. A value of theirs under a key of jobpush counts as missing and is replaced by
-- the next write. It must not affect other keys.

-- Run a command. Return its reply, or nil if its key has a value of another type.
local function try(command, key, ...)
  local reply = redis.pcall(command, key, ...)
  if type(reply) ~= 'table' or not reply.err then return reply end
  if string.find(reply.err, 'WRONGTYPE', 1, true) then return nil end
  return redis.call(command, key, ...)  -- raises the error
end

-- Run a command that writes, and replace a value of another type.
local function replace(command, key, ...)
  local reply = try(command, key, ...)
  if reply ~= nil then return reply end
  redis.call('DEL', key)
  return redis.call(command, key, ...)
end

-- Return the number in a stored text; 0 if it is not a number.
local function number_in(text)
  return tonumber(text or 0) or 0
end

-- Return some fields of a hash as a table; missing ones are false.
local function read_fields(key, names)
  local fields, values = {}, try('HMGET', key, unpack(names)) or {}
  for index, name in ipairs(names) do fields[name] = values[index] or false end
  return fields
end

local function publish_message(header, members)
  redis.call(PUBLISH, topic_key, header .. '\n' .. members)
end

-- Let a key expire no earlier than in this many seconds.
local function keep(key, seconds)
  if redis.call('TTL', key) < tonumber(seconds) then redis.call('EXPIRE', key, seconds) end
end

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

-- Return the members of a task's frame: the event's data as a JSON string within JSON. Python makes both parts.
local function task_members(task)
  return '"event":"jobpush:task","data":"{\\"seq\\":' .. task.seq .. ',\\"state\\":\\"' .. task.state
    .. '\\",\\"at\\":' .. task.at .. ',\\"attempt\\":' .. task.attempt .. ',' .. task.volatile_json .. ','
    .. task.stable_json .. ((task.cancel and number_in(task.rank) < TERMINAL) and ',\\"cancelling\\":true}"' or '}"')
end

-- Return whether the fields of a stored task make a frame. Python checks their contents.
local function is_snapshot(task)
  return tonumber(task.seq) and task.state and tonumber(task.at) and tonumber(task.attempt) and task.volatile_json
    and task.stable_json
end

local function task_header(task_id, seq, pinned)
  return task_id .. ' ' .. seq .. ' ' .. pinned .. ' -'
end

-- Return whether the stream id a is smaller than b ("milliseconds-number", compared as two numbers).
local function is_before(a, b)
  local a_ms, a_number = string.match(a, '^(%d+)-(%d+)$')
  local b_ms, b_number = string.match(b, '^(%d+)-(%d+)$')
  a_ms, b_ms = tonumber(a_ms), tonumber(b_ms)
  return a_ms < b_ms or (a_ms == b_ms and tonumber(a_number) < tonumber(b_number))
end

local function now_in_milliseconds()
  local now = redis.call('TIME')
  return now[1] * 1000 + math.floor(now[2] / 1000)
end

-- Return a stream id that no later event can get: it is a millisecond old.
local function past_id()
  return string.format('%.0f-0', now_in_milliseconds() - 1)
end
