"""``python -m jobpush`` is the ``jobpush`` command."""

from .cli import main

main(prog_name="jobpush")
