"""For tests of a Django project: ``class MyTests(RecordedEventsMixin, TestCase)``."""

from __future__ import annotations

from django.test import SimpleTestCase

from ..testing import RecordedEvents
from . import jobpush


class RecordedEventsMixin(SimpleTestCase):
    """
    Gives each test ``self.recorded_events``: the task events of all users that are published while it runs.

    Run callbacks of ``transaction.on_commit`` inside ``TestCase`` with ``self.captureOnCommitCallbacks(execute=True)``.
    """

    recorded_events: RecordedEvents

    def setUp(self) -> None:
        """Begin to record."""
        super().setUp()
        config = jobpush.config
        self.recorded_events = RecordedEvents(config.redis_url, prefix=config.prefix)
        self.addCleanup(self.recorded_events.close)
