"""Permission as an operator meets it: imports, suppression, forecast, preview, test, report."""

import csv
import io

import pytest

from mtad.lab.letter import read_letter
from tests.e2e.place import Place


@pytest.mark.parametrize("place", [500], indirect=True)
async def test_who_left_or_is_suppressed_is_never_mailed_again_and_a_forecast_says_so(place: Place) -> None:
    people = [f"p{n}@reader.test" for n in range(60)]
    await place.import_people(people)
    await place.apply_campaign("first")
    await place.mtad("program", "start", "first")
    await place.until_over("first")
    await place.leave(await place.letter(people[0], 1))

    # The same file again, and a list of people who must not be mailed.
    await place.import_people(people)
    rejects = list(csv.DictReader(io.StringIO(place.read("people.rejects.csv"))))
    await place.mtad("suppress", "import", place.write("left.csv", "email\n" + "\n".join(people[1:11]) + "\n"))
    await place.apply_campaign("second")
    forecast = await place.mtad("program", "forecast", "second")
    await place.mtad("program", "start", "second")
    await place.until_over("second")

    report = await place.mtad("program", "report", "second")
    second = [m.recipient for m in place.sink.messages][60:]
    rows = await place.pool.fetch(
        "select reason, count(*) from ledger l join program p on p.id = l.program_id"
        " where p.name = 'second' and outcome = 'skipped' group by reason"
    )
    assert [(row["email"], row["reason"]) for row in rejects] == [(people[0], "unsubscribed")]
    assert sorted(second) == sorted(people[11:])
    assert forecast["skipped"] == {row[0]: row[1] for row in rows} == {"suppressed:manual": 10, "unsubscribed": 1}
    assert forecast["send"] == report["delivered"] == 49


@pytest.mark.parametrize("place", [500], indirect=True)
async def test_a_preview_and_a_test_show_the_mail_without_counting_for_anybody(place: Place) -> None:
    await place.import_people(["ann@reader.test"])
    await place.apply_campaign("news")
    out = place.installation.folder / "out"

    await place.mtad("program", "preview", "news", "--as", "ann@reader.test", "--dir", str(out))
    await place.mtad("program", "test", "news", "--to", "me@reader.test", "--as", "ann@reader.test")
    letter = read_letter(place.sink.messages[0].message)
    await place.open(letter)
    await place.click(letter)

    assert {path.suffix for path in out.iterdir()} == {".html", ".txt", ".eml"}
    assert letter.subject == "Mail one for Someone"
    assert [m.recipient for m in place.sink.messages] == ["me@reader.test"]
    assert await place.pool.fetchval("select count(*) from ledger") == 0
    assert await place.pool.fetchval("select count(*) from engagement") == 0
