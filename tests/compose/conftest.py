"""A stream, contacts' attributes and a program in files, as an operator has them."""

from collections.abc import Callable
from pathlib import Path

import pytest

from mtad.base.config import Config, Tracker
from mtad.base.db import Pool
from mtad.compose.apply import apply_stream
from tracker.tokens import Keys

STREAM = """
name = "sales-de"
from = "Müller & Söhne <news@example.com>"
reply_to = "answers@example.com"
imprint = "Müller & Söhne GmbH\\nHauptstr. 1, Berlin"
tracking = "full"
"""
PROGRAM = """
name = "nudge"
kind = "series"
stream = "sales-de"
[[step]]
message = "nudge-1"
[[step]]
wait = "3d"
message = "nudge-2"
"""
HTML = """<html><body>
<p>Hello {{ first_name | default("there") }},</p>
<p><a class="x" href="https://shop.example/p/{{ sku }}?a=1&amp;b=2">your shop</a>
<A HREF='https://example.com/two'>two</A> <a href="mailto:a@example.com">write</a></p>
<p>{{ imprint }} <a href="{{ unsubscribe_url }}">leave</a></p>
</body></html>
"""

Writer = Callable[..., Path]


@pytest.fixture
def files(tmp_path: Path) -> Writer:
    """Write a program with two messages into a folder; keyword arguments replace files of nudge-1."""

    def write(program: str = PROGRAM, **replaced: str | None) -> Path:
        contents: dict[str, str | None] = {"subject.txt": "Hi {{ first_name | default('you') }}", "message.html": HTML}
        contents |= {name.replace("_", "."): text for name, text in replaced.items()}
        for message in ("nudge-1", "nudge-2"):
            folder = tmp_path / message
            folder.mkdir(exist_ok=True)
            for name, text in contents.items():
                path = folder / name
                path.unlink(missing_ok=True)
                if text is not None:
                    path.write_text(text, encoding="utf-8")
        path = tmp_path / "program.toml"
        path.write_text(program, encoding="utf-8")
        return path

    return write


@pytest.fixture
async def stream(pool: Pool, tmp_path: Path) -> Path:
    """The stream sales-de and two known attributes; the path of its file."""
    await pool.execute(
        "insert into attribute (name, type) values ('first_name', 'text'), ('sku', 'text'), ('age', 'number')"
    )
    path = tmp_path / "stream.toml"
    path.write_text(STREAM, encoding="utf-8")
    await apply_stream(pool, path, "test")
    return path


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return Config(domain="example.com", tracker=Tracker(url="https://t.example.com"), folder=tmp_path)


@pytest.fixture
def keys() -> Keys:
    return Keys.parse("1:" + "ab" * 32)
