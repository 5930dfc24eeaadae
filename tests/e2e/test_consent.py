"""Double opt-in as it happens: a form, a mail, a button, a newsletter, a break."""

import re

import pytest

from mtad.base.errors import Problem
from tests.e2e.place import FIREFOX, Place

FORM = """
name = "site"
stream = "courses"
language = "de"
consent = "Ja, die Schule darf mir schreiben."
"""


@pytest.mark.timeout(120)
@pytest.mark.parametrize("place", [500], indirect=True)
async def test_who_signs_up_and_confirms_is_mailed_and_who_takes_a_break_is_not(place: Place) -> None:
    made = await place.mtad("form", "apply", place.write("form.toml", FORM))
    assert (made["did"], made["version"]) == ("created", 1)
    html = (await place.mtad("form", "snippet", "site"))["html"]
    action = re.search(r'action="([^"]+)"', html)
    assert action is not None
    with pytest.raises(Problem, match="form 'nowhere' is unknown; there are: site"):
        await place.mtad("form", "snippet", "nowhere")
    out = place.installation.folder / "out"
    await place.mtad("program", "preview", "confirm-site", "--dir", str(out))
    assert "/confirm/" in (out / "confirm-site-confirm.txt").read_text(encoding="utf-8")

    fields = {"form": "site", "email": "ann@reader.test", "consent": "1"}
    for _ in range(2):
        async with place.http.post(action[1], data=fields, headers=FIREFOX) as answer:
            assert (answer.status, "Postfach" in await answer.text()) == (200, True)
    asking = await place.letter("ann@reader.test", 1)
    text = asking.text
    assert asking.subject == "Bitte bestätigen Sie Ihre Adresse"
    assert (asking.one_click, asking.images) == (None, ())
    url = re.search(r"https?://\S+/confirm/\S+", text)
    assert url is not None
    async with place.http.get(url[0], headers=FIREFOX) as answer:
        assert answer.status == 200
    assert await place.pool.fetchval("select status::text from subscription") == "unconfirmed"
    async with place.http.post(url[0], data={"confirm": "1"}, headers=FIREFOX) as answer:
        assert answer.status == 200

    place.write("one/subject.txt", "News")
    place.write("one/message.html", '<p>{{ imprint }} <a href="{{ unsubscribe_url }}">Leave</a></p>')
    await place.apply_campaign("news")
    await place.mtad("program", "start", "news")
    await place.until_over("news")
    letter = await place.letter("ann@reader.test", 2)
    assert letter.one_click
    async with place.http.get(letter.one_click, headers=FIREFOX) as answer:
        page = await answer.text()
        link = re.search(r'href="\.\./(p/[\w-]+)"', page)
        assert (answer.headers["Content-Language"], link is not None) == ("de", True)
    assert link is not None
    preferences = letter.one_click.rpartition("/u/")[0] + "/" + link[1]
    stream = str(await place.pool.fetchval("select id from stream where name = 'courses'"))
    async with place.http.post(preferences, data={"act": "break", "stream": stream}, headers=FIREFOX) as answer:
        assert (answer.status, "Sie haben Pause bis" in await answer.text()) == (200, True)
    await place.apply_campaign("more")
    await place.mtad("program", "start", "more")
    await place.until_over("more")

    assert [mail.recipient for mail in place.sink.messages] == ["ann@reader.test"] * 2
    assert (await place.mtad("program", "report", "more"))["skipped"] == {"contact_on_break": 1}
    assert (await place.mtad("audit", "confirm-site"))["adds_up"]
    assert [(row["waiting"], row["confirmed"]) for row in await place.mtad("form", "list")] == [(0, 1)]
