"""SPF as a receiver would read it: who may send with our return path."""

from collections.abc import Sequence

import pytest

from mtad.ops.spf import Spf, spf

DNS: dict[tuple[str, str], Sequence[str] | None] = {
    ("b.test", "TXT"): ["mine=1", "v=spf1 a:mail.test/32 mx ip4:198.51.100.0/24 ip6:2001:db8::/32 include:x.test"],
    ("mail.test", "A"): ["192.0.2.1"],
    ("b.test", "MX"): ["10 in.test."],
    ("in.test", "A"): ["192.0.2.2"],
    ("x.test", "TXT"): ["v=spf1 ip4:203.0.113.7 ?ip4:203.0.113.8 -all"],
    ("to.test", "TXT"): ["v=spf1 redirect=x.test"],
    ("soft.test", "TXT"): ["v=spf1 ~all"],
    ("two.test", "TXT"): ["v=spf1 -all", "v=spf1 +all"],
    ("macro.test", "TXT"): ["v=spf1 exists:%{i}.x.test -all"],
    ("loop.test", "TXT"): ["v=spf1 include:loop.test -all"],
    ("typo.test", "TXT"): ["v=spf1 ipv4:192.0.2.1 -all"],
    ("empty.test", "TXT"): ["v=spf1 include:none.test -all"],
    ("away.test", "TXT"): None,
}  # fmt: skip


async def ask(name: str, kind: str) -> Sequence[str] | None:
    return DNS.get((name, kind), ())


@pytest.mark.parametrize(
    ("domain", "address", "said"),
    [
        ("b.test", "192.0.2.1", Spf.ALLOWED),
        ("b.test", "192.0.2.2", Spf.ALLOWED),
        ("b.test", "198.51.100.200", Spf.ALLOWED),
        ("b.test", "2001:db8::7", Spf.ALLOWED),
        ("b.test", "203.0.113.7", Spf.ALLOWED),
        ("b.test", "203.0.113.8", Spf.NO),
        ("b.test", "192.0.2.3", Spf.NO),
        ("to.test", "203.0.113.7", Spf.ALLOWED),
        ("soft.test", "192.0.2.1", Spf.NO),
        ("two.test", "192.0.2.1", Spf.WRONG),
        ("loop.test", "192.0.2.1", Spf.WRONG),
        ("typo.test", "192.0.2.1", Spf.WRONG),
        ("empty.test", "192.0.2.1", Spf.WRONG),
        ("none.test", "192.0.2.1", Spf.MISSING),
        ("macro.test", "192.0.2.1", Spf.UNKNOWN),
        ("away.test", "192.0.2.1", Spf.UNKNOWN),
    ],
)
async def test_an_address_may_send_where_the_record_says_so(domain: str, address: str, said: Spf) -> None:
    assert await spf(domain, address, ask) is said
