"""The next DKIM key: made, announced, and taken on a day that is known before."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from mtad.base.config import load_config
from mtad.base.errors import InputError
from mtad.dkim.keys import dns_record, read_key
from mtad.ops.install import install
from mtad.ops.rotation import rotate, standings

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


def states(config: Path, now: datetime) -> dict[str, str]:
    return {row.selector: row.state for row in standings(load_config(config), now)}


def test_the_printed_lines_make_the_new_key_sign_on_the_printed_day(tmp_path: Path) -> None:
    made = install(tmp_path, "example.com", "m1", dkim="both")

    rotation = rotate(load_config(made.config), "m1", "m2", NOW)
    announce, configure, switch, withdraw = rotation.steps
    with made.config.open("a", encoding="utf-8") as file:
        file.write(configure.lines)

    assert announce.records[0].name == "m2._domainkey.example.com"
    assert announce.records[0].value == dns_record(read_key(rotation.key))
    assert rotation.key.stat().st_mode & 0o777 == 0o600
    assert switch.day == date(2026, 11, 24)
    assert withdraw.records[0].value == "v=DKIM1; p="
    midnight = datetime(2026, 11, 24, tzinfo=UTC)
    before = {"m1": "signs", "m1e": "signs", "m2": "waits"}
    assert states(made.config, NOW) == before
    assert states(made.config, midnight - timedelta(seconds=1)) == before
    assert states(made.config, midnight) == {"m1": "replaced", "m1e": "signs", "m2": "signs"}


@pytest.mark.parametrize(
    ("selector", "new", "said"),
    [
        ("m9", "m2", "no [[dkim]] with selector 'm9'; there are: m1"),
        ("m1", "m1", "--new: 'm1' is a selector of example.com already"),
        ("m1", "../m2", "--new: '../m2' is no selector; write letters, digits and hyphens"),
    ],
)
def test_what_cannot_be_rotated_is_one_clear_line_and_makes_no_file(
    tmp_path: Path, selector: str, new: str, said: str
) -> None:
    made = install(tmp_path, "example.com", "m1")
    files = set(tmp_path.rglob("*"))

    with pytest.raises(InputError) as found:
        rotate(load_config(made.config), selector, new, NOW)

    assert str(found.value) == said
    assert set(tmp_path.rglob("*")) == files
