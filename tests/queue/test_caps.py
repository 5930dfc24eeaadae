"""Slots of caps: taken in begin, one a mail, exact over all workers, and free again where nothing was delivered."""

import asyncio
import contextlib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from engine.facts import Facts
from mtad.base.db import Connection, Pool
from mtad.queue import store
from mtad.queue.store import Ended, Offer, Returned
from tests.queue.world import World, delivered, until_blocked

ANN = "ann@reader.test"


async def begun(world: World, worker: int, offers: Sequence[Offer]) -> list[float | None]:
    answers = await store.begin(world.rows.conn, worker, offers)
    return [answers[offer.facts.job_id] for offer in offers]


def counted(world: World, claimed: Sequence[Facts]) -> list[Offer]:
    return [msgspec.structs.replace(offer, counts=True) for offer in world.offers(claimed)]


class Dropped:
    """A connection that is lost behind its first statement."""

    def __init__(self, conn: Connection) -> None:
        self._conn = conn
        self._asked = False

    def __getattr__(self, name: str) -> Any:
        if self._asked:
            raise ConnectionResetError
        self._asked = True
        return getattr(self._conn, name)


async def gate(world: World) -> tuple[int, list[datetime], list[int]]:
    """Version, sends and their streams of the only contact."""
    row = await world.rows.conn.fetchrow("select version, sent, sent_on from gate")
    assert row is not None
    return row[0], row[1] or [], row[2] or []


async def test_begin_takes_the_slot_and_makes_other_verdicts_stale(world: World) -> None:
    worker = await world.worker()
    await world.job()
    later = await world.job(mail=2)
    first, second = await world.claim(worker)

    assert await begun(world, worker, counted(world, [first])) == [0]

    version, sent, sent_on = await gate(world)
    begin = await world.rows.conn.fetchval("select begun from job where id = $1", first.job_id)
    assert (version, sent, sent_on) == (2, [begin], [world.program.stream])
    assert await begun(world, worker, counted(world, [second])) == [None]
    await store.release(world.rows.conn, worker, [store.Released(second)])
    (again,) = await world.claim(worker)
    assert (again.job_id, again.sent, again.sent_on, again.slot) == (later, sent, sent_on, None)


async def test_two_mails_to_one_contact_do_not_begin_in_one_statement(world: World) -> None:
    worker = await world.worker()
    await world.job()
    await world.job(mail=2)
    await world.job("ben@reader.test")
    claimed = await world.claim(worker)

    answers = await begun(world, worker, counted(world, claimed))

    assert sorted(map(str, answers)) == ["0.0", "0.0", "None"]
    assert await world.rows.conn.fetchval("select sum(cardinality(sent)) from gate") == 2


async def test_two_workers_do_not_take_the_last_slot_both(world: World, pool: Pool) -> None:
    workers = [await world.worker(slot) for slot in (0, 1)]
    await world.job()
    offers = [counted(world, await world.claim(workers[0]))]
    await world.job(mail=2)
    offers.append(counted(world, await world.claim(workers[1])))

    async def one(worker: int, its: Sequence[Offer]) -> dict[int, float | None]:
        async with pool.acquire() as conn:
            return await store.begin(conn, worker, its)

    first, second = await asyncio.gather(*map(one, workers, offers))

    assert sorted(map(str, (first | second).values())) == ["0.0", "None"]


async def test_what_does_not_count_leaves_the_row_alone(world: World) -> None:
    worker = await world.worker()
    await world.job()
    await world.job(mail=2)

    assert await begun(world, worker, world.offers(await world.claim(worker))) == [0, 0]

    assert await gate(world) == (1, [], [])


async def test_a_retry_takes_no_further_slot_but_moves_its_own(world: World) -> None:
    worker = await world.worker()
    await world.job()
    (facts,) = await world.claim(worker)
    await begun(world, worker, counted(world, [facts]))
    _, before, _ = await gate(world)
    await store.settle_returned(world.rows.conn, worker, 0, [Returned(facts, 0, "451 later", 1)])

    (again,) = await world.claim(worker)
    assert again.slot == before[0]
    assert await begun(world, worker, counted(world, [again])) == [0]

    _, after, _ = await gate(world)
    assert len(after) == 1
    assert after > before


@pytest.mark.parametrize(
    ("outcome", "left"), [("delivered", 1), ("in_doubt", 1), ("bounced", 0), ("expired", 0), ("skipped", 0)]
)
async def test_slot_is_free_again_unless_the_mail_may_have_arrived(world: World, outcome: str, left: int) -> None:
    worker = await world.worker()
    await world.job()
    (facts,) = await world.claim(worker)
    await begun(world, worker, counted(world, [facts]))
    later = datetime.now(UTC) + timedelta(days=5)
    waits = [await world.job(mail=2, due=later, reason="cap:1/7d"), await world.job(mail=3, due=later, reason="451")]

    dropped: Any = Dropped(world.rows.conn)
    with contextlib.suppress(ConnectionResetError):
        await store.settle_ended(dropped, worker, 0, [Ended(facts, outcome, "x", attempts=1)])

    _, sent, sent_on = await gate(world)
    assert len(sent) == len(sent_on) == left
    # Then what waits for a slot is asked for again, at once.
    assert [f.job_id for f in await world.claim(worker)] == waits[: 1 - left]


