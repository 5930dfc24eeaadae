"""What we hear from whom: signs counted by provider, and providers whose silence is not believed.

Each half window of a stream is counted when it has been listened to for another half, which is
when the first windows of its mail may close. While somebody is held, the span in which we
heard too little is treated like one in which nobody listened: it prolongs windows, it is a
fact of replays, and mail to these people goes on, so that we hear when signs return.
"""

import logging
import math
from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta

import msgspec
from prometheus_client import Gauge

from engine.policy import Policy
from engine.score import Key
from engine.silence import EVERYBODY, Finding, Signs, findings, unheard
from mtad.base.db import Connection, row_values
from mtad.base.sqlfiles import queries

SQL = queries("silence")

log = logging.getLogger("engine.listening")

HELD = Gauge("mtad_providers_held", "Providers, by stream, whose silence is not believed")

# What is usual is what was so within so many days of the stream.
MEMORY = 28

Spans = list[tuple[datetime, datetime]]


class Hold(msgspec.Struct, frozen=True):
    """A provider whose silence on a stream is not believed; EVERYBODY (engine/silence.py): that of all."""

    stream: str
    provider: str
    since: datetime
    why: str


async def listen(conn: Connection, stream: int, policy: Policy, heard: datetime) -> None:
    """Count what has had its time by `heard`, and decide anew who is held; call it before windows close."""
    half = policy.window / 2
    until = datetime.fromtimestamp(math.floor(heard.timestamp() / half) * half, UTC) - timedelta(seconds=half)
    await conn.execute(SQL["know_stream"], stream)
    listened: datetime = await conn.fetchval(SQL["listened"], stream)
    if until <= listened:
        return
    memory = timedelta(seconds=MEMORY * policy.day)
    begin = max(listened, until - memory)
    await conn.execute(SQL["count_signs"], stream, begin, until, half)
    await conn.execute(SQL["set_listened"], stream, until)
    passed = math.ceil((until - begin) / timedelta(seconds=half))
    await _decide(conn, stream, [until - timedelta(seconds=n * half) for n in reversed(range(passed))], half, memory)
    await conn.execute(SQL["forget_signs"], stream, until - memory)


async def _decide(conn: Connection, stream: int, ends: Sequence[datetime], half: float, memory: timedelta) -> None:
    """Hold and lift as if somebody had looked at the end of each half window."""
    signs: dict[str, list[Signs]] = {}
    for row in await conn.fetch(SQL["signs_of"], stream):
        signs.setdefault(row[0], []).append(Signs(*row_values(row)[1:]))
    held = {hold.provider: hold.since for hold in await holds(conn, stream)}
    for end in ends:
        known = {name: [span for span in spans if end - memory <= span.at < end] for name, spans in signs.items()}
        found = findings(known, held)
        since = held.get(EVERYBODY)
        # What was usual is forgotten at last, as of a provider.
        still = Finding(since, "") if since and since > end - memory else None
        everybody = still or unheard(known)
        if everybody and not await noticed(conn, [stream], everybody.since, end + timedelta(seconds=half)):
            found[EVERYBODY] = everybody
        for provider, one in found.items():
            # Until the next half window can be counted.
            await conn.execute(SQL["hold"], stream, provider, one.since, end + timedelta(seconds=2 * half), one.why)
            if provider not in held:
                await recall(conn, stream, one.since, provider)
                log.warning("silence of a provider is not believed", extra={"stream": stream, "why": one.why})
        for provider in sorted(held.keys() - found.keys()):
            await conn.execute(SQL["lift"], stream, provider)
            log.info("a provider is heard again", extra={"stream": stream, "provider": provider})
        held = {provider: one.since for provider, one in found.items()}


async def noticed(conn: Connection, streams: Sequence[int], since: datetime, until: datetime) -> bool:
    """Whether anybody, or any machine, asked for what stands in mail of the streams, from `since` to before `until`."""
    found: bool = await conn.fetchval(SQL["noticed"], streams, since, until)
    return found


async def recall(conn: Connection, stream: int, since: datetime, provider: str = EVERYBODY) -> None:
    """What was concluded after `since` of people at the provider is looked at anew by sweeps: we were deaf."""
    await conn.execute(SQL["recall"], stream, provider, since)


async def recall_page(conn: Connection, *, stream: int) -> bool:
    """Have sweeps replay some more of those who are to be; False when there are none left."""
    row = await conn.fetchrow(SQL["next_recall"], stream)
    if row is None:
        return False
    provider, since, done = row
    last = await conn.fetchval(SQL["recall_page"], stream, provider, since, done)
    await conn.execute(SQL["recalled"], stream, provider, since, last)
    return True


async def holds(conn: Connection, stream: int | None = None) -> list[Hold]:
    """Who is held now, on one stream or on all."""
    return [Hold(*row_values(row)) for row in await conn.fetch(SQL["open_holds"], stream)]


async def held_after(conn: Connection, at: datetime) -> bool:
    """Whether any provider was held after that."""
    found: bool = await conn.fetchval(SQL["held_after"], at)
    return found


async def holds_over(conn: Connection, keys: Collection[Key], since: datetime) -> dict[Key, Spans]:
    """When the providers of contacts were held, as far as it lasted beyond `since`; most keys are missing."""
    found: dict[Key, Spans] = {}
    for row in await conn.fetch(SQL["holds_over"], [key[0] for key in keys], [key[1] for key in keys], since):
        found.setdefault((row[0], row[1]), []).append((row[2], row[3]))
    return found
