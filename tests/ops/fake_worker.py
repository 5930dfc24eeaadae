"""What the supervisor's tests start in place of a worker: `fake_worker.py MODE FOLDER --slot=N --parent-fd=FD …`.

It notes what happens to it in FOLDER, one file an event, named `event.slot.pid`.
"""

import contextlib
import os
import signal
import socket
import sys
from pathlib import Path

mode, folder = sys.argv[1], Path(sys.argv[2])
options = dict(argument.removeprefix("--").split("=", 1) for argument in sys.argv[3:])
slot = options["slot"]
parent = socket.socket(fileno=int(options["parent-fd"]))


def note(event: str) -> None:
    (folder / f"{event}.{slot}.{os.getpid()}").write_text(os.environ.get("MTAD_DATABASE", ""))


def drain(number: int, _frame: object) -> None:
    note("drained")
    sys.exit(0)


if mode == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
else:
    signal.signal(signal.SIGTERM, drain)
note("started")
if mode == "misconfigured":
    sys.exit(78)
if mode == "stillborn":
    sys.exit(3)
if mode == "listening":
    listener = socket.socket(fileno=int(options["tracker-fd"]))
    listener.setblocking(True)
    parent.send(b"R")
    connection, _ = listener.accept()
    connection.sendall(slot.encode())
    connection.close()
parent.send(b"R")
note("ready")
with contextlib.suppress(ConnectionResetError):  # it ended before it had read our byte
    parent.recv(1)
note("orphaned")
