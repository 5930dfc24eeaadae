"""Plain text made of HTML, as a template and as it is read."""

import binascii
import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from jinja2.sandbox import SandboxedEnvironment

from mtad.compose.mime import ended
from mtad.compose.names import Names
from mtad.compose.template import compiled_text, rendered
from mtad.compose.text import plain_text, settled


def read(html: str, **values: object) -> str:
    """The text as a recipient with these values reads it."""
    quoted = settled(rendered(compiled_text(plain_text(html).strip()), Names(values), "txt"))
    return binascii.a2b_qp(ended(quoted)).decode().replace("\r\n", "\n")


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("<p>One</p>\n  <p>Two\n  words</p>", "One\n\nTwo words\n"),
        ("a<br>b<br/>c", "a\nb\nc\n"),
        ("<b>bold</b> and <i>it</i>alic", "bold and italic\n"),
        ("<head><title>no</title><style>p{}</style></head><body>yes<script>no</script></body>", "yes\n"),
        ("<head><style>p{}</style><body>yes", "yes\n"),
        ("1 &lt; 2 &amp; &euro; &nbsp;x", "1 < 2 & €  x\n"),
        ('<a href="https://a.test/?x=1&amp;y=2">here</a>!', "here <https://a.test/?x=1&y=2>!\n"),
        ('<a href="https://a.test/">https://a.test</a>', "https://a.test\n"),
        ('<a href="mailto:a@b.test">a@b.test</a>', "a@b.test\n"),
        ('<a href="#top">up</a>', "up\n"),
        ('<a href="https://a.test/"><img src="x" alt="Shop"></a>', "Shop <https://a.test/>\n"),
        ("<ul><li>one</li><li>two</li></ul>after", "- one\n- two\n\nafter\n"),
        ("<table><tr><td>a</td><td>b</td></tr><tr><td>c</td></tr></table>", "a b\nc\n"),
        ("<!-- no --><p>{# no #}yes</p>", "yes\n"),
        ("{{ name }}, hello", "Ann & Bob, hello\n"),
        ('<a href="https://a.test/{{ sku }}">x</a>', "x <https://a.test/7>\n"),
        ("<ul>{% for i in [1, 2] %}<li>{{ i }}</li>{% endfor %}</ul>", "- 1\n- 2\n"),
        ("<p>A</p>\n{%- if no -%}\n<p>B</p>\n{% endif %}\n<p>C</p>", "A\n\nC\n"),
        ("<p>A</p>\n{%- if yes -%}\n<p>B</p>\n{% endif %}\n<p>C</p>", "A\n\nB\n\nC\n"),
        ("Dear {% if no %}Mr{% else %}Ms{% endif %} {{ name }}", "Dear Ms Ann & Bob\n"),
        ("{% raw %}{{ raw }}{% endraw %} &#123;{ name }}", "{{ raw }} {{ name }}\n"),
    ],
)
def test_text_says_what_html_says(html: str, text: str) -> None:
    assert read(html, name="Ann & Bob", sku=7, yes=True, no=False) == text.replace("  x", "  x")


PIECES = (
    "a", "b ", "\n", " <b>c</b>", "<br>", "<p>d</p>", "<ul><li>e</li></ul>", "{{ name }}", "{{ nothing }}",
    "{% if yes %}", "{% if no %}", "{% for i in [1, 2] %}",
)  # fmt: skip
SHOWN = {"\ue010": " ", "\ue011": "\n", "\ue012": "\n\n"}


@settings(deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=12), st.sampled_from(["", "é", "x  y\n", "=" * 80]))
@example(["{% for i in [1, 2] %}", "\n", "{{ name }}", "<br>", "{{ name }}"], "")
def test_marks_beside_statements_settle_as_if_the_text_were_whole(pieces: list[str], name: str) -> None:
    opened = [piece.split()[1] for piece in pieces if piece.startswith("{%")]
    html = "".join(pieces) + "".join(f"{{% end{what} %}}" for what in reversed(opened))
    values = {"name": name, "nothing": "", "yes": True, "no": False}

    whole = SandboxedEnvironment(keep_trailing_newline=True).from_string(plain_text(html).strip()).render(values)
    runs = re.sub(r"\A[\ue010-\ue012]+|[\ue010-\ue012]+\Z", "", whole)
    wanted = re.sub("[\ue010-\ue012]+", lambda run: SHOWN[max(run[0])], runs)
    assert read(html, **values) == (wanted if wanted.endswith("\n") else wanted + "\n")


@given(st.text(alphabet="abc <>&;#123{}%=/\"'\n", max_size=60))
def test_escaped_text_never_becomes_jinja(text: str) -> None:
    escaped = "".join(f"&#{ord(character)};" for character in text)

    assert read(f"<p>{escaped}</p>").split() == text.split()
