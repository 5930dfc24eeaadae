"""Mailboxes that stay full: left alone for a month, after several refusals over days.

One refusal says little, for mailboxes are emptied. What counts stands in the ledger and
nowhere else: each mail that ended with QuotaIssues, since the last that was delivered.
"""

from datetime import timedelta

from engine.service import Suppress, suppress
from mtad.base.db import Connection, Pool, in_transaction
from mtad.base.sqlfiles import queries

SQL = queries("outcome")

# So many mails, the last so many days after the first; each was tried for as long as it lived.
REFUSALS, DAYS = 3, 5

LEFT_ALONE = timedelta(days=30)


async def leave_full_mailboxes_alone(pool: Pool) -> int:
    """Suppress them, up to 500 at a time; how many. What an operator released counts from then on."""

    async def work(conn: Connection) -> int:
        rows = await conn.fetch(SQL["full_mailboxes"], REFUSALS, DAYS)
        until = await conn.fetchval("select now()") + LEFT_ALONE
        full = [
            Suppress(address, "all", "mailbox_full", f"{times} mails refused since {since:%Y-%m-%d}", until)
            for address, times, since in rows
        ]
        await suppress(conn, full)
        return len(full)

    return await in_transaction(pool, work)
