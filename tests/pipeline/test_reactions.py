"""What a pipeline makes of refusals and of answers that never came, by its configuration."""

from collections.abc import Awaitable, Callable

import msgspec
import pytest

from mtad.base.automation import Automation, Rule
from mtad.base.config import Config
from mtad.base.db import Pool
from mtad.base.retry import Retries, Retry
from tests.pipeline.office import CONFIG, FrailPool, Office, open_office
from tests.queue.world import World

Opener = Callable[[Config], Awaitable[Office]]


@pytest.fixture
async def office_with(pool: Pool, world: World) -> Opener:
    """A worker's pipeline with this configuration."""

    async def make(config: Config) -> Office:
        return Office(world, FrailPool(pool), await world.worker(), config=config)

    return make


@pytest.mark.parametrize(("policy", "sent"), [("give_up", []), ("retry", ["ann@reader.test"])])
async def test_a_mail_in_doubt_is_sent_again_or_given_up_as_its_class_says(
    office_with: Opener, policy: str, sent: list[str]
) -> None:
    bulk = msgspec.convert({"in_doubt": policy}, Retry)
    office = await office_with(msgspec.structs.replace(CONFIG, retry=Retries(bulk=bulk)))
    await office.world.job(attempt=1, doubts=1)

    async with open_office(office):
        await office.until_count("select count(*) from ledger", 1)

    (outcome,) = [row[1] for row in await office.world.ledger()]
    assert office.post.sent == sent
    assert outcome == ("delivered" if sent else "in_doubt")


@pytest.mark.parametrize("most", [1, 3])
async def test_a_lane_is_closed_after_as_many_failed_connections_as_are_configured(
    office_with: Opener, most: int
) -> None:
    shape = msgspec.structs.replace(CONFIG.shape, consecutive_connection_failures_before_delay=most)
    office = await office_with(msgspec.structs.replace(CONFIG, shape=shape))
    office.post.hangs_up = True
    for number in range(5):
        await office.world.job(f"p{number}@reader.test")

    async with open_office(office):
        await office.until_count("select count(*) from lane where closed_until > now()", 1)

    assert office.post.opened == most
    assert await office.world.pool.fetchval("select count(*) from job where attempt = 1") == most


async def test_a_receiver_that_has_had_enough_is_left_alone(office_with: Opener) -> None:
    rule = Rule(name="enough", regex="too many connections", threshold="3/h", suspend="lane", duration="1h")
    office = await office_with(msgspec.structs.replace(CONFIG, automation=Automation(off=("*",), rule=(rule,))))
    office.post.refusals = 3
    for number in range(3):
        await office.world.job(f"p{number}@reader.test")

    async with open_office(office):
        await office.until_count("select count(*) from lane where suspended_until > now() + interval '50 min'", 1)
        await office.world.job("later@reader.test")

    assert await office.world.pool.fetchval("select reason from suspension") == (
        "enough: 421 4.7.0 too many connections"
    )
    assert sorted(office.post.sent) == ["p0@reader.test", "p1@reader.test", "p2@reader.test"]
