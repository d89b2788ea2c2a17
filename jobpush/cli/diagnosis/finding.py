"""The result of one check."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Status(Enum):
    """How a check ended. Only FAILED makes ``jobpush doctor`` exit with status 1."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found, and what to do about it."""

    check: str
    status: Status
    message: str
    cure: str = ""


def ok(check: str, message: str) -> Finding:
    """Return the finding of a check that passed."""
    return Finding(check, Status.OK, message)


def warning(check: str, message: str, cure: str) -> Finding:
    """Return a finding that works now, and may not later."""
    return Finding(check, Status.WARNING, message, cure)


def failed(check: str, message: str, cure: str) -> Finding:
    """Return a finding that keeps jobpush from working."""
    return Finding(check, Status.FAILED, message, cure)


def skipped(check: str, message: str, cure: str) -> Finding:
    """Return a check that needs an option, which ``cure`` names."""
    return Finding(check, Status.SKIPPED, message, cure)
