"""Random histories on real Postgres: rows and log are those of a replay, whatever the order of arrival.

Every fact comes in by the door it has: mail by settle, hits by the fold, entries by `enter`,
permission by its page, complaints, absences and late bounces by reports, states that are set by
`set_state`; what was none by `retell`. What comes after something younger is late, and some of
it is doubled; sweeps run in between, behind the journals, and twice nobody listened.
"""

import random
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
import pytest

from engine import permission, store
from engine.policy import Policy
from engine.replay import NEVER, Fact, Replayed, replay
from engine.rows import lock_rows, stored
from engine.rules import Brake
from engine.score import once
from engine.service import SETTABLE, enter, enter_reactivation, fold, offer, retell, set_state, sweep, unsubscribe
from engine.states import Event, Kind, Row, new_row
from mtad.base.db import Connection, in_transaction
from mtad.base.ids import uuid7
from mtad.queue.store import Ended, settle_ended
from tests.engine.world import World, definition, mail_facts

HISTORIES = 200
ROUNDS = 6

# An hour is a day here, so that forty facts go everywhere and lie in the past.
HOUR = timedelta(hours=1)
STEPS = 300
STEP = HOUR / 4
START = datetime.now(UTC).replace(microsecond=0) - (STEPS + 500) * STEP
POLICY = Policy(
    attempts=3, window=2 * 3600.0, days=20, days_unclear=40, cool_downs=(3 * 3600.0, 6 * 3600.0), day=3600.0,
    threshold=20, points_last=12 * 3600.0, brake=Brake(share=1.0, least=10_000),
)  # fmt: skip

PERMISSION = (Kind.UNSUBSCRIBED, Kind.BREAK, Kind.SUBSCRIBED_AGAIN)

# When no worker lived; and what another system says of a mailbox.
OUTAGES = [(START + 60 * STEP, START + 66 * STEP), (START + 190 * STEP, START + 204 * STEP)]
DEAF = [
    Fact(id=f"outage {since}", event=Event(Kind.UNSERVED, since, "outage", until=until)) for since, until in OUTAGES
]
REPORTED = {Kind.OUT_OF_OFFICE: "out_of_office", Kind.COMPLAINED: "complained", Kind.HARD_BOUNCE: "bounced"}


class Person(msgspec.Struct):
    """What happens to one contact: facts in the order of their arrival, and what of it was none."""

    contact: int
    arrives: list["Item"]
    void: set[str] = msgspec.field(default_factory=set)
    known: datetime = START  # the latest fact so far
    since: datetime = NEVER  # what an operator set, and when; these had earned their points by then
    base: Row = new_row(START)
    answered: set[str] = msgspec.field(default_factory=set)

    def truth(self, end: datetime) -> Replayed:
        facts = [fact for item in self.arrives for fact in item.facts if fact.id not in self.void] + DEAF
        facts = [fact for fact in facts if fact.event.at > self.since]
        return replay(facts, [(NEVER, POLICY)], end, self.base, since=self.since, answered=self.answered)


class Item(msgspec.Struct):
    """Something that happens, and the facts that it is."""

    kind: Kind
    at: datetime
    facts: list[Fact]
    event_id: UUID
    job: int = 0
    click: bool = False
    entry: int = 0


class Said(msgspec.Struct, frozen=True):
    """A report, as whoever wrote it down knows it."""

    event_id: UUID
    contact_id: int
    event: str
    at: datetime
    properties: dict[str, Any]
    job_id: int | None = None


