"""Who is forgotten, and who never."""

import secrets
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest

from engine import forgetting as engine
from engine.policy import parse_stream
from mtad.audience import forgetting
from mtad.audience.forgetting import Forgetter
from mtad.base.config import Config
from mtad.base.db import Connection, Pool
from tests.rows import Program, Rows

NOW = datetime.now(UTC)
TERM = "400d"


@pytest.fixture
def config(tmp_path: Path) -> Config:
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "suppression.key").write_text(secrets.token_hex(32))
    return Config(domain="example.com", folder=tmp_path)


def ago(days: int) -> datetime:
    return NOW - timedelta(days=days)


async def forget_after(conn: Connection, program: Program, term: str) -> None:
    raw = {"name": "sales", "from": "a@example.com", "tracking": "full"} | ({"forget_after": term} if term else {})
    await conn.execute(
        "update stream_version set definition = $2 where stream_id = $1", program.stream, parse_stream(raw).to_json()
    )


async def tracker(conn: Connection, read_until: datetime) -> None:
    """One worker, whose journal has been read up to then."""
    await conn.execute("delete from worker")
    await conn.execute(
        "insert into worker (host, slot, pid, started, ingested_until) values ('a', 0, 1, $1, $1)", read_until
    )


async def left(rows: Rows, name: str, days: int = 401, status: str = "unsubscribed") -> int:
    contact = await rows.contact(f"{name.replace(' ', '.')}@x.test", subscribed=status)
    await rows.conn.execute("update subscription set changed = $2 where contact_id = $1", contact, ago(days))
    return contact


async def erased(pool: Pool) -> list[int]:
    return [row[0] for row in await pool.fetch("select id from contact where erased order by id")]


async def test_who_left_or_fell_silent_long_ago_on_every_stream_is_erased_and_nobody_else(
    pool: Pool, config: Config
) -> None:
    async with pool.acquire() as conn:
        rows = Rows(conn)
        program = await rows.program()
        other = await rows.stream("other")
        await tracker(conn, NOW)
        contacts: dict[str, int] = {}
        for name, status, state, days in (
            ("left", "unsubscribed", None, 401),
            ("resting", "subscribed", "resting", 401),
            ("left of late", "unsubscribed", None, 399),
            ("active", "subscribed", "active", 401),
            ("reads", "subscribed", "cooling", 399),
            ("never mailed", "subscribed", None, 401),
            ("elsewhere", "unsubscribed", None, 401),
            ("queued", "unsubscribed", None, 401),
            ("on the way", "unsubscribed", None, 401),
        ):
            contact = contacts[name] = await left(rows, name, days, status)
            if state:
                await rows.engagement(program, contact, state)
            await conn.execute(
                "update engagement set last_sign = $2, first_sent = $2 where contact_id = $1", contact, ago(days)
            )
        await conn.execute(
            "insert into subscription select $1, contact_id, 'unsubscribed', basis, source, null, null, null, null,"
            " changed, changed_by from subscription where contact_id = $2", other, contacts["elsewhere"],
        )  # fmt: skip
        await rows.queued(program, contacts["queued"], await rows.enrol(program, contacts["queued"]))
        await rows.entry(program, contacts["on the way"])
        forget = Forgetter(pool, config).run

        assert await forget() == 0, "off by default"
        await forget_after(conn, program, TERM)
        await tracker(conn, ago(2))
        assert await forget() == 0, "of the last two days not every journal was read"
        await tracker(conn, NOW)

        assert [await forget() for _ in range(2)] == [2, 0]
        assert await erased(pool) == [contacts["left"], contacts["resting"]]
        assert len((config.state / "erased.hashes").read_text().splitlines()) == 2
        await left(rows, "left, too")
    config.path(config.privacy.suppression_key).unlink()
    assert await forget() == 0


Doing = Callable[[Rows, Program, int], Awaitable[object]]


async def _mail(rows: Rows, program: Program, contact: int, days: int = 401, outcome: str = "delivered") -> int:
    return await rows.mail(program, contact, outcome, ended=ago(days))


