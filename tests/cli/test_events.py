"""`mtad events reclassify`, with the operator's file and the engine's own replays."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from engine.policy import Points, Policy
from engine.rows import set_bases
from engine.service import fold_signs
from mtad.base.db import Pool, in_transaction
from mtad.base.errors import InputError
from mtad.cli.main import app
from tests.engine.world import World, definition
from tests.tracker.made import hit
from tracker import store
from tracker.service import ripen

NOW = datetime.now(UTC)
CLICKED = NOW - timedelta(hours=1)


@pytest.fixture
async def people(pool: Pool) -> list[tuple[int, int]]:
    """Two who clicked an hour ago, on a stream; nothing older than the row of the second changes it any more."""
    async with pool.acquire() as conn:
        world = World(pool, conn)
        stream = await world.stream(policy=Policy(points=Points(click=10)))
        program = await world.program(stream, definition())
        keys = [(stream, await world.contact(f"{n}@example.com", stream)) for n in range(2)]
        for key in keys:
            await world.engagement(*key, since=NOW - timedelta(days=2), round_from=NOW - timedelta(days=2))
        jobs = [await world.mailed(program, contact, at=NOW - timedelta(hours=2)) for _, contact in keys]
        clicks = [hit(at=CLICKED, job=job, network="198.51.100.0/24") for job in jobs]
        await store.ingest(conn, clicks)
    assert await ripen(pool, fold_signs) == 2
    await in_transaction(pool, lambda conn: set_bases(conn, keys[1:]))
    return keys


async def reclassify(config: Path, *arguments: str) -> Result:
    """In a thread, for commands have an event loop of their own."""
    command = ["events", "reclassify", *arguments, "--config", str(config)]
    return await asyncio.to_thread(CliRunner().invoke, app, command)


async def scores(pool: Pool) -> list[int]:
    return [row[0] for row in await pool.fetch("select score from engagement order by contact_id")]


async def test_a_gateway_that_the_operator_names_later_loses_what_it_earned(
    pool: Pool, database_url: str, tmp_path: Path, people: list[tuple[int, int]]
) -> None:
    config, networks = tmp_path / "mtad.toml", tmp_path / "gateways.txt"
    networks.write_text("198.51.100.0/24 clicks Acme\n")
    config.write_text(
        f'domain = "example.com"\n[tracker]\nscanner_networks = "gateways.txt"\n[database]\nurl = "{database_url}"\n'
    )
    assert await scores(pool) == [10, 10]

    would = json.loads((await reclassify(config, "--dry-run", "--json")).stdout)
    assert (would["hits"], would["changed"], would["too_old"]) == (2, {"human → scanner": 2}, 1)
    assert await scores(pool) == [10, 10]
    assert json.loads((await reclassify(config, "--since", "30m", "--json")).stdout)["hits"] == 0

    said = (await reclassify(config)).stdout
    assert "2 hits, 2 changed; agents as of" in said
    assert "human → scanner" in said
    assert "1  of these are too old to change scores and states" in said
    assert await scores(pool) == [0, 10]

    networks.write_text("")
    assert "2  scanner → human" in (await reclassify(config)).stdout
    assert await scores(pool) == [10, 10]
    assert "0 hits" in (await reclassify(config, "--since", "10m")).stdout


async def test_a_time_that_is_none_is_named(tmp_path: Path) -> None:
    done = await reclassify(tmp_path / "mtad.toml", "--since", "soon")

    assert isinstance(done.exception, InputError)
    assert "--since: " in str(done.exception)
    assert "soon" in str(done.exception)