class Stage:
    """The stream, its programs, and how things get to the database."""

    def __init__(
        self, world: World, stream: int, programs: dict[str, int], messages: list[int], luck: random.Random
    ) -> None:
        self.world, self.stream, self.programs, self.messages, self.luck = world, stream, programs, messages, luck
        self.number = 0
        self.clock = [START]  # the last is now, to whoever asks

    async def now(self, _conn: Connection) -> datetime:
        return self.clock[-1]

    def event(self, at: datetime) -> UUID:
        self.number += 1
        return uuid7(int(at.timestamp() * 1000), self.number.to_bytes(10))

    def person(self, contact: int) -> Person:
        items: list[Item] = []
        job = 1000 * contact
        for at in sorted(self.luck.sample(range(STEPS), self.luck.randint(10, 22))):
            items += self._drawn(contact, job + len(items) + 1, START + at * STEP)
        self._series_that_run(items)
        if contact % 5 == 0:
            kind = Kind.COMPLAINED if contact % 2 else Kind.TRANSACTIONAL  # that stands for what an operator sets
            when = START + self.luck.randrange(STEPS) * STEP + timedelta(seconds=2)
            items.append(Item(kind, when, [], self.event(when)))
            items.sort(key=lambda item: item.at)
        person = Person(contact, [*items])
        # Late by up to a dozen places, but nothing ends, or is answered, before it is there.
        place = {id(item): n + self.luck.choice((0, 0, 0, 1, 4, 12)) for n, item in enumerate(items)}
        begun = {item.entry or item.job: place[id(item)] for item in items if item.kind in (*BEGINS, Kind.DELIVERED)}
        person.arrives.sort(key=lambda item: max(place[id(item)], begun.get(item.entry or item.job, 0)))
        return person

    def _drawn(self, contact: int, job: int, at: datetime) -> list[Item]:
        match self.luck.choices(("mail", "series", "reactivation", "permission", "away"), (14, 2, 9, 2, 1))[0]:
            case "mail":
                return self._mail(job, at)
            case "away":
                until = at + self.luck.randrange(30) * STEP
                away, id_ = Event(Kind.OUT_OF_OFFICE, at, "away", until=until), self.event(at)
                return [Item(Kind.OUT_OF_OFFICE, at, [Fact(id=f"told {id_}", event=away)], id_)]
            case "permission":
                kind = self.luck.choice(PERMISSION)
                id_ = self.event(at)
                return [Item(kind, at, [Fact(id=f"told {id_}", event=Event(kind, at, "said so"))], id_)]
            case way:
                return self._way(way, job, at)

    def _mail(self, job: int, at: datetime) -> list[Item]:
        unseen = self.luck.random() < 0.15
        facts = [Fact(id=f"mail {job}", event=Event(Kind.DELIVERED, at, ""))]
        if unseen:
            facts.append(Fact(id=f"mail {job} unseen", event=Event(Kind.VEILED, at, "")))
        items = [Item(Kind.DELIVERED, at, facts, self.event(at), job)]
        for _ in range(self.luck.choice((0, 0, 0, 1, 2))):
            when = at + self.luck.randint(1, 16) * STEP + timedelta(seconds=self.luck.random())
            id_, click = self.event(when), self.luck.random() < 0.4
            if self.luck.random() < 0.25:
                veil = Fact(id=f"veil {id_}", event=Event(Kind.VEILED, when, ""))
                items.append(Item(Kind.VEILED, when, [veil], id_, job))
                continue
            sign = Event(Kind.SIGN, when, "", points=10 if click else 5)
            once = f"{'click' if click else 'open'} {job}"
            items.append(Item(Kind.SIGN, when, [Fact(id=f"sign {id_}", event=sign, once=once)], id_, job, click))
        return items

    def _way(self, way: str, entry: int, at: datetime) -> list[Item]:
        begins, ends = {
            "series": (Kind.ENTERS_SERIES, Kind.SERIES_SILENT),
            "reactivation": (Kind.ENTERS_REACTIVATION, Kind.REACTIVATION_SILENT),
        }[way]
        over = at + self.luck.randint(2, 30) * STEP + timedelta(seconds=1)
        begun = Item(begins, at, [Fact(id=f"enter {entry}", event=Event(begins, at, ""))], self.event(at), entry=entry)
        end = Fact(id=f"end {entry}", event=Event(ends, over, ""), entered=at)
        return [begun, Item(ends, over, [end], self.event(over), entry=entry)]

    @staticmethod
    def _series_that_run(items: list[Item]) -> None:
        spans: dict[int, list[datetime | None]] = {item.entry: [item.at, None] for item in items if item.kind in BEGINS}
        for item in items:
            if item.kind in ENDS:
                spans[item.entry][1] = item.at
        for item in items:
            if item.kind is Kind.ENTERS_SERIES:
                others = [span for entry, span in spans.items() if entry != item.entry]
                runs = any(since and since < item.at and (not until or until > item.at) for since, until in others)
                event = msgspec.structs.replace(item.facts[0].event, series_runs=runs)
                item.facts = [msgspec.structs.replace(item.facts[0], event=event)]

    # ── Doors ──

    async def arrive(self, told: list[tuple[Person, Item]]) -> None:
        """Everything of one round, in its order but for the kinds that come in batches."""
        conn = self.world.conn
        again: set[tuple[int, int]] = set()
        mails = [(person, item) for person, item in told if item.kind is Kind.DELIVERED]
        await self._settle(conn, mails)
        await self._hits([(person, item) for person, item in told if item.kind in (Kind.VEILED, Kind.SIGN)])
        for person, item in told:
            late = item.at <= person.known
            person.known = max(person.known, item.at)
            key = (self.stream, person.contact)
            match item.kind:
                case Kind.ENTERS_SERIES | Kind.ENTERS_REACTIVATION:
                    await self._enter(person.contact, item)
                    if late:
                        again.add(key)
                case Kind.SERIES_SILENT | Kind.REACTIVATION_SILENT:
                    await conn.execute("update entry set ended = $2, why = 'silent' where id = $1", item.entry, item.at)
                    again.add(key)
                case Kind.UNSUBSCRIBED | Kind.BREAK | Kind.SUBSCRIBED_AGAIN:
                    await self._say(person.contact, item)
                case Kind.OUT_OF_OFFICE:
                    until = item.facts[0].event.until
                    await self._report(person, item, item.event_id, {"until": until and until.isoformat()})
                case Kind.COMPLAINED:
                    await self._complain(person, item)
                case Kind.TRANSACTIONAL:
                    await self._set(person, item)
            if item.kind in (Kind.VEILED, Kind.DELIVERED) and late:
                again.add(key)
        await fold(self.world.pool)
        if again:
            await in_transaction(self.world.pool, lambda conn: retell(conn, sorted(again)))

    async def _settle(self, conn: Connection, mails: list[tuple[Person, Item]]) -> None:
        if not mails:
            return
        await conn.execute(
            "insert into job (id, contact_id, stream_id, program_id, version, message_id, class, prio, due, not_after,"
            " worker) select j.id, j.contact, $1, $2, 1, j.message, 2, 4, j.at, j.at, 1"
            " from unnest($3::bigint[], $4::bigint[], $5::int[], $6::timestamptz[]) as j (id, contact, message, at)",
            self.stream, self.programs["mail"], [item.job for _, item in mails], [one.contact for one, _ in mails],
            [self.messages[len(item.facts) - 1] for _, item in mails], [item.at for _, item in mails],
        )  # fmt: skip
        jobs = [
            Ended(mail_facts(item.job, person.contact, self.stream), "delivered", attempts=1, ended=item.at)
            for person, item in mails
        ]
        for first in range(0, len(jobs), 256):
            await settle_ended(conn, 1, 0, jobs[first : first + 256])

    async def _hits(self, hits: list[tuple[Person, Item]]) -> None:
        columns = (
            [item.event_id for _, item in hits],
            ["click" if item.click else "open" for _, item in hits],
            [item.at for _, item in hits],
            [item.job for _, item in hits],
            ["veiled" if item.kind is Kind.VEILED else "human" for _, item in hits],
        )
        await self.world.conn.execute(
            "insert into event (id, kind, at, contact_id, stream_id, job_id, class)"
            " select h.id, h.kind, h.at, h.contact, $7, h.job, h.class::hit_class"
            " from unnest($1::uuid[], $2::text[], $3::timestamptz[], $4::bigint[], $5::text[], $6::bigint[])"
            " as h (id, kind, at, job, class, contact) on conflict do nothing",
            *columns, [person.contact for person, _ in hits], self.stream,
        )  # fmt: skip
        await self.world.conn.execute(
            "insert into pending (event_id, job_id, kind, link_id, at, method, agent, class)"
            " select h.id, h.job, h.kind::sign_kind, 0, h.at, 'GET', '', 'human'"
            " from unnest($1::uuid[], $2::text[], $3::timestamptz[], $4::bigint[], $5::text[])"
            " as h (id, kind, at, job, class) where h.class = 'human' on conflict do nothing",
            *columns,
        )

    async def _enter(self, contact: int, item: Item) -> None:
        series = item.kind is Kind.ENTERS_SERIES

        async def work(conn: Connection) -> None:
            if series:
                await enter(conn, self.stream, [contact], item.at, series=True)
            else:
                await enter_reactivation(conn, self.stream, [contact], item.at)
            await conn.execute(
                "insert into entry (id, program_id, version, contact_id, stream_id, node, entered, key)"
                " overriding system value values ($1, $2, 1, $3, $4, 'one', $5, $6)",
                item.entry, self.programs["series" if series else "reactivation"], contact, self.stream, item.at,
                str(item.entry),
            )  # fmt: skip

        await in_transaction(self.world.pool, work)

    async def _say(self, contact: int, item: Item) -> None:
        what: dict[str, Any] = {"event_id": item.event_id, "at": item.at}

        async def work(conn: Connection) -> None:
            if item.kind is Kind.BREAK:
                # Only who is subscribed can take one.
                await conn.execute("update subscription set status = 'subscribed' where contact_id = $1", contact)
                await permission.take_break(conn, contact, self.stream, until=item.at, how="page", **what)
            else:
                await permission.subscribe(
                    conn, contact, self.stream, source="form", asked_to_measure=False, may_measure=False, **what
                )

        if item.kind is Kind.UNSUBSCRIBED:
            await unsubscribe(self.world.pool, contact_id=contact, stream_id=self.stream, how="page", **what)
        else:
            await in_transaction(self.world.pool, work)

    async def _report(self, person: Person, item: Item, id_: UUID, properties: dict[str, Any], job: int = 0) -> None:
        kind = REPORTED[Kind.HARD_BOUNCE if job else item.kind]
        said = Said(id_, person.contact, kind, item.at, properties, job or None)

        async def work(conn: Connection) -> None:
            await conn.execute(
                "insert into event (id, kind, at, contact_id, data) values ($1, $2, $3, $4, $5)",
                id_, kind, item.at, person.contact, {"properties": properties},
            )  # fmt: skip
            await offer(conn, [said])

        self.clock.append(item.at)
        await in_transaction(self.world.pool, work)

    async def _complain(self, person: Person, item: Item) -> None:
        await self._report(person, item, item.event_id, {})
        id_ = await self.world.conn.fetchval(
            "select id from event where kind = 'complaint' and contact_id = $1", person.contact
        )
        item.facts.append(Fact(id=f"told {id_}", event=Event(Kind.COMPLAINED, item.at, "complaint")))

    async def _set(self, person: Person, item: Item) -> None:
        state, key = self.luck.choice(SETTABLE), (self.stream, person.contact)

        async def work(conn: Connection) -> None:
            await set_state(conn, person.contact, self.stream, state, by="ann", reason="knows better")
            kept = (await lock_rows(conn, [key]))[key]
            person.base, person.since = kept.row, kept.told
            answers = await conn.fetch(
                "select job_id, kind::text from answer where contact_id = $1 and at <= $2", person.contact, kept.told
            )
            person.answered = {once(row[0], row[1]) for row in answers}

        self.clock.append(item.at)
        await in_transaction(self.world.pool, work)
        assert person.base.state == state

    async def was_none(self, person: Person, item: Item) -> None:
        """A hit turns out a scanner's; a mail bounced after all."""
        person.void |= {fact.id for fact in item.facts}
        if item.kind is Kind.DELIVERED:
            await self._report(person, item, self.event(item.at), {}, item.job)
            return
        await self.world.conn.execute("update event set class = 'scanner' where id = $1", item.event_id)
        await in_transaction(self.world.pool, lambda conn: retell(conn, [(self.stream, person.contact)]))


