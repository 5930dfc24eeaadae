"""Nothing behind the tracker's routes ever fetches a URL, so nobody can have it ask for one."""

import ast
from pathlib import Path

import tracker.web

# What opens a connection of its own, in aiohttp, asyncio and the standard library.
_OPENERS = {
    "ClientSession", "TCPConnector", "create_connection", "open_connection", "urlopen", "HTTPConnection",
    "HTTPSConnection", "getaddrinfo", "sock_connect", "connect", "connect_ex", "start_tls",
}  # fmt: skip


def test_no_module_of_the_tracker_can_open_a_connection() -> None:
    found = {
        f"{path.name}: {name}"
        for path in Path(tracker.web.__file__).parent.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if (name := getattr(node, "attr", getattr(node, "id", getattr(node, "name", "")))) in _OPENERS
    }

    assert found == set()
