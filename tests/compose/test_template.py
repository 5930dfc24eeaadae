"""What a template may say, and what becomes of a contact who lacks a value."""

import binascii
from collections.abc import Callable

import pytest
from jinja2 import Template

from mtad.base.errors import InputError
from mtad.compose import sandbox
from mtad.compose.faults import ContentFault
from mtad.compose.sandbox import Ours
from mtad.compose.template import RESERVED, check, compiled, compiled_html, compiled_text, context, rendered

MARK = "\ue010"  # made text has marks

KNOWN = ("first_name", "age")


def said(source: str, values: dict[str, object]) -> str:
    """What an HTML template says to a contact with these attributes, decoded."""
    return binascii.a2b_qp(rendered(compiled_html(source), context("a@b.test", values), "html")).decode()


@pytest.mark.parametrize(
    ("source", "asked"),
    [
        ("plain", set()),
        ("{{ first_name }}", {"first_name"}),
        ("{% set x = age %}{{ x }}", {"age"}),
        ("{% for i in range(2) %}{{ loop.index }}{{ i }}{% endfor %}", set()),
        ("{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1) }}", set()),
        ("{{ first_name | upper | default('x') }}{{ email }}", {"first_name", "email"}),
    ],
)
def test_a_good_template_tells_what_it_asks_for(source: str, asked: set[str]) -> None:
    assert check(source, "m.html", KNOWN, html=True) == asked


@pytest.mark.parametrize(
    ("source", "refusal"),
    [
        ("a\nb {{ lastname }}", "m.html:2: no contact has an attribute 'lastname'"),
        ("{{ first_nam }}", "m.html:1: no contact has an attribute 'first_nam'; did you mean first_name?"),
        ("{% if lastname %}x{% endif %}", "m.html:1: no contact has an attribute 'lastname'"),
        ("\n\n{{ x", "m.html:3: unexpected end of template, expected 'end of print statement'."),
        ("{{ ''.__class__ }}", "m.html:1: __class__ is not allowed: it leads out of the sandbox"),
        ("{{ ''['__class__'] }}", "m.html:1: __class__ is not allowed: it leads out of the sandbox"),
        ("{{ '' | attr('x') }}", "m.html:1: the filter attr is not allowed: it leads out of the sandbox"),
        ("{{ cycler.__init__ }}", "m.html:1: __init__ is not allowed: it leads out of the sandbox"),
        ("{{ self._TemplateReference__context }}", "m.html:1: _TemplateReference__context is not allowed"),
        ("{{ '{0.__class__}'.format(1) }}", "m.html:1: the method format is not allowed: write '%s' | format(value)"),
        ("{% set f = '{0.__class__}'.format %}{{ f(1) }}", "m.html: the method format is not allowed: it leads out"),
        (
            "{{ ['x'] | sum(attribute='__class__') }}",
            "m.html: access to attribute '__class__' of 'str' object is unsafe",
        ),
        ("{% extends 'x' %}", "m.html:1: a message is one file: include, import, extends and block are not"),
        ("{% block a %}x{% endblock %}", "m.html:1: a message is one file: include, import, extends and block are not"),
        ("{% set mtad_link = 1 %}", "m.html:1: mtad_link: names that begin with mtad_ are reserved"),
        ("{{" + "(" * 5000 + ")" * 5000 + "}}", "m.html: the template is nested too deeply"),
    ],
)
def test_a_bad_template_is_refused_with_its_place(source: str, refusal: str) -> None:
    with pytest.raises(InputError) as caught:
        check(source, "m.html", KNOWN, html=True)

    assert str(caught.value).startswith(refusal)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("{{ first_name }}", "missing_value:first_name"),
        ("{% if first_name %}x{% endif %}", "missing_value:first_name"),
        ("{{ first_name | upper }}", "missing_value:first_name"),
        ("{{ first_name ~ 'x' }}", "missing_value:first_name"),
        ("{{ email.nothing }}", "content:no element nothing"),
        ("{{ 1 / 0 }}", "content:html: ZeroDivisionError"),
        ("{{ 'a' + 1 }}", "content:html: TypeError"),
    ],
)
def test_what_one_contact_lacks_is_a_fault_of_that_mail(source: str, reason: str) -> None:
    with pytest.raises(ContentFault) as caught:
        rendered(compiled_html(source), context("a@b.test", {}), "html")

    assert caught.value.reason == reason


