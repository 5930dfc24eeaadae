"""mtad why: what happened, why, and what comes next, in sentences."""

from datetime import timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from engine.facts import Reason
from mtad.base.db import Connection
from mtad.base.errors import InputError
from mtad.ops.answers.times import local
from mtad.ops.answers.why import why
from tests.rows import START, Rows

LATER = START + timedelta(minutes=9)
ENDED = START + timedelta(minutes=1)  # of rows.settled


async def told(conn: Connection, program: str = "nudge", address: str = "ann@y.test") -> list[str]:
    (chapter,) = (await why(conn, address, program)).programs
    assert chapter.program == program
    return chapter.sentences


async def test_a_mail_withdrawn_from_who_became_engaged_names_the_click(rows: Rows, conn: Connection) -> None:
    program = await rows.program()
    ann = await rows.contact("ann@y.test")
    await rows.transition(program, ann, "engaged", "threshold", "click on link 3 of nudge-2, job 17", at=START)
    await rows.mail(program, ann, "skipped", "left:engaged", mail=3)
    await rows.entry(program, ann, ended=START, why="engaged")

    assert await told(conn) == [
        (
            f"Mail 3 of nudge withdrawn at {local(ENDED)}: This person had become Engaged and left the program."
            f" Became Engaged at {local(START)} by a click on link 3 of nudge-2, job 17 (rules of sales, version 1)."
        ),
        f"Left nudge at {local(START)}: This person had become Engaged and left the program.",
    ]


async def test_a_transition_that_was_taken_back_is_no_cause(rows: Rows, conn: Connection) -> None:
    program = await rows.program()
    ann = await rows.contact("ann@y.test")
    await rows.transition(program, ann, "engaged", "threshold", "the wrong click", at=START)
    await rows.transition(program, ann, "active", "replay", "late fact", at=START)
    await conn.execute("update transition set takes_back = (select min(id) from transition) where to_state = 'active'")
    await rows.mail(program, ann, "skipped", "left:engaged", mail=3)

    assert "the wrong click" not in " ".join(await told(conn))


async def test_a_delivered_mail_says_what_the_person_did_with_it(rows: Rows, conn: Connection) -> None:
    program = await rows.program()
    ann = await rows.contact("ann@y.test")
    job = await rows.mail(program, ann, "delivered", attempts=2)
    await rows.hit("open", ann, job, program.pixels[0], at=LATER)
    await rows.hit("open", ann, job, program.pixels[0], at=LATER + timedelta(minutes=1))
    await rows.hit("click", ann, job, program.links[0][2], at=LATER)
    await rows.hit("click", ann, job, program.links[0][1], at=LATER, class_="scanner")

    (said,) = await told(conn)

    assert said == (
        f"Mail 1 of nudge delivered at {local(ENDED)} after 2 attempts, opened {local(LATER)},"
        f" clicked link 3 {local(LATER)}."
    )


@pytest.mark.parametrize(
    ("outcome", "reason", "columns", "says"),
    [
        ("bounced", "unknown_user", {"reply": "550 5.1.1 no such user."},
         "Mail 1 of nudge bounced at {at}: unknown_user, 550 5.1.1 no such user."),
        ("expired", "", {"attempts": 7, "reply": "451 later"},
         "Mail 1 of nudge was given up at {at} after 7 attempts: 451 later."),
        ("in_doubt", "", {},
         "Mail 1 of nudge was sent, but no answer told whether it arrived; given up at {at}."),
        ("skipped", "missing_value:name", {},
         "Mail 1 of nudge withdrawn at {at}: The message needs a value that this person does not have: name."),
    ],
)  # fmt: skip
async def test_each_outcome_has_its_sentence(
    rows: Rows, conn: Connection, outcome: str, reason: str, columns: dict[str, Any], says: str
) -> None:
    program = await rows.program()
    await rows.mail(program, await rows.contact("ann@y.test"), outcome, reason, **columns)

    assert await told(conn) == [says.format(at=local(ENDED))]


@pytest.mark.parametrize("reason", list(Reason))
async def test_every_reason_of_the_gate_can_be_told(rows: Rows, conn: Connection, reason: Reason) -> None:
    program = await rows.program()
    await rows.mail(program, await rows.contact("ann@y.test"), "skipped", str(reason))

    (said,) = await told(conn)

    assert said.startswith(f"Mail 1 of nudge withdrawn at {local(ENDED)}: ")


async def test_who_unsubscribed_is_told_when_and_how(rows: Rows, conn: Connection) -> None:
    program = await rows.program()
    ann = await rows.contact("ann@y.test", subscribed="unsubscribed")
    await conn.execute("update subscription set changed = $1, changed_by = 'one_click'", LATER)
    await rows.mail(program, ann, "skipped", "unsubscribed")

    assert (await told(conn))[0].endswith(f"Unsubscribed at {local(LATER)} (one_click).")


