-- The bar of a workflow: each report of a member adds its changes to the sums. Only the reporting member is read, so an
-- event costs the same for any number of members. A workflow is a task in its user's index. Its key has two companions:
--   …:workflow  hash: its plan (head, planned, planned_weight, interval, ttl, final_ttl, w:<name> weights),
--               its sums, "m:<task id>" of each member, "b:<number>" of each branch
--   …:members   list of the ids of its members, in the order of their first reports
-- The members of a branch fail together (see queues/celery/canvas.py). A branch's path contains the outer branches,
-- each with its number of planned members: "0:12/3:2". A broken branch is not awaited.

local STATUS_OF = {PENDING = 'W', RECEIVED = 'W', RETRY = 'W', STARTED = 'R', PROGRESS = 'R', SUCCESS = 'S',
  FAILURE = 'F', REVOKED = 'X', LOST = 'L'}
local COUNTER_OF = {R = 'running', S = 'succeeded', F = 'failed', X = 'revoked', L = 'lost'}
local IS_OPEN = {W = 1, R = 1, L = 1, S = 0, F = 0, X = 0}
local BREAKS = {F = 1, X = 1, L = 1, W = 0, R = 0, S = 0}
local SUMS = {'extra', 'extra_weight', 'sum', 'closed', 'running', 'succeeded', 'failed', 'revoked', 'lost', 'percent',
  'published', 'pending'}
local BEGUN = {'planned', 'planned_weight', 'interval', 'ttl', 'final_ttl'}

local function read_bar(bar_task_key)
  local bar = {key = bar_task_key .. ':workflow', task_key = bar_task_key}
  for _, names in ipairs({SUMS, BEGUN}) do
    for name, value in pairs(read_fields(bar.key, names)) do bar[name] = number_in(value) end
  end
  local texts = read_fields(bar.key, {'head', 'started_at', 'error'})
  bar.head, bar.started_at, bar.error = texts.head, texts.started_at or 'null', texts.error or 'null'
  return bar
end