BEGINS = (Kind.ENTERS_SERIES, Kind.ENTERS_REACTIVATION)
ENDS = (Kind.SERIES_SILENT, Kind.REACTIVATION_SILENT)


async def staged(world: World, luck: random.Random) -> Stage:
    stream = await world.stream(policy=POLICY)
    programs = {
        "mail": await world.program(stream, definition("mail", kind="campaign")),
        "series": await world.program(stream, definition("series", leave_on=())),
        "reactivation": await world.program(stream, definition("reactivation", kind="reactivation", leave_on=())),
    }
    messages = await world.conn.fetch("select id from message where program_id = $1 order by id", programs["mail"])
    await world.conn.execute("update message set pixel = false where id = $1", messages[1][0])
    (fell, rose), (fell_again, rose_again) = OUTAGES
    await world.conn.execute(
        "insert into worker (host, slot, pid, started, beat, dead, ingested_until) values"
        " ('here', 0, 1, $1, $2, $2, $2), ('here', 0, 2, $3, $4, $4, $4), ('here', 0, 3, $5, now(), null, '-infinity')",
        START - HOUR, fell, rose, fell_again, rose_again,
    )  # fmt: skip
    return Stage(world, stream, programs, [row[0] for row in messages], luck)


async def standing(
    conn: Connection, stream: int, contact: int, since: datetime
) -> list[tuple[str, str, str, datetime]]:
    """The log since then without what was taken back."""
    rows = await conn.fetch(
        "select t.from_state::text, t.to_state::text, t.why, t.at from transition t"
        " where t.stream_id = $1 and t.contact_id = $2 and t.at > $3 and t.takes_back is null"
        " and not exists (select from transition b where b.takes_back = t.id) order by t.at, t.id",
        stream, contact, since,
    )  # fmt: skip
    return [tuple(row) for row in rows]


