"""Mails through a Postfix with OpenDKIM: handed in over SMTP, signed, queued on disk, and delivered to the sink."""

import asyncio
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from benchmarks.children import prepared
from benchmarks.gauges import tree_cpu
from benchmarks.inject import Injected
from benchmarks.postfix import Postfix, Tuning, postfix
from benchmarks.sinks import Receiver
from mtad.base.errors import Problem

# How often the queue folders are looked at once everything has been handed in: the
# error of the clock, below a thousandth of a run.
_PERIOD = 0.01

# The log is written by a process of its own, a moment after the last delivery.
_LOG_SECONDS = 5.0


class Load(msgspec.Struct, frozen=True):
    """What is sent: the first `messages` of a file, with which key, to which domains' servers."""

    mails: Path
    messages: int
    key: Path
    domain: str
    selector: str
    routes: Mapping[str, tuple[str, int]]


class Relayed(msgspec.Struct, frozen=True):
    """Seconds from the first connection of the injector on, and of what they consist."""

    seconds: float  # until the queue was empty
    injection_seconds: float  # until the last message was taken
    delivery_seconds: float  # from there, or from the first look of the queue manager at a queue that held its mail
    cpu: Mapping[str, float | None]  # seconds of postfix, opendkim, injector, sink


async def relay(
    load: Load, receiver: Receiver, *, sessions: int, tuning: Tuning, holds: bool, parent: Path | None
) -> Relayed:
    """One run with a fresh instance in a temporary folder below `parent`; Problem unless each message was delivered.

    With `holds` nothing is delivered before the last message was taken.
    """
    with tempfile.TemporaryDirectory(prefix="mtad-bench-postfix-", dir=parent, ignore_cleanup_errors=True) as name:
        async with postfix(
            Path(name), load.key.read_bytes(), domain=load.domain, selector=load.selector, routes=load.routes,
            tuning=tuning, holds=holds,
        ) as instance:  # fmt: skip
            return await _run(instance, load, receiver, sessions, holds=holds)


async def _run(instance: Postfix, load: Load, receiver: Receiver, sessions: int, *, holds: bool) -> Relayed:
    command = [
        "benchmarks.inject", "--mails", str(load.mails), "--most", str(load.messages),
        "--port", str(instance.port), "--sessions", str(sessions),
    ]  # fmt: skip
    async with prepared([command]) as injector:
        used = _cpu(instance, receiver)
        (line,) = await injector.work()
    injected = msgspec.json.decode(line, type=Injected)
    began = injected.ended
    if holds:
        instance.release()
        await _until(lambda: instance.is_delivering() or instance.is_empty())
        began = time.monotonic()
    await _until(instance.is_empty)
    delivery = time.monotonic() - began
    cpu = {name: value - used[name] for name, value in _cpu(instance, receiver).items()}
    await _all_sent(instance, load.messages)
    injection = injected.ended - injected.began
    return Relayed(injection + delivery, injection, delivery, {**cpu, "injector": injected.cpu})


async def _until(condition: Callable[[], bool]) -> None:
    """Return when it holds, within _PERIOD."""
    while True:
        if condition():
            return
        await asyncio.sleep(_PERIOD)


def _cpu(instance: Postfix, receiver: Receiver) -> dict[str, float]:
    return {
        "postfix": tree_cpu(instance.master),
        "opendkim": tree_cpu(instance.opendkim),
        "sink": receiver.cpu() or 0.0,
    }


async def _all_sent(instance: Postfix, messages: int) -> None:
    """Return when the log has a delivery for each message; Problem when it has not."""
    last = time.monotonic() + _LOG_SECONDS
    while (sent := instance.sent()) < messages:
        if time.monotonic() > last:
            raise Problem(f"Postfix delivered {sent:,} of {messages:,} messages")
        await asyncio.sleep(_PERIOD)
