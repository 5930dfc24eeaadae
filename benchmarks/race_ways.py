"""Eleven ways in which people become ineligible, each by the product's own door for it."""

import os
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial

import aiohttp
import msgspec

from benchmarks.place import Place
from benchmarks.race_sink import GONE
from engine.service import Suppress, fold, suppress
from mtad.audience.persons import erase
from mtad.base.db import Connection, Pool, in_transaction
from mtad.base.errors import Problem
from mtad.base.ids import uuid7
from mtad.compose.preview import tracking_keys
from mtad.queue import programs, store
from mtad.queue.enqueue import cancel, pause
from mtad.queue.intake import COMMAND_SLOT
from tracker.tokens import contact_token, unsubscribe_url

WAYS = (
    "engaged",  # fold: open and click of an earlier mail reach the threshold
    "one_click",
    "complained",
    "bounced",  # a receipt to the same address is refused for good
    "suppressed",
    "domain",
    "paused",
    "cancelled",
    "erased",
    "left",  # the entry ends: a click on an earlier mail of the series
    "capped",  # a mail of another program begins
)

# All at once, by one act.
TOGETHER = ("domain", "paused", "cancelled")

DOMAIN = f"{GONE}.example.net"

# Open before click. A judged hit is in both tables: one waits for the fold, the other is what a replay reads.
_HIT = """
with hit as (
  select k.id, l.job_id, l.stream_id, l.contact_id, k.kind, n.id as link_id,
         now() - case k.kind when 'open' then interval '1 ms' else interval '0' end as at
    from (select * from ledger where contact_id = $1 order by job_id limit 1) l
   cross join unnest($2::text[], $3::uuid[]) as k (kind, id)
    join message_link n on n.message_id = l.message_id and n.position = case k.kind when 'open' then 0 else 1 end
), kept as (
  insert into event (id, kind, at, contact_id, stream_id, job_id, link_id, class)
  select id, kind, at, contact_id, stream_id, job_id, link_id, 'human' from hit
)
insert into pending (event_id, job_id, kind, link_id, at, method, agent, class)
select id, job_id, kind::sign_kind, link_id, at, 'GET', 'Firefox', 'human' from hit
"""
_UNFOLDED = "select exists (select from pending h join ledger l using (job_id) where l.contact_id = $1)"
_SITE = "select d.site_id from contact c join domain d on d.id = c.domain_id where c.id = $1"
_MESSAGE = "select id, node from message where program_id = $1 and version = $2"


class Person(msgspec.Struct, frozen=True, gc=False):
    """Somebody who will be ineligible; `turn`: which share of the queue is before the mail in question."""

    id: int
    way: str
    key: str
    turn: float


class Ways:
    """`act` makes one person, or all of a way, ineligible: now, or (bounced, capped) as soon as a worker sends."""

    def __init__(self, place: Place, pool: Pool, http: aiohttp.ClientSession, tracker: str, series: int) -> None:
        """`tracker` is its URL, `series` the program whose mail people leave by one click."""
        self._config = place.installation.config
        self._keys = tracking_keys(self._config)
        self._pool = pool
        self._http = http
        self._tracker, self._series = tracker, series
        self._do: Mapping[str, Callable[[Person], Awaitable[object]]] = {
            "engaged": partial(self._answers, kinds=("open", "click")),
            "one_click": self._leaves,
            "complained": lambda person: self._suppress(Suppress(person.key, "marketing", "complained", "race")),
            "bounced": partial(self._mailed, program="receipt"),
            "suppressed": lambda person: self._suppress(Suppress(person.key, "all", "manual", "race")),
            "domain": lambda _: self._suppress(Suppress(f"@{DOMAIN}", "all", "manual", "race")),
            "paused": lambda _: pause(pool, "paused", "race"),
            "cancelled": lambda _: cancel(pool, "cancelled", "race"),
            "erased": lambda person: erase(pool, self._config, person.key, "race"),
            "left": partial(self._answers, kinds=("click",)),
            "capped": partial(self._mailed, program="notice"),
        }

    async def act(self, person: Person) -> None:
        """What happens to this person; of TOGETHER: to all."""
        await self._do[person.way](person)

    async def _answers(self, person: Person, kinds: Sequence[str]) -> None:
        """Judged hits on the earlier mail, as ripening leaves them; folded by us or by a worker."""
        now = int(time.time() * 1000)
        ids = [uuid7(now, os.urandom(10)) for _ in kinds]
        await self._pool.execute(_HIT, person.id, kinds, ids)
        while await self._pool.fetchval(_UNFOLDED, person.id):
            await fold(self._pool)

    async def _leaves(self, person: Person) -> None:
        """RFC 8058. "Try again later", which a machine that is busy may say, is done."""
        url = unsubscribe_url(self._tracker, contact_token(self._keys, person.id, self._series))
        status = 503
        while status == 503:
            async with self._http.post(url, data={"List-Unsubscribe": "One-Click"}) as answer:
                status = answer.status
        if status != 200:
            raise Problem(f"one-click POST: {status}")

    async def _suppress(self, row: Suppress) -> None:
        await in_transaction(self._pool, lambda conn: suppress(conn, [row]))

    async def _mailed(self, person: Person, program: str) -> None:
        """One more mail to them, ahead of all others."""

        async def work(conn: Connection) -> None:
            row = await programs.program_by_name(conn, program)
            message = await conn.fetchrow(_MESSAGE, row.id, row.version)
            site = await conn.fetchval(_SITE, person.id)
            assert message is not None
            step = programs.Step(row, message["id"], message["node"], datetime.now(UTC) + timedelta(days=1))
            await programs.enqueue(conn, step, COMMAND_SLOT, [(person.id, site)])
            await store.wake_sites(conn, [site])

        await in_transaction(self._pool, work)
