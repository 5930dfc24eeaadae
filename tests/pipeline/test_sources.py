"""Several sources on real addresses of the loopback network: weights, health, limits, what the ledger says."""

import pytest

from mtad.base.shape import Knobs, Shaping
from mtad.base.source import Source
from mtad.pipeline.claimer import VERDICTS
from mtad.pipeline.reception import ATTEMPTS
from mtad.pipeline.sources import OUT
from mtad.queue import suspensions
from tests.pipeline.place import COLD, WARM, Place
from tests.pipeline.receiver import Receiver
from tests.queue.world import World

# Of a network that no machine has (RFC 5737).
GONE = Source(name="gone", address=("192.0.2.1",))


async def test_weights_are_kept_and_the_ledger_and_the_metrics_say_which_source_sent(
    world: World, receiver: Receiver
) -> None:
    shape = Shaping(max_deliveries_per_connection=1)
    place = Place(world, receiver, WARM, COLD, shape=shape, pools={"default": {"warm": 3, "cold": 1}})
    counted = ATTEMPTS.labels(outcome="delivered", source="cold", provider="other")._value.get()

    async with place.workers():
        for number in range(1, 17):
            await place.queue(1)
            await place.until_delivered(number)

    assert await place.sent_by() == {"warm": 12, "cold": 4}
    assert receiver.mails == {"127.0.0.2": 12, "127.0.0.3": 4}
    assert receiver.names == {"127.0.0.2": "warm.example.com", "127.0.0.3": "mail.example.com"}
    assert ATTEMPTS.labels(outcome="delivered", source="cold", provider="other")._value.get() == counted + 4


async def test_a_source_that_cannot_bind_touches_no_job(world: World, receiver: Receiver) -> None:
    place = Place(world, receiver, GONE, WARM)
    await place.queue(60)

    async with place.workers():
        await place.until_delivered(60)
        assert OUT.labels(source="gone")._value.get() == 1

    assert await place.sent_by() == {"warm": 60}
    assert await world.pool.fetchval("select max(attempts) from ledger") == 1
    assert await world.pool.fetchval("select count(*) from lane where closed_until > now()") == 0


async def test_with_every_source_out_nothing_is_claimed_and_nobody_pays(world: World, receiver: Receiver) -> None:
    place = Place(world, receiver, GONE)
    await place.queue(20)

    async with place.workers():
        await place.until_so(lambda: OUT.labels(source=GONE.name)._value.get() == 1)
        await place.until("select not exists (select from job where worker is not null)")

    assert await world.pool.fetchval("select count(*) from job where attempt = 0 and due <= now()") == 20


async def test_limits_hold_for_each_source_over_two_workers(world: World, receiver: Receiver) -> None:
    shape = Shaping(connection_limit=4, source={"cold": Knobs(connection_limit=2)})
    place = Place(world, receiver, WARM, COLD, shape=shape)
    await place.queue(200)
    receiver.answers.clear()

    async with place.workers(2):
        await place.until_so(lambda: receiver.open == {"127.0.0.2": 4, "127.0.0.3": 2})
        receiver.answers.set()
        await place.until_delivered(200)

    assert receiver.most == {"127.0.0.2": 4, "127.0.0.3": 2}
    assert min((await place.sent_by()).values()) > 20


@pytest.mark.parametrize(("kind", "key"), [("source", "warm"), ("lane", "warm/{site}")])
async def test_what_is_suspended_by_source_or_lane_leaves_by_the_others(
    world: World, receiver: Receiver, kind: suspensions.Kind, key: str
) -> None:
    place = Place(world, receiver, WARM, COLD)
    await place.queue(30)
    key = key.format(site=f"127.0.0.1:{receiver.port}")
    await suspensions.suspend(world.rows.conn, kind, key, until=None, reason="blocked", by="ann")

    async with place.workers():
        await place.until_delivered(30)

    assert await place.sent_by() == {"cold": 30}
    assert receiver.most["127.0.0.2"] == 0, "a lane that is suspended was dialled"


async def test_a_receiver_that_blocks_one_of_our_addresses_costs_no_mail(world: World, receiver: Receiver) -> None:
    place = Place(world, receiver, WARM, COLD)
    receiver.refuses = b"550 5.7.1 Client host [192.0.2.1] blocked using Spamhaus\r\n"
    receiver.refused = {"127.0.0.2"}
    await place.queue(40)

    async with place.workers():
        await place.until(
            "select count(*) = 1 from lane where source = 'warm' and closed_until > now() + interval '9 min'"
        )
        await place.until("select count(*) = 0 from job where attempt = 0")

    assert await place.sent_by() == {"cold": 40 - await world.pool.fetchval("select count(*) from job")}
    assert 3 <= await world.pool.fetchval("select count(*) from job where reason like '550 5.7.1%'") < 12


async def test_a_lane_without_tokens_leaves_its_mail_to_the_others(world: World, receiver: Receiver) -> None:
    shape = Shaping(source={"warm": Knobs(max_message_rate="3/h")})
    place = Place(world, receiver, WARM, COLD, shape=shape)
    await place.queue(40)

    async with place.workers():
        await place.until_delivered(40)

    assert await place.sent_by() == {"warm": 1, "cold": 39}


async def test_mail_of_a_pool_that_cannot_go_does_not_stand_in_the_way_of_others(
    world: World, receiver: Receiver
) -> None:
    place = Place(world, receiver, WARM, COLD, pools={"default": {"cold": 1}, "news": {"warm": 1}})
    await suspensions.suspend(world.rows.conn, "source", "warm", until=None, reason="blocked", by="ann")
    await world.rows.conn.execute(
        "update stream_version set definition = jsonb_set(definition, '{pool}', '\"news\"')")  # fmt: skip
    await place.queue(100)
    other = await world.rows.program("other", stream="plain")
    contact = await world.rows.contact("ada@reader.test", stream="plain")
    job = await world.rows.enrol(other, contact)
    await world.rows.queued(other, contact, job, site_id=place.site)

    async with place.workers():
        await place.until_delivered(1)

    assert await place.sent_by() == {"cold": 1}


async def test_mail_that_cannot_go_keeps_its_time_where_no_other_pool_has_mail(
    world: World, receiver: Receiver
) -> None:
    place = Place(world, receiver, WARM, COLD, pools={"default": {"cold": 1}, "news": {"warm": 1}})
    await place.queue(20)
    await suspensions.suspend(world.rows.conn, "source", "cold", until=None, reason="blocked", by="ann")
    claimed = VERDICTS.labels(verdict="send", reason="")
    before = claimed._value.get()

    async with place.workers():
        await place.until_so(lambda: claimed._value.get() >= before + 20)
        await place.until("select not exists (select from job where worker is not null)")

    assert await world.pool.fetchval("select count(*) from job where due <= now() and reason is null") == 20


async def test_mail_of_a_pool_that_is_not_configured_waits_and_says_so(world: World, receiver: Receiver) -> None:
    place = Place(world, receiver, WARM)
    await world.rows.conn.execute(
        "update stream_version set definition = jsonb_set(definition, '{pool}', '\"news\"')")  # fmt: skip
    await place.queue(1)

    async with place.workers():
        await place.until("select exists (select from job where reason like '%no [[pool]] named ''news''')")

    assert receiver.mails == {}
