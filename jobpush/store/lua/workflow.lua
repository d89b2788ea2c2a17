-- The bar of a workflow, kept by its members: each that says something adds what is new to the sums. No member is ever
-- read but the one that speaks, so an event costs the same however many there are. Put behind lib.lua.
-- A workflow is a task among its user's others. Under its own key it has two more:
--   …:workflow  hash: what it began with (head, planned, planned_weight, interval, ttl, final_ttl, w:<name> weights),
--               its sums, "m:<task id>" of each member, "b:<number>" of each branch
--   …:members   list of the ids of its members, as they appeared
-- A branch is what stands and falls together (see worker/canvas.py). Its path names the branches around it too, each
-- with the members it was planned with: "0:12/3:2". Of a branch that is broken nothing more is waited for.

local STATUS_OF = {PENDING = 'W', RECEIVED = 'W', RETRY = 'W', STARTED = 'R', PROGRESS = 'R', SUCCESS = 'S',
  FAILURE = 'F', REVOKED = 'X', LOST = 'L'}
local COUNTER_OF = {R = 'running', S = 'succeeded', F = 'failed', X = 'revoked', L = 'lost'}
local IS_OPEN = {W = 1, R = 1, L = 1, S = 0, F = 0, X = 0}
local BREAKS = {F = 1, X = 1, L = 1, W = 0, R = 0, S = 0}
local SUMS = {'extra', 'extra_weight', 'sum', 'closed', 'running', 'succeeded', 'failed', 'revoked', 'lost', 'percent',
  'told', 'untold'}
local BEGUN = {'planned', 'planned_weight', 'interval', 'ttl', 'final_ttl'}

local function read_bar(task_key)
  local bar = {key = task_key .. ':workflow', task_key = task_key}
  for _, names in ipairs({SUMS, BEGUN}) do
    for index, value in ipairs(redis.call('HMGET', bar.key, unpack(names))) do
      bar[names[index]] = tonumber(value or 0)
    end
  end
  local texts = redis.call('HMGET', bar.key, 'head', 'started_at', 'error')
  bar.head, bar.started_at, bar.error = texts[1], texts[2] or 'null', texts[3] or 'null'
  return bar
end

