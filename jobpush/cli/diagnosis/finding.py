"""The result of one check."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from functools import partial


class Status(Enum):
    """How a check ended. Only FAILED makes ``jobpush doctor`` exit with status 1."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    SKIPPED = "skipped"

    @property
    def severity(self) -> int:
        """The severity; 0 if the check passed."""
        return (Status.OK, Status.SKIPPED, Status.WARNING, Status.FAILED).index(self)


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found, and what to do about it."""

    status: Status
    check: str
    message: str
    cure: str = ""


#: A check that passed.
ok = partial(Finding, Status.OK)
#: What works now, and may not later.
warning = partial(Finding, Status.WARNING)
#: What keeps jobpush from working.
failed = partial(Finding, Status.FAILED)
#: A check that needs an option, which its ``cure`` names.
skipped = partial(Finding, Status.SKIPPED)
