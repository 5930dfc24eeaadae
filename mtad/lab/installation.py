"""An installation in a folder of its own, driven through its own command line.

Every command is a process of `python -m mtad`, as an operator would start it, and its
answer is what it prints with --json. So the demo shows nothing that the product lacks.
"""

import asyncio
import contextlib
import fcntl
import json
import os
import shutil
import signal
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from mtad.base.config import Config, load_config
from mtad.base.errors import Problem

PREFIX = "mtad-demo-"

# Stream, programs and messages of the demo; the README shows them too.
FILES = Path(__file__).with_name("files")
MAILBOX_PAGE = FILES / "mailbox.html"
SHOP = "https://fernweh.example/"

_CONFIG = """\
# Written by `mtad demo`: everything on loopback, and every destination is the sink.
domain = "{domain}"

[mta]
workers = 2
drain = "5s"

[tracker]
url = "http://{tracker}"
listen = "{tracker}"

[[dkim]]
domain = "{domain}"
selector = "{selector}"
key = "{key}"

[shape]
connection_limit = 6
max_message_rate = "{rate}/s"
retry_interval = "2s"
max_retry_interval = "4s"
in_doubt_interval = "3s"
max_age = "10m"
"""

_ROUTE = """
[[route]]
domain = "{domain}"
host = "127.0.0.1"
port = {port}
"""


class Installation:
    """A folder with mtad.toml, keys, database and log, and the processes that work in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config_path = folder / "mtad.toml"
        self.log_path = folder / "mtad.log"
        self._daemon: asyncio.subprocess.Process | None = None
        self._log: IO[bytes] | None = None

    @property
    def config(self) -> Config:
        return load_config(self.config_path)

    def route(self, ports: Mapping[str, int], *, tracker_port: int, rate: int) -> None:
        """Rewrite the configuration that `init` wrote: domains to ports of the sink, `rate` a second to each."""
        made = self.config
        (dkim,) = made.dkim
        text = _CONFIG.format(
            domain=made.domain,
            selector=dkim.selector,
            key=dkim.key,
            tracker=f"127.0.0.1:{tracker_port}",
            rate=rate,
        )
        text += "".join(_ROUTE.format(domain=domain, port=port) for domain, port in ports.items())
        self.config_path.write_text(text, encoding="utf-8")

    def copy_files(self, shop: str) -> None:
        """Copy stream, programs and messages; links to the shop lead to the URL `shop` instead."""
        for path in sorted(FILES.rglob("*")):
            target = self.folder / path.relative_to(FILES)
            if path.is_dir():
                target.mkdir(exist_ok=True)
            elif path != MAILBOX_PAGE:
                text = path.read_text(encoding="utf-8")
                target.write_text(text.replace(SHOP, shop), encoding="utf-8")

    async def command(self, *arguments: str) -> Any:  # noqa: ANN401 - what a command prints is its own affair
        """Run one command to its end and return its JSON; Problem with its own words when it fails."""
        process = await asyncio.create_subprocess_exec(
            *self._program(), *arguments, "--json",
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            cwd=self.folder, env=self._environment(),
        )  # fmt: skip
        stdout, stderr = await process.communicate()
        if process.returncode:
            said = (stderr or stdout).decode(errors="replace").strip().splitlines()
            why = said[-1].removeprefix("mtad: ") if said else f"exit {process.returncode}"
            raise Problem(f"mtad {' '.join(arguments)}: {why}")
        return json.loads(stdout or b"null")

    async def start(self) -> None:
        """Start `mtad run`; its log goes to a file."""
        self._log = self.log_path.open("ab")
        self._daemon = await asyncio.create_subprocess_exec(
            *self._program(), "run",
            stdin=asyncio.subprocess.DEVNULL, stdout=self._log, stderr=self._log,
            cwd=self.folder, env=self._environment(),
            start_new_session=True,  # Ctrl-C is for us; we stop it in our own time
        )  # fmt: skip

    def require_running(self) -> None:
        """Problem with the last line of the log when `mtad run` has ended by itself."""
        if self._daemon is not None and self._daemon.returncode is not None:
            lines = self.log_path.read_text(encoding="utf-8", errors="replace").splitlines() or [""]
            raise Problem(f"mtad run ended with exit {self._daemon.returncode}: {lines[-1]} (see {self.log_path})")

    async def stop(self) -> int | None:
        """SIGTERM, and the exit code of `mtad run`; None when it does not run."""
        daemon, self._daemon = self._daemon, None
        if daemon is None:
            return None
        if daemon.returncode is None:
            # Not daemon.send_signal, which looks first whether it has ended: it would take
            # the exit code from under asyncio's own waiting.
            with contextlib.suppress(ProcessLookupError):
                os.kill(daemon.pid, signal.SIGTERM)
        code = await daemon.wait()
        if self._log:
            self._log.close()
        return code

    @staticmethod
    def _program() -> tuple[str, ...]:
        return (sys.executable, "-m", "mtad")

    def _environment(self) -> dict[str, str]:
        return {**os.environ, "MTAD_CONFIG": str(self.config_path), "PYTHONUNBUFFERED": "1"}


def demo_folder() -> tuple[Path, IO[bytes]]:
    """A fresh folder in the temporary one, and the lock that says it is in use.

    The folder stays when the demo is over, so that its database can be asked. The next
    demo takes away those of earlier ones that nobody uses any more.
    """
    root = Path(tempfile.gettempdir())
    for old in root.glob(f"{PREFIX}*"):
        if old.is_dir() and not old.is_symlink() and old.stat().st_uid == os.geteuid():
            with contextlib.suppress(OSError), (old / "lock").open("r+b") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(old, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=PREFIX))
    # Started by root, Postgres runs as `nobody`, who has to pass through here.
    folder.chmod(0o711)
    lock = (folder / "lock").open("w+b")
    fcntl.flock(lock, fcntl.LOCK_EX)
    return folder, lock


def free_port() -> int:
    """A port that nobody listens on now: the tracker's address stands in its configuration."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def fdatasync_ms(folder: Path) -> float:
    """The median time of one fdatasync of 4 KiB there; what every commit waits for."""
    page, times = os.urandom(4096), []
    with tempfile.NamedTemporaryFile(dir=folder) as file:
        for _ in range(50):
            file.write(page)
            file.flush()
            began = time.perf_counter()
            os.fdatasync(file.fileno())
            times.append(time.perf_counter() - began)
    return statistics.median(times) * 1000


def next_commands(place: Installation, *questions: str) -> list[str]:
    """Commands that ask this installation, as they can be typed here."""
    program = Path(sys.argv[0])
    if program.name != "mtad":
        typed = f"{sys.executable} -m mtad"
    elif found := shutil.which("mtad"):
        typed = "mtad" if Path(found).samefile(program) else os.path.relpath(program)
    else:
        typed = os.path.relpath(program)
    return [f"{typed} {question} -c {place.config_path}" for question in questions]
