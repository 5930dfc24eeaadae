"""mtad why: what a mail waits for on its way out, and by the number of a mail."""

from datetime import UTC, datetime, timedelta

import pytest

from mtad.base.db import Connection
from mtad.base.errors import InputError
from mtad.ops.answers.delivery import Queued, waits_for
from mtad.ops.answers.times import local
from mtad.ops.answers.why import why
from mtad.queue import limits, store, suspensions
from tests.operate.conftest import Mtad
from tests.queue.world import World

NOW = datetime.now(UTC)
UNTIL = NOW + timedelta(hours=2)


async def told(conn: Connection, whose: str) -> list[str]:
    (chapter,) = (await why(conn, whose)).programs
    return chapter.sentences


async def test_it_names_the_limit_its_end_and_its_reason(world: World, conn: Connection) -> None:
    await world.job("first@reader.test", due=NOW - timedelta(hours=1))
    await world.job("urgent@reader.test", prio=0)
    await world.job("later@reader.test", due=NOW + timedelta(hours=1))
    await world.job("ann@reader.test", due=NOW - timedelta(minutes=1))
    async with conn.transaction():
        await limits.set_limit(
            conn, world.lane.id, "max_message_rate", "1/min", until=UNTIL, reason="421 4.7.0 [TSS04]", by="automation"
        )

    (said,) = await told(conn, "ann@reader.test")

    assert said.endswith(
        f"Waiting for mx.reader.test: max_message_rate is 1/min until {local(UNTIL)} because of 421 4.7.0 [TSS04]."
        " Waiting for mx.reader.test: 2 mails are before it, the rate is 1/min, 0 of 8 sessions are open."
    )


async def test_it_names_what_is_closed_and_suspended(world: World, conn: Connection) -> None:
    await world.job()
    await store.close_lane(conn, world.lane.id, 3600, "no connection: refused")
    async with conn.transaction():
        await suspensions.suspend(conn, "source", "default", until=None, reason="a move", by="me")
        await suspensions.suspend(conn, "domain", "reader.test", until=UNTIL, reason="their wish", by="me")
        await suspensions.suspend(conn, "campaign", "other", until=None, reason="not this", by="me")
        await suspensions.suspend(conn, "site", "mx.reader.test", until=None, reason="once only", by="me")
        await store.lanes_of(conn, [store.Limit(world.site, 10, 10, 2, "cold")])
        await conn.execute("update lane set suspended_until = 'infinity'")

    (said,) = await told(conn, "ann@reader.test")

    assert "The source default is suspended until it is resumed by me: a move." in said
    assert f"The domain reader.test is suspended until {local(UNTIL)} by me: their wish." in said
    assert "Nothing begins at mx.reader.test from default until" in said
    assert said.index("their wish") < said.index("refused")
    assert "not this" not in said
    assert said.count("once only") == 1


async def test_it_names_a_warm_up_that_is_used_up_and_of_several_lanes_which_is_closed(
    world: World, conn: Connection
) -> None:
    await world.job()
    (cold,) = await store.lanes_of(conn, [store.Limit(world.site, 10, 10, 2, "cold", "yahoo")])
    await store.close_lane(conn, cold.id, 3600, "no connection: refused")
    await conn.execute(
        "insert into warmup (source, provider, day, step, allowed, granted)"
        " values ('cold', 'yahoo', (now() at time zone 'utc')::date, 0, 50, 50)"
    )

    (said,) = await told(conn, "ann@reader.test")

    assert "Nothing begins at mx.reader.test from cold until" in said
    assert "The source cold has used the 50 mails that its warm-up allows for receivers of 'yahoo' today." in said


async def test_a_number_is_one_mail(world: World, conn: Connection, mtad: Mtad) -> None:
    first = await world.job(mail=1)
    second = await world.job(mail=2)

    assert len(await told(conn, "ann@reader.test")) == 2
    (said,) = await told(conn, str(second))
    assert said.startswith("Mail 2 of nudge is queued")
    result = await mtad("why", str(first))
    assert "Mail 1 of nudge" in result.stdout
    assert "Mail 2 of nudge" not in result.stdout


@pytest.mark.parametrize("job", ["0", "99999999999999999999999"])
async def test_a_number_that_is_no_mail_is_refused(world: World, conn: Connection, job: str) -> None:
    with pytest.raises(InputError, match=f"job {job}: there is no such mail"):
        await why(conn, job)


@pytest.mark.parametrize(
    ("mail", "says"),
    [
        (Queued(1, None, None, "x.test", "p", NOW, None, None, ahead=0),
         ["Where mail for x.test goes is being looked up."]),
        (Queued(1, None, None, "x.test", "p", NOW, None, "nobody answered", ahead=0),
         ["Where mail for x.test goes is being looked up, so far in vain: nobody answered."]),
        (Queued(1, 1, "mx", "x.test", "p", NOW, 7, None, ahead=None),
         ["A worker has it and sends it with its next session: 0 of 0 sessions are open."]),
        (Queued(1, 1, "mx", "x.test", "p", NOW, 0, None, ahead=None), []),
        (Queued(1, 1, "mx", "x.test", "p", NOW, None, None, ahead=0), ["Waiting for mx: it is the next."]),
        (Queued(1, 1, "mx", "x.test", "p", NOW, None, None, ahead=1), ["Waiting for mx: 1 mail is before it."]),
        (Queued(1, 1, "mx", "x.test", "p", NOW, None, None, ahead=20_000),
         ["Waiting for mx: 10,000 mails or more are before it."]),
        (Queued(1, 1, "mx", "x.test", "p", UNTIL, None, None, ahead=None), []),
    ],
)  # fmt: skip
def test_without_a_lane_there_is_little_to_say(mail: Queued, says: list[str]) -> None:
    assert waits_for(mail, (), (), NOW) == says
