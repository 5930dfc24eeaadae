"""Log lines: one a record, and nobody's address."""

import io
import json
import logging
import shlex
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtad.base.log import LineFormatter, set_up_logging


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    yield io.StringIO()
    root.handlers[:] = before
    root.setLevel(level)


def line(layout: str, text: str, level: int = logging.INFO, **extra: object) -> str:
    record = logging.LogRecord("mtad.test", level, "file.py", 1, text, (), None)
    vars(record).update(extra)
    return LineFormatter(layout, slot=3).format(record)


def test_logfmt_has_time_level_slot_logger_text_and_fields() -> None:
    said = line("logfmt", "two words", jobs=7, why='a "quoted" one', ok=True, nothing=None)

    time, _, rest = said.partition(" ")
    assert time.startswith("time=20")
    assert time.endswith("Z")
    assert rest == (
        'level=info slot=3 logger=mtad.test msg="two words" jobs=7 why="a \\"quoted\\" one" ok=true nothing=""'
    )


def test_json_has_the_same_with_types() -> None:
    said = json.loads(line("json", "two words", jobs=7, ok=True))

    assert said.pop("time")
    assert said == {"level": "info", "slot": 3, "logger": "mtad.test", "msg": "two words", "jobs": 7, "ok": True}


@given(st.text(), st.text(), st.sampled_from(["logfmt", "json"]))
def test_a_record_is_one_line_whatever_is_in_it(text: str, value: str, layout: str) -> None:
    said = line(layout, text, value=value)

    assert "\n" not in said
    assert "\r" not in said
    assert "\x1b" not in said


@given(st.text(st.characters(codec="ascii", exclude_categories=["Cc"], exclude_characters="\\'@")))
def test_a_field_of_logfmt_is_read_back_as_it_was(value: str) -> None:
    [found] = [word for word in shlex.split(line("logfmt", "x", value=value)) if word.startswith("value=")]

    assert found == f"value={value}"


@pytest.mark.parametrize("layout", ["logfmt", "json"])
@pytest.mark.parametrize("address", ["jo.doe+news@example.com", "Jörg@exämple.de", "o'neil@example.com", "a@b.test"])
def test_no_line_from_info_up_names_a_person(layout: str, address: str) -> None:
    said = line(layout, f"RCPT TO:<{address}> refused", to=address, many=[address, address])
    local, _, domain = address.partition("@")

    assert f"{local}@" not in said
    assert local.split("'")[-1] + "@" not in said
    assert domain in said


def test_debug_shows_addresses() -> None:
    assert "jo@example.com" in line("logfmt", "to jo@example.com", logging.DEBUG)


def test_a_traceback_is_in_the_line_without_addresses(stream: io.StringIO) -> None:
    set_up_logging("logfmt", slot=0, stream=stream)
    try:
        int("jo@example.com")
    except ValueError:
        logging.getLogger("mtad.test").exception("failed")

    [said] = stream.getvalue().splitlines()
    assert "literal for int() with base 10: '…@example.com'" in said
    assert "Traceback" in said


def test_debug_lines_are_shown_only_when_asked_for(stream: io.StringIO) -> None:
    set_up_logging("logfmt", stream=stream)
    logging.getLogger("mtad.test").debug("quiet")
    set_up_logging("logfmt", stream=stream, debug=True)
    logging.getLogger("mtad.test").debug("loud")

    [said] = stream.getvalue().splitlines()
    assert said.endswith("msg=loud")
    assert "slot=" not in said
