"""Hits for tests, and a mail that was sent."""

import os
from datetime import UTC, datetime, timedelta
from uuid import UUID

from mtad.base.db import Pool
from mtad.base.ids import uuid7
from tracker.hits import Hit, Kind, Method
from tracker.tokens import Keys

KEYS = Keys.parse("1:" + "ab" * 32)
BROWSER = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
GMAIL = "Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)"
URLS = ("https://a.test/", "https://b.test/?x=1&y=%20", "https://c.test/{0}")
NOON = datetime(2025, 6, 2, 12, 0, tzinfo=UTC)


def minted(at: datetime) -> UUID:
    """An event id of that time."""
    return uuid7(int(at.timestamp() * 1000), os.urandom(10))


def hit(
    kind: Kind = Kind.CLICK,
    *,
    at: datetime | float = 60.0,
    job: int = 1,
    link: int = 1,
    method: Method = Method.GET,
    agent: str = BROWSER,
    network: str | None = "192.0.2.0/24",
    event_id: UUID | None = None,
) -> Hit:
    """A browser's click, a minute after noon unless told otherwise."""
    when = at if isinstance(at, datetime) else NOON + timedelta(seconds=at)
    return Hit(event_id or minted(when), when, kind, method, agent, network, job_id=job, link_id=link)


def unsubscribe(contact: int, program: int, *, kind: Kind = Kind.UNSUBSCRIBE, at: float = 60.0) -> Hit:
    """One click of RFC 8058, or a look at the page."""
    when = NOON + timedelta(seconds=at)
    method, how = (Method.POST, "one_click") if kind is Kind.UNSUBSCRIBE else (Method.GET, "")
    return Hit(minted(when), when, kind, method, BROWSER, None, contact_id=contact, program_id=program, how=how)


class World:
    """One contact, one stream with a settle window of 5 s, one program, one message with three links."""

    contact: int
    program: int
    stream: int
    message: int
    pixel: int
    links: list[int]

    def __init__(self, pool: Pool) -> None:
        self.pool = pool

    async def seed(
        self,
        *,
        settle: float = 5.0,
        urls: tuple[str, ...] = URLS,
        tracking: str = "full",
    ) -> "World":
        value = self.pool.fetchval
        domain = await value("insert into domain (name) values ('y.test') returning id")
        self.contact = await value(
            "insert into contact (address, address_key, domain_id) values ('a@y.test', 'a@y.test', $1) returning id",
            domain,
        )
        await self.pool.execute("insert into gate (contact_id) values ($1)", self.contact)
        self.stream = await value("insert into stream (name, version) values ('news', 1) returning id")
        await self.pool.execute(
            "insert into stream_version (stream_id, version, definition, made_by) values ($1, 1, $2, 'test')",
            self.stream,
            {"tracking": tracking, "policy": {"settle": settle}},
        )
        await self.pool.execute(
            "insert into subscription (stream_id, contact_id, status, basis, source, changed_by)"
            " values ($1, $2, 'subscribed', 'consent', 'test', 'test')",
            self.stream,
            self.contact,
        )
        self.program = await value(
            "insert into program (name, kind, stream_id, class, version) values ('p', 'series', $1, 2, 1) returning id",
            self.stream,
        )
        self.message = await value(
            "insert into message (program_id, version, node, name, parts, pixel) values ($1, 1, 'm', 'm', '{}', true)"
            " returning id",
            self.program,
        )
        rows = await self.pool.fetch(
            "insert into message_link (message_id, position, url)"
            " select $1, n - 1, url from unnest($2::text[]) with ordinality as u (url, n) returning id",
            self.message,
            ["", *urls],
        )
        self.pixel, *self.links = [row[0] for row in rows]
        return self

    async def queued(self, job: int, *, begun: bool = False, doubts: int = 0) -> None:
        """A mail that has not ended."""
        await self.pool.execute(
            "insert into job (id, contact_id, stream_id, program_id, version, message_id, class, prio, doubts, begun,"
            " due, not_after) values ($1, $2, $3, $4, 1, $5, 2, 4, $6, case when $7 then now() end, now(), 'infinity')",
            job, self.contact, self.stream, self.program, self.message, doubts, begun,
        )  # fmt: skip

    async def ended(self, job: int, *, at: datetime = NOON, outcome: str = "delivered") -> None:
        """A mail whose final dot was two seconds before its end."""
        await self.pool.execute("delete from job where id = $1", job)
        await self.pool.execute(
            "insert into ledger (job_id, program_id, stream_id, message_id, contact_id, outcome, reason, attempts,"
            " doubts, created, dot_at, ended) values ($1, $2, $3, $4, $5, $6::outcome, '', 1, 0, $7, $8, $7)",
            job, self.program, self.stream, self.message, self.contact, outcome, at, at - timedelta(seconds=2),
        )  # fmt: skip

    async def worker(self, *, ingested_until: datetime | None = None) -> int:
        """A live worker."""
        found = await self.pool.fetchval(
            "insert into worker (host, slot, pid, ingested_until) values"
            " ('h', 0, 1, coalesce($1::timestamptz, '-infinity')) returning id",
            ingested_until,
        )
        return int(found)

    async def classes(self) -> list[str | None]:
        """The classes of all opens and clicks, in order of their time; of those that are not judged, None."""
        rows = await self.pool.fetch(
            "select class::text from (select id, at, class from event where kind in ('open', 'click')"
            " union all select event_id, at, null from pending where class is null) h order by at, id"
        )
        return [row[0] for row in rows]

    async def earning(self) -> list[str | None]:
        """The classes of what is in pending, in order of time; None is unjudged."""
        return [row[0] for row in await self.pool.fetch("select class::text from pending order by at, event_id")]

    async def subscription(self) -> str:
        return str(await self.pool.fetchval("select status::text from subscription"))
