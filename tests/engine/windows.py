"""People whose windows are over, in a real database."""

from datetime import UTC, datetime, timedelta
from typing import Any

from engine.policy import Policy
from tests.engine.world import DAY, World

NOW = datetime.now(UTC).replace(microsecond=0)
POLICY = Policy(attempts=2)


async def in_window(world: World, stream: int, contact: int, *, closed: timedelta = DAY, **columns: Any) -> None:
    """Mailed, and the window has been over for so long."""
    until = NOW - closed
    opened = until - timedelta(days=3)
    values = {"since": opened, "round_from": opened, "first_sent": opened, "window_until": until, "told": opened}
    await world.engagement(stream, contact, **(values | {"wake_at": until} | columns))


async def row(world: World, contact: int) -> tuple[Any, ...]:
    return await world.one(
        "select state::text, ignored, unclear, window_until, wake_at from engagement where contact_id = $1", contact
    )
