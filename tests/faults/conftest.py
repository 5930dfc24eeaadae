"""Tests of faults run on a loop whose time passes only when nothing else happens."""

import asyncio
import ssl
from collections.abc import Callable, Mapping

import pytest

from tests.faults.loop import FakeTimeLoop
from tests.wire.peer import server_context


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"fake time": FakeTimeLoop}


@pytest.fixture(scope="session")
def tls(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    """A server's context."""
    return server_context(tmp_path_factory.mktemp("tls"))