@pytest.mark.parametrize("nothing", [{}, {"first_name": None}, {"first_name": ""}])
def test_the_default_of_the_template_stands_in(nothing: dict[str, str | None]) -> None:
    source = "{{ first_name | default('there') }}{{ '!' if first_name is defined }}"

    assert said(source, {**nothing}) == "there"


def test_html_is_escaped_and_text_is_not() -> None:
    attributes = {"first_name": "<b> & 'x'"}
    values = context("a@b.test", attributes)

    assert said("{{ first_name }}", {**attributes}) == "&lt;b&gt; &amp; &#39;x&#39;"
    assert rendered(compiled("{{ first_name }}"), values, "subject") == "<b> & 'x'"
    assert rendered(compiled_text("{{ first_name }}"), values, "txt") == "<b> & 'x'=\r\n"


def test_an_attribute_cannot_take_the_place_of_the_address() -> None:
    assert context("a@b.test", {"email": "other@b.test"})["email"] == "a@b.test"
    assert "email" in RESERVED


STEPS = "more than 10000 turns of loops and calls"
LARGE = "a text, a list or a number becomes too large"
TEXT = "more than 2000000 characters"


@pytest.mark.parametrize(
    ("source", "refusal"),
    [
        ("{% for i in range(10**9) %}x{% endfor %}", STEPS),
        ("{% for i in range(999) %}{% for j in range(999) %}{% endfor %}{% endfor %}", STEPS),
        ("{% set l = range(999) | list %}{% for i in l %}{% for j in l %}{% endfor %}{% endfor %}", STEPS),
        ("{% for i in 'x' * 999 %}{% for j in ('x' * 999) | map('upper') %}{% endfor %}{% endfor %}", STEPS),
        ("{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}", STEPS),
        ("{% for i in [1, 2] recursive %}{{ loop([1, 2]) if loop.depth < 15 }}{% endfor %}", STEPS),
        ("{{ 'a' * 10**9 }}", LARGE),
        ("{{ 10**9 * [1] }}", LARGE),
        ("{{ 9 ** (9 ** 9) }}", LARGE),
        ("{{ 'x'.ljust(10**9) }}", LARGE),
        ("{{ (5).to_bytes(10**9, 'big') }}", LARGE),
        ("{{ 'x' | center(10**9) }}", LARGE),
        ("{{ 'x' | indent(10**9) }}", LARGE),
        ("{{ 'x' | batch(10**9, 'y') | list }}", LARGE),
        ("{{ [1] | slice(10**9) | list }}", LARGE),
        ("{{ ['x'] | tojson(indent=10**9) }}", LARGE),
        ("{{ ['x'] | map('center', 10**9) | list }}", LARGE),
        ("{{ '%1000000000d' | format(1) }}", LARGE),
        ("{{ '%*d' % (10**9, 1) }}", LARGE),
        ("{% set n = namespace(x='aa') %}{% for i in range(40) %}{% set n.x = n.x ~ n.x %}{% endfor %}", LARGE),
        ("{% set n = namespace(x='aa') %}{% for i in range(40) %}{% set n.x = n.x + n.x %}{% endfor %}", LARGE),
        ("{% set n = namespace(x=99) %}{% for i in range(40) %}{% set n.x = n.x * n.x %}{% endfor %}", LARGE),
        ("{% set a = 'x' * 999999 %}{{ a }}{{ a }}{{ a }}", TEXT),
        ("{% set a = 'x' * 999999 %}{% set b %}{{ a }}{{ a }}{{ a }}{% endset %}", TEXT),
    ],
)
def test_a_template_that_asks_for_too_much_is_refused(source: str, refusal: str) -> None:
    with pytest.raises(InputError) as caught:
        check(source, "m.html", KNOWN, html=True)

    assert str(caught.value) == f"m.html: {refusal}"


