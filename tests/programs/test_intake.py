"""Who is let into a program: later, at a rate, not at all, or into another one instead."""

import asyncio
import itertools
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from engine.programs import held_out
from engine.service import Suppress, suppress
from mtad.base.errors import InputError
from mtad.queue import enqueue, newcomers, programs, store
from mtad.queue.store import Returned
from tests.programs.theatre import CONFIG, EXAMPLES, Theatre


def variant(tmp_path: Path, example: str, text: str = "", *, name: str = "", old: str = "", new: str = "") -> Path:
    """An example with further keys, another name, or something replaced; its messages stay where they are."""
    source = (EXAMPLES / f"{example}.toml").read_text()
    assert old in source
    source = source.replace(old, new, 1) if old else source
    source = source.replace(f'name = "{example}"', f'name = "{name or example}"\n{text}')
    for folder in EXAMPLES.iterdir():
        if folder.is_dir() and not (tmp_path / folder.name).exists():
            (tmp_path / folder.name).symlink_to(folder)
    path = tmp_path / f"{name or example}.toml"
    path.write_text(source)
    return path


def campaign(tmp_path: Path, text: str = "", name: str = "letter") -> Path:
    """A campaign whose mail is the first of welcome."""
    variant(tmp_path, "welcome")
    path = tmp_path / f"{name}.toml"
    path.write_text(
        f'name = "{name}"\nkind = "campaign"\nstream = "courses"\n{text}\n[[step]]\nmessage = "welcome-1"\n'
    )
    return path


async def inactive(theatre: Theatre, contact: int, state: str = "cooling", *, days: float = 0, cycle: int = 1) -> None:
    await theatre.conn.execute(
        "insert into engagement (stream_id, contact_id, state, since, round_from, first_sent, cycle, cool_until)"
        " values ($1, $2, $3::text::contact_state, now() - interval '40 d', now() - interval '90 d',"
        " now() - interval '90 d', $4, now() + $5::interval)"
        " on conflict (stream_id, contact_id) do update set state = excluded.state, cycle = excluded.cycle,"
        " cool_until = excluded.cool_until",
        theatre.rows.streams["sales"], contact, state, cycle, timedelta(days=days),
    )  # fmt: skip


async def back(theatre: Theatre, contact: int) -> None:
    """As the fold writes it down when somebody gives a sign."""
    stream = theatre.rows.streams["sales"]
    await theatre.conn.execute("update engagement set state = 'reactivated' where contact_id = $1", contact)
    await theatre.conn.execute(
        "insert into transition (stream_id, contact_id, from_state, to_state, why, fact, at)"
        " values ($1, $2, 'cooling', 'reactivated', 'came_back', 'test', now())", stream, contact,
    )  # fmt: skip


async def test_only_who_was_left_out_for_a_state_is_let_in_later(theatre: Theatre, tmp_path: Path) -> None:
    people = await theatre.people("cooling", "complained", "unsubscribed", "suppressed", "mailed")
    await theatre.apply(campaign(tmp_path, 'enrol = "current_and_future"'))
    for name in ("cooling", "complained", "unsubscribed", "suppressed"):
        await inactive(theatre, people[name], days=10)
    await suppress(theatre.conn, [
        Suppress("suppressed@reader.test", "all", "manual", "test"),
        Suppress("complained@reader.test", "marketing", "complained", "test"),
    ])  # fmt: skip
    await theatre.conn.execute(
        "update subscription set status = 'unsubscribed' where contact_id = $1", people["unsubscribed"]
    )
    await theatre.start("letter")
    assert await theatre.round() == [("mailed", "welcome-1")]
    for contact in people.values():
        await back(theatre, contact)
    await theatre.conn.execute("update suppression set released = now()")
    await theatre.conn.execute("update subscription set status = 'subscribed', changed = now()")

    await theatre.days(0.01)

    assert sorted(theatre.sent) == [("cooling", "welcome-1"), ("mailed", "welcome-1")]
    audit = await theatre.audit("letter")
    assert (audit.enrolled, audit.delivered, sum(audit.skipped.values())) == (6, 2, 4)


