-- Store the snapshot of a task and publish its event, in one step; or refuse it, as lifecycle.lua says.
-- ARGV: task id (escaped), state, rank, pinned (1: never conflated), run, number, delivery, handed over (1 or 0), at,
--       last seq the publisher knows, moment, tail, ttl, tasks to list, history size, history ttl, and of the member of
--       a workflow the workflow's id (escaped) and its place in it ("<branch> <planned> <weight or -> <name>"), else '',
--       then the moment of an attempt that this one ends, and the ttl of a task that is over
-- Returns {status, seq, cancelled, untold}: status 1 stored, 0 refused as stale, -1 refused because the task is
-- cancelled; untold 1 if its workflow has something left to tell.
local task_id, ttl = ARGV[1], tonumber(ARGV[13])
local word = {state = ARGV[2], rank = tonumber(ARGV[3]), run = tonumber(ARGV[5]), number = tonumber(ARGV[6]),
  delivery = ARGV[7]}
local stored = read_task()
-- Published by somebody who does not stamp the time; below 0 it is when the message was received, not for the first time.
if word.run <= 0 then word.run = stored and stored.run or -word.run end
local is_known = stored and stored.run == word.run  -- else the same task id is published anew
local cancel = is_known and stored.cancel
local workflow, membership = stored and stored.workflow, stored and stored.membership
if ARGV[17] ~= '' then workflow, membership = ARGV[17], ARGV[18] end
if workflow and is_workflow_cancelled(task_id, workflow) then
  cancel = ARGV[9]
  if is_known then stored.cancel = cancel end
end

local attempt = attempt_of(stored, word)
local seq = stored and stored.seq or 0
if not attempt then return {0, seq, cancel and 1 or 0, 0} end
if cancel and word.state == 'STARTED' then return {-1, seq, 1, 0} end

local moment = ARGV[11]
if cancel and word.rank == RETRY then  -- there will be no other attempt: the guard keeps it from running again
  word.state, word.rank, moment, ttl = 'REVOKED', TERMINAL, ARGV[19], tonumber(ARGV[20])
end

local is_same_attempt = is_known and attempt == stored.attempt
local delivery = word.delivery
if delivery == '' and is_same_attempt then delivery = stored.delivery end
if is_known and not is_same_attempt and task_has_begun(stored) then
  -- No attempt is left without an end. It is not LOST: its worker may live, for a broker delivers again what takes
  -- longer than its visibility timeout.
  stored.state, stored.rank, stored.at, stored.moment = 'RETRY', RETRY, ARGV[9], ARGV[19]
  tell_task(stored, task_id, 1, ARGV[15], ARGV[16])
  seq = stored.seq
end
-- What the task said before it handed over may come after that.
local stays_handed_over = is_same_attempt and stored.handed_over == '1' and not is_of_another_delivery(stored, word)
if stored and not is_known then redis.call('HDEL', KEYS[1], 'cancel') end
local untold = tell_task({
  seq = math.max(seq, tonumber(ARGV[10])),  -- the larger, for Redis may have come back empty
  state = word.state, rank = word.rank, attempt = attempt, at = ARGV[9], moment = moment, tail = ARGV[12],
  cancel = cancel, workflow = workflow, membership = membership,
}, task_id, ARGV[4], ARGV[15], ARGV[16])
redis.call('HSET', KEYS[1], 'run', word.run, 'number', word.number, 'delivery', delivery,
  'superseded', is_known and superseded_by(stored, word) or '', 'handed_over', stays_handed_over and 1 or ARGV[8],
  'tail', ARGV[12])
redis.call('EXPIRE', KEYS[1], ttl)
if workflow then
  redis.call('HSET', KEYS[1], 'workflow', workflow, 'membership', membership)
else
  redis.call('ZADD', KEYS[2], word.run, task_id)
  redis.call('ZREMRANGEBYRANK', KEYS[2], 0, -1 - ARGV[14])
  if redis.call('TTL', KEYS[2]) < ttl then redis.call('EXPIRE', KEYS[2], ttl) end
end
return {1, math.max(seq, tonumber(ARGV[10])) + 1, cancel and 1 or 0, untold}
