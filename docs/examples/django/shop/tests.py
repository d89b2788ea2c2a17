from django.contrib.auth import get_user_model
from django.test import TestCase

from jobpush.django.testing import RecordedEventsMixin


class ExportTests(RecordedEventsMixin, TestCase):
    def setUp(self):
        super().setUp()
        self.user = get_user_model().objects.create_user("ada")

    def test_export_is_published_after_the_commit(self):
        self.client.force_login(self.user)

        with self.captureOnCommitCallbacks(execute=True):
            self.client.post("/export")
            self.assertEqual(self.recorded_events.events, [])

        self.assertEqual(self.recorded_events.states(), ["PENDING"])

    def test_page_of_a_user_has_the_tags_and_gets_a_token(self):
        self.assertEqual(self.client.get("/jobpush/token").status_code, 401)
        self.client.force_login(self.user)

        self.assertContains(self.client.get("/"), 'data-token-url="/jobpush/token"')
        self.assertIn("token", self.client.get("/jobpush/token").json())
