"""A queue with a stream, a program, sites, lanes and workers, for tests on real Postgres."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from engine.facts import Facts
from mtad.base.db import Connection, Pool
from mtad.queue import store
from mtad.queue.store import Ended, Offer
from tests.rows import Program, Rows


@dataclass
class World:
    """One series `nudge` on stream `sales`, one site; jobs and workers on request."""

    pool: Pool
    rows: Rows
    program: Program
    site: int
    lane: store.Lane
    contacts: dict[int, int] = field(default_factory=dict)  # by job

    async def worker(self, slot: int = 0, host: str = "here") -> int:
        return await store.register_worker(self.rows.conn, host, slot, 1)

    async def job(self, address: str = "ann@reader.test", *, mail: int = 1, entry: bool = False, **columns: Any) -> int:
        """A due job for a (new) subscriber; its id."""
        contact = await self.rows.conn.fetchval("select id from contact where address_key = $1", address)
        if contact is None:
            contact = await self.rows.contact(address)
        return await self.job_for(contact, mail=mail, entry=entry, **columns)

    async def job_for(self, contact: int, *, mail: int = 1, entry: bool = False, **columns: Any) -> int:
        job = await self.rows.enrol(self.program, contact, mail=mail)
        if entry:
            columns["entry_id"] = await self.rows.entry(self.program, contact, mail=mail)
        await self.rows.queued(self.program, contact, job, mail=mail, **{"site_id": self.site, **columns})
        self.contacts[job] = contact
        return job

    async def claim(self, worker: int, shut: Sequence[int] = (), full: Sequence[int] = ()) -> list[Facts]:
        await self.rows.conn.execute("update site set ready_at = '-infinity', passed_due = '-infinity'")
        return await store.claim(self.rows.conn, worker, shut, full)

    async def hold(self, worker: int, wanted: int, running: int = 0, *, growing: bool = False) -> int:
        """Ask for sessions of the lane; how many this worker holds then."""
        wish = store.Wish(self.lane.id, wanted, running, growing)
        return (await store.hold_sessions(self.rows.conn, worker, [wish]))[self.lane.id].sessions

    def offers(self, claimed: Sequence[Facts]) -> list[Offer]:
        return [Offer(facts, self.lane.id) for facts in claimed]

    async def ledger(self) -> list[tuple[int, str, str]]:
        rows = await self.pool.fetch("select job_id, outcome::text, reason from ledger order by job_id")
        return [(row[0], row[1], row[2]) for row in rows]


async def new_world(
    pool: Pool, conn: Connection, *, rate: float = 1000, burst: float = 1000, sessions: int = 8
) -> World:
    rows = Rows(conn)
    program = await rows.program()
    (site,) = (await store.sites_by_name(conn, {"mx.reader.test": ["10 mx.reader.test:25"]})).values()
    await conn.execute("update domain set site_id = $1", site)
    (lane,) = await store.lanes_of(conn, [store.Limit(site, rate, burst, sessions)])
    return World(pool, rows, program, site, lane)


def delivered(facts: Facts) -> Ended:
    return Ended(facts, "delivered", attempts=facts.attempt + 1, reply="250 ok")


async def until_blocked(pool: Pool, number: int = 1) -> None:
    """Until so many in this database wait for a lock."""
    waiting = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
    while await pool.fetchval(waiting) < number:
        pass