local function write_bar(bar)
  local values = {'started_at', bar.started_at, 'error', bar.error}
  for _, name in ipairs(SUMS) do
    values[#values + 1] = name
    values[#values + 1] = string.format('%.17g', bar[name])
  end
  redis.call('HSET', bar.key, unpack(values))
end

-- The branches of a path, the outermost first.
local function read_branches(bar, path)
  local branches = {}
  for number, size in string.gmatch(path, '(%d+):(%d+)') do
    local field = 'b:' .. number
    local closed, breaks = string.match(redis.call('HGET', bar.key, field) or '0 0', '^(%S+) (%S+)$')
    branches[#branches + 1] = {field = field, open = size - closed, size = tonumber(size), breaks = tonumber(breaks)}
  end
  return branches
end

local function write_branches(bar, branches)
  for _, branch in ipairs(branches) do
    redis.call('HSET', bar.key, branch.field, (branch.size - branch.open) .. ' ' .. branch.breaks)
  end
end

-- So many more members are waited for, in a branch and in those around it, up to one that is broken anyway.
local function open_more(bar, branches, depth, more)
  for level = depth, 1, -1 do
    branches[level].open = branches[level].open + more
    if branches[level].breaks > 0 then return end
  end
  bar.closed = bar.closed - more
end

-- What a member's status means for those that stand and fall with it.
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
  write_branches(bar, branches)
end

-- What is stored of a member: status, weight, the part of it that is done (0 to 1), path of its branch.
local function read_member(bar, task_id, membership)
  local stored = redis.call('HGET', bar.key, 'm:' .. task_id)
  if stored then
    local status, weight, part, path = string.match(stored, '^(%u) (%S+) (%S+) (%S*)$')
    return {status = status, weight = tonumber(weight), part = tonumber(part), path = path}
  end
  local path, is_planned, weight, name = string.match(membership, '^(%S*) (%d) (%S+) (.*)$')
  weight = tonumber(weight) or tonumber(redis.call('HGET', bar.key, 'w:' .. name) or 1)
  redis.call('RPUSH', bar.task_key .. ':members', task_id)
  return {status = 'W', weight = weight, part = 0, path = path, is_extra = is_planned == '0'}
end

-- The part of a member that is done. What an attempt has done is not lost by its end.
local function part_of(task, status, before)
  if status == 'S' then return 1 end
  local percent = tonumber(string.match(task.tail, '\\"percent\\":(%-?[%d%.]+)'))
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
    bar.error = string.match(task.moment .. ',\\"', '\\"error\\":(.-),\\"') or 'null'
  end
  if after == 'R' and bar.started_at == 'null' then bar.started_at = task.at end
  redis.call('HSET', bar.key, 'm:' .. task_id,
    string.format('%s %.17g %.17g %s', after, member.weight, part, member.path))
end

local function state_of(bar, is_cancelled)
  local open = bar.planned - bar.closed
  if open <= 0 or (is_cancelled and bar.running <= 0) then
    if bar.failed > 0 then return 'FAILURE', TERMINAL end
    if bar.revoked > 0 or open > 0 then return 'REVOKED', TERMINAL end
    if bar.lost > 0 then return 'LOST', 5 end
    return 'SUCCESS', TERMINAL
  end
  local ended = bar.succeeded + bar.failed + bar.revoked
  if bar.sum > 0 or ended > 0 then return 'PROGRESS', 3 end
  if bar.started_at ~= 'null' then return 'STARTED', 2 end
  return 'PENDING', 0
end

-- The members of the workflow's event that its members change.
local function moment_of(bar, state)
  local total, weight = bar.planned + bar.extra, bar.planned_weight + bar.extra_weight
  local ended = bar.succeeded + bar.failed + bar.revoked
  local percent = state == 'SUCCESS' and 100 or weight > 0 and 100 * bar.sum / weight or 0
  bar.percent = math.min(100, math.max(bar.percent, percent))
  return string.format('\\"current\\":%d,\\"total\\":%d,\\"percent\\":%.2f,\\"started_at\\":%s,\\"error\\":%s,'
    .. '\\"data\\":{\\"children\\":{\\"total\\":%d,\\"succeeded\\":%d,\\"failed\\":%d,\\"revoked\\":%d,'
    .. '\\"lost\\":%d,\\"running\\":%d}}', ended, total, bar.percent, bar.started_at,
    state == 'FAILURE' and bar.error or 'null', total, bar.succeeded, bar.failed, bar.revoked, bar.lost, bar.running)
end

local function milliseconds()
  local now = redis.call('TIME')
  return now[1] * 1000 + math.floor(now[2] / 1000)
end

-- Seconds that all of it is kept: as long as a workflow that runs, or as its member that speaks, whose time may be far.
local function lifetime_of(bar)
  return math.max(bar.ttl, redis.call('TTL', KEYS[1]), 60)
end

-- Publish the workflow's event, unless it has ended, or has said something a moment ago and only goes on. Then it is
-- left untold: whoever learns that asks later, and again until it is told, so that many who ask tell no more than one.
-- how: COUNTED (a member has said something), ASKED (something may be untold), URGENT (nobody will ask later)
local COUNTED, ASKED, URGENT = 0, 1, 2
local function tell_bar(bar, workflow_id, at, how, history_size, history_ttl)
  local stored = redis.call('HMGET', bar.task_key, 'seq', 'rank', 'state', 'cancel', 'attempt')
  if not bar.head or not stored[1] or tonumber(stored[2]) == TERMINAL then
    bar.untold = 0
    return
  end
  local state, rank = state_of(bar, stored[4])
  local is_new, now = state ~= stored[3], milliseconds()
  local since = now - bar.told  -- below 0 where the clock of Redis was set back
  if not is_new and state == 'PENDING' and bar.extra == 0 then return end  -- as it began
  if not is_new and how ~= COUNTED and bar.untold == 0 then return end
  if not is_new and how ~= URGENT and since >= 0 and since < bar.interval then
    bar.untold = 1
    return
  end
  bar.told, bar.untold = now, 0
  -- A lost member that is delivered again takes its workflow along: what has ended goes on as another attempt.
  local attempt = stored[5] + ((is_new and stored[3] == 'LOST') and 1 or 0)
  local task = {seq = stored[1] + 1, state = state, rank = rank, at = at, attempt = attempt,
    moment = moment_of(bar, state), tail = bar.head, cancel = stored[4]}
  local header = task_header(workflow_id, task.seq, is_new and 1 or 0)
  local id = announce(KEYS[3], KEYS[4], KEYS[5], header, task_members(task), history_size, history_ttl)
  redis.call('HSET', bar.task_key, 'seq', task.seq, 'state', state, 'rank', rank, 'attempt', attempt, 'at', at,
    'moment', task.moment, 'tail', task.tail, 'id', id)
  local ttl = rank == TERMINAL and bar.final_ttl or lifetime_of(bar)
  redis.call('EXPIRE', bar.task_key, ttl)
  if redis.call('TTL', KEYS[2]) < ttl then redis.call('EXPIRE', KEYS[2], ttl) end
end

-- The key of another task of the same user.
local function key_of(task_id, other_id)
  return string.sub(KEYS[1], 1, #KEYS[1] - #task_id) .. other_id
end

-- Whether the end of a member's workflow was asked for: then it does not start.
local function is_workflow_cancelled(task_id, workflow_id)
  return redis.call('HEXISTS', key_of(task_id, workflow_id), 'cancel') == 1
end

-- Count what a member has just told, and tell it of its workflow.
-- Returns 1 if that is still to be told, 0 if it was.
local function count_member(task, task_id, history_size, history_ttl)
  local bar = read_bar(key_of(task_id, task.workflow))
  add_member(bar, task, task_id)
  tell_bar(bar, task.workflow, task.at, COUNTED, history_size, history_ttl)
  write_bar(bar)
  local ttl = lifetime_of(bar)
  for _, key in ipairs({bar.key, bar.task_key .. ':members'}) do
    if redis.call('TTL', key) < ttl then redis.call('EXPIRE', key, ttl) end
  end
  return bar.untold
end
