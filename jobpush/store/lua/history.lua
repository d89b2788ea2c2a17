-- What somebody who begins to listen to a topic needs first: what was missed since an id, or the snapshots.
-- KEYS: stream, floor, source (user: tasks; task: its hash; channel: its cache)
-- ARGV: kind ("user", "task" or "channel"), since ("" for none), prefix of the keys of the user's tasks, history ttl
-- Returns {position, resumed (1 all that was missed, 0 snapshots), messages}: whoever has the messages has
-- everything up to the position.
local kind, since = ARGV[1], ARGV[2]
if kind == 'task' and redis.call('HEXISTS', KEYS[3], 'workflow') == 1 then since = '' end  -- it is in no history
local newest = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
local floor = redis.call('GET', KEYS[2])
if not newest and not floor then
  -- Nothing was ever said here: from now on the history is whole. A millisecond ago, for what is said within
  -- this one may get its very id.
  local now = redis.call('TIME')
  floor = string.format('%.0f-0', now[1] * 1000 + math.floor(now[2] / 1000) - 1)
  redis.call('SET', KEYS[2], floor, 'EX', ARGV[4])
end
local position = newest and newest[1] or floor

if since ~= '' and floor and not is_before(since, floor) and not is_before(position, since) then
  local missed = {}
  for _, entry in ipairs(redis.call('XRANGE', KEYS[1], '(' .. since, '+')) do
    missed[#missed + 1] = entry[1] .. ' ' .. entry[2][2] .. '\n' .. entry[2][4]
  end
  return {position, 1, missed}
end

local messages = {}
local function add_snapshot(key, task_id)
  local task = read_fields(key, {'seq', 'state', 'at', 'attempt', 'moment', 'tail', 'cancel', 'rank', 'id'})
  if not task.seq then return false end
  local header = task_header(task_id, task.seq, 1)
  messages[#messages + 1] = {task.id, task.id .. ' ' .. header .. '\n' .. task_members(task)}
  return true
end

if kind == 'user' then
  for _, task_id in ipairs(redis.call('ZRANGE', KEYS[3], 0, -1)) do
    if not add_snapshot(ARGV[3] .. task_id, task_id) then redis.call('ZREM', KEYS[3], task_id) end
  end
  table.sort(messages, function(a, b) return is_before(a[1], b[1]) end)
elseif kind == 'task' then
  add_snapshot(KEYS[3], string.sub(KEYS[3], #ARGV[3] + 1))
else
  local cached = redis.call('GET', KEYS[3])
  if cached then messages[1] = {'', cached} end
end
for index, message in ipairs(messages) do messages[index] = message[2] end
return {position, 0, messages}
