"""What no reader does: rules on the hits of one range, and networks that somebody knows."""

from datetime import timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtad.base.errors import ConfigError
from tests.tracker.made import BROWSER, NOON, hit
from tracker.conduct import conduct
from tracker.hits import Hit, HitClass, Judgement, Kind, Method
from tracker.judging import Mail, judge, judge_view
from tracker.networks import Networks, parse_networks

MAIL = Mail(links=3, dot_at=NOON, accepted_at=NOON, doubts=0)
HOME, WORK = "198.51.100.0/24", "203.0.113.0/24"
EDGE = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) Chrome/141.0.0.0 Safari/537.36 Edg/141.0.0.0"


def classes(*hits: Hit, mail: Mail = MAIL, networks: Networks | None = None) -> list[str]:
    return [one.class_.value for one in judge(hits, mail, networks=networks or Networks())]


@pytest.mark.parametrize(
    ("network", "after", "expected"),
    [(HOME, 3, "scanner"), (HOME, 11, "human"), (WORK, 3, "human"), (None, 3, "human")],
    ids=["same range", "much later", "another range", "no address"],
)
def test_a_get_beside_a_head_of_the_same_range_is_a_scanners(network: str | None, after: float, expected: str) -> None:
    head = hit(at=60, method=Method.HEAD, network=HOME)

    assert classes(head, hit(at=60 + after, network=network))[1] == expected


OFFICES = "Microsoft Office Existence Discovery", "Microsoft Office/16.0 (Windows NT 10.0; MAPI 16.0.8431; Pro)"


@pytest.mark.parametrize(
    ("agent", "at", "expected"),
    [
        (EDGE, 110, "scanner"), (EDGE, 130, "human"), (BROWSER, 130, "human"),
        (OFFICES[0], 60, "human"), (OFFICES[1], 60, "human"),
    ],
    ids=["at delivery", "much later", "an extension of her browser", "Office", "a newer Office"],
)  # fmt: skip
def test_what_looks_before_its_reader_goes_does_not_make_a_scanner_of_her(agent: str, at: float, expected: str) -> None:
    head = hit(at=at, method=Method.HEAD, network=HOME, agent=agent)

    assert classes(head, hit(at=at + 0.5, network=HOME))[1] == expected
    in_doubt = Mail(links=3, dot_at=NOON, accepted_at=NOON, doubts=1)  # whose 250 says nothing
    assert classes(head, hit(at=at + 0.5, network=HOME), mail=in_doubt)[1] == (
        "human" if agent in OFFICES else "scanner"
    )


@pytest.mark.parametrize(
    ("agent", "link", "after", "expected"),
    [
        (EDGE, 1, 0.5, ["scanner"] * 2), (BROWSER, 1, 0.5, ["human"] * 2), (EDGE, 2, 0.5, ["human"] * 2),
        (EDGE, 1, 2.0, ["human"] * 2), ("okhttp/4.12.0", 1, 0.5, ["human", "machine"]),
    ],
    ids=["two browsers", "a double click", "two links", "an app's browser, then the phone's", "an app that looks"],
)  # fmt: skip
def test_two_browsers_of_one_range_on_one_link_within_a_second_are_a_scanner(
    agent: str, link: int, after: float, expected: list[str]
) -> None:
    first = hit(at=60, link=1, network=HOME)
    second = hit(at=60 + after, link=link, network=HOME, agent=agent)

    assert classes(first, second) == expected


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from([0, 400, 600, 1000, 1001])), max_size=8))
def test_two_browsers_are_found_whoever_clicks_between_them(clicks: list[tuple[str, int]]) -> None:
    times = [NOON + timedelta(milliseconds=sum(gap for _, gap in clicks[: n + 1])) for n in range(len(clicks))]
    hits = [
        msgspec.structs.replace(hit(network=HOME), agent=agent, at=at)
        for (agent, _), at in zip(clicks, times, strict=True)
    ]

    assert {i for i, why in conduct(hits, 3, Networks(), None).items() if why == "two_agents"} == {
        i for i, one in enumerate(hits) for other in hits
        if one.agent != other.agent and abs(one.at - other.at) <= timedelta(seconds=1)
    }  # fmt: skip


class Counted(str):
    """An agent that counts how often it is compared."""

    __slots__ = ()
    asked = 0

    def __ne__(self, other: object) -> bool:
        Counted.asked += 1
        return str.__ne__(self, other)

    __hash__ = str.__hash__


