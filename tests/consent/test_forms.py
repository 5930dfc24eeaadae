"""Forms from files: versions, the mail that asks to confirm, and what is refused."""

import pytest

from engine.service import Catalogue
from mtad.base.errors import InputError
from mtad.compose.apply import apply_stream
from mtad.compose.composer import Composed, Composer
from mtad.consent.forms import list_forms
from mtad.queue.store import claim
from tests.consent.conftest import FORM, STREAM, Office
from tests.tracker.made import KEYS
from tracker import tokens

HTML = '<p>Hello, <a href="{{ confirm_url }}">confirm</a>. {{ imprint }}</p>'


async def test_the_same_file_again_changes_nothing_and_a_change_is_a_new_version(office: Office) -> None:
    assert (await office.apply()).did == "unchanged"
    changed = await office.apply(FORM.replace("Yes", "Sure"))

    assert (changed.did, changed.version) == ("changed", 2)
    old, new = await office.pool.fetch("select definition from form_version order by version")
    assert (old[0]["consent"][:3], new[0]["consent"][:4]) == ("Yes", "Sure")


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (FORM.replace("site", "My Form"), "small letters"),
        (FORM.replace("news", "nowhere"), "there is no 'nowhere' (there is: news, shop)"),
        (FORM.replace("Yes, write to me. I can stop it at any time.", " "), "consent: is empty"),
        (FORM + 'colour = "red"', "form.toml: unknown key `colour`"),
        (FORM + 'language = "fr"', "language: Invalid enum value 'fr'"),
        (FORM + 'message = "mine"', "no such folder"),
        ("name = ", "form.toml"),
    ],
)
async def test_what_is_wrong_with_a_file_is_one_line(office: Office, wrong: str, says: str) -> None:
    with pytest.raises(InputError) as refused:
        await office.apply(wrong)

    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("html", "says"),
    [
        ("<p>Hello {{ imprint }}</p>", "confirm_url"),
        (HTML + '<a href="https://shop.example/">Offers</a>', "no advertising"),
    ],
)
async def test_a_mail_that_asks_to_confirm_does_just_that(office: Office, html: str, says: str) -> None:
    office.write("mine/subject.txt", "Please confirm")
    office.write("mine/message.html", html)

    with pytest.raises(InputError, match=says):
        await office.apply(FORM + 'message = "mine"')


async def test_a_form_is_and_posts_where_the_links_of_its_stream_are(office: Office) -> None:
    own = STREAM.format(name="shop", title="Offers") + 'tracking_url = "https://links.shop.example"'
    await apply_stream(office.pool, office.write("shop.toml", own), "me")
    await office.apply(FORM.replace("site", "offers").replace("news", "shop"))

    shown = {form.name: form for form in await list_forms(office.config, office.pool)}
    for name, base in (("site", "https://t.example.com"), ("offers", "https://links.shop.example")):
        assert shown[name].address == f"{base}/s/{name}"
        assert f'action="{base}/subscribe"' in shown[name].snippet


async def composed(office: Office) -> Composed:
    """The mail that a worker makes of the first job."""
    composer = Composer(office.config, KEYS)
    async with office.pool.acquire() as conn:
        site = await conn.fetchval("insert into site (name, hosts) values ('reader.test', '{mx}') returning id")
        await conn.execute("update job set site_id = $1", site)
        await conn.execute("insert into worker (host, slot, pid) values ('h', 0, 1)")
        (facts,) = await claim(conn, 1, [], [])
    catalogue = Catalogue(office.pool)
    program, stream = (facts.program_id, facts.version), (facts.stream_id, facts.stream_version)
    await catalogue.need([program], [stream], facts.epoch)
    await composer.need(office.pool, [facts.message_id])
    return composer.compose(facts, catalogue.program(*program), catalogue.stream(*stream), facts.created)


@pytest.mark.parametrize("own", [False, True])
async def test_the_mail_leads_to_its_confirmation_is_on_no_list_and_measures_nobody(office: Office, own: bool) -> None:
    if own:
        office.write("mine/subject.txt", "Please confirm")
        office.write("mine/message.html", HTML)
        await office.apply(FORM + 'message = "mine"')
    await office.ask()
    (job,) = await office.jobs()

    mail = await composed(office)
    text = mail.message().decode().replace("=\r\n", "").replace("=3D", "=")

    url = tokens.confirm_url("https://t.example.com", tokens.confirm_token(KEYS, job))
    assert url in text
    assert not [name for name, _ in mail.headers if name.startswith(b"List-")]
    assert "/o/" not in text
    assert "/c/" not in text
    (proof,) = await office.proofs()
    assert dict(mail.headers)[b"Message-ID"].decode() == proof["message_id"]


@pytest.mark.parametrize("language", ["en", "de", "ru"])
async def test_a_title_is_text_in_the_mail_whatever_stands_in_it(office: Office, language: str) -> None:
    await office.pool.execute('update stream_version set definition = definition || \'{"title": "{{ 7 * 6 }} {% x"}\'')
    await office.apply(FORM + f'language = "{language}"')
    await office.ask()

    body = (await composed(office)).body.decode().replace("=\r\n", "").replace("=20", " ")
    assert "{{ 7 * 6 }} {% x" in body