async def test_who_is_suppressed_is_told_since_when_and_by_whom(rows: Rows, conn: Connection) -> None:
    program = await rows.program()
    ann = await rows.contact("ann@y.test")
    await conn.execute(
        "insert into suppression (key, scope, reason, source, created)"
        " values ('ann@y.test', 'all', 'manual', 'operator', $1)", START,
    )  # fmt: skip
    await rows.mail(program, ann, "skipped", "suppressed:manual")

    assert (await told(conn))[0].endswith(f"Suppressed at {local(START)}: manual, by operator.")


async def test_who_was_left_out_at_the_start_had_no_mail_to_withdraw(rows: Rows, conn: Connection) -> None:
    program = await rows.program()
    await rows.mail(program, await rows.contact("ann@y.test"), "skipped", "inactive:resting", ended=START, attempts=0)

    assert (await told(conn))[0].startswith(f"Mail 1 of nudge left out at {local(START)}: ")


async def test_leaving_at_the_first_click_names_it(rows: Rows, conn: Connection) -> None:
    program = await rows.program()
    ann = await rows.contact("ann@y.test")
    job = await rows.mail(program, ann, "delivered")
    await rows.hit("click", ann, job, program.links[0][0], at=LATER)
    await rows.mail(program, ann, "skipped", "left:clicked", mail=2)

    assert (await told(conn))[1].endswith(f"First click on link 1 of nudge-1, job {job}, at {local(LATER)}.")


async def test_a_waiting_entry_says_which_mail_comes_when(rows: Rows, conn: Connection) -> None:
    program = await rows.program()
    ann = await rows.contact("ann@y.test")
    await rows.mail(program, ann, "delivered")
    await rows.entry(program, ann, mail=2, due=LATER)

    assert (await told(conn))[1] == f"Waits: next mail 2 of nudge due {local(LATER)}."


async def test_after_the_last_mail_it_waits_for_an_answer(rows: Rows, conn: Connection) -> None:
    program = await rows.program()
    ann = await rows.contact("ann@y.test")
    await rows.mail(program, ann, "delivered", mail=3)
    await rows.entry(program, ann, node="end", due=LATER)

    assert (await told(conn))[1] == (
        f"Waits for an answer to nudge until {local(LATER)}, then ends, and becomes Inactive if there is none."
    )


async def test_an_entry_that_nobody_will_move_is_called_a_defect(rows: Rows, conn: Connection) -> None:
    program = await rows.program()
    await rows.entry(program, await rows.contact("ann@y.test"))

    assert (await told(conn))[0].endswith("which is a defect.")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("select 1", "The gate would let it go now."),
        ("update subscription set status = 'unsubscribed'",
         "The gate would withdraw it now: This person unsubscribed from the stream."),
        ("update program set status = 'paused'", ": The program is paused; the mail waits."),
        ("insert into suppression (key, scope, reason, source) values ('@y.test', 'all', 'manual', 'operator')",
         "The gate would withdraw it now: Every address of this domain is suppressed."),
        ("insert into suppression (key, scope, reason, source, released) select '@y.test', 'all', '', '', now()",
         "The gate would let it go now."),
        ("update entry set ended = now(), why = 'engaged'",
         "The gate would withdraw it now: This person had become Engaged and left the program."),
    ],
)  # fmt: skip
async def test_the_gate_is_asked_about_what_is_queued(rows: Rows, conn: Connection, change: str, says: str) -> None:
    program = await rows.program()
    ann = await rows.contact("ann@y.test")
    entry = await rows.entry(program, ann)
    far = START + timedelta(days=9)
    await rows.queued(program, ann, await rows.enrol(program, ann), entry_id=entry, due=LATER, not_after=far)
    await conn.execute(change)

    (said,) = await told(conn)

    assert said.startswith(f"Mail 1 of nudge is queued, due {local(LATER)}. ")
    assert said.removesuffix(" Where mail for y.test goes is being looked up.").endswith(says)


SLOTS = {
    "zone": "Europe/Berlin",
    "slots": {
        "caps": [{"most": 1, "window": 3 * 86400, "name": "1/3d"}],
        "quiet": {"start": "00:00:00", "end": "23:59:59"},
    },
}


@pytest.mark.parametrize(
    ("zone", "country", "whose"),
    [
        ("Asia/Tokyo", "AT", "Asia/Tokyo, the contact's"),
        (None, "AT", "Europe/Vienna, the country's"),
        (None, "US", "Europe/Berlin, the stream's"),
    ],
)
async def test_what_waits_for_a_time_says_for_which_and_on_whose_wall(
    rows: Rows, conn: Connection, zone: str | None, country: str, whose: str
) -> None:
    program = await rows.program()
    ann = await rows.contact("ann@y.test", attributes={"country": country})
    await conn.execute("update contact set zone = $1", zone)
    await conn.execute("update stream_version set definition = jsonb_set(definition, '{policy}', $1)", SLOTS)
    job, far = await rows.enrol(program, ann), START + timedelta(days=9)
    await rows.queued(program, ann, job, not_after=far)

    (queued,) = await told(conn)
    await conn.execute("delete from job")
    await conn.execute("delete from enrolled")
    await rows.entry(program, ann, mail=2, due=START)
    (waiting,) = await told(conn)

    wall = (START + timedelta(minutes=1)).astimezone(ZoneInfo(whose.partition(",")[0]))
    when = f"{wall:%A %Y-%m-%d} 23:59:59, waiting for quiet hours (zone {whose})."
    assert f" Waits: next mail 1 of nudge, {when}" in queued
    assert waiting == f"Waits: next mail 2 of nudge, {when}"


