-- Erase some tasks of a user, with their logs and the members of their workflows.
-- Return the ids of the erased tasks; none once the user has no tasks.
local erased = {}
local function erase(task_id)
  local key = task_prefix .. task_id
  for _, member in ipairs(try('LRANGE', key .. ':members', 0, -1) or {}) do erase(member) end
  redis.call('DEL', key, key .. ':workflow', key .. ':members', key .. ':log', key .. ':log-state')
  erased[#erased + 1] = task_id
end

for _, task_id in ipairs(try('ZRANGE', tasks_key, 0, limit - 1) or {}) do
  erase(task_id)
  redis.call('ZREM', tasks_key, task_id)
end
return erased
