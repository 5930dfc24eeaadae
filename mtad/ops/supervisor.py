"""Keeps one worker process a slot alive until it is told to stop.

    spawn ─► running ─ exit ─► pause ─► spawn …       pause: none after a life of 5 s or
                │                                       more, else 0.2 s, doubling to 5 s
                ├─ exit 78 ──► all stop, we exit 78    a wrong configuration stays wrong
    SIGTERM, SIGINT ─► SIGTERM to all ─► all gone: exit 0
                          └─ drain + 5 s later ─► SIGKILL to the rest: exit 1
    SIGHUP ─► configuration good? ─► SIGTERM to all, and each is replaced when it left

A worker sees our end as the end of `--parent-fd` (mtad.ops.parent), so none outlives us.
"""

import asyncio
import contextlib
import logging
import os
import signal
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence

from mtad.base.clock import Clock
from mtad.base.errors import Problem
from mtad.ops.notify import Notifier
from mtad.ops.parent import READY

log = logging.getLogger("mtad.supervisor")

# EX_CONFIG: the exit code of a ConfigError.
BAD_CONFIGURATION = 78

# A worker that lived this long had no fault from birth: replace it at once.
LONG_LIFE = 5.0
FIRST_PAUSE = 0.2
LONGEST_PAUSE = 5.0

# What a worker may need beyond its drain time to close sessions and the database.
GRACE = 5.0


def pause_before_restart(lived: float, last: float) -> float:
    """Seconds to wait before a worker that lived `lived` seconds is replaced; `last` was the wait before it."""
    if lived >= LONG_LIFE:
        return 0.0
    return min(max(FIRST_PAUSE, last * 2), LONGEST_PAUSE)


