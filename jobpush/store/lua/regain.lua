-- Take back that a task is LOST: its worker lives, and still has it.
-- ARGV: task id (escaped), delivery, at, moment, ttl, history size, history ttl
-- Returns 1 if it was LOST, else 0.
local task = read_task()
if not task or task.rank ~= LOST or task.delivery ~= ARGV[2] then return 0 end

local before = redis.call('HMGET', KEYS[1], 'before_state', 'before_rank')
task.state, task.rank, task.at, task.moment = before[1], tonumber(before[2]), ARGV[3], ARGV[4]
tell_task_at_once(task, ARGV[1], ARGV[6], ARGV[7])
redis.call('EXPIRE', KEYS[1], ARGV[5])
return 1
