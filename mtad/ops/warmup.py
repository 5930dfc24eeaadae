"""`mtad warmup`: how far sources that are being warmed up have come with each provider."""

from datetime import date

import msgspec

from mtad.base.config import Config
from mtad.base.db import Connection
from mtad.base.source import OTHER, Warmup
from mtad.queue import warmup
from mtad.queue.warmup import WarmupDay
from mtad.source.warmup import next_step, plan_for


class Progress(msgspec.Struct, frozen=True):
    """One source with one provider, today or on its last day of sending."""

    source: str
    provider: str
    day: date | None  # None: it has not sent yet
    step: int  # of the plan, from 1
    steps: int
    allowed: int | None  # mails; None: the plan is over
    used: int  # sent, or in the hands of workers
    refused: int  # because of us
    complaints: int  # about the day before
    held: str  # why the plan did not go on; '' where it did


async def progress(conn: Connection, config: Config) -> list[Progress]:
    """By source, by provider; a source that has not sent yet is there once, with what it may send first."""
    known: dict[str, list[WarmupDay]] = {}
    for day in await warmup.days(conn):
        known.setdefault(day.source, []).append(day)
    rows: list[Progress] = []
    for source in config.source:
        if source.warmup is None:
            continue
        rows += [_seen(source.warmup, day) for day in known.get(source.name, ())] or [_new(source.name, source.warmup)]
    return rows


def _seen(plan: Warmup, day: WarmupDay) -> Progress:
    return Progress(
        day.source, day.provider, day.day, day.step + 1, len(plan_for(plan, day.provider)), day.allowed,
        day.granted, day.deferred, day.complaints, day.held,
    )  # fmt: skip


def _new(source: str, plan: Warmup) -> Progress:
    first = next_step(plan, OTHER, None)
    return Progress(source, OTHER, None, 1, len(plan_for(plan, OTHER)), first.allowed, 0, 0, 0, f"begins {plan.start}")
