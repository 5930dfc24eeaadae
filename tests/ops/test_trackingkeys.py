"""Keys of links are changed without a link that fails meanwhile."""

from pathlib import Path

import pytest

from mtad.base.errors import ConfigError, InputError
from mtad.ops.keyfiles import read_tracking_keys
from mtad.ops.trackingkeys import TrackingKey, add, sign_with, standings
from tracker.tokens import Keys, LinkToken, Purpose, link_token, read_link_token


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "tracking.keys"
    made.write_text("# ours\n1:" + "11" * 32 + "\n")
    return made


def reads(keys: Keys, token: str) -> bool:
    return read_link_token(keys, Purpose.CLICK, token) == LinkToken(1, 2)


def test_at_each_step_every_host_reads_what_any_host_signed(path: Path) -> None:
    before = read_tracking_keys(path)
    assert add(path, signs=False) == TrackingKey(2, signs=False)
    added = read_tracking_keys(path)
    assert sign_with(path, 2) == TrackingKey(2, signs=True)
    after = read_tracking_keys(path)

    tokens = [link_token(keys, Purpose.CLICK, 1, 2) for keys in (before, added, after)]
    assert tokens[0] == tokens[1] != tokens[2]
    assert all(reads(keys, tokens[0]) for keys in (before, added, after))
    assert all(reads(keys, tokens[2]) for keys in (added, after))
    assert standings(path) == [TrackingKey(1, signs=False), TrackingKey(2, signs=True)]
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.read_text().startswith("# ours\n")


def test_a_key_may_sign_at_once_and_ids_are_not_used_twice(path: Path) -> None:
    for number in [*range(2, 16), 0]:
        assert add(path, signs=True) == TrackingKey(number, signs=True)
    with pytest.raises(InputError, match="has 16 keys"):
        add(path, signs=True)
    with pytest.raises(InputError, match="has no key 77"):
        sign_with(path, 77)


def test_a_file_that_is_none_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "tracking.keys"
    with pytest.raises(ConfigError, match="tracking keys"):
        add(path, signs=False)
    path.write_text("1:zz")
    with pytest.raises(ConfigError, match="line 1"):
        sign_with(path, 1)
    assert path.read_text() == "1:zz"
