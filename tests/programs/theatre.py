"""Programs from their files, played to the end on real Postgres.

The clock is the database's, so days pass by moving everything that was into the past. Mail
is claimed, judged by the gate and settled as the pipeline does it, but not sent.
"""

from datetime import timedelta
from pathlib import Path
from typing import Any

from engine import gate
from engine.facts import Defer, Facts, Skip
from engine.service import Catalogue, fold, stop_stranded
from mtad.base.clock import SystemClock
from mtad.base.config import Config
from mtad.base.db import Connection, Pool
from mtad.base.ids import uuid7
from mtad.compose.apply import apply_program, apply_stream
from mtad.ops.audit import Audit, audit
from mtad.outcome.kinds import Delivered
from mtad.pipeline.endings import Mail, Retry, after_attempt, ended_by_skip
from mtad.queue import advance, enqueue, newcomers, programs, store
from mtad.queue.settle import Ending, Settler
from tests.rows import Rows

CONFIG = Config(domain="example.com")

EXAMPLES = Path(__file__).parents[2] / "examples"

ATTRIBUTES = {"first_name": "text", "course": "text", "birthday": "date"}

# Rows whose times pass, each with those of its columns that are indexed by more than time left out.
_LASTING = {"worker", "lane", "site", "domain", "schema_version", "brake", "warmup"}


