-- Publish the pending changes of a workflow, or changes without a report of its members.
-- Return 1 if it is still pending, because the workflow was published a moment ago; else 0.
local bar = read_bar(task_key)
if not bar.head then return 0 end
publish_bar(bar, task_id, at, is_urgent and URGENT or ASKED)
write_bar(bar)
return bar.pending
