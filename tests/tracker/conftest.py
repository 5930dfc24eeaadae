"""A tracker on loopback, with nothing real behind it."""

from collections.abc import AsyncIterator

import aiohttp
import pytest

from mtad.base.clock import SystemClock
from tests.tracker.made import BROWSER, KEYS
from tests.tracker.outside import Outside, served
from tracker.web import make_app


@pytest.fixture
async def outside() -> AsyncIterator[Outside]:
    made = Outside()
    app = make_app(
        keys=KEYS,
        links=made,
        record=made.record,
        unsubscribe=made.unsubscribe,
        trusted_proxies=["127.0.0.0/8"],
        ready=lambda: made.ready,
        clock=SystemClock(),
    )
    async with served(app) as made.base:
        yield made


@pytest.fixture
async def http(outside: Outside) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(outside.base, headers={"User-Agent": BROWSER}) as session:
        yield session
