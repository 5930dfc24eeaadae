"""A full mailbox suppresses nobody until it has been full for days."""

from datetime import timedelta

import pytest

from mtad.base.db import Pool
from mtad.outcome.quota import leave_full_mailboxes_alone
from tests.rows import START, Rows

DAY = timedelta(days=1)
ADDRESS = "ann@reader.test"


async def refused(pool: Pool, *days: float, delivered: float | None = None, reason: str = "QuotaIssues") -> None:
    """Ann's mails ended so many days ago."""
    async with pool.acquire() as conn:
        rows = Rows(conn)
        program = await rows.program(mails=9)
        contact = await rows.contact(ADDRESS)
        for number, ago in enumerate(days, 1):
            await rows.mail(program, contact, "bounced", reason, mail=number, ended=START - ago * DAY)
        if delivered is not None:
            await rows.mail(program, contact, "delivered", mail=9, ended=START - delivered * DAY)


@pytest.mark.parametrize(
    ("days", "delivered", "reason", "suppressed"),
    [
        ((6, 3, 1), None, "QuotaIssues", 1),
        ((9, 6, 3, 1), 8, "QuotaIssues", 1),
        ((6, 1), None, "QuotaIssues", 0),
        ((4, 3, 2, 1), None, "QuotaIssues", 0),
        ((6, 3, 1), 2, "QuotaIssues", 0),
        ((6, 3, 1), None, "SpamBlock", 0),
    ],
)
async def test_only_a_mailbox_that_was_full_for_days_is_left_alone(
    pool: Pool, days: tuple[float, ...], delivered: float | None, reason: str, suppressed: int
) -> None:
    await refused(pool, *days, delivered=delivered, reason=reason)

    assert await leave_full_mailboxes_alone(pool) == suppressed
    found = await pool.fetch("select key, reason, until between now() + '29 d' and now() + '31 d' from suppression")
    assert [tuple(row) for row in found] == [(ADDRESS, "mailbox_full", True)] * suppressed


async def test_who_was_released_or_left_alone_long_enough_counts_from_then_on(pool: Pool) -> None:
    await refused(pool, 40, 35, 34)
    first = await leave_full_mailboxes_alone(pool)
    again = await leave_full_mailboxes_alone(pool)
    await pool.execute("update suppression set until = now() - interval '1 d'")

    assert (first, again) == (1, 0)
    assert await leave_full_mailboxes_alone(pool) == 0
