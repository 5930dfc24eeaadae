"""A cap over two workers that send what five programs queued for the same people, over real SMTP."""

from collections import Counter
from datetime import datetime, timedelta

from mtad.pipeline.claimer import VERDICTS
from tests.pipeline.place import Place
from tests.pipeline.receiver import Receiver
from tests.queue.world import World

PEOPLE, PROGRAMS = 120, 5
WEEK = timedelta(days=7)
CAPS = {"slots": {"caps": [{"most": 2, "window": WEEK.total_seconds(), "name": "2/7d"}]}}

# A third of the people had one mail three days ago, a third two, so that they get one and none.
AUDIENCE = """
insert into contact (address, address_key, domain_id)
  select 'p' || n || '@reader.test', 'p' || n || '@reader.test', $1 from generate_series(1, $2) n;
"""
GATES = """
insert into gate (contact_id, sent, sent_on)
  select id,
         array(select now() - interval '3 d' + n * interval '1 h' from generate_series(1, id % 3) n),
         array(select $1::int from generate_series(1, id % 3))
    from contact
"""
PERMISSION = """
insert into subscription (stream_id, contact_id, status, basis, source, changed_by)
  select $1, id, 'subscribed', 'consent', 'x', 'x' from contact
"""
QUEUE = """
with jobs as (
  insert into job (contact_id, stream_id, program_id, version, message_id, site_id, class, prio, due, not_after)
  select id, $1, $2, 1, $3, $4, 2, 4, now(), now() + interval '30 d' from contact
  returning id, contact_id
)
insert into enrolled (program_id, node, contact_id, job_id) select $2, $5, contact_id, id from jobs
"""


async def test_nobody_gets_a_mail_too_many_and_the_rest_waits_for_the_exact_time(world: World) -> None:
    conn, stream = world.rows.conn, world.program.stream
    await conn.execute("update stream_version set definition = jsonb_set(definition, '{policy}', $1)", CAPS)
    domain = await conn.fetchval("insert into domain (name) values ('reader.test') returning id")
    await conn.execute(AUDIENCE, domain, PEOPLE)
    await conn.execute(GATES, stream)
    await conn.execute(PERMISSION, stream)
    async with Receiver() as receiver:
        place = Place(world, receiver)
        await place.queue(0)
        for n in range(PROGRAMS):
            program = await world.rows.program(f"p{n}", mails=1)
            await conn.execute(QUEUE, stream, program.id, program.messages[0], place.site, f"p{n}-1")
        before = {row[0]: row[1] for row in await conn.fetch("select contact_id, sent from gate")}

        async with place.workers(2):
            await place.until("select not exists (select from job where reason is null)")

        received = receiver.mails.total()

    delivered = Counter[int](
        row[0] for row in await conn.fetch("select contact_id from ledger where outcome = 'delivered'")
    )
    sends = {row[0]: row[1] for row in await conn.fetch("select contact_id, sent from gate")}
    assert delivered == Counter({contact: 2 - len(sent) for contact, sent in before.items() if len(sent) < 2})
    assert received == delivered.total()
    for row in await conn.fetch("select contact_id, due, reason from job"):
        wanted = free_again(sends[row[0]])
        assert row[2] == "cap:2/7d"
        assert wanted <= row[1] <= wanted + timedelta(seconds=10), "late by more than settling takes"
    assert sum(delivered.values()) + await conn.fetchval("select count(*) from job") == PEOPLE * PROGRAMS


def free_again(sent: list[datetime]) -> datetime:
    """The first moment at which fewer than two of these lie within a week."""
    return min(when + WEEK for when in sent if sum(when < other for other in sent) < 2)


async def test_verdicts_are_counted_by_reason_and_not_by_the_name_of_a_cap(world: World) -> None:
    stream = world.program.stream
    await world.rows.conn.execute("update stream_version set definition = jsonb_set(definition, '{policy}', $1)", CAPS)
    sums = [VERDICTS.labels(verdict="defer", reason="cap"), VERDICTS.labels(verdict="send", reason="")]
    before = [counter._value.get() for counter in sums]
    async with Receiver() as receiver:
        place = Place(world, receiver)
        await place.queue(2)
        await world.rows.conn.execute(
            "update gate set sent = array_fill(now() - interval '3 d', array[2]), sent_on = array[$1, $1]::int[]"
            " where contact_id = (select min(contact_id) from gate)", stream,
        )  # fmt: skip
        async with place.workers():
            await place.until_delivered(1)
            await place.until("select count(*) = 1 from job where reason = 'cap:2/7d'")

    assert [counter._value.get() - was for counter, was in zip(sums, before, strict=True)] == [1, 1]
