"""Double opt-in as it happens: a form, a mail, a button, a newsletter, a break."""

import asyncio
import re
import sys
from datetime import UTC, datetime
from functools import partial

import pytest

from mtad.base.errors import Problem
from mtad.lab.letter import Letter
from tests.e2e.place import FIREFOX, Place

TOKEN = re.compile(r"[\w-]{36}")

FORM = """
name = "site"
stream = "courses"
language = "de"
consent = "Ja, die Schule darf mir schreiben."
"""


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

    hidden = dict(re.findall(r'type="hidden" name="(\w+)" value="(\w+)"', html))
    fields = {**hidden, "email": "ann@reader.test", "consent": "1"}
    for _ in range(2):
        async with place.http.post(action[1], data=fields, headers=FIREFOX) as answer:
            assert (answer.status, "Postfach" in await answer.text()) == (200, True)
    asking = await place.letter("ann@reader.test", 1)
    text = asking.text
    assert asking.subject == "Bitte bestätigen Sie Ihre Adresse"
    assert (asking.one_click, asking.images) == (None, ())
    url = re.search(r"https?://\S+/confirm/\S+", text)
    assert url is not None
    assert await place.pool.fetchval("select status::text from subscription") == "unconfirmed"
    async with place.http.get(url[0], headers=FIREFOX) as answer:
        assert "<blockquote>Ja, die Schule darf mir schreiben.</blockquote>" in await answer.text()
    async with place.http.post(url[0], data={"confirm": "1"}, headers=FIREFOX) as answer:
        assert answer.status == 200

    link = '<a href="https://shop.example/a?x=1&amp;y=2">A</a>'
    place.write("one/subject.txt", "News")
    place.write("one/message.html", f'<p>{link} {{{{ imprint }}}} <a href="{{{{ unsubscribe_url }}}}">Leave</a></p>')
    await place.apply_campaign("news")
    await place.mtad("program", "start", "news")
    await place.until_over("news")
    letter = await place.letter("ann@reader.test", 2)
    assert letter.one_click
    assert await place.click(letter) == "https://shop.example/a?x=1&y=2"
    await place.open(letter)
    async with place.http.get(letter.one_click, headers=FIREFOX) as answer:
        page = await answer.text()
        found = re.search(r'href="\.\./(p/[\w-]+)"', page)
        assert (answer.headers["Content-Language"], found is not None) == ("de", True)
    assert found is not None
    preferences = letter.one_click.rpartition("/u/")[0] + "/" + found[1]
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

    await nothing_names_who_was_erased(place, letter, "ann@reader.test", preferences)
    await place.until(partial(no_old_file, place))


async def no_old_file(place: Place) -> bool:
    return not list((place.installation.config.state / "journal").rglob("*.bad"))


async def nothing_names_who_was_erased(place: Place, letter: Letter, address: str, preferences: str) -> None:
    """In any row, journal, log or file, while the old mail is still clicked; but for the proof, for its own term."""
    assert letter.one_click
    urls = (*letter.links, *letter.images, letter.one_click, preferences)
    tokens = [token for url in urls for token in TOKEN.findall(url)]
    assert len(tokens) >= 4
    assert await left_of(place, [address]) >= {"contact", "identity", "proof"}
    erasing = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "mtad", "contact", "erase", address, "--yes", "--json",
        cwd=place.installation.folder, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    _, said = await erasing.communicate()
    assert (erasing.returncode, said) == (0, b""), "a command logs nothing of it either"

    assert await place.click(letter) == "https://shop.example/a?x=1&y=2"
    await place.open(letter)
    async with place.http.get(letter.one_click, headers=FIREFOX) as answer:
        assert answer.status == 200
    await place.leave(letter)
    now = datetime.now(UTC)
    await place.until_count("select count(*) from worker where dead is null and ingested_until < $1", 0, now)

    assert await left_of(place, [address, *tokens]) <= {"proof"}


async def left_of(place: Place, names: list[str]) -> set[str]:
    """Tables, and files of the daemon, in which one of these stands; of Postgres its log."""
    found = set()
    for (table,) in await place.pool.fetch(
        "select c.oid::regclass::text from pg_class c where c.relkind in ('r', 'p') and not c.relispartition"
        " and c.relnamespace = 'public'::regnamespace"
    ):
        named = "exists (select from unnest($1::text[]) n where position(lower(n) in lower(t::text)) > 0)"
        query = f"select count(*) from {table} t where {named}"
        if await place.pool.fetchval(query, names):
            found.add(table)
    state = place.installation.config.state
    files = [place.installation.log_path, *(path for path in state.rglob("*") if path.is_file())]
    for path in files:
        of_postgres = (state / "postgres") in path.parents
        if of_postgres and "log" not in path.parts[-2]:
            continue
        held = path.read_bytes()
        if any(name.encode() in held for name in names):
            found.add(str(path))
    return found