async def test_who_is_not_eligible_yet_is_looked_at_again_when_something_changes(
    theatre: Theatre, tmp_path: Path
) -> None:
    await theatre.apply(campaign(tmp_path, 'enrol = "current_and_future"'))
    await theatre.start("letter")
    contact = await theatre.person("new@reader.test")
    await theatre.conn.execute("update subscription set status = 'unconfirmed'")
    await theatre.days(1)
    assert theatre.sent == []

    await theatre.conn.execute("update subscription set status = 'subscribed', changed = now()")
    await theatre.days(0.01)

    assert theatre.sent == [("new", "welcome-1")]
    assert await theatre.conn.fetchval("select count(*) from enrolled where contact_id = $1", contact) == 1


async def test_nobody_is_missed_whose_transaction_commits_late(theatre: Theatre, tmp_path: Path) -> None:
    await theatre.apply(campaign(tmp_path, 'enrol = "current_and_future"'))
    await theatre.start("letter")
    async with theatre.pool.acquire() as slow:
        transaction = slow.transaction()
        await transaction.start()
        await theatre.person("quick@reader.test")
        await slow.execute(
            "with c as (insert into contact (address, address_key, domain_id) select 'slow@reader.test',"
            " 'slow@reader.test', id from domain limit 1 returning id), g as (insert into gate (contact_id)"
            " select id from c) insert into subscription (stream_id, contact_id, status, basis, source, changed_by)"
            " select $1, id, 'subscribed', 'consent', 'x', 'x' from c", theatre.rows.streams["sales"],
        )  # fmt: skip
        await theatre.person("later@reader.test")
        await theatre.round()
        await transaction.commit()

    await theatre.round()
    await theatre.days(0.01)

    assert sorted(name for name, _ in theatre.sent) == ["later", "quick", "slow"]


async def test_the_audit_holds_while_people_are_let_in(theatre: Theatre) -> None:
    await theatre.apply(EXAMPLES / "winback.toml", EXAMPLES / "welcome.toml")
    await theatre.people("first")
    await theatre.start("welcome")

    async def arrive() -> None:
        for number in range(30):
            await theatre.person(f"new{number}@reader.test")
            await theatre.deliver()

    async def let_in() -> None:
        for _ in range(15):
            await newcomers.take_newcomers(theatre.pool, CONFIG)

    async def count() -> None:
        async with theatre.pool.acquire() as conn:
            for _ in range(10):
                found = await theatre.audit_on(conn, "welcome")
                assert found.entered == found.running + sum(found.ended.values())

    await asyncio.gather(arrive(), let_in(), count())
    for _ in range(4):
        await theatre.days(3.01)

    audit = await theatre.audit("welcome")
    assert (audit.entered, audit.ended, audit.delivered) == (31, {"silent": 31}, 62)