def test_a_flood_of_clicks_on_one_link_is_judged_in_a_time_that_grows_with_it() -> None:
    """Comparing each with each took 7 s and 1.6 GB for the 5,000 that are judged at once."""
    flood = [msgspec.structs.replace(hit(network=HOME), agent=Counted(f"agent {n % 3}")) for n in range(200)]

    assert set(conduct(flood, 3, Networks(), None).values()) == {"two_agents"}
    assert len(flood) <= Counted.asked <= 4 * len(flood)


@pytest.mark.parametrize(
    ("way_out", "links", "expected"), [(True, 3, "scanner"), (False, 3, "human"), (True, 4, "human")]
)
def test_every_link_and_the_way_out_within_ten_seconds_is_a_crawl(way_out: bool, links: int, expected: str) -> None:
    clicks = [hit(at=60 + 2 * n, link=n, network=HOME) for n in range(1, 4)]
    look = [hit(Kind.LOOK, at=68, link=0, network=HOME)] if way_out else []

    found = classes(*clicks, *look, mail=Mail(links, NOON, NOON, 0))

    assert found[:3] == [expected] * 3


def test_behind_a_proxy_of_ours_a_range_says_nothing() -> None:
    networks = Networks(proxies=["198.51.100.7/32"])
    hits = [hit(at=60, method=Method.HEAD, network=HOME), hit(at=62, network=HOME)]

    assert classes(*hits, networks=networks)[1] == "human"


FILE = """
# Gateways
203.0.113.0/24 clicks Acme gateway
198.51.0.0/16 all
2001:db8::/32 all v6
"""


def test_a_network_of_the_operators_file_is_a_scanners() -> None:
    networks = Networks(parse_networks(FILE, "f", scoped=True))

    def reasons(kind: Kind, network: str) -> tuple[str, ...]:
        return judge([hit(kind, network=network)], MAIL, networks=networks)[0].reasons

    assert reasons(Kind.CLICK, WORK) == ("network:Acme_gateway",)
    assert reasons(Kind.OPEN, WORK) == ()
    assert reasons(Kind.OPEN, HOME) == reasons(Kind.CLICK, HOME) == ("network:198.51.0.0/16",)
    assert reasons(Kind.CLICK, "2001:db8:7::/48") == ("network:v6",)
    assert reasons(Kind.CLICK, "192.0.2.0/24") == ()


@pytest.mark.parametrize(
    ("view", "click", "expected", "why"),
    [
        (hit(Kind.PAGE, network=HOME), HitClass.HUMAN, HitClass.HUMAN, ()),
        (hit(Kind.PAGE, network=HOME), None, HitClass.HUMAN, ()),
        (hit(Kind.PAGE, network=WORK), HitClass.HUMAN, HitClass.SCANNER, ("network:Acme_gateway",)),
        (hit(Kind.PAGE, network=HOME, agent="curl/8"), HitClass.HUMAN, HitClass.MACHINE, ("agent:robot",)),
        (hit(Kind.PAGE, network=HOME, agent="okhttp/4.12.0"), None, HitClass.MACHINE, ("agent:library",)),
        (hit(Kind.PAGE, network=HOME), HitClass.SCANNER, HitClass.SCANNER, ("click",)),
        (hit(Kind.PAGE, network=HOME), HitClass.MACHINE, HitClass.MACHINE, ("click",)),
    ],
)
def test_a_page_is_seen_by_whoever_made_the_click_that_led_there(
    view: Hit, click: HitClass | None, expected: HitClass, why: tuple[str, ...]
) -> None:
    networks = Networks(parse_networks("203.0.113.0/24 clicks Acme gateway", "f", scoped=True))

    assert judge_view(view, click, networks) == Judgement(expected, why)


def test_how_hits_of_a_trusted_network_come_is_not_held_against_them() -> None:
    networks = Networks(trusted=parse_networks("198.51.100.0/24 our office", "f", scoped=False))
    burst = [hit(at=60 + n / 10, link=n, network=HOME) for n in range(1, 4)]

    assert classes(*burst, networks=networks) == ["human"] * 3
    assert classes(hit(at=-1, network=HOME), networks=networks) == [HitClass.MACHINE]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("203.0.113.8/29 all x", "hits keep /24"),
        ("2001:db8::/64 all x", "hits keep /48"),
        ("203.0.113.7/24 all", "host bits"),
        ("gateway all", "does not appear"),
        ("203.0.113.0/24 some x", "clicks or all"),
        ("203.0.113.0/24", "clicks or all"),
    ],
)
def test_a_bad_line_is_named(line: str, said: str) -> None:
    with pytest.raises(ConfigError, match=rf"gateways.txt: line 2: .*{said}"):
        parse_networks(f"# networks\n{line}", "gateways.txt", scoped=True)
