"""Rows as the queue, the tracker and the engine write them, without any of the three.

`Rows` keeps what most rows share (one stream, one site) and hands out ids.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from mtad.base.db import Connection
from mtad.base.ids import uuid7

START = datetime.now(UTC).replace(microsecond=0)

STREAM = {
    "name": "sales",
    "from": "Sales <sales@example.com>",
    "imprint": "Example, Street 1",
    "tracking": "full",
    "policy": {},
}


@dataclass
class Program:
    id: int
    name: str
    stream: int
    messages: list[int]  # of mail 1, 2, …
    pixels: list[int]
    links: list[list[int]]  # three of each message


class Rows:
    def __init__(self, conn: Connection) -> None:
        self.conn = conn
        self.streams: dict[str, int] = {}
        self._event = 0

    async def stream(self, name: str = "sales") -> int:
        if name not in self.streams:
            made = await self.conn.fetchval("insert into stream (name, version) values ($1, 1) returning id", name)
            await self.conn.execute(
                "insert into stream_version (stream_id, version, definition, made_by) values ($1, 1, $2, 'test')",
                made, {**STREAM, "name": name},
            )  # fmt: skip
            self.streams[name] = made
        return self.streams[name]

    async def program(self, name: str = "nudge", *, mails: int = 3, stream: str = "sales",
                      status: str = "running", audience: dict[str, list[Any]] | None = None,
                      enqueued: datetime | None = START) -> Program:  # fmt: skip
        """A series of `mails` mails, `name-1` …, each with a pixel and three links; of one mail: a campaign."""
        stream_id = await self.stream(stream)
        kind = "series" if mails > 1 else "campaign"
        made = await self.conn.fetchval(
            "insert into program (name, kind, stream_id, class, status, version, enqueued, enqueued_to)"
            " values ($1, $2, $3, 2, $4, 1, $5, coalesce((select max(id) from contact), 0)) returning id",
            name, kind, stream_id, status, enqueued,
        )  # fmt: skip
        definition = series(name, stream, mails, audience or {})
        await self.conn.execute(
            "insert into program_version (program_id, version, definition, made_by) values ($1, 1, $2, 'test')",
            made, definition,
        )  # fmt: skip
        program = Program(made, name, stream_id, [], [], [])
        for number in range(1, mails + 1):
            message = await self.conn.fetchval(
                "insert into message (program_id, version, node, name, parts, pixel)"
                " values ($1, 1, $2, $3, '{}', true) returning id",
                made, f"{name}-{number}", f"{name}-{number}",
            )  # fmt: skip
            links = await self.conn.fetch(
                "insert into message_link (message_id, position, url) select $1, n, case n when 0 then ''"
                " else format('https://shop.test/%s/%s', $2::int, n) end from generate_series(0, 3) n returning id",
                message, number,
            )  # fmt: skip
            program.messages.append(message)
            program.pixels.append(links[0][0])
            program.links.append([row[0] for row in links[1:]])
        return program

    async def contact(self, address: str, *, subscribed: str | None = "subscribed", stream: str = "sales",
                      attributes: dict[str, Any] | None = None) -> int:  # fmt: skip
        domain = await self.conn.fetchval(
            "insert into domain (name) values (split_part($1, '@', 2))"
            " on conflict (name) do update set name = excluded.name returning id", address.lower(),
        )  # fmt: skip
        made: int = await self.conn.fetchval(
            "insert into contact (address, address_key, domain_id, attributes) values ($1, lower($1), $2, $3)"
            " returning id", address, domain, attributes or {},
        )  # fmt: skip
        await self.conn.execute("insert into gate (contact_id) values ($1)", made)
        await self.conn.execute("insert into identity values ('email', lower($1), $2)", address, made)
        if subscribed:
            await self.conn.execute(
                "insert into subscription (stream_id, contact_id, status, basis, source, changed_by)"
                " values ($1, $2, $3, 'consent', 'fair 2025', 'import')",
                await self.stream(stream), made, subscribed,
            )  # fmt: skip
        return made

    async def enrol(self, program: Program, contact: int, *, mail: int = 1, job: int | None = None) -> int:
        """An enrolled row, under a fresh job id unless one is given."""
        made: int = await self.conn.fetchval(
            "insert into enrolled (program_id, node, contact_id, job_id)"
            " values ($1, $2, $3, coalesce($4, nextval('job_id'))) returning job_id",
            program.id, f"{program.name}-{mail}", contact, job,
        )  # fmt: skip
        return made

    async def queued(self, program: Program, contact: int, job: int, *, mail: int = 1, **columns: Any) -> None:
        """A job row; further columns (attempt, doubts, worker, begun, due, entry_id, reason) by name."""
        values = {
            "id": job, "contact_id": contact, "stream_id": program.stream, "program_id": program.id, "version": 1,
            "message_id": program.messages[mail - 1], "class": 2, "prio": 4, "due": START,
            "not_after": START + timedelta(days=5), "created": START, **columns,
        }  # fmt: skip
        await self._insert("job", values)
        if "worker" in columns:
            await self._insert("lease", {"worker": columns["worker"], "jobs": [job]})

    async def settled(self, program: Program, contact: int | None, job: int, outcome: str, reason: str = "", *,
                      mail: int = 1, **columns: Any) -> None:  # fmt: skip
        """A ledger row; further columns by name."""
        ended = columns.pop("ended", START + timedelta(minutes=1))
        values = {
            "job_id": job, "program_id": program.id, "stream_id": program.stream, "contact_id": contact,
            "message_id": program.messages[mail - 1], "outcome": outcome, "reason": reason, "attempts": 1,
            "doubts": 0, "created": START, "ended": ended, **columns,
        }  # fmt: skip
        await self._insert("ledger", values)

    async def mail(self, program: Program, contact: int, outcome: str, reason: str = "", *, mail: int = 1,
                   **columns: Any) -> int:  # fmt: skip
        """Enrolled and settled; the job's id."""
        job = await self.enrol(program, contact, mail=mail)
        await self.settled(program, contact, job, outcome, reason, mail=mail, **columns)
        return job

    async def entry(self, program: Program, contact: int, *, mail: int = 1, due: datetime | None = None,
                    ended: datetime | None = None, why: str | None = None, node: str | None = None) -> int:  # fmt: skip
        made: int = await self.conn.fetchval(
            "insert into entry (program_id, version, contact_id, stream_id, node, due, entered, ended, why)"
            " values ($1, 1, $2, $3, $4, $5, $6, $7, $8) returning id",
            program.id, contact, program.stream, node or f"{program.name}-{mail}", due, START, ended, why,
        )  # fmt: skip
        return made

    async def hit(self, kind: str, contact: int | None, job: int | None, link: int | None, *, at: datetime = START,
                  class_: str | None = "human", stream: int | None = None,
                  data: dict[str, Any] | None = None) -> UUID:  # fmt: skip
        """An event that was judged; with `class_` None one that was not."""
        self._event += 1
        made = uuid7(int(at.timestamp() * 1000), self._event.to_bytes(10, "big"))
        await self.conn.execute(
            "insert into event (id, kind, at, contact_id, stream_id, job_id, link_id, class, data)"
            " values ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
            made, kind, at, contact, stream, job, link, class_, data or {},
        )  # fmt: skip
        return made

    async def engagement(self, program: Program, contact: int, state: str = "active", score: int = 0) -> None:
        await self.conn.execute(
            "insert into engagement (stream_id, contact_id, state, since, score, round_from)"
            " values ($1, $2, $3, $4, $5, $4)", program.stream, contact, state, START, score,
        )  # fmt: skip

    async def transition(self, program: Program, contact: int, to: str, why: str, fact: str, *,
                         at: datetime = START) -> None:  # fmt: skip
        await self.conn.execute(
            "insert into transition (stream_id, contact_id, from_state, to_state, why, fact, at)"
            " values ($1, $2, 'active', $3, $4, $5, $6)", program.stream, contact, to, why, fact, at,
        )  # fmt: skip

    async def answer(self, program: Program, contact: int, job: int, kind: str, event: UUID, *,
                     at: datetime = START, link: int | None = None) -> None:  # fmt: skip
        await self.conn.execute(
            "insert into answer (job_id, kind, contact_id, stream_id, link_id, at, event_id, points)"
            " values ($1, $2, $3, $4, $5, $6, $7, 5)", job, kind, contact, program.stream, link, at, event,
        )  # fmt: skip

    async def tally(self, program: Program, **counts: int) -> None:
        """Counters of slot 0; a key's colon is written as two underscores."""
        for key, n in counts.items():
            await self.conn.execute(
                "insert into tally values ($1, 0, $2, $3)"
                " on conflict (program_id, slot, key) do update set n = tally.n + excluded.n",
                program.id, key.replace("__", ":"), n,
            )  # fmt: skip

    async def _insert(self, table: str, values: dict[str, Any]) -> None:
        places = ", ".join(f"${n}" for n in range(1, len(values) + 1))
        await self.conn.execute(f"insert into {table} ({', '.join(values)}) values ({places})", *values.values())


def series(name: str, stream: str, mails: int, audience: dict[str, list[Any]]) -> dict[str, Any]:
    """The definition as stored: name-1 → three days → name-2 → … → end; of one mail: a campaign."""
    nodes: dict[str, dict[str, Any]] = {"end": {"type": "end"}}
    for n in range(1, mails + 1):
        node, after = f"{name}-{n}", f"{name}-{n + 1}" if n < mails else "end"
        wait = f"after {node}" if mails > 1 else after
        nodes[node] = {"type": "send", "message": node, "next": wait}
        if mails > 1:
            nodes[wait] = {"type": "wait", "seconds": 3 * 86400.0, "next": after}
    return {
        "name": name, "kind": "series" if mails > 1 else "campaign", "stream": stream, "class": 2,
        "audience": {"attributes": audience}, "leave_on": ["engaged"] if mails > 1 else [],
        "when_silent": "inactive" if mails > 1 else "nothing", "first": f"{name}-1", "nodes": nodes,
    }  # fmt: skip
