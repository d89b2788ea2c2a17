-- Append an event for webhooks that changes nothing else.
queue_webhook(event)
