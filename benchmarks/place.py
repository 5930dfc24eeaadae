"""An installation in a temporary folder, for one run of a benchmark: everything on loopback, all of it gone afterwards.

Commands are processes of `python -m mtad`, as an operator starts them, and fsync is on
as always. Only limits that belong to receivers are lifted: a site takes any rate.
"""

import asyncio
import contextlib
import os
import re
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Literal

import aiohttp

from benchmarks.mailing import DOMAIN
from mtad.base.clock import SystemClock
from mtad.base.db import Pool, open_pool
from mtad.base.errors import Problem
from mtad.lab.installation import Installation, free_port
from mtad.ops.locator import Locator
from mtad.ops.postgres import Postgres
from mtad.ops.sites import resolve_domains
from mtad.wire.resolver import Resolver

# Longer than [mta] drain.
_STOP_SECONDS = 30.0

_STARTED = re.compile(r'msg="worker started".* pid=(\d+)')

_STATEMENTS = {"shared_preload_libraries": "'pg_stat_statements'", "pg_stat_statements.track_planning": "off"}

_SPREAD = """
with sites as (
  insert into site (name, hosts) select name, array[($1::text[])[1 + id % cardinality($1::text[])]] from domain
  returning id, name
)
update domain set site_id = sites.id, resolve_at = now() + interval '1 h' from sites where domain.name = sites.name
"""

_CONFIG = """\
domain = "{domain}"
[mta]
workers = {workers}
drain = "5s"
[tracker]
url = "http://{tracker}"
listen = "{tracker}"
[metrics]
listen = "127.0.0.1:{metrics}"
[shape]
connection_limit = {sessions}
max_message_rate = "1000000/s"
"""

_DKIM = """\
[[dkim]]
domain = "{domain}"
selector = "{selector}"
key = "{key}"
"""

_ROUTE = """\
[[route]]
domain = "{domain}"
host = "{host}"
port = {port}
"""