class Supervisor:
    """Runs `command` once a slot, with ``--slot N --NAME-fd FD … --parent-fd FD`` added.

    `environment` is added to ours. `require_good` raises Problem when the workers
    could not start again with the configuration as it is now. `beside` are coroutines that run as long as the
    workers do; when one raises, all stop.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        slots: int,
        sockets: Mapping[str, socket.socket],
        environment: Mapping[str, str],
        drain: float,
        clock: Clock,
        notifier: Notifier,
        require_good: Callable[[], None],
        beside: Sequence[Callable[[], Awaitable[None]]] = (),
    ) -> None:
        self._command = list(command)
        self._slots = slots
        self._sockets = sockets
        self._environment = environment
        self._deadline = drain + GRACE
        self._clock = clock
        self._notifier = notifier
        self._require_good = require_good
        self._beside = beside
        self._stopping = asyncio.Event()
        self._running: dict[int, asyncio.subprocess.Process] = {}
        self._ready: set[int] = set()
        self._told_ready = False
        self._exit_code = 0

    async def run(self) -> int:
        """Supervise until a signal or a wrong configuration ends it; the exit code."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        loop.add_signal_handler(signal.SIGHUP, self.reload)
        try:
            async with asyncio.TaskGroup() as group:
                others = [group.create_task(self._ping_watchdog()), group.create_task(self._enforce_deadline())]
                others += [group.create_task(_forever(work)) for work in self._beside]
                try:
                    async with asyncio.TaskGroup() as slots:
                        for slot in range(self._slots):
                            slots.create_task(self._keep(slot))
                finally:
                    for task in others:
                        task.cancel()
        finally:
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                loop.remove_signal_handler(number)
        log.info("stopped", extra={"exit": self._exit_code})
        return self._exit_code

    def stop(self) -> None:
        """Ask every worker to drain and leave; idempotent."""
        if not self._stopping.is_set():
            log.info("stopping", extra={"workers": len(self._running), "deadline_s": self._deadline})
            self._notifier.tell("STOPPING=1")
            self._stopping.set()
            self._forward(signal.SIGTERM)

    def reload(self) -> None:
        """Have every worker drain and a new one, that reads the configuration anew, take its slot."""
        try:
            self._require_good()
        except Problem as problem:
            log.error("not reloaded", extra={"why": str(problem)})  # noqa: TRY400 - one line is enough
            return
        log.info("reloading", extra={"workers": len(self._running)})
        self._forward(signal.SIGTERM)

    async def _keep(self, slot: int) -> None:
        """Have a worker in this slot until we stop."""
        pause = 0.0
        while not self._stopping.is_set():
            born = self._clock.monotonic()
            code = await self._one_life(slot)
            if self._stopping.is_set():
                if code:
                    log.warning("worker did not leave cleanly", extra={"worker_slot": slot, "exit": code})
                return
            if code == BAD_CONFIGURATION:
                self._exit_code = BAD_CONFIGURATION
                self.stop()
                return
            pause = pause_before_restart(self._clock.monotonic() - born, pause)
            level = logging.ERROR if code else logging.INFO
            log.log(level, "worker ended, replacing it", extra={"worker_slot": slot, "exit": code, "pause_s": pause})
            await self._pause(pause)

    async def _one_life(self, slot: int) -> int:
        """Start a worker and wait for its end; its exit code, negative for a signal."""
        ours, theirs = socket.socketpair()
        with ours:
            ours.setblocking(False)
            with theirs:
                handed = {**self._sockets, "parent": theirs}
                arguments = [f"--slot={slot}", *(f"--{name}-fd={sock.fileno()}" for name, sock in handed.items())]
                worker = await asyncio.create_subprocess_exec(
                    *self._command,
                    *arguments,
                    stdin=asyncio.subprocess.DEVNULL,
                    env={**os.environ, **self._environment},
                    pass_fds=[sock.fileno() for sock in handed.values()],
                    # A group of its own: Ctrl-C reaches us alone, and workers by us.
                    process_group=0,
                )
            self._running[slot] = worker
            if self._stopping.is_set():  # while it was being started
                worker.terminate()
            hearing = asyncio.create_task(self._hear(slot, ours))
            try:
                return await worker.wait()
            except asyncio.CancelledError:  # something of ours failed: leave no worker behind
                with contextlib.suppress(ProcessLookupError):
                    worker.kill()
                await worker.wait()
                raise
            finally:
                hearing.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await hearing
                self._ready.discard(slot)
                del self._running[slot]

    async def _hear(self, slot: int, line: socket.socket) -> None:
        """Note that a worker is ready; with the last of them so are we."""
        if await asyncio.get_running_loop().sock_recv(line, 1) != READY:
            return
        self._ready.add(slot)
        if len(self._ready) == self._slots and not self._told_ready:
            self._told_ready = True
            self._notifier.tell("READY=1", f"STATUS={self._slots} workers")
            log.info("ready", extra={"workers": self._slots})

    async def _pause(self, seconds: float) -> None:
        """Wait, but not when we are told to stop."""
        stopping = asyncio.ensure_future(self._stopping.wait())
        waiting = asyncio.ensure_future(self._clock.sleep(seconds))
        await asyncio.wait({stopping, waiting}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        waiting.cancel()

    async def _enforce_deadline(self) -> None:
        """Kill what has not left in time."""
        await self._stopping.wait()
        await self._clock.sleep(self._deadline)
        for slot, worker in self._running.items():
            log.error("worker did not stop in time, killing it", extra={"worker_slot": slot})
            self._exit_code = self._exit_code or 1
            worker.kill()

    async def _ping_watchdog(self) -> None:
        """Tell systemd that this loop turns, and that workers may wait for a database for as long as it does."""
        period = self._notifier.watchdog_period
        waits = f"EXTEND_TIMEOUT_USEC={int(2e6 * period)}"
        while period:
            starting = not (self._told_ready or self._stopping.is_set())
            self._notifier.tell("WATCHDOG=1", *([waits] if starting else []))
            await self._clock.sleep(period)

    def _forward(self, number: signal.Signals) -> None:
        for worker in self._running.values():
            with contextlib.suppress(ProcessLookupError):
                worker.send_signal(number)


async def _forever(work: Callable[[], Awaitable[None]]) -> None:
    await work()
