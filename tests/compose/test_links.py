"""Links are found as browsers find them, and nothing else is touched."""

import re
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtad.compose.links import Link, filled, hrefs, rewritten, unescaped, with_utm
from mtad.compose.source import constructs, masked

CALL = re.compile(r"\{\{ mtad_link\(")

# What templates are made of, well formed or not.
fragments = st.lists(
    st.one_of(
        st.sampled_from(
            [
                '<a href="https://a.test/{{ x }}?b=1&amp;c">', "<area HREF=http://b.test>", "<a ", "<A\n", "<area ",
                "</a>", "<p>", "<", ">", "/>", "href=", "HREF = ", " href ", '"', "'", " ", "\n", "=",
                "https://a.test/x?b=1&amp;c", "http://B.test", "mailto:a@b.c", "#top", "//c.test/", "javascript:x",
                "{{ name }}", '{{ x["}}"] }}', "{% if a > 3 %}", "{% endif %}", "{# <a href='https://no.test'> #}",
                "{% raw %}", "{% endraw %}", "{{", "}}", "{%", "<!--", "-->", "<!-->", "<script>", "</script>",
                "<style>", "</style>", "<title>", "</title>", "data-no-track", "\ue000", "&#x68;", "<!DOCTYPE html>",
                "<?xml", "</",
            ]
        ),
        st.text(max_size=4),
    ),
    max_size=25,
).map("".join)  # fmt: skip


@given(fragments)
def test_all_but_hrefs_stays_byte_for_byte(source: str) -> None:
    new, links = rewritten(source)

    values = [source[href.start : href.end] for _, href in hrefs(masked(source))]
    calls = [new[c.start : c.end] for c in constructs(new) if CALL.match(new, c.start)]
    back = new
    for call, at in zip(reversed(calls), reversed(_call_positions(new)), strict=True):
        # Which of the values it was: the last one with which the source ends as the text does behind the call.
        value = next(v for v in reversed(values) if source.endswith(v + back[at + len(call) :]))
        back = back[:at] + value + back[at + len(call) :]
    assert len(calls) == len(links)
    assert back == source


def _call_positions(new: str) -> list[int]:
    return [c.start for c in constructs(new) if CALL.match(new, c.start)]


@given(fragments)
def test_masking_moves_nothing(source: str) -> None:
    assert len(masked(source)) == len(source)


urls = st.from_regex(r"https?://[a-z]{1,5}\.test(/[a-z0-9%._-]{0,5}){0,2}(\?[a-z]=[a-z0-9&=;]{0,8})?", fullmatch=True)
quotes = st.sampled_from(['"', "'"])
noise = st.sampled_from(
    ["<p>", "text & more", "<br/>", "<!-- <a href='https://no.test/'> -->", "<b title='<a href=https://no.test/>'>",
     "<style>a>b{}</style>", "<script>'<a href=\"https://no.test/\">'</script>", "1 < 2 ", "</p>", "<img src=x>"]
)  # fmt: skip


@given(st.lists(st.tuples(noise, st.sampled_from(["a", "A", "area"]), quotes, urls), max_size=6))
def test_the_links_are_those_that_another_parser_finds(spec: list[tuple[str, str, str, str]]) -> None:
    source = "".join(
        f"{before}<{tag} class=x href={quote}{url.replace('&', '&amp;')}{quote}>" for before, tag, quote, url in spec
    )
    found: list[str] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            if tag in ("a", "area"):
                found.append(dict(attrs)["href"] or "")

    Reader(convert_charrefs=False).feed(source)
    _, links = rewritten(source)

    assert [link.url for link in links] == found == [url for *_, url in spec]


@pytest.mark.parametrize(
    "untouched",
    [
        '<a href="mailto:a@b.c">',
        '<a href="tel:+49">',
        '<a href="sms:+49">',
        '<a href="cid:x">',
        '<a href="data:text/html,x">',
        '<a href="javascript:x()">',
        '<a href="#top">',
        '<a href="/relative">',
        '<a href="//host.test/">',
        '<a href="{{ unsubscribe_url }}">',
        '<a href="{{ base }}/x">',
        '<a href="https://{{ host }}/x">',
        '<a href="https://a.test{{ rest }}">',
        '<a href="https://a.test\\{{ rest }}/">',
        '<a href="https://user@{{ host }}/">',
        '<a href="https://a.test/{% if x %}b{% endif %}">',
        '<a data-no-track href="https://a.test/">',
        '<a href="https://a.test/" clicktracking=off>',
        '<a href="https://a.test/" clicktracking="OFF">',
        '<a data-pm-no-track href="https://a.test/">',
        '<a ses:no-track href="https://a.test/">',
        "<a>",
        "<a href>",
        '<a href="">',
        '<link href="https://a.test/">',
        '<abbr href="https://a.test/">',
        '<a data-href="https://a.test/">',
        '<!-- <a href="https://a.test/"> -->',
        '{# <a href="https://a.test/"> #}',
        '{% raw %}<a href="https://a.test/">{% endraw %}',
        "{{ '<a href=\"https://a.test/\">' }}",
        '<a href="https://a.test/',
    ],
)
def test_what_is_not_to_be_tracked_stays(untouched: str) -> None:
    assert rewritten(untouched) == (untouched, ())


