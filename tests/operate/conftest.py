"""A small world on a connection, and the command line on its database."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from mtad.base.db import Connection, Pool
from mtad.cli.main import app
from tests.queue.world import World, new_world

Mtad = Callable[..., Any]


@pytest.fixture
async def conn(pool: Pool) -> AsyncIterator[Connection]:
    async with pool.acquire() as acquired:
        yield acquired


@pytest.fixture
async def world(pool: Pool, conn: Connection) -> World:
    return await new_world(pool, conn)


@pytest.fixture
def mtad(database_url: str, tmp_path: Path) -> Mtad:
    """Runs one command in a thread of its own, for commands have their own event loop."""
    config = tmp_path / "mtad.toml"
    start = f'domain = "example.com"\n[database]\nurl = "{database_url}"\n'
    config.write_text(start)

    async def run(*arguments: str, said: str | None = None, more: str = "") -> Any:
        def invoke() -> Any:
            if more:
                config.write_text(start + more)
            return CliRunner().invoke(app, list(arguments), input=said, env={"MTAD_CONFIG": str(config)})

        return await asyncio.to_thread(invoke)

    return run