async def _clicks(rows: Rows, program: Program, contact: int) -> None:
    await rows.conn.execute(
        "insert into pending (event_id, job_id, kind, link_id, at, method, agent)"
        " values ($1, $2, 'click', $3, now(), 'GET', '')",
        UUID(int=1), await _mail(rows, program, contact), program.links[0][0],
    )  # fmt: skip


async def _visits(rows: Rows, program: Program, contact: int) -> None:
    await rows.conn.execute(
        "insert into visit (event_id, job_id, clicked, at, url, agent) values ($1, $2, now(), now(), '', '')",
        UUID(int=1), await _mail(rows, program, contact),
    )  # fmt: skip


async def _signs_up(rows: Rows, program: Program, contact: int) -> None:
    await rows.conn.execute(
        "insert into proof (job_id, contact_id, stream_id, form_id, form_version, address, page, consent, asked,"
        " asked_agent, message_id, due) values ($1, $2, $3, 1, 1, '', '', '', now(), '', '', now())",
        await _mail(rows, program, contact), contact, program.stream,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("doing", "held"),
    [
        pytest.param(_signs_up, True, id="signs up anew, with the mail delivered"),
        pytest.param(lambda r, p, c: r.hit("bought", c, None, None, at=ago(399)), True, id="bought"),
        pytest.param(lambda r, p, c: r.hit("bought", c, None, None, at=ago(401)), False, id="bought before"),
        pytest.param(lambda r, p, c: _mail(r, p, c, 399), True, id="was mailed"),
        pytest.param(lambda r, p, c: _mail(r, p, c, 399, "in_doubt"), True, id="may have been mailed"),
        pytest.param(lambda r, p, c: _mail(r, p, c, 399, "skipped"), False, id="was left out"),
        pytest.param(_mail, False, id="was mailed before"),
        pytest.param(_clicks, True, id="clicks, not judged yet"),
        pytest.param(_visits, True, id="visits a page, not judged yet"),
        pytest.param(
            lambda r, p, c: r.conn.execute("update subscription set last_open = $1", ago(399)), True, id="read a mail"
        ),
        pytest.param(
            lambda r, p, c: r.conn.execute(
                "insert into reach values ($1, '', $2, true, $2, 3, true, '')", p.stream, ago(2)
            ),
            True,
            id="could not be heard for two days",
        ),
    ],
)
async def test_whoever_has_to_do_with_us_is_held_without_a_sign_on_a_stream(
    pool: Pool, config: Config, doing: Doing, held: bool
) -> None:
    async with pool.acquire() as conn:
        rows = Rows(conn)
        program = await rows.program()
        await forget_after(conn, program, TERM)
        await tracker(conn, NOW)
        contact = await left(rows, "left")
        await doing(rows, program, contact)

    assert await Forgetter(pool, config).run() == (not held)
    assert await erased(pool) == ([] if held else [contact])


async def test_a_run_is_bounded_and_the_next_goes_on_behind_it(
    pool: Pool, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "PAGE", 2)
    monkeypatch.setattr(forgetting, "MOST", 3)
    async with pool.acquire() as conn:
        rows = Rows(conn)
        await forget_after(conn, await rows.program(), TERM)
        await tracker(conn, NOW)
        contacts = [await left(rows, f"left {n}") for n in range(5)]
    forget = Forgetter(pool, config).run

    assert [await forget() for _ in range(3)] == [4, 1, 0]
    assert await erased(pool) == contacts
    assert len(set((config.state / "erased.hashes").read_text().splitlines())) == 5


async def test_who_is_heard_of_before_being_locked_is_neither_erased_nor_noted(
    pool: Pool, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with pool.acquire() as conn:
        rows = Rows(conn)
        await forget_after(conn, await rows.program(), TERM)
        await tracker(conn, NOW)
        back, gone = await left(rows, "back"), await left(rows, "gone")
    look = engine.forgettable

    async def forgettable(conn: Connection, after: int) -> tuple[int | None, list[str]]:
        found = await look(conn, after)
        await pool.execute("update subscription set changed = now() where contact_id = $1", back)
        return found

    monkeypatch.setattr(forgetting, "forgettable", forgettable)
    assert await Forgetter(pool, config).run() == 1
    assert await erased(pool) == [gone]
    assert len((config.state / "erased.hashes").read_text().splitlines()) == 1
