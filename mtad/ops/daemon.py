"""`mtad run`: what must be there before the workers, in the order in which it can be refused.

One supervisor a state folder, the listening sockets, the database with its schema;
then the workers (mtad.ops.supervisor), and at the end all of it in reverse. A database
that is away keeps nobody from the pages that need none.
"""

import asyncio
import contextlib
import fcntl
import logging
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from mtad.base.again import until_it_works
from mtad.base.clock import Clock, SystemClock
from mtad.base.config import Config, load_config, seconds
from mtad.base.db import AWAY, open_pool, without_password
from mtad.base.endpoint import host_and_port
from mtad.base.errors import DatabaseAway, Unavailable
from mtad.base.migrate import migrate, require_schema
from mtad.ops.keeper import Keeper
from mtad.ops.keyfiles import require_keys
from mtad.ops.notify import Notifier
from mtad.ops.parent import DATABASE_VARIABLE
from mtad.ops.postgres import PATIENCE, RECOVERY, Postgres
from mtad.ops.sockets import inherited_listeners, open_listener
from mtad.ops.supervisor import Supervisor
from tracker.links import FOLDER, has_snapshot

log = logging.getLogger("mtad.supervisor")

# What a worker can do; a small host has workers that do all of it.
ROLES = ("mta", "tracker", "engine")

Work = Callable[[], Awaitable[None]]


def run_daemon(
    config: Config, config_path: Path, *, workers: int, roles: Sequence[str], command: Sequence[str] | None = None
) -> int:
    """Run until SIGTERM; the exit code. 0 workers: as configured, or one a core.

    `command` is for tests: what to start in place of ``python -m mtad.worker``.
    Raises ConfigError when a key is missing or no key, and Unavailable when a port,
    the state folder or the database cannot be had.
    """
    require_keys(config)
    notifier = Notifier()
    inherited = inherited_listeners()
    signal.signal(signal.SIGTERM, _leave)  # until the supervisor takes over
    slots = workers or config.mta.workers or len(os.sched_getaffinity(0))
    _require_free(config.metrics.listen, slots)
    command = command or [sys.executable, "-m", "mtad.worker", f"--config={config_path}", f"--roles={','.join(roles)}"]
    clock = SystemClock()
    with (
        _alone(config.state),
        _listeners(config, roles, inherited) as sockets,
        _database(config, clock) as (url, beside),
    ):
        supervisor = Supervisor(
            command,
            slots=slots,
            sockets=sockets,
            environment={DATABASE_VARIABLE: url},
            drain=seconds(config.mta.drain),
            clock=clock,
            notifier=notifier,
            require_good=lambda: require_keys(load_config(config_path)),
            beside=beside,
        )
        return asyncio.run(supervisor.run())


def is_running(state: Path) -> bool:
    """Whether some `mtad run` works in this state folder now."""
    try:
        with (state / "run.lock").open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # nobody ever ran there, or it is no place to run in
        return False
    return False


@contextlib.contextmanager
def _alone(state: Path) -> Iterator[None]:
    """Two supervisors in one state folder would fight over slots and journals."""
    try:
        state.mkdir(parents=True, exist_ok=True)
        lock = (state / "run.lock").open("ab")
    except OSError as error:
        raise Unavailable(f"state_dir: {state}: {error.strerror}") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Unavailable(f"state_dir: {state}: another mtad run works there") from None
        yield


def _require_free(metrics: str, slots: int) -> None:
    """Each worker opens its own port for metrics: one that is taken is one line now, not a worker that never lives."""
    if metrics:
        host, port = host_and_port(metrics)
        for slot in range(slots):
            open_listener("metrics.listen", f"{host}:{port + slot}").close()


@contextlib.contextmanager
def _listeners(
    config: Config, roles: Sequence[str], inherited: dict[str, socket.socket]
) -> Iterator[dict[str, socket.socket]]:
    """The sockets that the roles need, by name: systemd's where it opened one, else our own."""
    with contextlib.ExitStack() as stack:
        sockets: dict[str, socket.socket] = {}
        if "tracker" in roles:
            found = inherited.get("tracker") or open_listener("tracker.listen", config.tracker.listen)
            sockets["tracker"] = stack.enter_context(found)
        yield sockets


@contextlib.contextmanager
def _database(config: Config, clock: Clock) -> Iterator[tuple[str, list[Work]]]:
    """The database's URL with the right schema behind it, and what looks after it beside the workers.

    When it is away, and there are links that people may click, it is left to the workers to wait for it.
    """
    links = has_snapshot(config.state / FOLDER)
    own = Postgres(config.state / "postgres") if config.database.url == "embedded" else None
    with own.shared() if own else contextlib.nullcontext(config.database.url) as url:
        beside: list[Work] = [Keeper(own, clock).run] if own else []
        try:
            if own:
                own.start(PATIENCE if links else RECOVERY)
            asyncio.run(_prepare(url, embedded=own is not None))
        except DatabaseAway as away:
            if not links:
                raise
            log.warning("recipients are served without the database", extra={"why": str(away)})
            if own:
                beside.append(partial(_migrate_later, own, url, clock))
        yield url, beside


async def _prepare(url: str, *, embedded: bool) -> None:
    """Migrate our database, look at another's schema. DatabaseAway when it cannot be asked."""
    try:
        async with asyncio.timeout(PATIENCE):
            pool = await open_pool(url, most=1, name="mtad supervisor")
    except TimeoutError:
        raise DatabaseAway(f"database {without_password(url)}: no answer within {PATIENCE} s") from None
    try:
        if embedded:
            await migrate(pool)
        else:
            await require_schema(pool)
    except AWAY as error:
        raise DatabaseAway(f"database {without_password(url)}: {error!r}") from error
    finally:
        await pool.close()


async def _migrate_later(own: Postgres, url: str, clock: Clock) -> None:
    """Migrate our database as soon as its server is there, and make it if need be; workers wait for that."""

    async def migrated() -> None:
        await asyncio.to_thread(own.make_database)
        await _prepare(url, embedded=True)

    await until_it_works(migrated, clock, log, "the database is not migrated yet")


def _leave(number: int, _frame: object) -> None:
    raise SystemExit(128 + number)
