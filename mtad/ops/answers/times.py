"""Times as an operator reads them."""

from datetime import datetime


def local(at: datetime) -> str:
    """A moment in the zone of this machine, ISO 8601 with a space: 2026-03-01 10:02:11."""
    return at.astimezone().replace(tzinfo=None).isoformat(" ", "seconds")
