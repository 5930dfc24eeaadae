"""A program that stays open and chooses by what people did, from the commands to the mail."""

import pytest

from tests.e2e.place import Place

COURSE = """
name = "course"
kind = "series"
stream = "courses"
enrol = "current_and_future"
leave_on = []
when_silent = "nothing"
[[step]]
message = "one"
[[step]]
wait = "3d"
if = "clicked link 2"
message = "two"
[[step]]
if = "not opened"
message = "three"
"""


@pytest.mark.parametrize("place", [1000], indirect=True)
async def test_who_signs_up_while_a_program_runs_is_let_in_and_gets_the_mail_that_fits(place: Place) -> None:
    ann, bob = "ann@reader.test", "bob@reader.test"
    await place.import_people([ann])
    await place.mtad("program", "apply", place.write("course.toml", COURSE))
    await place.mtad("program", "start", "course")
    first = await place.letter(ann, 1)
    again = await place.mtad("program", "start", "course")
    assert (again["already"], again["queued"]) == (True, 1)

    await place.import_people([ann, bob])
    await place.letter(bob, 1)
    assert await place.click(first, 1) == "https://shop.example/b"
    await place.until_count("select count(*) from event where kind = 'click' and class = 'human'", 1)
    await place.until_count("select count(*) from entry where due is not null", 2)
    await place.pool.execute("update entry set due = now() where due is not null")

    await place.until_count("select count(*) from ledger where outcome = 'delivered'", 4)
    subjects = sorted((m.recipient, m.header("Subject")) for m in place.sink.messages)
    assert subjects == [
        (ann, "Mail one for Someone"), (ann, "Mail two for Someone"),
        (bob, "Mail one for Someone"), (bob, "Mail three for Someone"),
    ]  # fmt: skip
    audit = await place.mtad("audit", "course", "--json")
    assert (audit["adds_up"], audit["entered"], audit["running"]) == (True, 2, 2)
    assert await place.pool.fetchval("select status::text from program") == "running"
