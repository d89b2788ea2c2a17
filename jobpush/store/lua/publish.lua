-- Store the snapshot of a task and publish its event, in one step; or refuse it, see lifecycle.lua.
-- A published_at of 0 or less comes from a publisher without time stamps. If negative, it is the time at which a
-- redelivered message was received. bare_json replaces the volatile_json of an attempt that this report ends. Return
-- {status, seq, cancelled, pending}: status 1 stored, 0 refused as stale, -1 refused because the task is cancelled;
-- pending 1 if the task's workflow has pending changes.
local report = {state = state, rank = RANK_OF[state], published_at = published_at, retry_number = retry_number,
  delivery = delivery}
local stored = read_task()
if not stored then redis.call('DEL', task_key) end  -- a value of another program
if report.published_at <= 0 then report.published_at = stored and stored.published_at or -report.published_at end
local is_known = stored and stored.published_at == report.published_at  -- otherwise the id was published again
local cancel = is_known and stored.cancel
local workflow = stored and stored.workflow
if workflow_id ~= '' then workflow = workflow_id elseif stored then membership = stored.membership end
if workflow and is_workflow_cancelled(task_id, workflow) then
  cancel = at
  if is_known then stored.cancel = cancel end
end

local attempt = attempt_of(stored, report)
local seq = stored and stored.seq or 0
if not attempt then
  if stored and report.rank >= RETRY then forget_other(stored, delivery) end
  return {0, seq, cancel and 1 or 0, 0}
end
if cancel and state == 'STARTED' then return {-1, seq, 1, 0} end

if cancel and report.rank == RETRY then  -- no further attempt begins
  report.state, report.rank, volatile_json, ttl = 'REVOKED', TERMINAL, bare_json, final_ttl
end

local others = is_known and others_after(stored, report) or ''
local is_same_attempt = is_known and attempt == stored.attempt
if delivery == '' and is_same_attempt then delivery = stored.delivery end
if is_known and not is_same_attempt and is_running(stored.rank) then
  -- Every attempt ends. This one is not LOST: its worker may be alive, since a broker redelivers a task that runs
  -- longer than its visibility timeout.
  stored.state, stored.rank, stored.at, stored.volatile_json = 'RETRY', RETRY, at, bare_json
  publish_task(stored, task_id, 1, ttl)
  seq = stored.seq
end
-- Reports from before the hand-over may arrive after it.
local stays_handed_over = is_same_attempt and stored.handed_over == '1' and not is_of_another_delivery(stored, report)
if stored and not is_known then redis.call('HDEL', task_key, 'cancel') end
local task = {
  seq = math.max(seq, known_seq), state = report.state, rank = report.rank, attempt = attempt, at = at,
  published_at = report.published_at, volatile_json = volatile_json, stable_json = stable_json, cancel = cancel,
  workflow = workflow, membership = membership, has_lost_data = not stored and known_seq > 0,
}
local pending = publish_task(task, task_id, pinned, ttl, 'published_at', report.published_at,
  'retry_number', report.retry_number, 'delivery', delivery, 'others', others,
  'superseded', is_known and superseded_by(stored, report) or '',
  'handed_over', (stays_handed_over or is_handed_over) and 1 or 0, 'stable_json', stable_json)
if workflow then
  redis.call('HSET', task_key, 'workflow', workflow, 'membership', membership)
elseif not is_known then
  trim_index()
end
return {1, task.seq, cancel and 1 or 0, pending}
