-- Append lines to the log of a task and publish them. A line is its event's data without the id, twice encoded.
-- The log lives as long as the task. It drops its oldest lines beyond max_lines and max_bytes.
-- dropped: lines that the worker has dropped before these.
-- Return the ids of the lines.
local state = read_fields(log_state_key, {'bytes', 'dropped', 'dropped_until'})
local bytes, ids = number_in(state.bytes), {}
dropped = dropped + number_in(state.dropped)
for index, line in ipairs(lines) do
  ids[index] = replace('XADD', log_key, '*', 'd', line)
  bytes = bytes + #line
  publish_message('* ' .. task_id .. ' 0 1 -', '"event":"jobpush:log","data":"{\\"id\\":\\"' .. ids[index] .. '\\",'
    .. line .. '}"')
end

local excess, dropped_until = redis.call('XLEN', log_key) - max_lines, state.dropped_until or ''
while excess > 0 or bytes > max_bytes do
  local oldest = redis.call('XRANGE', log_key, '-', '+', 'COUNT', 100)
  if #oldest == 0 then break end
  local gone = {}
  for _, entry in ipairs(oldest) do
    if excess <= 0 and bytes <= max_bytes then break end
    gone[#gone + 1], dropped_until = entry[1], entry[1]
    excess, bytes, dropped = excess - 1, bytes - #entry[2][2], dropped + 1
  end
  redis.call('XDEL', log_key, unpack(gone))
end

replace('HSET', log_state_key, 'bytes', math.max(bytes, 0), 'dropped', dropped, 'dropped_until', dropped_until)
local seconds = redis.call('TTL', task_key)
if seconds < 1 then seconds = ttl end
redis.call('EXPIRE', log_key, seconds)
redis.call('EXPIRE', log_state_key, seconds)
return ids
