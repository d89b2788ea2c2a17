"""The app of a worker, with the settings in the environment variable ``LIFECYCLE_APP`` (JSON)."""

from __future__ import annotations

import json
import os

from .tasks import make_app

app, _ = make_app(**json.loads(os.environ["LIFECYCLE_APP"]))