local function write_bar(bar)
  local values = {'started_at', bar.started_at, 'error', bar.error}
  for _, name in ipairs(SUMS) do
    values[#values + 1] = name
    values[#values + 1] = string.format('%.17g', bar[name])
  end
  replace('HSET', bar.key, unpack(values))
end

-- Return the branches of a path, the outermost first.
local function read_branches(bar, path)
  local branches = {}
  for number, size in string.gmatch(path, '(%d+):(%d+)') do
    local field = 'b:' .. number
    local closed, breaks = string.match(try('HGET', bar.key, field) or '', '^(%S+) (%S+)$')
    branches[#branches + 1] =
      {field = field, open = size - number_in(closed), size = tonumber(size), breaks = number_in(breaks)}
  end
  return branches
end

-- Await this many more members, in a branch and its outer branches, up to one that is already broken.
local function open_more(bar, branches, depth, more)
  for level = depth, 1, -1 do
    branches[level].open = branches[level].open + more
    if branches[level].breaks > 0 then return end
  end
  bar.closed = bar.closed - more
end

-- Apply a member's change of status to its branches.
local function change_branches(bar, path, is_extra, before, after)
  local branches = read_branches(bar, path)
  local inner = branches[#branches]
  if not inner then return end
  open_more(bar, branches, #branches, (is_extra and 1 or 0) + IS_OPEN[after] - IS_OPEN[before])
  local was_broken = inner.breaks > 0
  inner.breaks = inner.breaks + BREAKS[after] - BREAKS[before]
  local is_broken = inner.breaks > 0
  if is_broken and not was_broken then open_more(bar, branches, #branches - 1, -inner.open) end
  if was_broken and not is_broken then open_more(bar, branches, #branches - 1, inner.open) end
  for _, branch in ipairs(branches) do
    redis.call('HSET', bar.key, branch.field, (branch.size - branch.open) .. ' ' .. branch.breaks)
  end
end

-- Return a member: status, weight, its completed part (0 to 1), path of its branch.
local function read_member(bar, task_id, membership)
  local stored = try('HGET', bar.key, 'm:' .. task_id) or ''
  local status, weight, part, path = string.match(stored, '^([WRSFXL]) (%S+) (%S+) (%S*)$')
  if status then return {status = status, weight = number_in(weight), part = number_in(part), path = path} end
  local is_planned, name
  path, is_planned, weight, name = string.match(membership or '', '^(%S*) (%d) (%S+) (.*)$')
  weight = tonumber(weight) or tonumber(name and try('HGET', bar.key, 'w:' .. name) or 1) or 1
  replace('RPUSH', bar.task_key .. ':members', task_id)
  return {status = 'W', weight = weight, part = 0, path = path or '', is_extra = is_planned ~= '1'}
end

-- Return the completed part of a member. It stays when an attempt ends.
local function part_of(task, status, before)
  if status == 'S' then return 1 end
  local percent = tonumber(string.match(task.stable_json, '\\"percent\\":(%-?[%d%.]+)'))
  return percent and percent / 100 or before
end

local function add_member(bar, task, task_id)
  local member = read_member(bar, task_id, task.membership)
  local before, after = member.status, STATUS_OF[task.state]
  if member.is_extra then
    bar.extra, bar.extra_weight = bar.extra + 1, bar.extra_weight + member.weight
  end
  local part = part_of(task, after, member.part)
  bar.sum = bar.sum + member.weight * (part - member.part)
  if COUNTER_OF[before] then bar[COUNTER_OF[before]] = bar[COUNTER_OF[before]] - 1 end
  if COUNTER_OF[after] then bar[COUNTER_OF[after]] = bar[COUNTER_OF[after]] + 1 end
  if member.is_extra or before ~= after then change_branches(bar, member.path, member.is_extra, before, after) end
  if after == 'F' and bar.error == 'null' then
    bar.error = string.match(task.volatile_json .. ',\\"', '\\"error\\":(.-),\\"') or 'null'
    bar.error = bar.error .. (string.match(task.volatile_json, ',\\"error_code\\":.*') or '')
  end
  if after == 'R' and bar.started_at == 'null' then bar.started_at = task.at end
  redis.call('HSET', bar.key, 'm:' .. task_id,
    string.format('%s %.17g %.17g %s', after, member.weight, part, member.path))
end

local function state_of(bar, is_cancelled)
  local open = bar.planned - bar.closed
  if open <= 0 or (is_cancelled and bar.running <= 0) then
    if bar.failed > 0 then return 'FAILURE' end
    if bar.revoked > 0 or open > 0 then return 'REVOKED' end
    return bar.lost > 0 and 'LOST' or 'SUCCESS'
  end
  local ended = bar.succeeded + bar.failed + bar.revoked
  if bar.sum > 0 or ended > 0 then return 'PROGRESS' end
  return bar.started_at ~= 'null' and 'STARTED' or 'PENDING'
end

-- Return the fields of the workflow's event that its members change.
local function volatile_json_of(bar, state)
  local total, weight = bar.planned + bar.extra, bar.planned_weight + bar.extra_weight
  local ended = bar.succeeded + bar.failed + bar.revoked
  local percent = state == 'SUCCESS' and 100 or weight > 0 and 100 * bar.sum / weight or 0
  bar.percent = math.min(100, math.max(bar.percent, percent))
  return string.format('\\"current\\":%d,\\"total\\":%d,\\"percent\\":%.2f,\\"started_at\\":%s,\\"error\\":%s,'
    .. '\\"data\\":{\\"children\\":{\\"total\\":%d,\\"succeeded\\":%d,\\"failed\\":%d,\\"revoked\\":%d,'
    .. '\\"lost\\":%d,\\"running\\":%d}}', ended, total, bar.percent, bar.started_at,
    state == 'FAILURE' and bar.error or 'null', total, bar.succeeded, bar.failed, bar.revoked, bar.lost, bar.running)
end

-- Return the seconds that the workflow is kept: at least as long as the reporting member, which may run late.
local function lifetime_of(bar)
  return math.max(bar.ttl, redis.call('TTL', task_key), 60)
end

-- Store a state of the workflow and publish it.
local function publish_state(bar, workflow_id, stored, task, pinned, ttl)
  local id = append(task_header(workflow_id, task.seq, pinned), task_members(task))
  replace('HSET', bar.task_key, 'seq', task.seq, 'state', task.state, 'rank', task.rank, 'attempt', task.attempt,
    'at', task.at, 'volatile_json', task.volatile_json, 'stable_json', task.stable_json, 'id', id)
  redis.call('EXPIRE', bar.task_key, ttl)
  index_task(workflow_id, task.rank, number_in(stored.published_at), ttl)
end

-- Publish the workflow's event, unless it was published a moment ago and its state is the same. Then it is pending: the
-- caller asks again later, until it is published, so many callers cause no more than one event. The state of an ended
-- workflow stays, but its counts change: members of a broken branch may still run. how: COUNTED (a member has
-- reported), ASKED (something may be pending), URGENT (no caller asks later)
local COUNTED, ASKED, URGENT = 0, 1, 2
local function publish_bar(bar, workflow_id, at, how)
  local stored = read_fields(bar.task_key, {'seq', 'rank', 'state', 'cancel', 'attempt', 'published_at'})
  if not bar.head or not stored.seq then
    bar.pending = 0
    return
  end
  local has_ended = number_in(stored.rank) == TERMINAL
  local state = has_ended and stored.state or state_of(bar, stored.cancel)
  local rank = has_ended and TERMINAL or RANK_OF[state]
  local is_new, now = state ~= stored.state, now_in_milliseconds()
  local since = now - bar.published  -- below 0 if the clock of Redis was set back
  if not is_new and state == 'PENDING' and bar.extra == 0 then return end  -- as it began
  if not is_new and how ~= COUNTED and bar.pending == 0 then return end
  if not is_new and how ~= URGENT and since >= 0 and since < bar.interval then
    bar.pending = 1
    return
  end
  bar.published, bar.pending = now, 0
  -- A redelivered lost member resumes its workflow, as another attempt.
  local attempt = number_in(stored.attempt) + ((is_new and stored.state == 'LOST') and 1 or 0)
  local task = {seq = number_in(stored.seq) + 1, state = state, rank = rank, at = at, attempt = attempt,
    volatile_json = volatile_json_of(bar, state), stable_json = bar.head, cancel = stored.cancel}
  local ttl = rank == TERMINAL and bar.final_ttl or lifetime_of(bar)
  publish_state(bar, workflow_id, stored, task, is_new and 1 or 0, ttl)
end

-- Publish once that a workflow is LOST if Redis has lost its plan: its members cannot complete the bar. A workflow that
-- is not yet stored is waited for.
local function lose_bar(bar, workflow_id, at, has_lost_data)
  local stored = read_fields(bar.task_key, {'seq', 'rank', 'attempt', 'published_at', 'stable_json'})
  if number_in(stored.rank) >= LOST or not (stored.seq or has_lost_data) then return end
  local task = {seq = (tonumber(stored.seq) or now_in_milliseconds()) + 1, state = 'LOST', rank = LOST, at = at,
    attempt = stored.attempt or 1,
    volatile_json = '\\"error\\":\\"Redis lost the progress of this workflow\\",\\"error_code\\":\\"progress_lost\\"',
    stable_json = stored.stable_json or ('\\"task_id\\":\\"' .. workflow_id .. '\\",\\"name\\":\\"\\",\\"title\\":\\"\\"'
      .. ',\\"created_at\\":' .. at .. ',\\"data\\":{}')}
  publish_state(bar, workflow_id, stored, task, 1, final_ttl)
end

-- Count a member's report, and publish its workflow.
-- Return 1 if the workflow has something pending, else 0.
local function count_member(task, task_id)
  local bar = read_bar(key_of(task_id, task.workflow))
  if not bar.head then lose_bar(bar, task.workflow, task.at, task.has_lost_data) end
  add_member(bar, task, task_id)
  publish_bar(bar, task.workflow, task.at, COUNTED)
  write_bar(bar)
  local seconds = lifetime_of(bar)
  keep(bar.key, seconds)
  keep(bar.task_key .. ':members', seconds)
  return bar.pending
end

-- Publish the pending changes of a workflow, or changes without a report of its members.
-- Return 1 if it is still pending, because the workflow was published a moment ago; else 0.
local function publish_pending(bar_task_key, workflow_id, at, is_urgent)
  local bar = read_bar(bar_task_key)
  if not bar.head then return 0 end
  publish_bar(bar, workflow_id, at, is_urgent and URGENT or ASKED)
  write_bar(bar)
  return bar.pending
end

return {count_member = count_member, publish_pending = publish_pending}
