-- Undo LOST: the worker is alive and still has the task. Return 1 if the task was LOST, else 0.
local task = read_task()
if not task or task.rank ~= LOST or task.delivery ~= delivery then return 0 end

local before = redis.call('HMGET', task_key, 'before_state', 'before_rank')
task.state, task.rank, task.at, task.volatile_json = before[1], tonumber(before[2]), at, volatile_json
publish_task_at_once(task, task_id, ttl)
return 1
