-- End a task on behalf of its process, as LOST, or as RETRY; the rest of its event stays as reported last.
-- LOST becomes RETRY if another worker holds the task too. A task below the state `least` continues. bare_json and
-- final_ttl apply to an ended task.
-- Return {status, seq, cancelled} as publish.lua does, or nil for an unknown task.
local task = read_task()
if not task then return nil end
local is_cancelled = task.cancel and 1 or 0
local rank = RANK_OF[state]
local has_ended = task.rank >= RANK_OF[least] and may_end(task, rank, delivery)
local others = rank == RETRY and '' or others_without(task, delivery)
if not has_ended then
  forget_other(task, delivery)
  return {0, task.seq, is_cancelled}
end
if rank == LOST and others ~= '' then state, rank = 'RETRY', RETRY end

redis.call('HSET', task_key, 'others', others)
if task.rank ~= RETRY then redis.call('HSET', task_key, 'before_state', task.state, 'before_rank', task.rank) end
task.state, task.rank, task.at, task.volatile_json = state, rank, at, volatile_json
local is_over = task.cancel or (task.workflow and is_workflow_cancelled(task_id, task.workflow))
if (rank == LOST or rank == RETRY) and is_over then  -- no further attempt begins
  if rank == RETRY then task.volatile_json = bare_json end  -- the stored one contains the time of the next attempt
  task.state, task.rank, ttl = 'REVOKED', TERMINAL, final_ttl
end
publish_task_at_once(task, task_id, ttl)
return {1, task.seq, is_cancelled}