async def test_max_rate_spaces_first_mails_over_pages_and_newcomers_and_after_a_pause(
    theatre: Theatre, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(enqueue, "PAGE", 2)
    sql = programs.SQL["audience_page"].replace("limit 5000", "limit 2")
    monkeypatch.setitem(programs.SQL, "audience_page", sql)
    await theatre.people("a", "b", "c", "d", "e")
    letter = campaign(tmp_path, 'enrol = "current_and_future"\nmax_rate = "60/h"')
    letter.write_text(letter.read_text() + 'not_after_wait = "1h"\n')
    await theatre.apply(letter)
    await theatre.start("letter")
    await theatre.people("f", "g")
    await newcomers.take_newcomers(theatre.pool, CONFIG)

    dues = [row[0] for row in await theatre.conn.fetch("select due from job order by due")]
    assert [b - a for a, b in itertools.pairwise(dues)] == [timedelta(minutes=1)] * 6
    lives = [row[0] for row in await theatre.conn.fetch("select not_after - due from job order by due")]
    assert set(lives) == {timedelta(hours=1)}

    await enqueue.pause(theatre.pool, "letter", "test")
    await theatre.conn.execute("update job set due = due - interval '270 s'")
    await enqueue.resume(theatre.pool, "letter")
    await theatre.people("h")
    await newcomers.take_newcomers(theatre.pool, CONFIG)

    # Five are late by now: they and the others go as far apart as before, in the same order.
    after = await theatre.conn.fetch("select due, contact_id from job order by due")
    assert [b[0] - a[0] for a, b in itertools.pairwise(after)] == [timedelta(minutes=1)] * 7
    assert [row[1] for row in after] == sorted(row[1] for row in after)
    assert dues[0] <= after[0][0] <= datetime.now(UTC)


@pytest.mark.parametrize("share", [0.05, 0.5])
def test_holdout_is_about_its_share_and_the_same_every_time(share: float) -> None:
    held = {contact for contact in range(20_000) if held_out(7, contact, share)}

    assert abs(len(held) / 20_000 - share) < 0.01
    assert held == {contact for contact in range(20_000) if held_out(7, contact, share)}
    assert held != {contact for contact in range(20_000) if held_out(8, contact, share)}
    assert not any(held_out(7, contact, 0.0) for contact in range(1000))


async def test_a_forecast_of_a_reactivation_says_what_its_start_does(theatre: Theatre, tmp_path: Path) -> None:
    people = await theatre.people(*(f"p{n}" for n in range(12)))
    for number, contact in enumerate(people.values()):
        await inactive(theatre, contact, days=number - 6)
    await theatre.conn.execute("update subscription set status = 'unsubscribed' where contact_id = $1", people["p0"])
    await theatre.apply(variant(tmp_path, "winback", "holdout = 0.3"))

    predicted = await enqueue.forecast(theatre.pool, CONFIG, "winback")
    await theatre.start("winback")

    left_out = await theatre.left_out("winback")
    assert predicted.skipped == {
        reason: list(left_out.values()).count(reason) for reason in sorted(set(left_out.values()))
    }
    assert predicted.send == await theatre.conn.fetchval("select count(*) from job")
    assert predicted.audience == 7
    assert predicted.skipped.keys() == {"holdout", "unsubscribed"}


async def test_who_is_inactive_with_a_cool_down_over_is_redirected_and_others_are_refused_as_before(
    theatre: Theatre, tmp_path: Path
) -> None:
    people = await theatre.people("cooled", "cooling", "resting", "active")
    await inactive(theatre, people["cooling"], days=5)
    await inactive(theatre, people["resting"], "resting")
    await theatre.apply(variant(tmp_path, "winback", 'enrol = "handed_over"'))
    await theatre.start("winback")
    await inactive(theatre, people["cooled"])
    await theatre.apply(campaign(tmp_path, 'instead = { inactive = "winback" }'))

    await theatre.start("letter")

    assert await theatre.left_out("letter") == {
        "cooled": "redirected:winback", "cooling": "inactive:cooling", "resting": "inactive:resting",
    }  # fmt: skip
    assert await theatre.round() == [("active", "welcome-1"), ("cooled", "winback-1")]
    assert await theatre.conn.fetchval("select via from entry") == "redirect"
    assert (await theatre.audit("letter")).skipped["redirected:winback"] == 1
    assert (await theatre.audit("winback")).entered == 1


@pytest.mark.parametrize("status", ["running", "paused"])
async def test_a_mail_that_waits_is_redirected_when_its_reader_became_inactive(
    theatre: Theatre, tmp_path: Path, status: str
) -> None:
    people = await theatre.people("a", "b")
    await theatre.apply(variant(tmp_path, "winback", 'enrol = "handed_over"'))
    await theatre.start("winback")
    await theatre.apply(campaign(tmp_path, 'instead = { inactive = "winback" }'))
    await theatre.start("letter")
    await inactive(theatre, people["a"])
    await theatre.conn.execute("update program set status = $1::text::program_status where name = 'winback'", status)

    mails = await theatre.round()

    taken = status == "running"
    assert mails == ([("a", "winback-1")] if taken else []) + [("b", "welcome-1")]
    assert await theatre.left_out("letter") == {"a": "redirected:winback" if taken else "inactive:cooling"}
    assert await theatre.conn.fetchval("select count(*) from entry") == int(taken)
    assert await theatre.state("a") == ("trying" if taken else "cooling")
    await theatre.audit("letter")
    await theatre.audit("winback")


async def test_cycles_and_targets_that_take_nobody_are_refused(theatre: Theatre, tmp_path: Path) -> None:
    async def refused(path: Path) -> str:
        with pytest.raises(InputError) as error:
            await theatre.apply(path)
        assert "\n" not in str(error.value)
        return str(error.value)

    await theatre.apply(variant(tmp_path, "course"))
    assert "there is no program 'winback'" in await refused(variant(tmp_path, "welcome"))
    assert "course is a series on courses" in await refused(campaign(tmp_path, 'instead = { inactive = "course" }'))
    await theatre.apply(variant(tmp_path, "nudge"))
    assert "course → nudge → course goes round" in await refused(variant(tmp_path, "course", 'then = "nudge"'))
    assert "nudge → nudge goes round" in await refused(
        variant(tmp_path, "nudge", old='then = "course"', new='then = "nudge"')
    )
    await theatre.apply(
        variant(tmp_path, "course", name="closed", old='enrol = "handed_over"', new='enrol = "current"')
    )
    assert "closed takes nobody in once it has started" in await refused(
        variant(tmp_path, "nudge", old='then = "course"', new='then = "closed"')
    )


async def test_a_reactivation_paused_past_its_end_leaves_nobody_trying(theatre: Theatre, tmp_path: Path) -> None:
    await inactive(theatre, await theatre.person("a@reader.test"))
    await theatre.apply(variant(tmp_path, "winback", 'not_after = "2099-01-01 00:00 UTC"'))
    await theatre.start("winback")
    await theatre.round()
    await enqueue.pause(theatre.pool, "winback", "test")
    await theatre.conn.execute("update program set not_after = now() - interval '1 s'")

    await theatre.round()

    assert await theatre.state("a") == "cooling"
    assert await theatre.entries("winback") == {"a": "cancelled"}
    assert await theatre.conn.fetchval("select status::text from program") == "cancelled"


async def test_who_tries_without_a_way_left_cools_down_again(theatre: Theatre) -> None:
    people = await theatre.people("bounced", "cancelled")
    for contact in people.values():
        await inactive(theatre, contact)
    await theatre.apply(EXAMPLES / "winback.toml")
    await theatre.start("winback")
    await theatre.round()
    await suppress(theatre.conn, [Suppress("bounced@reader.test", "all", "hard_bounce", "test")])
    await enqueue.cancel(theatre.pool, "winback", "test")

    await theatre.round()

    rows = await theatre.conn.fetch("select state::text, cycle, cool_until <= now() from engagement")
    assert [tuple(row.values()) for row in rows] == [("cooling", 1, True)] * 2
    assert await theatre.entries("winback") == {"bounced": "bounced", "cancelled": "cancelled"}


async def test_a_new_version_is_for_newcomers_and_with_move_for_all(theatre: Theatre, tmp_path: Path) -> None:
    steps: dict[str, Any] = {"old": 'wait = "3d"', "new": 'wait = "5d"'}
    await theatre.apply(EXAMPLES / "winback.toml", variant(tmp_path, "welcome"))
    await theatre.people("first")
    await theatre.start("welcome")
    await theatre.round()
    await theatre.apply(variant(tmp_path, "welcome", **steps))
    await theatre.people("second")
    await theatre.round()

    versions = "select version from entry order by id"
    assert [row[0] for row in await theatre.conn.fetch(versions)] == [1, 2]
    gone = variant(tmp_path, "welcome", old='message = "welcome-2"', new='message = "nudge-2"')
    with pytest.raises(InputError, match=r"--move would strand people at welcome-2 \(2\)"):
        await theatre.apply(gone, move=True)
    await theatre.people("third")
    await newcomers.take_newcomers(theatre.pool, CONFIG)
    later = variant(tmp_path, "welcome", old='"welcome-1"', new='"welcome-1"\n# again', text="priority = 4")
    # To say --move afterwards is as good.
    await theatre.apply(later)
    await theatre.apply(later, move=True)

    assert [row[0] for row in await theatre.conn.fetch(versions)] == [3, 3, 3]
    assert await theatre.conn.fetchval("select version from job") == 3
    for _ in range(4):
        await theatre.days(3.01)
    assert (await theatre.audit("welcome")).ended == {"silent": 3}


async def test_of_two_programs_the_one_of_lower_priority_number_goes_first_and_a_retry_keeps_its_place(
    theatre: Theatre, tmp_path: Path
) -> None:
    await theatre.people("a")
    for name, priority in (("later", 8), ("sooner", 2)):
        await theatre.apply(campaign(tmp_path, f"priority = {priority}", name=name))
        await theatre.start(name)
    await theatre.conn.execute("update site set ready_at = '-infinity'")

    claimed = await store.claim(theatre.conn, theatre.worker)
    await store.settle_returned(theatre.conn, theatre.worker, 0, [Returned(claimed[1], 0.0, "451 later", 1)])

    names = await theatre.conn.fetch("select id, name from program")
    assert [dict(map(tuple, names))[facts.program_id] for facts in claimed] == ["sooner", "later"]
    prios = await theatre.conn.fetch("select prio from job order by prio")
    assert [row[0] for row in prios] == [2 + 2 * 2, 2 + 8 * 2 + 1]
