"""What is heard late, or not at all, and who asked for a break: nobody is called silent over it."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from engine import permission
from engine.service import retell
from mtad.base.db import Connection, in_transaction
from mtad.base.ids import uuid7
from tests.programs.test_intake import campaign
from tests.programs.theatre import EXAMPLES, Theatre

WINBACK = EXAMPLES / "winback.toml"


def series(tmp_path: Path) -> Path:
    """Two mails, three days apart, and three days for an answer; who is silent becomes Inactive."""
    campaign(tmp_path)  # puts the messages there
    path = tmp_path / "greeting.toml"
    path.write_text(
        'name = "greeting"\nkind = "series"\nstream = "courses"\n[[step]]\nmessage = "welcome-1"\n'
        '[[step]]\nwait = "3d"\nmessage = "welcome-2"\n'
    )
    return path


async def in_greeting(theatre: Theatre, tmp_path: Path) -> int:
    """Ann has both mails, and has not answered so far."""
    await theatre.apply(series(tmp_path))
    contact = (await theatre.people("ann"))["ann"]
    await theatre.start("greeting")
    await theatre.round()
    await theatre.days(3)
    assert theatre.sent == [("ann", "welcome-1"), ("ann", "welcome-2")]
    return contact


async def standing(theatre: Theatre) -> list[tuple[str, str, str]]:
    """The log without what was taken back."""
    rows = await theatre.conn.fetch(
        "select from_state::text, to_state::text, why from transition t where takes_back is null"
        " and not exists (select from transition b where b.takes_back = t.id) order by at, id"
    )
    return [(row[0], row[1], row[2]) for row in rows]


async def test_a_click_from_before_the_pause_takes_it_back_until_it_was_a_scanner(
    theatre: Theatre, tmp_path: Path
) -> None:
    await theatre.apply(WINBACK)
    await theatre.start("winback")
    contact = await in_greeting(theatre, tmp_path)
    await theatre.days(3)
    assert await standing(theatre) == [("active", "cooling", "silent")]
    await theatre.days(30)
    assert await theatre.state("ann") == "trying"
    sent = [("ann", "welcome-1"), ("ann", "welcome-2"), ("ann", "winback-1")]
    assert theatre.sent == sent
    fence = "select version from gate where contact_id = $1"
    before = await theatre.conn.fetchval(fence, contact)

    await theatre.reads("ann", "welcome-2", link=1, after=timedelta(hours=1))

    assert await theatre.state("ann") == "active"
    assert await standing(theatre) == []
    assert await theatre.entries("winback") == {"ann": "came_back"}
    assert await theatre.conn.fetchval(fence, contact) > before
    await theatre.days(20)
    assert theatre.sent == sent

    async def judged_anew(conn: Connection) -> None:
        await conn.execute("update event set class = 'scanner' where kind = 'click'")
        await retell(conn, [(theatre.rows.streams["sales"], contact)])

    await in_transaction(theatre.pool, judged_anew)

    assert await theatre.state("ann") == "cooling"
    assert await standing(theatre) == [
        ("active", "cooling", "silent"),
        ("cooling", "trying", "reactivation"),
        ("trying", "cooling", "stopped"),
    ]
    assert theatre.sent == sent
    await theatre.audit("greeting")
    await theatre.audit("winback")


async def test_a_way_ends_only_when_it_was_listened_to_for_its_last_wait(theatre: Theatre, tmp_path: Path) -> None:
    await in_greeting(theatre, tmp_path)
    await theatre.days(2.9)
    await theatre.nobody_listened()

    await theatre.days(0.2)
    assert (await theatre.state("ann"), await theatre.entries("greeting")) == ("active", {"ann": None})

    await theatre.days(1)
    assert (await theatre.state("ann"), await theatre.entries("greeting")) == ("cooling", {"ann": "silent"})


def pausing(theatre: Theatre, contact: int, days: int) -> Callable[[Connection], Awaitable[bool]]:
    now = datetime.now(UTC)
    event = uuid7(int(now.timestamp() * 1000), bytes(10))

    async def work(conn: Connection) -> bool:
        return await permission.take_break(
            conn, contact, theatre.rows.streams["sales"], event_id=event, at=now, until=now + timedelta(days=days),
            how="page",
        )  # fmt: skip

    return work


@pytest.mark.parametrize("undone", [False, True])
async def test_waits_stand_still_during_a_break(theatre: Theatre, tmp_path: Path, undone: bool) -> None:
    contact = await in_greeting(theatre, tmp_path)
    assert await in_transaction(theatre.pool, pausing(theatre, contact, 30))
    if undone:
        now = datetime.now(UTC)
        event = uuid7(int(now.timestamp() * 1000), b"b" * 10)
        assert await in_transaction(
            theatre.pool,
            lambda conn: permission.undo(
                conn, contact, theatre.rows.streams["sales"], event_id=event, at=now, how="page"
            ),
        )

    await theatre.days(3.1)
    assert await theatre.entries("greeting") == {"ann": "done" if undone else None}

    await theatre.days(30)
    assert await theatre.entries("greeting") == {"ann": "done" if undone else "silent"}


async def test_whose_break_ends_is_let_in_where_a_program_is_open(theatre: Theatre, tmp_path: Path) -> None:
    await theatre.apply(campaign(tmp_path, 'enrol = "current_and_future"'))
    await theatre.start("letter")
    contact = (await theatre.people("ann"))["ann"]
    assert await in_transaction(theatre.pool, pausing(theatre, contact, 10))

    await theatre.days(1)
    assert theatre.sent == []

    await theatre.days(9.1)
    assert theatre.sent == [("ann", "welcome-1")]
