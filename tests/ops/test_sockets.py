"""Listening, sd_listen_fds and sd_notify."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from mtad.base.errors import Unavailable
from mtad.ops.notify import Notifier
from mtad.ops.sockets import inherited_listeners, open_listener


@pytest.mark.parametrize(
    ("address", "why"),
    [("192.0.2.1:8025", "this machine does not have that address"), ("name.invalid:8025", "")],
)
def test_an_address_that_cannot_be_had_is_named_with_its_key(address: str, why: str) -> None:
    with pytest.raises(Unavailable, match=f"tracker.listen: cannot listen on {address}: .*{why}"):
        open_listener("tracker.listen", address)


def test_ipv6_is_an_address_like_any_other() -> None:
    if not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    with open_listener("tracker.listen", "[::1]:0") as sock:
        assert sock.getsockname()[0] == "::1"


INHERITING = """
import os, sys
os.dup2(int(sys.argv[1]), 3)  # where systemd puts its first
os.environ["LISTEN_PID"] = str(os.getpid())
from mtad.ops.sockets import inherited_listeners
found = inherited_listeners()
print({name: sock.getsockname()[1] for name, sock in found.items()}, [n for n in os.environ if n.startswith("LISTEN")])
"""


def test_sockets_that_systemd_opened_are_found_by_name() -> None:
    with socket.create_server(("127.0.0.1", 0)) as ours:
        done = subprocess.run(
            [sys.executable, "-c", INHERITING, str(ours.fileno())],
            env={**os.environ, "LISTEN_FDS": "1", "LISTEN_FDNAMES": "tracker"},
            pass_fds=[ours.fileno()], capture_output=True, text=True, check=True,
        )  # fmt: skip

        assert done.stdout == f"{{'tracker': {ours.getsockname()[1]}}} []\n"


def test_sockets_meant_for_another_process_are_left_alone() -> None:
    assert inherited_listeners({"LISTEN_PID": "1", "LISTEN_FDS": "1", "LISTEN_FDNAMES": "tracker"}) == {}
    assert inherited_listeners({}) == {}


def test_states_reach_systemd_and_its_variables_leave_the_environment(tmp_path: Path) -> None:
    environ = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "30000000", "HOME": "/"}
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(environ["NOTIFY_SOCKET"])
        notifier = Notifier(environ)
        notifier.tell("READY=1", "STATUS=2 workers")

        assert systemd.recv(100) == b"READY=1\nSTATUS=2 workers"
    assert notifier.watchdog_period == 15
    assert environ == {"HOME": "/"}


@pytest.mark.parametrize(
    "environ", [{}, {"NOTIFY_SOCKET": "/nowhere/at/all"}, {"WATCHDOG_USEC": "5", "WATCHDOG_PID": "1"}]
)
def test_without_systemd_nothing_happens(environ: dict[str, str]) -> None:
    notifier = Notifier(environ)
    notifier.tell("READY=1")

    assert notifier.watchdog_period == 0
