-- The state machine of jobpush/lifecycle.py: whether a report about a task is accepted, and in which attempt.
-- Every script that changes a task is prefixed with this file. An empty delivery is unknown: the report comes from a
-- publisher, or from a program that only reports.

-- Characters of the superseded deliveries that are remembered: about twenty deliveries.
local SUPERSEDED_KEPT = 360

-- Return the stored task; nil if there is none, or another program has overwritten it.
local function read_task()
  local task = read_fields(task_key, {'seq', 'state', 'rank', 'published_at', 'retry_number', 'attempt', 'delivery',
    'superseded', 'others', 'handed_over', 'at', 'volatile_json', 'stable_json', 'cancel', 'workflow', 'membership'})
  if not is_snapshot(task) then return nil end
  task.seq, task.rank, task.attempt = number_in(task.seq), number_in(task.rank), number_in(task.attempt)
  task.published_at, task.retry_number = number_in(task.published_at), number_in(task.retry_number)
  task.superseded, task.others, task.delivery = task.superseded or '', task.others or '', task.delivery or ''
  return task
end

local function is_running(rank)
  return rank == STARTED or rank == PROGRESS
end

local function is_waiting(task)
  return task.rank <= RECEIVED or task.rank == RETRY or task.rank == LOST
end

-- Return whether no worker runs the task: it waits, or its replacement runs.
local function is_idle(task)
  return is_waiting(task) or task.handed_over == '1'
end

local function is_of_another_delivery(task, report)
  return report.delivery ~= '' and task.delivery ~= '' and report.delivery ~= task.delivery
end

-- The others are deliveries that workers held when a newer one took over, and that have not ended: "<delivery> ...".
local function is_other(task, delivery)
  return task.others ~= '' and delivery ~= '' and string.find(task.others, delivery .. ' ', 1, true) ~= nil
end

local function others_without(task, delivery)
  if not is_other(task, delivery) then return task.others end
  local first, last = string.find(task.others, delivery .. ' ', 1, true)
  return string.sub(task.others, 1, first - 1) .. string.sub(task.others, last + 1)
end

-- Remember that a delivery has ended, though its end does not count for the task.
local function forget_other(task, delivery)
  if is_other(task, delivery) then redis.call('HSET', task_key, 'others', others_without(task, delivery)) end
end

-- Return the attempt that accepts a report of a superseded delivery; nil if it is refused.
local function attempt_of_superseded(task, report)
  local has_begun = report.rank == STARTED or report.rank == PROGRESS
  if task.rank == TERMINAL then  -- without success, so this delivery decides
    return (has_begun or report.state == 'SUCCESS') and task.attempt + 1 or nil
  end
  if task.rank == LOST or (task.rank == RETRY and is_other(task, report.delivery)) then  -- the newest one is gone
    if has_begun then return task.attempt + 1 end
    return report.rank >= RETRY and task.attempt or nil
  end
  -- Celery keeps the result of a success, independent of the newer delivery.
  return report.state == 'SUCCESS' and task.attempt or nil
end

-- Return the attempt that accepts a report with the stored retry number; nil if it is refused.
local function attempt_of_same_retry(task, report)
  if not is_of_another_delivery(task, report) then
    if task.rank == TERMINAL then return nil end
    local is_accepted = report.rank >= task.rank or (task.rank == LOST and report.rank >= STARTED)
    return is_accepted and task.attempt or nil
  end
  if task.state == 'SUCCESS' then return nil end  -- Celery keeps that result, whatever a repeated run does
  if string.find(task.superseded, report.delivery, 1, true) then return attempt_of_superseded(task, report) end
  if task.rank <= RECEIVED then return task.attempt end
  if report.rank < STARTED then return is_waiting(task) and task.attempt + 1 or nil end
  if task.rank == STARTED and task.handed_over == '1' then return task.attempt end
  return task.attempt + 1
end

-- Return the attempt that accepts a report; nil if it is refused. The task is nil if it is unknown.
local function attempt_of(task, report)
  if not task or report.published_at > task.published_at then return report.retry_number end
  if report.published_at < task.published_at or report.retry_number < task.retry_number then return nil end
  if task.rank == TERMINAL and (task.cancel or report.rank < STARTED) then return nil end
  if report.retry_number > task.retry_number then return math.max(task.attempt + 1, report.retry_number) end
  return attempt_of_same_retry(task, report)
end

