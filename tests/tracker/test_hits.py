"""Only people count."""

import random
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tracker.made import BROWSER, GMAIL, NOON, hit
from tracker.conduct import BURST_SPAN
from tracker.hits import EARNING, Hit, HitClass, Judgement, Kind, Method
from tracker.judging import Mail, judge

DELIVERED = Mail(links=3, dot_at=NOON, accepted_at=NOON + timedelta(seconds=2), doubts=0)
PREFETCH_OF_GMAIL = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/42.0.2311.135 Safari/537.36 Edge/12.246 Mozilla/5.0"
)
LIBRARIES = (
    "okhttp/4.12.0",
    "Dalvik/2.1.0 (Linux; U; Android 14; Pixel 8 Build/UQ1A)",
    "Apache-HttpClient/4.5.13 (Java/11.0.20)",
    "Spark/3.0 CFNetwork/1494.0.7 Darwin/23.4.0",
)

times = st.floats(3, 8).map(lambda seconds: round(seconds, 1))
kinds = st.sampled_from([Kind.OPEN, Kind.CLICK, Kind.CLICK, Kind.LOOK])
mixes = st.lists(st.builds(hit, kinds, at=times, link=st.integers(1, 6)), max_size=14)


def one(made: Hit, mail: Mail = DELIVERED) -> Judgement:
    return judge([made], mail)[0]


@pytest.mark.parametrize("kind", [Kind.OPEN, Kind.CLICK])
def test_a_browser_after_delivery_is_a_person(kind: Kind) -> None:
    assert one(hit(kind)) == Judgement(HitClass.HUMAN, ())


@pytest.mark.parametrize(
    ("agent", "expected"),
    [
        ("", HitClass.MACHINE),
        ("  ", HitClass.MACHINE),
        ("curl/8.5.0", HitClass.MACHINE),
        ("python-requests/2.32", HitClass.MACHINE),
        ("Go-http-client/2.0", HitClass.MACHINE),
        ("Mozilla/5.0 (compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm)", HitClass.MACHINE),
        ("Mozilla/5.0 (X11; Linux x86_64) HeadlessChrome/120.0.0.0 Safari/537.36", HitClass.MACHINE),
        ("Barracuda Sentinel (EE)", HitClass.MACHINE),
        ("Mozilla/5.0 (Windows NT 6.1; WOW64) AppleWebKit/534+ (KHTML, like Gecko) BingPreview/1.0b", HitClass.MACHINE),
        ("Java/1.8.0_392", HitClass.MACHINE),
        ("Scrapy/2.11.0 (+https://scrapy.org)", HitClass.MACHINE),
        (PREFETCH_OF_GMAIL, HitClass.MACHINE),
        ("Mozilla/5.0", HitClass.VEILED),
        (GMAIL, HitClass.PROXY),
        ("YahooMailProxy; https://help.yahoo.com/kb/yahoo-mail-proxy-SLN28749.html", HitClass.PROXY),
        (BROWSER, HitClass.HUMAN),
        ("Mozilla/5.0 (Linux; Android 9; CUBOT NOVA) AppleWebKit/537.36", HitClass.HUMAN),
        *((agent, HitClass.HUMAN) for agent in LIBRARIES),
    ],
)
def test_the_agent_of_an_open_decides(agent: str, expected: HitClass) -> None:
    assert one(hit(Kind.OPEN, agent=agent)).class_ is expected


@pytest.mark.parametrize("agent", [GMAIL, "Mozilla/5.0", *LIBRARIES])
def test_what_loads_pictures_and_follows_links_is_a_machine(agent: str) -> None:
    assert one(hit(Kind.CLICK, agent=agent)).class_ is HitClass.MACHINE


def test_an_apps_browser_that_names_its_library_is_a_persons() -> None:
    assert (
        one(hit(agent="Mozilla/5.0 (Linux; Android 14) Chrome/141.0 Mobile Safari/537.36 okhttp/4.12")).class_
        == "human"
    )


@pytest.mark.parametrize("method", [Method.HEAD, Method.PREFETCH])
@pytest.mark.parametrize("agent", [BROWSER, GMAIL, "Mozilla/5.0"])
def test_a_head_or_a_prefetch_is_a_machine_whoever_says_to_ask(method: Method, agent: str) -> None:
    judged = one(hit(Kind.OPEN, method=method, agent=agent))

    assert judged.class_ is HitClass.MACHINE
    assert f"method:{method.lower()}" in judged.reasons


@pytest.mark.parametrize(
    ("at", "expected"),
    [(-0.1, HitClass.MACHINE), (0.0, HitClass.SCANNER), (1.9, HitClass.SCANNER), (2.0, HitClass.HUMAN)],
)
def test_nobody_reads_before_the_250(at: float, expected: HitClass) -> None:
    assert one(hit(Kind.OPEN, at=at)).class_ is expected
    assert (one(hit(Kind.OPEN, at=at, agent=GMAIL)).class_ in EARNING) == (expected is HitClass.HUMAN)