@pytest.mark.parametrize(
    ("source", "refusal"), [("{{ 'x' * age }}", LARGE), ("{% for i in range(age) %}.{% endfor %}", STEPS)]
)
def test_a_value_that_asks_for_too_much_is_a_fault_of_that_mail_alone(source: str, refusal: str) -> None:
    with pytest.raises(ContentFault) as caught:
        said(source, {"age": 10**9})

    assert caught.value.reason == f"content:html: {refusal}"
    assert len(said(source, {"age": 3})) == 3


class Counted(Ours):
    """Half of what a text may be and a little more, and how often it was asked for."""

    calls = 0

    def __call__(self) -> str:
        self.calls += 1
        return "é" + "y" * (sandbox.MOST_TEXT // 2)


@pytest.mark.parametrize(
    ("of_part", "around"),
    [
        (compiled, "{}"),
        (compiled_html, "{}"),
        (compiled_html, "{{% autoescape false %}}{}{{% endautoescape %}}"),
        (compiled_html, "{{% autoescape large is defined %}}{}{{% endautoescape %}}"),
        (compiled_text, "{}"),
        (compiled_text, "{{% autoescape true %}}{}{{% endautoescape %}}"),
        (compiled_text, MARK + "{}"),
        (compiled, "{{% set x %}}{}{{% endset %}}"),
        (compiled_html, "{{% set x %}}{}{{% endset %}}"),
        (compiled_html, "{{% set x | length %}}{}{{% endset %}}"),
        (compiled_html, "{{% filter length %}}{}{{% endfilter %}}"),
        (compiled_html, "{{% macro m() %}}{}{{% endmacro %}}{{{{ m() | length }}}}"),
    ],
)
@pytest.mark.parametrize("asked", ["{{ large() }}" * 9, "{% for i in range(9) %}{{ large() }}{% endfor %}"])
def test_no_more_values_are_made_than_a_text_may_hold(
    of_part: Callable[[str], Template], around: str, asked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sandbox, "MOST_TEXT", 2_000)
    large = Counted()
    values = context("a@b.test", {"large": large})

    with pytest.raises(ContentFault, match=TEXT):
        rendered(of_part(around.format(asked)), values, "part")

    assert large.calls == 2


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ("{{ 5000000 | tojson }} {{ nobody | default(7000000) }} {{ '%.2f' | format(12345678.9) }}", None),
        ("{% macro price(n) %}{{ n * 2 }}{% endmacro %}{{ price(50000000) }}", "100000000"),
        ("{% for i in [3, 1] %}{{ loop.index }}/{{ loop.length }}{{ ',' if not loop.last }}{% endfor %}", "1/2,2/2"),
        ("{% for k, v in {'a': 1}.items() %}{{ k }}{{ v }}{% else %}none{% endfor %}", "a1"),
        ("{% for i in [] %}x{% else %}none{% endfor %}", "none"),
        ("{% for i in [1, 2] %}{% set n = i %}{% for j in range(n) %}{{ j }}{% endfor %}{% endfor %}", "001"),
        ("{% macro m() %}<{{ '&' | e }}{% endmacro %}{{ m() }}{{ [1] | tojson | forceescape }}", "<&amp;[1]"),
        ("{% for i in [1, 2, 3] if i > 1 %}{{ i }}{% endfor %}", "23"),
        ("{% for i in [[1], []] recursive %}[{{ loop(i) if i is iterable }}]{% endfor %}", "[[]][]"),
        ("{% set a = '&' | e %}{{ '<' ~ a ~ '>' }}{{ '<' ~ 'b' }}", "&lt;&amp;&gt;&lt;b"),
        ("{{ 'a-b' | replace('-', '+') }}{{ 'x'.ljust(3) }}|{{ ['a', 'b'] | join(', ') }}", "a+bx  |a, b"),
        ("{% for x in range(60) %}{% for y in range(60) %}{% endfor %}{% endfor %}ok", None),
    ],
)
def test_the_bounds_are_in_nobodys_way(source: str, shown: str | None) -> None:
    check(source, "m.html", {*KNOWN, "nobody"}, html=True)
    shown = shown or said(source, {})

    for _ in range(3):
        assert said(source, {}) == shown