-- Return the deliveries that are superseded once a report of the stored run is accepted.
local function superseded_by(task, report)
  if report.retry_number > task.retry_number then return '' end
  local is_newest = task.rank == RETRY or (report.rank >= STARTED and task.rank >= STARTED)
  if not is_newest or not is_of_another_delivery(task, report) then return task.superseded end
  return string.sub(task.superseded .. ' ' .. task.delivery, -SUPERSEDED_KEPT)
end

-- Return the others once a report of the stored run is accepted.
local function others_after(task, report)
  if report.retry_number > task.retry_number or report.rank == RETRY then return '' end
  local others = others_without(task, report.delivery)
  local is_held = task.rank >= RECEIVED and task.rank <= PROGRESS and task.handed_over ~= '1'
  if not is_held or not is_of_another_delivery(task, report) then return others end
  return others .. task.delivery .. ' '
end

-- Return whether another process may end the task.
local function may_end(task, rank, delivery)
  if task.rank == TERMINAL then return false end
  if rank == LOST then
    if task.rank == RETRY then return delivery ~= '' and task.others == delivery .. ' ' end  -- the last one is gone
    return task.delivery == delivery and task.handed_over ~= '1' and task.rank >= RECEIVED and task.rank <= PROGRESS
  end
  if rank == RETRY then return delivery ~= '' and task.delivery == delivery end  -- otherwise of an earlier attempt
  return is_idle(task) or (delivery ~= '' and task.delivery == delivery)
end

-- Offsets of the scores in a user's index: ended tasks are dropped first, running ones never.
local WAITING_OFFSET, RUNNING_OFFSET = 10000000000, 20000000000

-- Put a task into its user's index, for at least this many seconds.
local function index_task(task_id, rank, published_at, seconds)
  local offset = (rank == TERMINAL or rank == LOST) and 0 or is_running(rank) and RUNNING_OFFSET or WAITING_OFFSET
  replace('ZADD', tasks_key, offset + published_at, task_id)
  keep(tasks_key, seconds)
end

-- Drop the oldest ended tasks, then the oldest waiting ones, until the index fits; running ones stay.
local function trim_index()
  local excess = redis.call('ZCARD', tasks_key) - max_tasks
  if excess <= 0 then return end
  excess = math.min(excess, redis.call('ZCOUNT', tasks_key, '-inf', '(' .. RUNNING_OFFSET))
  if excess > 0 then redis.call('ZREMRANGEBYRANK', tasks_key, 0, excess - 1) end
end

-- Return the key of another task of the same user.
local function key_of(task_id, other_id)
  return string.sub(task_key, 1, #task_key - #task_id) .. other_id
end

-- Return whether the workflow of a member is cancelled: then the member does not start.
local function is_workflow_cancelled(task_id, workflow_id)
  return try('HEXISTS', key_of(task_id, workflow_id), 'cancel') == 1
end

-- Give the task its next seq, store its changes for this many seconds, and publish it. A workflow has many members,
-- which are read on demand: they are in no history and no index, but each of their reports counts for the workflow.
-- Return 1 if the workflow has something pending, else 0. Further arguments are more fields to store, and their values.
local function publish_task(task, task_id, pinned, seconds, ...)
  task.seq = task.seq + 1
  local header, id = task_header(task_id, task.seq, pinned), '-'
  if task.workflow then
    publish_message('- ' .. header, task_members(task))
  else
    id = append(header, task_members(task))
  end
  replace('HSET', task_key, 'seq', task.seq, 'state', task.state, 'rank', task.rank, 'attempt', task.attempt,
    'at', task.at, 'volatile_json', task.volatile_json, 'id', id, ...)
  redis.call('EXPIRE', task_key, seconds)
  if task.rank >= LOST then  -- the log lives as long as the task
    redis.call('EXPIRE', task_key .. ':log', seconds)
    redis.call('EXPIRE', task_key .. ':log-state', seconds)
  end
  if task.workflow then return load_workflow().count_member(task, task_id) end
  index_task(task_id, task.rank, task.published_at, seconds)
  return 0
end

-- The same for callers that do not publish the pending changes of the workflow later.
local function publish_task_at_once(task, task_id, seconds, ...)
  if publish_task(task, task_id, 1, seconds, ...) == 0 then return end
  load_workflow().publish_pending(key_of(task_id, task.workflow), task.workflow, task.at, true)
end
