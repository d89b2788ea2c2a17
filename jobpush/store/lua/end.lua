-- End a task, or say that it is LOST or tries again (RETRY), on behalf of it; the rest of its event is as it was told
-- last.
-- ARGV: task id (escaped), state, rank, delivery ('': not known), least rank that is ended, at, moment, ttl,
--       history size, history ttl, moment and ttl of a task that is over
-- Returns {status, seq, cancelled} as publish.lua does, or nil for a task that is not known.
local task = read_task()
if not task then return nil end
local is_cancelled = task.cancel and 1 or 0
if task.rank < tonumber(ARGV[5]) or not may_end(task, tonumber(ARGV[3]), ARGV[4]) then
  return {0, task.seq, is_cancelled}
end

redis.call('HSET', KEYS[1], 'before_state', task.state, 'before_rank', task.rank)
task.state, task.rank, task.at, task.moment = ARGV[2], tonumber(ARGV[3]), ARGV[6], ARGV[7]
local ttl = ARGV[8]
local is_over = task.cancel or (task.workflow and is_workflow_cancelled(ARGV[1], task.workflow))
if (task.rank == LOST or task.rank == RETRY) and is_over then
  -- Its end was asked for, and the guard keeps it from running again.
  if task.rank == RETRY then task.moment = ARGV[11] end  -- the other tells when it would have
  task.state, task.rank, ttl = 'REVOKED', TERMINAL, ARGV[12]
end
tell_task_at_once(task, ARGV[1], ARGV[9], ARGV[10])
redis.call('EXPIRE', KEYS[1], ttl)
return {1, task.seq, is_cancelled}
