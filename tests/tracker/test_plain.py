"""What is remembered of headers is what many clients say."""

import pytest

from tests.tracker.outside import AGENT, opened, request
from tracker.plain import MOST_KNOWN, read_plain


@pytest.mark.parametrize(
    ("name", "remembered"),
    [
        ("X-Forwarded-For", 1),
        ("x-forwarded-for", 1),
        *((name, 0) for name in ("X-FORWARDED-FOR", "X-Real-IP", "forwarded", "CF-Connecting-IP", "Cookie", "X-Odd")),
    ],
)
def test_of_ten_clients_nothing_is_remembered_but_what_all_of_them_say(
    name: str, remembered: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    known: dict[bytes, object] = {}
    monkeypatch.setattr("tracker.plain._known", known)
    for n in range(10):
        found = read_plain(request(opened(), f"{AGENT}{name}: 198.51.100.{n}\r\nAccept: */*\r\n"))

        assert found is not None
        assert found.forwarded == (f"198.51.100.{n}" if name.lower() == "x-forwarded-for" else None)
    assert len(known) == remembered
    assert not any(b"198.51.100" in block for block in known)


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    known: dict[bytes, object] = {}
    monkeypatch.setattr("tracker.plain._known", known)
    for n in range(2 * MOST_KNOWN):
        read_plain(request(opened(), f"User-Agent: {n}\r\n"))

    assert 0 < len(known) <= MOST_KNOWN
