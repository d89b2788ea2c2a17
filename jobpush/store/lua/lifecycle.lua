-- Whether a word about a task is heard, and in which attempt: the machine that jobpush/lifecycle.py draws.
-- Shared by the scripts that change a task: put behind lib.lua, in front of each of them. Their KEYS are all the same:
--   task, tasks, topic, stream, floor
-- A delivery that is '' is not known: of a publisher, or of a program that only tells.
local RECEIVED, STARTED, PROGRESS, RETRY, LOST = 1, 2, 3, 4, 5
-- Characters of the deliveries that are remembered as superseded: some twenty of them.
local SUPERSEDED_KEPT = 360

-- What is stored of the task; nil if nothing is.
local function read_task()
  local task = read_fields(KEYS[1], {'seq', 'state', 'rank', 'run', 'number', 'attempt', 'delivery', 'superseded',
    'handed_over', 'at', 'moment', 'tail', 'cancel', 'workflow', 'membership'})
  if not task.seq then return nil end
  for _, name in ipairs({'seq', 'rank', 'run', 'number', 'attempt'}) do task[name] = tonumber(task[name]) end
  return task
end

local function is_waiting(task)
  return task.rank <= RECEIVED or task.rank == RETRY or task.rank == LOST
end

-- Whether no worker runs it: it waits, or what takes its place does.
local function is_idle(task)
  return is_waiting(task) or task.handed_over == '1'
end

local function task_has_begun(task)
  return task.rank == STARTED or task.rank == PROGRESS
end

local function is_superseded(task, delivery)
  return delivery ~= '' and string.find(task.superseded, delivery, 1, true) ~= nil
end

local function is_of_another_delivery(task, word)
  return word.delivery ~= '' and task.delivery ~= '' and word.delivery ~= task.delivery
end

-- The attempt in which a word with the number of the stored one is heard; nil if it is refused.
local function attempt_of_same_number(task, word)
  if not is_of_another_delivery(task, word) then
    if task.rank == TERMINAL then return nil end
    local is_heard = word.rank >= task.rank or (task.rank == LOST and word.rank >= STARTED)
    return is_heard and task.attempt or nil
  end
  if is_superseded(task, word.delivery) then return nil end
  if task.rank <= RECEIVED then return task.attempt end
  if word.rank < STARTED then return is_waiting(task) and task.attempt + 1 or nil end
  if task.rank == STARTED and task.handed_over == '1' then return task.attempt end
  return task.attempt + 1
end

-- The attempt in which a word is heard; nil if it is refused. The task is nil if it is not known.
local function attempt_of(task, word)
  if not task or word.run > task.run then return word.number end
  if word.run < task.run or word.number < task.number then return nil end
  if task.rank == TERMINAL and (task.cancel or word.rank < STARTED) then return nil end
  if word.number > task.number then return math.max(task.attempt + 1, word.number) end
  return attempt_of_same_number(task, word)
end

-- The deliveries that are superseded once a word is heard that belongs to the run of the stored one.
local function superseded_by(task, word)
  if word.number > task.number then return '' end
  local is_newest = task.rank == RETRY or (word.rank >= STARTED and task.rank >= STARTED)
  if not is_newest or not is_of_another_delivery(task, word) then return task.superseded end
  return string.sub(task.superseded .. ' ' .. task.delivery, -SUPERSEDED_KEPT)
end

-- Whether the end of a task is heard from somebody who is not the task.
local function may_end(task, rank, delivery)
  if task.rank == TERMINAL then return false end
  if rank == LOST then
    return task.delivery == delivery and task.handed_over ~= '1' and task.rank >= RECEIVED and task.rank <= PROGRESS
  end
  if rank == RETRY then return delivery ~= '' and task.delivery == delivery end  -- else it is of an earlier attempt
  return is_idle(task) or (delivery ~= '' and task.delivery == delivery)
end

-- Give the task its next seq, store what has changed of it, and publish it, in one step. Members of a workflow are many
-- and looked at on demand, so they are in no history; but each of their words counts for the workflow.
-- Returns 1 if the workflow has something left to tell, else 0.
local function tell_task(task, task_id, pinned, history_size, history_ttl)
  task.seq = task.seq + 1
  local header = task_header(task_id, task.seq, pinned)
  local id = '-'
  if task.workflow then
    redis.call('PUBLISH', KEYS[3], '- ' .. header .. '\n' .. task_members(task))
  else
    id = announce(KEYS[3], KEYS[4], KEYS[5], header, task_members(task), history_size, history_ttl)
  end
  redis.call('HSET', KEYS[1], 'seq', task.seq, 'state', task.state, 'rank', task.rank, 'attempt', task.attempt,
    'at', task.at, 'moment', task.moment, 'id', id)
  return task.workflow and count_member(task, task_id, history_size, history_ttl) or 0
end

-- The same for those who will not come back to have the workflow tell what is left.
local function tell_task_at_once(task, task_id, history_size, history_ttl)
  if tell_task(task, task_id, 1, history_size, history_ttl) == 0 then return end
  local bar = read_bar(key_of(task_id, task.workflow))
  tell_bar(bar, task.workflow, task.at, URGENT, history_size, history_ttl)
  write_bar(bar)
end
