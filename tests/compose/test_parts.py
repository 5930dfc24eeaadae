"""Parts are quoted piece by piece; what arrives is what plain Jinja2 renders as a whole."""

import re
from collections.abc import Sequence

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from jinja2 import StrictUndefined, UndefinedError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from mtad.compose.faults import ContentFault
from mtad.dkim.canon import ended, relaxed_body
from mtad.smtp import encode
from tests.compose.mails import NOW, composer_of, facts, parsed, part, program, stream_of

# No brackets: no Jinja and no tags by chance. Blanks, dots and equals signs more often than by chance.
literals = st.text(
    st.one_of(st.sampled_from("  =\t.\nab&"), st.characters(exclude_characters="{}%#<\r\0")), max_size=90
)
values = st.text(st.one_of(st.sampled_from(" =\t.\r\n<&ab"), st.characters()), max_size=90)

EXPRESSIONS = (
    "{{ a }}", "{{ b }}", "{{ b | upper }}", "{{ a | default('é= ') }}", "{{ a }}{{ b }}", "{{ '=' * 80 }}",
    "{{ ' x ' }}",     "{{ b ~ ' <' ~ a }}", "{{ a | safe }}", "{{ 7 / 2 }}", "{{ [a, 1] }}",
)  # fmt: skip
STATEMENTS = (
    "{% if b is defined %}yes =\n{{ b }} {% else %} no {% endif %}",
    "{% for c in a | list %}{{ c }}, {% else %}none{% endfor %}",
    "{% for c in [1, [2]] recursive %}{{ loop(c) if c is iterable else c }} {% endfor %}",
    "{% set x = b %}{{ x }}{% with y = a %} {{ y }}{% endwith %}",
    "{% set x %}{{ a }} \n=é {% endset %}{{ x }} {{ x }}",
    "{% set x | upper %}{{ a }} \n=é {% endset %}{{ x }}",
    "{% macro m(v) %}[{{ v }}]  é={% endmacro %}{{ m(b) }}{{ m(a) | length }}",
    "{% macro f() %}({{ caller() }}){% endmacro %}{% call f() %}{{ a }} =\n{% endcall %}",
    "{% filter upper %} {{ a }} =\n{% if b %}é{% endif %}{% endfilter %}",
    "{% filter center(100) %}{% for c in [1, 2] %}{{ c }}{{ a }}{% endfor %}{% endfilter %}",
    "{% autoescape false %}{{ a }}{{ '<' ~ b }}{% endautoescape %}",
    "{% autoescape true %}{{ a }}{{ b | safe }}{{ '<' ~ b }}{% endautoescape %}",
    "{% autoescape b is defined %}{{ a }}{% endautoescape %}",
    "{%- raw -%} {{ = }} {%- endraw -%} {# no #}",
)


def whole(source: str, given: dict[str, str], *, html: bool) -> str:
    environment = ImmutableSandboxedEnvironment(autoescape=html, undefined=StrictUndefined, keep_trailing_newline=True)
    rendered = environment.from_string(source).render({name: value for name, value in given.items() if value})
    return rendered.encode("utf-8", "replace").decode()


def same(text: str, *, returns: bool) -> str:
    """To compare by. Where values hold carriage returns, the pieces decide which belong to a line feed."""
    text = text.removesuffix("\n")
    return re.sub(r"[\r\n]+", "\n", text).strip("\n") if returns else text


def check(pieces: Sequence[str], a: str, b: str) -> None:
    source, given = "".join(pieces), {"a": a, "b": b}
    composer = composer_of(subject="Hi", html=source, txt=source)
    try:
        wanted = {"html": whole(source, given, html=True), "plain": whole(source, given, html=False)}
    except UndefinedError:
        with pytest.raises(ContentFault, match=r"^missing_value:[ab]$"):
            composer.compose(facts(attributes=given), program(), stream_of("none"), NOW)
        return

    composed = composer.compose(facts(attributes=given), program(), stream_of("none"), NOW)

    message = parsed(composed.message())
    for kind, text in wanted.items():
        assert same(part(message, kind), returns="\r" in a + b) == same(text, returns="\r" in a + b)
    assert relaxed_body(composed.body) == ended(composed.body)
    assert all(len(line) <= 76 for line in composed.body.split(b"\r\n"))
    assert encode.data(composed.body) == composed.body + b".\r\n"  # which is why nobody looks, see Session.send


@settings(deadline=None, max_examples=200)
@given(st.lists(st.one_of(literals, st.sampled_from(EXPRESSIONS)), max_size=8), values, values)
@example([".x\n.y ", "{{ a }}", "\n", "{{ b }}"], ".", ".5\n.")
def test_a_template_without_statements_arrives_as_it_renders(pieces: list[str], a: str, b: str) -> None:
    check(pieces, a, b)


@settings(deadline=None, max_examples=200)
@given(
    st.lists(st.one_of(literals, st.sampled_from(EXPRESSIONS), st.sampled_from(STATEMENTS)), max_size=8), values, values
)
def test_a_template_with_statements_arrives_as_it_renders(pieces: list[str], a: str, b: str) -> None:
    check(pieces, a, b)


@pytest.mark.parametrize("statement", STATEMENTS)
def test_each_statement_arrives_as_it_renders(statement: str) -> None:
    check(["first ", statement, " last"], "Änn = <x> ", "b  c")
    check(["first ", statement, " last"], "Ann", "b")
