"""The checks of ``jobpush doctor``. Each yields findings; none changes anything."""

from .applications import Applications
from .finding import Finding, Status
from .run import diagnose

__all__ = ["Applications", "Finding", "Status", "diagnose"]
