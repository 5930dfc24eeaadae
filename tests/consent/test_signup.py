"""Double opt-in: who is asked, how often, and what a confirmation does."""

import asyncio
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtad.audience.service import Options, import_contacts
from mtad.base.config import Config
from mtad.base.retry import Retries, Transactional
from mtad.consent import signup
from mtad.consent.desk import ConsentDesk
from mtad.consent.limits import MOST, SPAN, next_slot
from mtad.queue import advance
from tests.consent.conftest import FORM, VISITOR, Office
from tracker.desk import BURST, Act, Confirmed

NOON = datetime(2026, 11, 2, 12, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


@given(st.lists(st.integers(0, 3 * 24 * 60), max_size=60))
def test_no_address_is_asked_more_than_once_in_an_hour_and_three_times_in_a_day(minutes: list[int]) -> None:
    slots: list[datetime] = []
    for minute in sorted(minutes):
        if slot := next_slot(slots, NOON + timedelta(minutes=minute)):
            assert slot >= NOON + timedelta(minutes=minute)
            slots.append(slot)

    assert all(later - sooner >= HOUR for sooner, later in pairwise(slots))
    assert all(later - sooner >= SPAN for sooner, later in zip(slots, slots[MOST:], strict=False))


async def test_asking_makes_one_transactional_mail_and_its_proof_and_no_permission(office: Office) -> None:
    assert await office.ask("Ann@Reader.test")

    (job,) = await office.pool.fetch("select * from job")
    assert (job["class"], job["prio"], job["due"] <= datetime.now(UTC)) == (0, 0, True)
    (proof,) = await office.proofs()
    assert (proof["job_id"], proof["address"], proof["consent"]) == (
        job["id"], "Ann@Reader.test", "Yes, write to me. I can stop it at any time.",
    )  # fmt: skip
    assert (proof["form_version"], str(proof["asked_ip"]), proof["page"]) == (1, VISITOR.ip, VISITOR.page)
    assert proof["message_id"].startswith(f"<job.{job['id']}.")
    assert (proof["confirmed"], await office.status()) == (None, "unconfirmed")


async def test_asking_again_within_the_hour_or_at_once_changes_nothing(office: Office) -> None:
    await asyncio.gather(*(office.ask(address) for address in ["ann@reader.test", "ANN@reader.test"] * 3))

    assert len(await office.jobs()) == len(await office.proofs()) == 1
    assert await office.pool.fetchval("select count(*) from contact") == 1


async def test_who_asks_for_more_within_the_hour_is_asked_later_and_then_not_at_all(office: Office) -> None:
    for version in range(5):
        await office.apply(FORM + f'text = "{version}"')
        await office.ask()
        await office.deliver()

    dues = [proof["due"] for proof in await office.proofs()]
    assert [round((due - dues[0]) / HOUR) for due in dues] == [0, 1, 2, 24]


async def test_a_mail_that_is_held_up_is_the_only_one_and_counts_from_when_it_went(office: Office) -> None:
    await office.ask()
    (job,) = await office.jobs()
    await office.later(5 * HOUR)
    await office.apply(FORM + 'text = "2"')
    assert await office.ask(), "and nobody is told"
    assert await office.jobs() == [job], "it may arrive together with another"

    await office.deliver(timedelta(minutes=40))
    await office.ask()
    assert await office.pool.fetchval("select round(extract(epoch from due - now()) / 60)::int from job") == 20


async def test_the_program_that_asks_never_ends(office: Office) -> None:
    assert await advance.finish(office.pool) == 0
    assert await office.pool.fetchval("select status::text from program") == "running"


async def test_who_is_subscribed_is_not_asked_and_the_answer_is_the_same(office: Office) -> None:
    await office.joined()
    await office.later(2 * HOUR)

    assert await office.ask()
    assert len(await office.jobs()) == 1


async def test_a_form_that_is_not_there_or_has_changed_since_asks_nobody(office: Office) -> None:
    assert not await office.ask(form="nowhere")
    await office.apply(FORM.replace("Yes", "Sure"))
    assert not await office.ask(version=1)
    assert await office.pool.fetchval("select count(*) from contact") == 0


@pytest.mark.parametrize("address", ["", "ann", "ann@", "a b@reader.test", "ann@reader.test\r\nBcc: x@y.test"])
async def test_what_is_no_address_is_refused(office: Office, address: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        await office.ask(address)
    assert await office.proofs() == []


async def test_a_confirmation_subscribes_once_with_its_proof(office: Office) -> None:
    await office.ask()
    (job,) = await office.jobs()

    assert [await office.confirm(job) for _ in range(3)] == [Confirmed.DONE] * 3
    (proof,) = await office.proofs()
    assert str(proof["confirmed_ip"]) == VISITOR.ip
    (row,) = await office.pool.fetch("select * from subscription")
    assert (row["status"], row["basis"], row["source"], row["tracking"]) == ("subscribed", "consent", "form:site", None)
    assert row["consent_at"] == proof["confirmed"]
    assert await office.pool.fetchval("select count(*) from event where kind = 'subscribe'") == 1


@pytest.mark.parametrize(("ticked", "mode"), [(True, "full"), (False, "none")])
async def test_who_was_asked_about_measuring_is_measured_only_after_a_yes(
    office: Office, ticked: bool, mode: str
) -> None:
    await office.apply(FORM + 'measuring = "Measure me."')
    await office.joined(measuring=ticked)

    assert await office.pool.fetchval("select tracking::text from subscription") == mode
    assert (await office.proofs())[0]["measuring"] == ("Measure me." if ticked else None)


async def test_an_old_confirmation_brings_back_nobody_who_has_left(office: Office) -> None:
    contact = await office.joined()
    (job,) = await office.jobs()
    assert (await office.came_to(job), await office.act(Act.LEAVE, contact)) == (Confirmed.DONE, True)

    assert await office.confirm(job) is await office.came_to(job) is Confirmed.USED
    assert await office.status() == "unsubscribed"


async def test_who_had_left_stays_out_until_the_new_mail_is_confirmed(office: Office) -> None:
    contact = await office.joined()
    await office.act(Act.LEAVE, contact)
    await office.later(2 * DAY)
    await office.ask()
    assert await office.status() == "unsubscribed"

    assert await office.confirm((await office.jobs())[-1]) is Confirmed.DONE
    assert await office.status() == "subscribed"


async def test_who_never_confirms_is_forgotten_after_seven_days(office: Office) -> None:
    await office.ask()
    (job,) = await office.jobs()
    await office.later(timedelta(days=6, hours=23))
    assert await signup.sweep(office.pool) == 0
    await office.later(2 * HOUR)

    assert await office.confirm(job) is Confirmed.UNKNOWN
    assert await signup.sweep(office.pool) == 0, "the mail is still queued, and its end is what brings this up again"
    await office.deliver()
    assert await signup.sweep(office.pool) == 1
    assert (await office.proofs(), await office.status()) == ([], None)
    assert await office.pool.fetchval("select count(*) from contact where address like '%reader%'") == 0
    assert await office.pool.fetchval("select count(*) from identity") == 0
    assert await office.ask(), "and may be asked anew"
    assert len(await office.jobs()) == 1


async def test_no_mail_asks_for_what_is_forgotten_by_then(office: Office) -> None:
    retry = Retries(transactional=Transactional(max_age="30d"))
    office.desk = ConsentDesk(office.pool, Config(domain="example.com", retry=retry))
    await office.ask()

    assert await office.pool.fetchval("select not_after - created from job") == 7 * DAY


async def test_forgetting_takes_nobody_whom_a_file_brought_before_or_since(office: Office) -> None:
    async def brought() -> None:
        file = office.write("people.csv", "email\nann@reader.test\n")
        await import_contacts(office.pool, file, Options(), now=datetime.now(UTC), progress=lambda *_: None)

    for at_first in (True, False):
        if at_first:
            await brought()
        await office.ask()
        if not at_first:
            await brought()
        await office.pool.execute("delete from job")
        await office.later(8 * DAY)

        assert await signup.sweep(office.pool) == 1
        assert (await office.proofs(), await office.status()) == ([], None)
        assert await office.pool.fetchval("update contact set by_form = true returning address") == "ann@reader.test"


async def test_a_form_is_used_so_often_at_once_over_all_workers_and_then_once_a_minute(office: Office) -> None:
    async def uses(times: int, network: str = "n") -> int:
        return sum(await asyncio.gather(*(office.desk.allow("h", network) for _ in range(times))))

    assert [await uses(2 * BURST), await uses(1, "m")] == [BURST, 0]
    await office.pool.execute("update form_use set full_at = full_at - interval '2 minutes'")
    assert await uses(5) == 2

    await office.pool.execute("update form_use set full_at = now() + interval '1 hour' where key = 'in n'")
    assert not await office.desk.allow("h2", "n"), "who has many households is one"
    await office.pool.execute("update form_use set full_at = now()")
    assert await signup.sweep(office.pool) == await office.pool.fetchval("select 3 - count(*) from form_use") == 3


async def test_forgetting_takes_nothing_that_was_known_before(office: Office) -> None:
    contact = await office.joined()
    await office.act(Act.LEAVE, contact)
    await office.later(2 * DAY)
    await office.ask()
    await office.deliver()
    await office.later(8 * DAY)

    assert await signup.sweep(office.pool) == 2, "one is forgotten, of the other the answer is noted"
    assert await office.status() == "unsubscribed"
    assert [proof["confirmed"] is not None for proof in await office.proofs()] == [True]
    assert await office.pool.fetchval("select address from contact where id = $1", contact) == "ann@reader.test"


async def test_nobody_is_forgotten_while_a_file_is_imported(office: Office) -> None:
    await office.ask()
    await office.later(8 * DAY)
    async with office.pool.acquire() as conn, conn.transaction():
        await conn.execute("lock table attribute in share row exclusive mode")

        assert await signup.sweep(office.pool) == 0


@pytest.mark.parametrize(
    ("outcome", "reply", "kept"),
    [
        ("delivered", "250 2.0.0 ok 4711", "250 2.0.0 ok 4711"),
        ("in_doubt", "no answer", "in_doubt: no answer"),
        ("skipped", None, "skipped: erased"),
    ],
)
async def test_what_the_server_said_to_the_mail_is_kept_with_the_proof(
    office: Office, outcome: str, reply: str | None, kept: str
) -> None:
    await office.joined()
    await office.deliver(reply=reply)
    await office.pool.execute("update ledger set outcome = $1::text::outcome, reason = 'erased'", outcome)

    assert [await signup.sweep(office.pool) for _ in range(2)] == [1, 0]
    (proof,) = await office.proofs()
    assert (proof["sent"] is not None, proof["reply"]) == (True, kept)


async def test_who_may_read_all_tables_may_not_read_proofs_until_that_is_given(office: Office) -> None:
    await office.ask()
    async with office.pool.acquire() as conn:
        change = conn.transaction()
        await change.start()  # roles are of the whole server: taken back
        await conn.execute("create role mtad_report; grant pg_read_all_data to mtad_report; set local role mtad_report")
        seen = "select (select count(*) from contact), (select count(*) from proof)"
        assert tuple(await conn.fetchrow(seen) or ()) == (1, 0)
        await conn.execute(
            "set local role none; create policy report on proof for select to mtad_report using (true);"
            "set local role mtad_report"
        )
        assert tuple(await conn.fetchrow(seen) or ()) == (1, 1)
        await change.rollback()