async def test_rows_on_postgres_are_those_of_the_replay(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    luck = random.Random(7)
    stage = await staged(world, luck)
    monkeypatch.setattr(store, "now", stage.now)
    contacts = [await world.contact(f"{n}@example.com", stage.stream) for n in range(HISTORIES)]
    people = [stage.person(contact) for contact in contacts]
    for number in range(ROUNDS):
        told = []
        for person in people:
            size = -(-len(person.arrives) // ROUNDS)
            part = person.arrives[number * size : (number + 1) * size]
            told += [(person, item) for item in part]
        await stage.arrive(told)
        heard = START + luck.randrange(STEPS) * STEP
        await world.conn.execute(
            "update worker set ingested_until = greatest(ingested_until, $1) where dead is null", heard
        )
        await sweep(world.pool)
        doubled = [(p, item) for p, item in luck.sample(told, len(told) // 10) if item.kind in (Kind.SIGN, Kind.VEILED)]
        await stage.arrive(doubled)
        for person, item in luck.sample(told, len(told) // 30):
            if item.kind in (Kind.SIGN, Kind.DELIVERED) and not person.void:
                await stage.was_none(person, item)
    # The ends that the engine writes itself are of now.
    await world.conn.execute("update worker set ingested_until = '2100-01-01 UTC' where dead is null")
    while await sweep(world.pool):
        pass
    end = datetime.now(UTC)

    rows = await lock_rows(world.conn, [(stage.stream, person.contact) for person in people])
    whys: Counter[str] = Counter()
    for person in people:
        truth = person.truth(end)
        found = rows[stage.stream, person.contact].row
        log = [(stored(one.transition.from_state), stored(one.transition.to_state), one.transition.why,
                one.transition.at) for one in truth.log if one.transition.from_state]  # fmt: skip
        assert await standing(world.conn, stage.stream, person.contact, person.since) == log, person.contact
        assert found == truth.row, person.contact
        whys.update(one[2] for one in log)
    assert {
        "attempts",
        "days",
        "silent",
        "reactivation",
        "threshold",
        "came_back",
        "entered",
        "complained",
    } <= whys.keys()
    assert await world.conn.fetchval("select count(*) from transition where takes_back is not null") > HISTORIES