@pytest.mark.parametrize(("at", "expected"), [(2.0, HitClass.SCANNER), (3.9, HitClass.SCANNER), (4.0, HitClass.HUMAN)])
def test_nobody_clicks_within_two_seconds_of_the_250(at: float, expected: HitClass) -> None:
    assert one(hit(at=at)).class_ is expected


@pytest.mark.parametrize(
    ("mail", "expected"),
    [
        (Mail(3, None, None, 0), HitClass.MACHINE),
        (Mail(3, NOON + timedelta(hours=1), None, 0), HitClass.MACHINE),
        (Mail(3, NOON, None, 0), HitClass.SCANNER),
        (Mail(3, None, NOON, 0), HitClass.HUMAN),
        (Mail(3, NOON + timedelta(hours=1), NOON + timedelta(hours=2), 1), HitClass.HUMAN),
        (Mail(3, None, None, 1), HitClass.HUMAN),
    ],
    ids=["never sent", "before the dot of a refusal", "after it", "no dot noted", "an earlier copy", "in doubt"],
)
def test_who_asks_for_a_mail_that_never_arrived_is_no_person(mail: Mail, expected: HitClass) -> None:
    assert one(hit(), mail).class_ is expected


@pytest.mark.parametrize(
    ("links", "followed", "burst"),
    [(1, 1, False), (2, 2, True), (3, 2, False), (3, 3, True), (5, 4, False), (5, 5, True), (40, 5, True)],
)
def test_five_links_or_all_of_a_mail_with_fewer_are_a_burst(links: int, followed: int, burst: bool) -> None:
    hits = [hit(link=n, at=60 + n * 0.2) for n in range(1, followed + 1)]

    classes = {judged.class_ for judged in judge(hits, Mail(links, NOON, NOON, 0))}

    assert classes == {HitClass.SCANNER if burst else HitClass.HUMAN}


def test_the_unsubscribe_link_counts_as_one_link() -> None:
    hits = [hit(link=1), hit(Kind.LOOK, link=0)]

    assert judge(hits, Mail(1, NOON, NOON, 0))[0].class_ is HitClass.SCANNER
    assert judge(hits[:1], Mail(1, NOON, NOON, 0))[0].class_ is HitClass.HUMAN


def test_heads_are_counted_so_the_gets_beside_them_are_a_scanners() -> None:
    hits = [hit(link=n, method=Method.HEAD if n > 1 else Method.GET) for n in range(1, 6)]

    assert judge(hits, Mail(9, NOON, NOON, 0))[0].class_ is HitClass.SCANNER


def test_a_pixel_beside_a_burst_is_the_scanners_and_a_later_one_a_persons() -> None:
    burst = [hit(link=n, at=60 + n / 10) for n in range(1, 4)]
    hits = [hit(Kind.OPEN, at=59.5), hit(Kind.OPEN, at=58), hit(Kind.OPEN, at=61.4, agent=GMAIL), *burst]

    classes = [judged.class_ for judged in judge(hits, DELIVERED)]

    assert classes[:3] == [HitClass.SCANNER, HitClass.HUMAN, HitClass.PROXY]


def test_an_open_and_a_click_in_the_same_instant_are_a_person() -> None:
    judged = judge([hit(Kind.OPEN), hit(link=1)], Mail(2, NOON, NOON, 0))

    assert [j.class_ for j in judged] == [HitClass.HUMAN, HitClass.HUMAN]


@given(mixes, st.integers(1, 8))
def test_bursts_are_those_of_the_definition(hits: list[Hit], links: int) -> None:
    judged = judge(hits, Mail(links, NOON, NOON, 0))
    enough = max(2, min(5, links))
    followed = [h for h in hits if h.kind is not Kind.OPEN]

    def is_in_burst(one_hit: Hit) -> bool:
        for start in followed:
            window = [h for h in followed if timedelta(0) <= h.at - start.at <= BURST_SPAN]
            if one_hit in window and len({(h.kind, h.link_id * (h.kind is Kind.CLICK)) for h in window}) >= enough:
                return True
        return False

    expected = [is_in_burst(h) for h in followed]
    assert ["burst" in j.reasons for h, j in zip(hits, judged, strict=True) if h in followed] == expected


@given(mixes, st.integers(1, 8), st.randoms())
def test_the_order_of_arrival_changes_nothing(hits: list[Hit], links: int, rng: random.Random) -> None:
    mail = Mail(links, NOON, NOON, 0)
    shuffled = hits.copy()
    rng.shuffle(shuffled)

    before = dict(zip((h.event_id for h in hits), judge(hits, mail), strict=True))
    after = dict(zip((h.event_id for h in shuffled), judge(shuffled, mail), strict=True))

    assert before == after


@given(mixes, mixes, st.integers(1, 8))
def test_more_evidence_never_makes_a_person_of_a_machine(some: list[Hit], more: list[Hit], links: int) -> None:
    mail = Mail(links, NOON, NOON, 0)
    before = judge(some, mail)
    after = judge([*some, *more], mail)

    for was, is_now in zip(before, after[: len(some)], strict=True):
        assert was.class_ in EARNING or is_now.class_ not in EARNING
