"""Who is forgotten, and who never."""

import secrets
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from engine.policy import parse_stream
from mtad.audience.forgetting import forget
from mtad.base.config import Config
from mtad.base.db import Pool
from tests.rows import Rows

NOW = datetime.now(UTC)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "suppression.key").write_text(secrets.token_hex(32))
    return Config(domain="example.com", folder=tmp_path)


async def test_who_left_or_fell_silent_long_ago_on_every_stream_is_erased_and_nobody_else(
    pool: Pool, config: Config
) -> None:
    async with pool.acquire() as conn:
        rows = Rows(conn)
        program = await rows.program()
        other = await rows.stream("other")
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
            contact = await rows.contact(f"{name.replace(' ', '.')}@x.test", subscribed=status)
            contacts[name] = contact
            if state:
                await rows.engagement(program, contact, state)
            heard = NOW - timedelta(days=days)
            await conn.execute("update subscription set changed = $2 where contact_id = $1", contact, heard)
            await conn.execute(
                "update engagement set last_sign = $2, first_sent = $2 where contact_id = $1", contact, heard
            )
        await conn.execute(
            "insert into subscription select $1, contact_id, 'unsubscribed', basis, source, null, null, null, null,"
            " changed, changed_by from subscription where contact_id = $2", other, contacts["elsewhere"],
        )  # fmt: skip
        await rows.queued(program, contacts["queued"], await rows.enrol(program, contacts["queued"]))
        await rows.entry(program, contacts["on the way"])

    assert await forget(pool, config) == 0, "off by default"
    raw = {"name": "sales", "from": "a@example.com", "tracking": "full", "forget_after": "400d"}
    await pool.execute(
        "update stream_version set definition = $2 where stream_id = $1", program.stream, parse_stream(raw).to_json()
    )

    assert [await forget(pool, config) for _ in range(2)] == [2, 0]
    gone = [row[0] for row in await pool.fetch("select id from contact where erased order by id")]
    assert gone == [contacts["left"], contacts["resting"]]
    assert len((config.state / "erased.hashes").read_text().splitlines()) == 2
    (config.path(config.privacy.suppression_key)).unlink()
    assert await forget(pool, config) == 0