async def test_what_waits_for_a_cap_names_it_and_asks_the_gate_for_the_time_when_it_is_due(
    rows: Rows, conn: Connection
) -> None:
    program = await rows.program("news", mails=1)
    ann = await rows.contact("ann@y.test")
    policy = {"slots": {"caps": SLOTS["slots"]["caps"]}}  # type: ignore[index]
    await conn.execute("update stream_version set definition = jsonb_set(definition, '{policy}', $1)", policy)
    sent = START + timedelta(days=1)
    await conn.execute("update gate set sent = array[$1::timestamptz], sent_on = array[$2::int]", sent, program.stream)
    far = START + timedelta(days=9)
    await rows.queued(program, ann, await rows.enrol(program, ann), due=sent + timedelta(hours=1), not_after=far)

    (said,) = await told(conn, "news")

    wall = sent + timedelta(days=3)
    assert f"Waits: next mail of news, {wall:%A %Y-%m-%d %H:%M}" in said
    assert "waiting for a free slot of the cap 1/3d (zone UTC, the server's)." in said


async def test_a_deferred_mail_says_how_often_and_why(rows: Rows, conn: Connection) -> None:
    program = await rows.program("news", mails=1)
    ann = await rows.contact("ann@y.test")
    job = await rows.enrol(program, ann)
    await rows.queued(program, ann, job, due=LATER, attempt=2, doubts=1, reason="451 4.7.1 later.")

    assert (await told(conn, "news"))[0].startswith(
        f"Mail of news is queued, due {local(LATER)}, after 2 attempts, perhaps delivered already: 451 4.7.1 later. "
    )


async def test_a_mail_under_way_says_since_when(rows: Rows, conn: Connection) -> None:
    program = await rows.program()
    ann = await rows.contact("ann@y.test")
    await rows.queued(program, ann, await rows.enrol(program, ann), worker=1, begun=LATER)

    assert await told(conn) == [f"Mail 1 of nudge is being sent since {local(LATER)}."]


async def test_who_never_entered_is_told_what_kept_them_out(rows: Rows, conn: Connection) -> None:
    await rows.contact("ann@y.test", attributes={"country": "FR"})
    await conn.execute("update subscription set changed = $1", START - timedelta(days=1))
    await rows.program("draft", status="draft")
    await rows.program("german", audience={"country": ["DE", "AT"]})
    await rows.program("aged", audience={"age": [30]})
    await rows.program("away", stream="other")
    await rows.program("coming", enqueued=None)
    await rows.program("gone")
    await rows.program("early", enqueued=START - timedelta(days=2))

    found = {chapter.program: chapter.sentences for chapter in (await why(conn, "ann@y.test")).programs}

    late = f"subscribed to sales at {local(START - timedelta(days=1))}, after its audience was taken"
    assert found == {
        "draft": ["Never enrolled in draft: it was not started."],
        "german": ["Never enrolled in german: not in its audience: country is 'FR', wanted is 'DE' or 'AT'."],
        "aged": ["Never enrolled in aged: not in its audience: age is not known, wanted is 30."],
        "away": ["Never enrolled in away: not subscribed to other."],
        "coming": ["Never enrolled in coming: its audience is not complete yet; the program is running."],
        "gone": [f"Never enrolled in gone: not in its audience when that was taken at {local(START)}."],
        "early": [f"Never enrolled in early: {late} at {local(START - timedelta(days=2))}."],
    }


@pytest.mark.parametrize(
    ("status", "did"),
    [("unsubscribed", "unsubscribed"), ("unconfirmed", "has not confirmed what was asked for")],
)
async def test_who_may_not_be_mailed_is_told_so_and_not_that_they_subscribed(
    rows: Rows, conn: Connection, status: str, did: str
) -> None:
    await rows.contact("ann@y.test")
    await conn.execute("update subscription set status = $1, changed = $2", status, LATER)
    await rows.program()

    assert await told(conn) == [f"Never enrolled in nudge: {did} at {local(LATER)}, so not subscribed to sales."]


async def test_an_unknown_program_or_contact_is_one_line(rows: Rows, conn: Connection) -> None:
    await rows.program()
    await rows.contact("ann@y.test")

    with pytest.raises(InputError, match="program 'x' is unknown; there are: nudge"):
        await why(conn, "ann@y.test", "x")
    with pytest.raises(InputError, match="no contact has the address bob@y"):
        await why(conn, "bob@y.test")
