-- Mark a task as cancelled, and say so: REVOKED at once where nobody runs it, "cancelling" where it runs.
-- ARGV: task id (escaped), at, moment of a task that is over, ttl of a final snapshot, history size, history ttl
-- Returns the state after it, or nil for a task that is not known.
local task = read_task()
if not task then return nil end
if task.rank == TERMINAL or (task.cancel and not is_idle(task)) then return task.state end

redis.call('HSET', KEYS[1], 'cancel', ARGV[2])
task.cancel = ARGV[2]
if is_idle(task) then
  task.state, task.rank, task.at, task.moment = 'REVOKED', TERMINAL, ARGV[2], ARGV[3]
  redis.call('EXPIRE', KEYS[1], ARGV[4])
end
tell_task(task, ARGV[1], 1, ARGV[5], ARGV[6])
return task.state
