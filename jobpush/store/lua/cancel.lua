-- Mark a task as cancelled and publish it: REVOKED at once if no worker runs it, "cancelling" if one does.
-- Return the state after it, or nil for an unknown task.
local task = read_task()
if not task then return nil end
if task.rank == TERMINAL or (task.cancel and not is_idle(task)) then return task.state end

redis.call('HSET', task_key, 'cancel', at)
task.cancel = at
local ttl = math.max(redis.call('TTL', task_key), 1)
if is_idle(task) then
  task.state, task.rank, task.at, task.volatile_json, ttl = 'REVOKED', TERMINAL, at, bare_json, final_ttl
end
publish_task(task, task_id, 1, ttl)
return task.state
