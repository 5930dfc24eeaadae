"""A stream, programs, contacts, mails and answers, in a real database."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from engine.facts import Facts
from engine.policy import Policy, StreamDefinition
from engine.programs import Definition, EndNode, SendNode, WaitNode
from mtad.base.db import Connection, Pool
from mtad.base.ids import uuid7

START = datetime(2026, 11, 1, 9, tzinfo=UTC)
DAY = timedelta(days=1)


def definition(name: str = "nudge", **changes: Any) -> Definition:
    """A series of two mails, three days apart."""
    values: dict[str, Any] = {
        "name": name,
        "kind": "series",
        "stream": "sales",
        "leave_on": ("engaged",),
        "when_silent": "inactive",
        "first": "one",
        "nodes": {
            "one": SendNode("one", "after one"),
            "after one": WaitNode(259200.0, "two"),
            "two": SendNode("two", "after two"),
            "after two": WaitNode(259200.0, "end"),
            "end": EndNode(),
        },
    }
    return Definition(**(values | changes))


def event_id(number: int) -> UUID:
    """One that says its number, minted at START."""
    return uuid7(int(START.timestamp() * 1000), number.to_bytes(10))


def mail_facts(job: int, contact: int, stream: int) -> Facts:
    """Of a claimed job, what settle reads."""
    values: dict[str, Any] = dict.fromkeys(Facts.__struct_fields__)
    return Facts(**(values | {"job_id": job, "contact_id": contact, "stream_id": stream}))


class World:
    """Makes rows as the other parts would, and asks what became of them."""

    def __init__(self, pool: Pool, conn: Connection) -> None:
        self.pool = pool
        self.conn = conn
        self._events = 0

    async def stream(self, name: str = "sales", *, policy: Policy | None = None, tracking: str = "full") -> int:
        definition = StreamDefinition(
            name=name,
            from_="a@example.com",
            tracking=tracking,  # type: ignore[arg-type]
            policy=policy or Policy(),
        )
        id_ = await self.conn.fetchval("insert into stream (name, version) values ($1, 1) returning id", name)
        await self.conn.execute(
            "insert into stream_version (stream_id, version, definition, made_by) values ($1, 1, $2, 'test')",
            id_,
            definition.to_json(),
        )
        return int(id_)

    async def program(self, stream: int, what: Definition) -> int:
        id_ = await self.conn.fetchval(
            "insert into program (name, kind, stream_id, class, status, version)"
            " values ($1, $2::text::program_kind, $3, $4, 'running', 1) returning id",
            what.name,
            what.kind,
            stream,
            what.class_,
        )
        await self.conn.execute(
            "insert into program_version (program_id, version, definition, made_by) values ($1, 1, $2, 'test')",
            id_,
            what.to_json(),
        )
        for node in what.nodes.values():
            if isinstance(node, SendNode):
                message = await self.conn.fetchval(
                    "insert into message (program_id, version, node, name, parts, pixel)"
                    " values ($1, 1, $2, $2, '{}', true) returning id",
                    id_,
                    node.message,
                )
                await self.conn.execute(
                    "insert into message_link (message_id, position, url)"
                    " values ($1, 0, ''), ($1, 1, 'https://example.com/a'), ($1, 2, 'https://example.com/b')",
                    message,
                )
        return int(id_)

    async def contact(self, address: str, *streams: int, tracking: str | None = None) -> int:
        domain = address.partition("@")[2]
        id_ = await self.conn.fetchval(
            "with d as (insert into domain (name) values ($2) on conflict (name) do update set name = $2 returning id),"
            " c as (insert into contact (address, address_key, domain_id) select $1, $1, id from d returning id)"
            " insert into gate (contact_id) select id from c returning contact_id",
            address,
            domain,
        )
        for stream in streams:
            await self.conn.execute(
                "insert into subscription (stream_id, contact_id, status, basis, source, changed_by, tracking)"
                " values ($1, $2, 'subscribed', 'consent', 'test', 'test', $3::text::tracking_mode)",
                stream,
                id_,
                tracking,
            )
        return int(id_)

    async def hears(self, until: datetime) -> None:
        """There is one worker, for long, whose journal has been read up to then."""
        await self.conn.execute("delete from worker")
        await self.conn.execute(
            "insert into worker (host, slot, pid, started, ingested_until) values ('here', 0, 1, $1, $2)",
            until - 300 * DAY, until,
        )  # fmt: skip

    async def engagement(self, stream: int, contact: int, **columns: Any) -> None:
        values = {"state": "active", "since": START, "round_from": START, "first_sent": START} | columns
        names = ", ".join(values)
        marks = ", ".join(
            f"${n}::text::contact_state" if name == "state" else f"${n}" for n, name in enumerate(values, 3)
        )
        await self.conn.execute(
            f"insert into engagement (stream_id, contact_id, {names}) values ($1, $2, {marks})",
            stream,
            contact,
            *values.values(),
        )

    async def entry(self, program: int, contact: int, *, node: str = "one", entered: datetime = START) -> int:
        return int(
            await self.conn.fetchval(
                "insert into entry (program_id, version, contact_id, stream_id, node, entered)"
                " select id, 1, $2, stream_id, $3, $4 from program where id = $1 returning id",
                program,
                contact,
                node,
                entered,
            )
        )

    async def queued(
        self, program: int, contact: int, *, node: str = "one", entry: int | None = None, class_: int = 2
    ) -> int:
        """A job that is due in a week, waiting."""
        return int(
            await self.conn.fetchval(
                "insert into job (contact_id, stream_id, program_id, version, message_id, entry_id, class, prio, due,"
                " not_after)"
                " select $2, p.stream_id, p.id, 1, m.id, $4, $5::smallint, $5::smallint * 2::smallint,"
                " now() + interval '7 d', now() + interval '30 d'"
                " from program p join message m on m.program_id = p.id and m.node = $3"
                " where p.id = $1 returning id",
                program,
                contact,
                node,
                entry,
                class_,
            )
        )

    async def mailed(
        self,
        program: int,
        contact: int,
        *,
        node: str = "one",
        entry: int | None = None,
        at: datetime = START,
        outcome: str = "delivered",
    ) -> int:
        """A job that is over."""
        return int(
            await self.conn.fetchval(
                "insert into ledger (job_id, program_id, stream_id, message_id, contact_id, entry_id, outcome, reason,"
                " attempts, doubts, created, ended) select nextval('job_id'), p.id, p.stream_id, m.id, $2, $4,"
                " $6::text::outcome, '', 1, 0, $5, $5 from program p join message m on m.program_id = p.id"
                " and m.node = $3 where p.id = $1 returning job_id",
                program,
                contact,
                node,
                entry,
                at,
                outcome,
            )
        )

    async def hit(
        self,
        job: int,
        kind: str,
        *,
        at: datetime = START + DAY,
        link: int = 1,
        class_: str | None = "human",
        number: int | None = None,
    ) -> UUID:
        """A pending hit, judged, and its event."""
        self._events += 1
        id_ = event_id(self._events if number is None else number)
        await self.conn.execute(
            "insert into pending (event_id, job_id, kind, link_id, at, method, agent, class)"
            " values ($1, $2, $3::text::sign_kind, coalesce((select k.id from message_link k join ledger l"
            " on l.message_id = k.message_id where l.job_id = $2 and k.position = $4), 0), $5, 'GET', '',"
            " $6::text::hit_class)",
            id_,
            job,
            kind,
            0 if kind == "open" else link,
            at,
            class_,
        )
        if class_ is not None:
            await self.conn.execute(
                "insert into event (id, kind, at, contact_id, stream_id, job_id, link_id, class)"
                " select p.event_id, p.kind::text, p.at, l.contact_id, l.stream_id, p.job_id, nullif(p.link_id, 0),"
                " p.class"
                " from pending p left join ledger l using (job_id) where p.event_id = $1 on conflict do nothing",
                id_,
            )
        return id_

    async def hits(self, signs: Sequence[tuple[int, str]], *, at: datetime = START + DAY) -> None:
        """Many people's hits, each (job, kind), as `hit` makes one; on the first link."""
        first = self._events + 1
        self._events += len(signs)
        await self.conn.execute(
            "insert into pending (event_id, job_id, kind, link_id, at, method, agent, class)"
            " select s.id, s.job_id, s.kind::sign_kind, case when s.kind = 'open' then 0 else k.id end,"
            " $4, 'GET', '', 'human' from unnest($1::uuid[], $2::bigint[], $3::text[]) as s (id, job_id, kind)"
            " join ledger using (job_id) join message_link k on k.message_id = ledger.message_id and k.position = 1",
            [event_id(number) for number in range(first, self._events + 1)],
            [job for job, _ in signs],
            [kind for _, kind in signs],
            at,
        )
        await self.conn.execute(
            "insert into event (id, kind, at, contact_id, stream_id, job_id, link_id, class)"
            " select p.event_id, p.kind::text, p.at, l.contact_id, l.stream_id, p.job_id, nullif(p.link_id, 0), p.class"
            " from pending p join ledger l using (job_id) on conflict do nothing"
        )

    async def one(self, query: str, *values: object) -> tuple[Any, ...]:
        """The only row of a query."""
        (row,) = await self.conn.fetch(query, *values)
        return tuple(row)

    async def state(self, stream: int, contact: int) -> tuple[str, int] | None:
        """State and score."""
        row = await self.conn.fetchrow(
            "select state::text, score from engagement where stream_id = $1 and contact_id = $2", stream, contact
        )
        return None if row is None else (row[0], row[1])

    async def gate(self, contact: int) -> int:
        return int(await self.conn.fetchval("select version from gate where contact_id = $1", contact))

    async def why(self, entry: int) -> str | None:
        """Why it ended; None while it runs."""
        why: str | None = await self.conn.fetchval("select why from entry where id = $1", entry)
        return why

    async def due(self, job: int) -> bool:
        return bool(await self.conn.fetchval("select due <= clock_timestamp() from job where id = $1", job))

    async def pending(self) -> int:
        return int(await self.conn.fetchval("select count(*) from pending"))

    async def transitions(self, contact: int) -> list[tuple[str | None, str, str, str]]:
        rows = await self.conn.fetch(
            "select from_state::text, to_state::text, why, fact from transition where contact_id = $1 order by id",
            contact,
        )
        return [(row[0], row[1], row[2], row[3]) for row in rows]
