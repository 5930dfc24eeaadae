"""Times as an operator reads them."""

from datetime import datetime


def local(at: datetime) -> str:
    """A moment in the zone of this machine, ISO 8601 with a space: 2026-03-01 10:02:11."""
    return at.astimezone().replace(tzinfo=None).isoformat(" ", "seconds")


def span(seconds: float, day: float = 86400.0) -> str:
    """Seconds as a file would say them: '3d', '6h', '90s'; `day` is how long a d of the stream is."""
    for unit, length in (("d", day), ("h", 3600.0), ("m", 60.0)):
        if seconds >= length and seconds % length == 0:
            return f"{seconds / length:g}{unit}"
    return f"{seconds:g}s"
