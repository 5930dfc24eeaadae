"""When a choice is made: not before all that may decide it has been heard."""

from datetime import timedelta

from engine.service import fold
from tests.programs.theatre import EXAMPLES, Theatre


async def offered(theatre: Theatre, *names: str) -> None:
    """People who were sent the first mail of the offer, three days ago."""
    await theatre.apply(EXAMPLES / "course.toml")
    await theatre.conn.execute(
        "update program_version set definition = jsonb_set(definition, '{enrol}', '\"current\"')"
    )
    await theatre.people(*names)
    await theatre.start("course")
    await theatre.round()


async def test_a_choice_waits_for_journals_that_are_not_read_yet(theatre: Theatre) -> None:
    await offered(theatre, "a")
    await theatre.conn.execute("update worker set ingested_until = now() - interval '1 h'")

    await theatre.days(3)
    assert theatre.sent == [("a", "price-reminder")]
    await theatre.conn.execute("update worker set ingested_until = now()")

    assert await theatre.round() == [("a", "follow-up")]


async def test_a_choice_waits_for_as_long_as_nobody_listened(theatre: Theatre) -> None:
    await offered(theatre, "a")
    await theatre.days(2.9)
    await theatre.nobody_listened()

    await theatre.days(0.2)
    assert theatre.sent == [("a", "price-reminder")]

    await theatre.days(1)
    assert theatre.sent == [("a", "price-reminder"), ("a", "follow-up")]


async def test_a_choice_waits_for_a_hit_to_be_judged_and_holds_up_nobody_else(theatre: Theatre) -> None:
    await offered(theatre, "a", "b")
    await theatre.reads("a", "price-reminder", class_="veiled")  # so that there is an event to turn into a hit
    await theatre.conn.execute(
        "insert into pending (event_id, job_id, kind, link_id, at, method, agent)"
        " select id, job_id, kind::sign_kind, link_id, at, 'GET', '' from event"
    )

    await theatre.days(3)
    assert theatre.sent[2:] == [("b", "follow-up")]
    await theatre.conn.execute("update event set class = 'human'")
    await theatre.conn.execute("update pending set class = 'human'")
    await fold(theatre.pool)

    assert await theatre.round() == [("a", "free-lesson")]


async def test_who_withdrew_the_consent_to_be_measured_gets_what_needs_no_condition(theatre: Theatre) -> None:
    await offered(theatre, "a")
    await theatre.reads("a", "price-reminder")
    await theatre.conn.execute("update subscription set tracking = 'none'")

    await theatre.days(3)
    await theatre.days(4)

    assert theatre.sent == [("a", "price-reminder"), ("a", "last-call")]
    due = await theatre.conn.fetchval("select due - now() from entry where ended is null")
    assert timedelta(days=2) < due <= timedelta(days=3)