class Theatre:
    def __init__(self, pool: Pool, conn: Connection, worker: int) -> None:
        self.pool = pool
        self.conn = conn
        self.rows = Rows(conn)
        self._catalogue = Catalogue(pool)
        self.worker = worker
        self._clock = SystemClock()
        self._hits = 0
        self._shift: list[str] = []
        self.sent: list[tuple[str, str]] = []  # (address, step), in order

    @classmethod
    async def open(cls, pool: Pool, conn: Connection, stream: Path) -> "Theatre":
        """An installation with one stream, and a worker whose journal is always read."""
        self = cls(pool, conn, await store.register_worker(conn, "here", 0, 1, hears=False))
        await conn.executemany("insert into attribute (name, type) values ($1, $2)", ATTRIBUTES.items())
        applied = await apply_stream(pool, stream, "test")
        self.rows.streams["sales"] = await conn.fetchval("select id from stream where name = $1", applied.name)
        columns = await conn.fetch(
            "select c.table_name, c.column_name from information_schema.columns c join pg_class k"
            " on k.relname = c.table_name and k.relkind in ('r', 'p') and not k.relispartition"
            " where c.table_schema = current_schema() and c.data_type = 'timestamp with time zone'"
        )
        for table in sorted({row[0] for row in columns} - _LASTING):
            moves = ", ".join(f"{row[1]} = {row[1]} - $1::interval" for row in columns if row[0] == table)
            self._shift.append(f"update {table} set {moves}")
        return self

    async def apply(self, *files: Path, move: bool = False) -> None:
        for file in files:
            await apply_program(self.pool, file, "test", move=move)

    async def person(self, address: str, **attributes: Any) -> int:
        contact = await self.rows.contact(address, attributes=attributes)
        site = (await store.sites_by_name(self.conn, {"mx.test": ["10 mx.test:25"]}))["mx.test"]
        await self.conn.execute("update domain set site_id = $1", site)
        return contact

    async def people(self, *names: str, **attributes: Any) -> dict[str, int]:
        return {name: await self.person(f"{name}@reader.test", **attributes) for name in names}

    async def start(self, name: str) -> enqueue.Progress:
        await enqueue.schedule(self.pool, name)
        return [progress async for progress in enqueue.enqueue(self.pool, CONFIG, name)][-1]

    async def days(self, number: float) -> None:
        """So much time passes, then the housekeeper comes round and what is due is delivered."""
        for statement in self._shift:
            await self.conn.execute(statement, timedelta(days=number))
        await self.round()

    async def round(self) -> list[tuple[str, str]]:
        """The housekeeper's sweeps and delivery, until nothing is left to do; the mails."""
        before = len(self.sent)
        busy = True
        while busy:
            busy = bool(await self._sweep() + await self.deliver())
        return sorted(self.sent[before:])

    async def _sweep(self) -> int:
        moved = await newcomers.begin_days(self.pool)
        async with self.pool.acquire() as conn:
            names = await programs.ready_to_enqueue(conn)
        for name in names:
            async for _ in enqueue.enqueue(self.pool, CONFIG, name):
                pass
        moved += await advance.advance(self.pool, self._catalogue, CONFIG)
        moved += await stop_stranded(self.pool)
        moved += await newcomers.take_newcomers(self.pool, CONFIG)
        return moved + await advance.finish(self.pool)

    async def deliver(self) -> int:
        """What is due now, as far as the gate lets it."""
        settler = Settler(self.pool, self._clock, self.worker, 0, config=CONFIG, more=lambda: False)
        number = 0
        while True:
            await self.conn.execute("update site set ready_at = '-infinity'")
            claimed = await store.claim(self.conn, self.worker)
            if not claimed:
                return number
            await self._catalogue.need(
                {(f.program_id, f.version) for f in claimed},
                {(f.stream_id, f.stream_version) for f in claimed},
                max(f.epoch for f in claimed),
            )
            number += len(await settler.settle([self._outcome(facts) for facts in claimed]))

    def _outcome(self, facts: Facts) -> Ending:
        program = self._catalogue.program(facts.program_id, facts.version)
        stream = self._catalogue.stream(facts.stream_id, facts.stream_version)
        context = gate.Context(program.definition, self._catalogue.suppressed_domains, policy=stream.definition.policy)
        now = self._clock.now()
        match gate.verdict(facts, context, now):
            case Skip(reason):
                return ended_by_skip(facts, program, reason)
            case Defer() as later:
                raise AssertionError(f"{facts.address} {facts.node}: {later}")
            case _:
                self.sent.append((facts.address.partition("@")[0], facts.node))
                mail = Mail(facts, program, stream)
                return after_attempt(mail, Delivered("250 ok", now, now), Retry(60, 600, 600), now=now, luck=0.0)

    async def reads(
        self, name: str, node: str, *, link: int | None = None, class_: str = "human", after: timedelta | None = None
    ) -> None:
        """A person opens the last mail of a step that they got, or clicks a link of it; a proxy does.

        Now, or so long `after` it came, which is heard of now.
        """
        kind = "open" if link is None else "click"
        found = await self.conn.fetchrow(
            "select l.job_id, l.contact_id, l.stream_id, k.id, l.ended"
            " from ledger l join message m on m.id = l.message_id"
            " join contact c on c.id = l.contact_id join message_link k on k.message_id = m.id and k.position = $3"
            " where c.address = $1 and m.node = $2 and l.outcome = 'delivered' order by l.ended desc limit 1",
            f"{name}@reader.test", node, link or 0,
        )  # fmt: skip
        assert found is not None
        job, contact, stream, link_id, came = found.values()
        now = self._clock.now() if after is None else came + after
        self._hits += 1
        event = uuid7(int(now.timestamp() * 1000), self._hits.to_bytes(10))
        await self.conn.execute(
            "insert into event (id, kind, at, contact_id, stream_id, job_id, link_id, class)"
            " values ($1, $2, $3, $4, $5, $6, $7, $8)",
            event, kind, now, contact, stream, job, link_id, class_,
        )  # fmt: skip
        if class_ == "human":
            await self.conn.execute(
                "insert into pending (event_id, job_id, kind, link_id, at, method, agent, class)"
                " values ($1, $2, $3, $4, $5, 'GET', '', 'human')", event, job, kind, link_id, now,
            )  # fmt: skip
            await fold(self.pool)

    async def nobody_listened(self) -> None:
        """From the day before yesterday to yesterday, as the rows of workers tell."""
        await self.conn.execute(
            "insert into worker (host, slot, pid, started, beat, ingested_until, dead)"
            " select 'here', 1, 1, since, until, until, until"
            " from (values (now() - interval '30 d', now() - interval '2 d'), (now() - interval '1 d', now()))"
            " as lived (since, until)"
        )

    async def state(self, name: str) -> str | None:
        found: str | None = await self.conn.fetchval(
            "select g.state::text from engagement g join contact c on c.id = g.contact_id where c.address = $1",
            f"{name}@reader.test",
        )
        return found

    async def entries(self, program: str) -> dict[str, str | None]:
        """Why everybody's latest way through it ended; None: it did not."""
        rows = await self.conn.fetch(
            "select split_part(c.address, '@', 1), n.why from entry n join program p on p.id = n.program_id"
            " join contact c on c.id = n.contact_id where p.name = $1 order by n.id", program,
        )  # fmt: skip
        return {row[0]: row[1] for row in rows}

    async def audit(self, program: str) -> Audit:
        return await self.audit_on(self.conn, program)

    async def audit_on(self, conn: Connection, program: str) -> Audit:
        """As seen by another connection; it must add up."""
        found = await audit(conn, program)
        assert found.adds_up, found
        return found

    async def left_out(self, program: str) -> dict[str, str]:
        rows = await self.conn.fetch(
            "select split_part(c.address, '@', 1), l.reason from ledger l join program p on p.id = l.program_id"
            " join contact c on c.id = l.contact_id where p.name = $1 and l.outcome = 'skipped' order by l.ended",
            program,
        )
        return {row[0]: row[1] for row in rows}
