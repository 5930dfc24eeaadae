"""What a template may say, and what becomes of a contact who lacks a value."""

import pytest

from mtad.base.errors import InputError
from mtad.compose.faults import ContentFault
from mtad.compose.template import RESERVED, check, compiled, context, rendered

KNOWN = ("first_name", "age")


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
        ("{{ '{0.__class__}'.format(1) }}", "m.html: access to attribute '__class__' of 'int' object is unsafe"),
        ("{% extends 'x' %}", "m.html:1: a message is one file: include, import and extends are not available"),
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
        rendered(compiled(source, html=True), context("a@b.test", {}), "html")

    assert caught.value.reason == reason


@pytest.mark.parametrize("nothing", [{}, {"first_name": None}, {"first_name": ""}])
def test_the_default_of_the_template_stands_in(nothing: dict[str, str | None]) -> None:
    template = compiled("{{ first_name | default('there') }}{{ '!' if first_name is defined }}", html=True)

    assert rendered(template, context("a@b.test", nothing), "html") == "there"


def test_html_is_escaped_and_text_is_not() -> None:
    values = context("a@b.test", {"first_name": "<b> & 'x'"})

    assert rendered(compiled("{{ first_name }}", html=True), values, "html") == "&lt;b&gt; &amp; &#39;x&#39;"
    assert rendered(compiled("{{ first_name }}", html=False), values, "txt") == "<b> & 'x'"


def test_an_attribute_cannot_take_the_place_of_the_address() -> None:
    assert context("a@b.test", {"email": "other@b.test"})["email"] == "a@b.test"
    assert "email" in RESERVED
