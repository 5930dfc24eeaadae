"""Tests of faults run on a loop whose time passes only when nothing else happens; those with a database on uvloop."""

import asyncio
import ssl
from collections.abc import Callable, Mapping

import pytest
import uvloop

from mtad.lab.certificate import server_context
from tests.faults.loop import FakeTimeLoop


def pytest_asyncio_loop_factories(item: pytest.Item) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    if "pool" in getattr(item, "fixturenames", ()):
        return {"uvloop": uvloop.new_event_loop}
    return {"fake time": FakeTimeLoop}


@pytest.fixture(scope="session")
def tls(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    """A server's context."""
    return server_context(tmp_path_factory.mktemp("tls"))
