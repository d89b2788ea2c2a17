-- Shared by the scripts: put in front of each of them. A topic has four keys in one slot:
--   topic (pub/sub), stream (history), floor (the history holds every event after this id), and its own snapshots.
-- A message is "<stream id> <task id or -> <seq> <final> <excluded socket or ->\n<members of the frame>".

-- Rank of the states that nothing overwrites; see lifecycle.py.
local TERMINAL = 6

-- Some fields of a hash as a table; those that are not there are false.
local function read_fields(key, names)
  local fields = {}
  for index, value in ipairs(redis.call('HMGET', key, unpack(names))) do fields[names[index]] = value end
  return fields
end

-- Append to the history and publish, under one id.
local function announce(topic, stream, floor, header, members, size, ttl)
  local id = redis.call('XADD', stream, '*', 'h', header, 'm', members)
  if redis.call('XTRIM', stream, 'MAXLEN', '~', size) > 0 then
    redis.call('SET', floor, redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)[1][1])
  else
    redis.call('SET', floor, id, 'NX')
  end
  redis.call('EXPIRE', stream, ttl)
  redis.call('EXPIRE', floor, ttl)
  redis.call('PUBLISH', topic, id .. ' ' .. header .. '\n' .. members)
  return id
end

-- The members of a task's frame: the event's data as a JSON string within JSON. moment and tail are made by Python.
local function task_members(task)
  return '"event":"jobpush:task","data":"{\\"seq\\":' .. task.seq .. ',\\"state\\":\\"' .. task.state
    .. '\\",\\"at\\":' .. task.at .. ',\\"attempt\\":' .. task.attempt .. ',' .. task.moment .. ',' .. task.tail
    .. ((task.cancel and tonumber(task.rank) < TERMINAL) and ',\\"cancelling\\":true}"' or '}"')
end

local function task_header(task_id, seq, final)
  return task_id .. ' ' .. seq .. ' ' .. final .. ' -'
end

-- Whether the stream id a is smaller than b ("milliseconds-number", compared as two numbers).
local function is_before(a, b)
  local a_ms, a_number = string.match(a, '^(%d+)-(%d+)$')
  local b_ms, b_number = string.match(b, '^(%d+)-(%d+)$')
  a_ms, b_ms = tonumber(a_ms), tonumber(b_ms)
  return a_ms < b_ms or (a_ms == b_ms and tonumber(a_number) < tonumber(b_number))
end
