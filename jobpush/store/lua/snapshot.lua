-- The snapshot of a task, and the event that it makes.

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