@pytest.mark.parametrize(
    ("source", "new", "url"),
    [
        ('<a href="https://a.test/">', '<a href="{{ mtad_link(1) }}">', "https://a.test/"),
        ("<A HREF='https://a.test/'>", "<A HREF='{{ mtad_link(1) }}'>", "https://a.test/"),
        ("<area href=https://a.test/x>", "<area href={{ mtad_link(1) }}>", "https://a.test/x"),
        ('<a clicktracking="on" href="https://a.test/">', '<a clicktracking="on" href="{{ mtad_link(1) }}">', "https://a.test/"),
        ('<a href=" https://a.test/\n x ">', '<a href="{{ mtad_link(1) }}">', "https://a.test/%20x"),
        ('<a href="https://a.test/?x=1&amp;y=2">', '<a href="{{ mtad_link(1) }}">', "https://a.test/?x=1&y=2"),
        ('<a href="https://a.test/?x=1&copy=2">', '<a href="{{ mtad_link(1) }}">', "https://a.test/?x=1&copy=2"),
        ('<a href="&#104;ttps://a.test/">', '<a href="{{ mtad_link(1) }}">', "https://a.test/"),
        ('<a href="https://a.test/{b}">', '<a href="{{ mtad_link(1) }}">', "https://a.test/%7Bb%7D"),
        ('<a href="https://müller.test/ü">', '<a href="{{ mtad_link(1) }}">', "https://xn--mller-kva.test/%C3%BC"),
        (
            '<a href="https://a.test/{{ x["}}"] }}?y={{ y|urlencode }}&amp;z={{- z -}}">',
            '<a href="{{ mtad_link(1, (x["}}"]), (y), (z)) }}">',
            "https://a.test/{0}?y={1}&z={2}",
        ),
        (
            '<a {% if x > 3 %}class="b"{% endif %} href="https://a.test/">',
            '<a {% if x > 3 %}class="b"{% endif %} href="{{ mtad_link(1) }}">',
            "https://a.test/",
        ),
        (
            '<a{% if x %} id="y"{% endif %} href="http://a.test">',
            '<a{% if x %} id="y"{% endif %} href="{{ mtad_link(1) }}">',
            "http://a.test",
        ),
    ],
)  # fmt: skip
def test_a_link_becomes_a_call_and_its_address_is_kept(source: str, new: str, url: str) -> None:
    assert rewritten(source) == (new, (Link(1, url),))


def test_every_link_has_its_own_number_even_to_the_same_place() -> None:
    _, links = rewritten('<a href="https://a.test/"></a><a href="https://a.test/"></a>')

    assert [link.position for link in links] == [1, 2]


@given(st.lists(st.text(max_size=8), min_size=2, max_size=2))
def test_values_never_leave_their_place_in_an_address(values: list[str]) -> None:
    address = filled("https://a.test/{0}/x?y={1}", [value.encode("utf-8", "replace").decode() for value in values])

    assert re.fullmatch(r"https://a\.test/[A-Za-z0-9%._~-]*/x\?y=[A-Za-z0-9%._~-]*", address)


def test_references_in_an_attribute_are_decoded_as_browsers_do() -> None:
    assert (
        unescaped("a&amp;b &lt;&copy &copy=1 &copyx &nope; &#x41;&#65 & &quot;")
        == 'a&b <© &copy=1 &copyx &nope; AA & "'
    )


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://a.test", "https://a.test?utm_source=news&utm_medium=e%20mail"),
        ("https://a.test/p#top", "https://a.test/p?utm_source=news&utm_medium=e%20mail#top"),
        ("https://a.test/?x=1&y", "https://a.test/?x=1&y&utm_source=news&utm_medium=e%20mail"),
        ("https://a.test/?x=1&", "https://a.test/?x=1&utm_source=news&utm_medium=e%20mail"),
        ("https://a.test/?", "https://a.test/?utm_source=news&utm_medium=e%20mail"),
        ("https://a.test/?utm_source=mine&s={0}#{1}", "https://a.test/?utm_source=mine&s={0}&utm_medium=e%20mail#{1}"),
        ("https://a.test/?UTM_Medium=&utm%5Fsource", "https://a.test/?UTM_Medium=&utm%5Fsource"),
    ],
)
def test_utm_parameters_are_appended_and_overwrite_nothing(url: str, expected: str) -> None:
    assert with_utm(url, {"source": "news", "medium": "e mail"}) == expected
    assert with_utm(url, {}) == url


@given(st.text("ab?&=#/{}0%", max_size=20))
def test_utm_parameters_change_nothing_that_the_author_wrote(tail: str) -> None:
    url = f"https://a.test/{tail}"
    appended = with_utm(url, {"source": "n"})

    before, _, fragment = url.partition("#")
    after, _, kept = appended.partition("#")
    assert after.replace("?utm_source=n", "", 1).replace("&utm_source=n", "", 1) in (
        before, before.removesuffix("&"), before.removesuffix("?"),
    )  # fmt: skip
    assert kept == fragment
    assert with_utm(appended, {"source": "other"}) == appended
