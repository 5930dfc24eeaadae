"""How often one address may be asked to confirm (engine.md section 3.1, `confirm_rate`). Pure."""

from collections.abc import Sequence
from datetime import datetime, timedelta

# A form must not be a way to pester people.
APART = timedelta(hours=1)
MOST = 3
SPAN = timedelta(hours=24)

# What is not confirmed by then is forgotten (sql/queries/consent.sql has it too), so no mail goes later.
TERM = timedelta(days=7)

# Who would be asked later than that is not asked: nobody remembers having signed up.
PATIENCE = timedelta(hours=24)


def next_slot(asked: Sequence[datetime], now: datetime) -> datetime | None:
    """When the next mail may go to an address that was, or will be, asked at these times; None: not at all.

    At most one in any hour and three in any 24.
    """
    last = sorted(asked)[-MOST:]
    slot = now
    if last:
        slot = max(slot, last[-1] + APART)
    if len(last) == MOST:
        slot = max(slot, last[0] + SPAN)
    return slot if slot <= now + PATIENCE else None