class Place:
    """A folder, its Postgres, and `mtad run` when it was started."""

    def __init__(self, installation: Installation, postgres: Postgres, workers: int) -> None:
        self.installation = installation
        self.postgres = postgres
        self.workers = workers
        self.metrics_port = 0
        self.daemon: asyncio.subprocess.Process | None = None
        self._log: IO[bytes] | None = None

    @property
    def folder(self) -> Path:
        return self.installation.folder

    @property
    def postmaster(self) -> int:
        """The pid of Postgres' first process."""
        return int((self.postgres.data / "postmaster.pid").read_text().split("\n", 1)[0])

    def configure(self, routes: Sequence[tuple[str, tuple[str, int]]], *, sessions: int, database: str = "") -> None:
        """Rewrite what `init` wrote: each domain, or `*`, to its address, `sessions` at most to each.

        With the URL of a `database` its server is one that `mtad run` neither starts nor stops.
        """
        self.metrics_port = _free_row(self.workers)
        made = self.installation.config
        text = _CONFIG.format(
            domain=DOMAIN, workers=self.workers, tracker=f"127.0.0.1:{free_port()}", metrics=self.metrics_port,
            sessions=sessions,
        )  # fmt: skip
        text += "".join(_DKIM.format(domain=DOMAIN, selector=one.selector, key=one.key) for one in made.dkim)
        text += "".join(_ROUTE.format(domain=domain, host=host, port=port) for domain, (host, port) in routes)
        if database:
            text += f'[database]\nurl = "{database}"\n'
        self.installation.config_path.write_text(text, encoding="utf-8")

    @contextlib.asynccontextmanager
    async def connected(self, most: int = 2) -> AsyncIterator[Pool]:
        """Connections to the database inside the block."""
        pool = await open_pool(self.postgres.url, most=most, name="benchmark", least=0)
        try:
            yield pool
        finally:
            pool.terminate()

    async def resolve(self, pool: Pool) -> None:
        """Label all domains with their sites, which `mtad run` would do in its first seconds."""
        clock = SystemClock()
        locator = Locator.from_config(self.installation.config, Resolver(clock), clock)
        while await resolve_domains(pool, locator):
            pass

    async def spread(self, pool: Pool, addresses: Sequence[tuple[str, int]]) -> None:
        """Give each domain a site of its own, and all sites these addresses in turn, as so many small servers would."""
        await pool.execute(_SPREAD, [f"0 {host}:{port}" for host, port in addresses])

    async def start(self, lacks: Literal["", "signature", "fence"] = "") -> None:
        """Start `mtad run`, or what stands in for it when it is to lack something (benchmarks/lacking.py)."""
        config = ["--config", str(self.installation.config_path)]
        program = ["benchmarks.lacking", lacks, *config] if lacks else ["mtad", "run", *config]
        self._log = self.installation.log_path.open("ab")
        self.daemon = await asyncio.create_subprocess_exec(
            sys.executable, "-m", *program, stdin=asyncio.subprocess.DEVNULL, stdout=self._log, stderr=self._log,
            start_new_session=True,  # Ctrl-C is for us; we stop it in our own time
        )  # fmt: skip

    def started(self) -> list[int]:
        """The pids of the workers that have begun to work; Problem when `mtad run` has ended."""
        log = self.installation.log_path.read_text(encoding="utf-8", errors="replace")
        if self.daemon is not None and self.daemon.returncode is not None:
            raise Problem(f"mtad run ended with exit {self.daemon.returncode}: {(log.splitlines() or [''])[-1]}")
        return [int(pid) for pid in _STARTED.findall(log)]

    def check(self) -> None:
        """Problem when a worker has died. It quotes the log, which will be gone with the folder."""
        if len(self.started()) > self.workers:
            log = self.installation.log_path.read_text(encoding="utf-8", errors="replace")
            said = [line for line in log.splitlines() if " level=info " not in line]
            raise Problem("\n".join(["a worker died:", *said[-20:]]))

    async def metrics(self, http: aiohttp.ClientSession) -> list[str]:
        """The /metrics pages of all workers."""
        pages = []
        for slot in range(self.workers):
            async with http.get(f"http://127.0.0.1:{self.metrics_port + slot}/metrics") as answer:
                pages.append(await answer.text())
        return pages

    async def stop(self) -> None:
        """SIGTERM, and SIGKILL to the whole session when that does not help in time."""
        daemon, self.daemon = self.daemon, None
        if daemon is not None and daemon.returncode is None:
            daemon.send_signal(signal.SIGTERM)
            try:
                await asyncio.wait_for(daemon.wait(), _STOP_SECONDS)
            except TimeoutError:
                os.killpg(daemon.pid, signal.SIGKILL)
                await daemon.wait()
        if self._log is not None:
            self._log.close()


@contextlib.asynccontextmanager
async def installed(
    workers: int, *, statements: bool = False, dkim: str = "rsa2048", settings: Mapping[str, str] = {}
) -> AsyncIterator[Place]:
    """A fresh installation with an empty database that runs inside the block.

    `statements` loads pg_stat_statements; `dkim` are the keys that `mtad init` makes; `settings` are Postgres' own.
    """
    with tempfile.TemporaryDirectory(prefix="mtad-bench-", ignore_cleanup_errors=True) as name:
        # Started by root, Postgres runs as `nobody`, who has to pass through here.
        os.chmod(name, 0o711)  # noqa: PTH101 - ruff takes a Path's for a wait
        installation = Installation(Path(name))
        await installation.command("init", "--domain", DOMAIN, "--dir", name, "--dkim", dkim)
        postgres = Postgres(
            installation.config.state / "postgres", settings={**settings, **(_STATEMENTS if statements else {})}
        )
        with postgres.using():
            await installation.command("migrate")
            place = Place(installation, postgres, workers)
            try:
                yield place
            finally:
                await place.stop()


def _free_row(length: int) -> int:
    """The first of so many ports in a row that nobody listens on now."""
    while True:
        first = free_port()
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError, OverflowError):
            for port in range(first, first + length):
                probe = stack.enter_context(socket.socket())
                probe.bind(("127.0.0.1", port))
            return first
