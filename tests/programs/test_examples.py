"""The programs that ship: each is applied as it stands and played to its end."""

from datetime import UTC, date, datetime, timedelta

from tests.programs.theatre import EXAMPLES, Theatre


async def test_the_list_of_an_offer_sends_each_the_mail_that_fits_what_they_did(theatre: Theatre) -> None:
    await theatre.apply(EXAMPLES / "course.toml")
    await theatre.conn.execute(
        "update program_version set definition = jsonb_set(definition, '{enrol}', '\"current\"')"
    )
    await theatre.people("booked", "opened", "ignored", "hidden")

    await theatre.start("course")
    await theatre.round()
    await theatre.reads("booked", "price-reminder", link=1)
    await theatre.reads("opened", "price-reminder")
    await theatre.reads("hidden", "price-reminder", class_="veiled")
    await theatre.days(3)
    await theatre.days(4)
    await theatre.days(3)

    assert sorted(theatre.sent) == sorted([
        ("booked", "price-reminder"),
        ("opened", "price-reminder"), ("opened", "free-lesson"), ("opened", "last-call"),
        ("ignored", "price-reminder"), ("ignored", "follow-up"), ("ignored", "last-call"),
        ("hidden", "price-reminder"), ("hidden", "last-call"),
    ])  # fmt: skip
    assert await theatre.entries("course") == {
        "booked": "clicked", "opened": "done", "ignored": "silent", "hidden": "silent",
    }  # fmt: skip
    audit = await theatre.audit("course")
    assert (audit.entered, audit.running) == (4, 0)


async def test_welcome_greets_who_signs_up_later_and_does_not_end(theatre: Theatre) -> None:
    await theatre.apply(EXAMPLES / "winback.toml", EXAMPLES / "welcome.toml")
    await theatre.people("early")
    await theatre.start("welcome")
    await theatre.round()

    await theatre.days(1)
    await theatre.people("late")
    await theatre.days(0.001)
    await theatre.days(3)

    assert sorted(theatre.sent) == [
        ("early", "welcome-1"), ("early", "welcome-2"), ("late", "welcome-1"), ("late", "welcome-2"),
    ]  # fmt: skip
    await theatre.days(30)
    assert len(theatre.sent) == 4
    assert await theatre.conn.fetchval("select status::text from program where name = 'welcome'") == "running"
    assert (await theatre.audit("welcome")).ended == {"silent": 2}
    assert await theatre.state("late") == "active"


async def test_nudge_hands_over_who_becomes_engaged_and_holds_some_out(theatre: Theatre) -> None:
    await theatre.apply(EXAMPLES / "course.toml", EXAMPLES / "nudge.toml")
    people = await theatre.people(*(f"p{n}" for n in range(60)), course="Italian")
    await theatre.people("spanish", course="Spanish")
    await theatre.start("course")
    await theatre.start("nudge")
    left_out = await theatre.left_out("nudge")
    keen = next(name for name in people if name not in left_out)

    await theatre.days(1)
    assert {address for address, _ in theatre.sent} == people.keys() - left_out.keys()
    assert set(left_out.values()) == {"holdout"}
    await theatre.reads(keen, "nudge-1", link=1)
    await theatre.reads(keen, "nudge-1")
    await theatre.days(3)
    await theatre.reads(keen, "nudge-2")

    assert await theatre.state(keen) == "engaged"
    assert await theatre.round() == [(keen, "price-reminder")]

    assert await theatre.entries("course") == {keen: None}
    assert await theatre.conn.fetchval("select via from entry where program_id = 1") == "then"
    for _ in range(4):
        await theatre.days(3.01)
    assert (await theatre.audit("nudge")).ended == {"silent": len(people) - len(left_out) - 1, "engaged": 1}
    assert await theatre.round() == []


async def test_winback_takes_people_as_cool_downs_end_and_each_end_moves_the_cycle(theatre: Theatre) -> None:
    people = await theatre.people("silent", "returns", "early", "gone")
    await theatre.conn.execute("delete from subscription where contact_id = $1", people["gone"])
    stream = theatre.rows.streams["sales"]
    for name, cooled in (("silent", 0), ("returns", 0), ("early", 20), ("gone", 0)):
        await theatre.conn.execute(
            "insert into engagement (stream_id, contact_id, state, since, round_from, first_sent, cycle, cool_until)"
            " values ($1, $2, 'cooling', now() - interval '40 d', now() - interval '90 d', now() - interval '90 d', 1,"
            " now() + $3::interval)", stream, people[name], timedelta(days=cooled),
        )  # fmt: skip
    await theatre.apply(EXAMPLES / "winback.toml")

    await theatre.start("winback")
    assert await theatre.round() == [("returns", "winback-1"), ("silent", "winback-1")]
    assert await theatre.state("silent") == "trying"
    await theatre.days(4)
    await theatre.reads("returns", "winback-2", link=1)
    assert await theatre.state("returns") == "reactivated"
    await theatre.days(4)
    await theatre.days(3.01)
    assert await theatre.entries("winback") == {"silent": "silent", "returns": "came_back"}
    assert await theatre.state("silent") == "cooling"
    assert await theatre.conn.fetchval("select cycle from engagement where contact_id = $1", people["silent"]) == 2

    await theatre.days(9)
    assert await theatre.state("early") == "trying"
    for wait in (70, 12, 4, 4, 4):
        await theatre.days(wait)
    assert await theatre.state("silent") == "resting"
    assert [step for name, step in theatre.sent if name == "silent"] == [f"winback-{n}" for n in (1, 2, 3)] * 2
    assert [step for name, step in theatre.sent if name == "returns"] == ["winback-1", "winback-2"]
    assert "gone" not in {name for name, _ in theatre.sent}
    assert (await theatre.audit("winback")).ended == {"silent": 3, "came_back": 1}


async def test_birthday_is_once_a_year_on_the_day(theatre: Theatre) -> None:
    today = datetime.now(UTC)
    await theatre.people("today", birthday=f"1990-{today:%m-%d}")
    await theatre.people("other", birthday=f"1990-{today + timedelta(days=40):%m-%d}")
    await theatre.people("unknown")
    await theatre.apply(EXAMPLES / "birthday.toml")
    await theatre.conn.execute("update program_version set definition = jsonb_set(definition, '{yearly,minute}', '0')")
    people = await theatre.people("cooling", "resting", birthday=f"1990-{today:%m-%d}")
    for state, contact in people.items():
        await theatre.conn.execute(
            "insert into engagement (stream_id, contact_id, state, since, round_from, cycle, cool_until)"
            " values (1, $1, $2::text::contact_state, now(), now(), 1, now() + interval '20 d')", contact, state,
        )  # fmt: skip

    await theatre.start("birthday")
    assert await theatre.round() == [("today", "happy-birthday")]
    assert await theatre.round() == []
    await theatre.conn.execute("update program set day = $1", date(today.year - 1, 1, 1))
    await theatre.conn.execute("update enrolled set round = round - 1")
    # Now it goes to who is left alone, too.
    await theatre.conn.execute("""update program_version set definition = definition || '{"waives": ["inactive"]}'""")
    await theatre.conn.execute("update program set version = 2")
    await theatre.conn.execute("update program_version set version = 2")
    await theatre.conn.execute("update message set version = 2")
    assert await theatre.round() == [(name, "happy-birthday") for name in ("cooling", "resting", "today")]
    assert (await theatre.audit("birthday")).delivered == 4
    assert await theatre.conn.fetchval("select class from program") == 1