async def test_what_waits_for_a_slot_can_end_with_the_mail_that_gives_it_back(world: World) -> None:
    worker = await world.worker()
    await world.job()
    (first,) = await world.claim(worker)
    await begun(world, worker, counted(world, [first]))
    await world.job(mail=2)
    (second,) = await world.claim(worker)
    await world.rows.conn.execute(
        "update job set due = now() + interval '1 d', reason = 'cap:1/7d' where id = $1", second.job_id
    )

    both = [Ended(facts, "bounced", "x", attempts=1) for facts in (first, second)]
    assert await store.settle_ended(world.rows.conn, worker, 0, both) == {first.job_id, second.job_id}


async def test_who_is_put_off_while_a_slot_comes_back_is_asked_for_again_at_once(world: World) -> None:
    worker = await world.worker()
    await world.job()
    (first,) = await world.claim(worker)
    await begun(world, worker, counted(world, [first]))
    second = await world.job(mail=2)
    (facts,) = await world.claim(worker)
    put_off = [Returned(facts, 86400, "cap:1/7d", 0)]

    await store.settle_ended(world.rows.conn, worker, 0, [Ended(first, "bounced", "x", attempts=1)])
    await store.settle_returned(world.rows.conn, worker, 0, put_off)

    (again,) = await world.claim(worker)
    assert again.job_id == second
    await store.settle_returned(world.rows.conn, worker, 0, [Returned(again, 86400, "cap:1/7d", 0)])
    assert not await world.claim(worker)


async def test_who_is_put_off_in_the_same_moment_is_asked_for_again_at_once(world: World) -> None:
    """What settles waits for the row of the contact, and finds mail as it is when it has that."""
    worker = await world.worker()
    await world.job()
    (first,) = await world.claim(worker)
    await begun(world, worker, counted(world, [first]))
    second = await world.job(mail=2)
    (facts,) = await world.claim(worker)

    async with world.pool.acquire() as other:
        async with other.transaction():
            await store.settle_returned(other, worker, 0, [Returned(facts, 86400, "cap:1/7d", 0)])
            ended = [Ended(first, "bounced", "x", attempts=1)]
            settling = asyncio.create_task(store.settle_ended(world.rows.conn, worker, 0, ended))
            await until_blocked(world.pool)
        await settling

    assert [again.job_id for again in await world.claim(worker)] == [second]


async def test_who_wakes_mail_for_a_free_slot_waits_for_nobody(world: World) -> None:
    """It may hold tallies that whoever has locked the mail waits for."""
    worker = await world.worker()
    job = await world.job(due=datetime.now(UTC) + timedelta(hours=1), reason="cap:1/7d")
    mine, ann = world.rows.conn, [world.contacts[job]]

    async with world.pool.acquire() as other, other.transaction():
        await other.execute("select from job for update")
        await asyncio.wait_for(mine.execute("select wake_capped($1)", ann), 10)
    assert not await world.claim(worker)
    await mine.execute("select wake_capped($1)", ann)

    assert await world.claim(worker)


async def test_slots_of_others_stay_when_one_is_given_back(world: World) -> None:
    worker = await world.worker()
    for mail in (1, 2, 3):
        await world.job(mail=mail)
        (facts,) = await world.claim(worker)
        await begun(world, worker, counted(world, [facts]))
        end = delivered(facts) if mail != 2 else Ended(facts, "bounced", "x", attempts=1)
        await store.settle_ended(world.rows.conn, worker, 0, [end])

    _, sent, _ = await gate(world)
    begins = [row[0] for row in await world.rows.conn.fetch("select begun from ledger order by begun")]
    assert sent == [begins[0], begins[2]]


async def test_sixteen_sends_of_each_stream_are_kept(world: World) -> None:
    worker = await world.worker()
    await world.rows.contact(ANN)
    hour = "now() - n * interval '1 h'"
    await world.rows.conn.execute(
        f"update gate set sent = array(select {hour} from generate_series(20, 1, -1) n),"
        " sent_on = array(select case when n % 5 = 0 then 77 else $1 end from generate_series(20, 1, -1) n)",
        world.program.stream,
    )
    await world.job()

    await begun(world, worker, counted(world, await world.claim(worker)))

    _, sent, sent_on = await gate(world)
    assert sent == sorted(sent)
    assert [sent_on.count(on) for on in (77, world.program.stream)] == [4, 16]
    assert sent_on[-1] == world.program.stream


async def test_no_token_takes_no_slot(world: World) -> None:
    worker = await world.worker()
    await world.job()
    claimed = await world.claim(worker)
    await store.close_lane(world.rows.conn, world.lane.id, 60, "test")

    (wait,) = await begun(world, worker, counted(world, claimed))

    assert wait is not None
    assert wait > 0
    assert await gate(world) == (1, [], [])
