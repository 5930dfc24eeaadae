"""Whom a request came from is believed only as far as trusted proxies wrote it."""

from ipaddress import ip_network

import pytest

from tracker.origin import Origins, household

TRUSTED = [ip_network("127.0.0.0/8"), ip_network("::1/128"), ip_network("10.0.0.0/8")]


@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        ("203.0.113.77", [], "203.0.113.0/24"),
        ("203.0.113.77", ["198.51.100.1"], "203.0.113.0/24"),
        ("127.0.0.1", ["198.51.100.9"], "198.51.100.0/24"),
        ("127.0.0.1", ["6.6.6.6, 198.51.100.9"], "198.51.100.0/24"),
        ("127.0.0.1", ["6.6.6.6", "198.51.100.9, 10.1.1.1"], "198.51.100.0/24"),
        ("127.0.0.1", ["198.51.100.9:4711"], "198.51.100.0/24"),
        ("127.0.0.1", ["unknown"], "127.0.0.0/24"),
        ("::1", ["[2001:db8:1:2::3]:443"], "2001:db8:1::/48"),
        ("2001:db8:1:2::3", [], "2001:db8:1::/48"),
        ("fe80::1%eth0", [], "fe80::/48"),
        ("::ffff:203.0.113.77", [], "203.0.113.0/24"),
        ("", ["198.51.100.9"], None),
    ],
)
def test_the_client_is_the_rightmost_address_that_is_no_proxy(
    peer: str, forwarded: list[str], expected: str | None
) -> None:
    assert Origins(TRUSTED).origin(peer, forwarded) == expected


def test_of_peers_only_some_trusted_proxies_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tracker.origin.MOST_PROXIES", 2)
    origins = Origins(TRUSTED)
    for peer in ("203.0.113.77", "", "127.0.0.1", "127.0.0.1", "10.1.1.1", "10.1.1.2"):
        origins.origin(peer, ["198.51.100.9"])

    assert list(origins._proxies) == ["127.0.0.1", "10.1.1.1"]


@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        ("203.0.113.77", ["198.51.100.1"], "203.0.113.77"),
        ("127.0.0.1", ["6.6.6.6, 198.51.100.9"], "198.51.100.9"),
        ("127.0.0.1", ["6.6.6.6", "198.51.100.9:4711, 10.1.1.1"], "198.51.100.9"),
        ("127.0.0.1", ["6.6.6.6, unknown"], "127.0.0.1"),
        ("127.0.0.1", [], "127.0.0.1"),
        ("", ["198.51.100.9"], None),
    ],
)
def test_a_proof_has_the_whole_address_of_the_same_client(
    peer: str, forwarded: list[str], expected: str | None
) -> None:
    assert Origins(TRUSTED).address(peer, forwarded) == expected


@pytest.mark.parametrize(
    ("address", "expected"),
    [("203.0.113.7", "203.0.113.7"), ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"), (None, "None")],
)
def test_what_is_limited_together_is_one_connection_to_the_net(address: str | None, expected: str) -> None:
    assert household(address) == expected
