"""
jobpush for Django: ``INSTALLED_APPS += ["jobpush.django"]`` and ``JOBPUSH = {"REDIS_URL": …, "KEY": …, "SECRET": …}``.

:data:`jobpush` is the :class:`jobpush.JobPush` of the project, configured by that dictionary.
"""

from __future__ import annotations

from ..api import JobPush
from ..config import Config
from .settings import options


class DjangoJobPush(JobPush):
    """A :class:`jobpush.JobPush` that reads Django's settings on first use."""

    def _load_config(self) -> Config:
        self._settings = {**options(), **self._settings}
        return super()._load_config()


jobpush = DjangoJobPush()

__all__ = ["jobpush"]
