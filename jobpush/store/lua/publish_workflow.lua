-- Publish what is pending of a workflow, or changes without a report of its members.
-- Return 1 if it is still pending, because the workflow was published a moment ago; else 0.
return load_workflow().publish_pending(task_key, task_id, at, is_urgent)
