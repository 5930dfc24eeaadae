"""The mix of hits that was written down from the facts, judged."""

from pathlib import Path

import pytest

from tests.tracker.mix import MixedMail, read_mix
from tracker.hits import EARNING, Hit, HitClass, Judgement, Kind
from tracker.judging import judge, visits
from tracker.networks import NOWHERE
from tracker.ranges import Ranges

Judged = list[tuple[MixedMail, Hit, str, Judgement]]


def judged(mails: list[MixedMail]) -> Judged:
    """As `mtad events reclassify` does: with everything that is known in the end."""
    visited = (visit for one in mails for visit in visits(one.hits, one.mail, one.number, NOWHERE))
    swept = Ranges().sweeps(visited).found
    return [
        (one, hit, expected, judgement)
        for one in mails
        for hit, expected, judgement in zip(one.hits, one.expected, judge(one.hits, one.mail, swept=swept), strict=True)
        if expected != "-"
    ]


README = Path(__file__).parents[2] / "tracker" / "README.md"


@pytest.mark.parametrize(
    "kind",
    [
        "Gmail in a browser", "Gmail samples", "Yahoo", "Apple", "Safe Links", "Barracuda", "Proofpoint",
        "Mimecast 43 s", "Outlook shows", "Thunderbird", "slow reader", "in doubt",
    ],
)  # fmt: skip
def test_the_mix_has_what_the_facts_tell_of(kind: str) -> None:
    assert sum(kind in one.words for one in read_mix()) >= 2


def test_the_mix_is_as_large_as_is_said() -> None:
    mails = read_mix()
    hits = sum(len(one.hits) for one in mails)

    assert hits >= 300
    assert {1, 2, 3, 4, 5} <= {one.mail.links for one in mails}
    assert f"The mix of {hits} hits on {len(mails)} mails" in README.read_text(encoding="utf-8")


def test_human_clicks_are_not_misjudged_and_scanners_are_caught() -> None:
    found = judged(read_mix())

    clicks = [(expected, judgement) for _, hit, expected, judgement in found if hit.kind is Kind.CLICK]
    human = [judgement for expected, judgement in clicks if expected == "human"]
    scanned = [judgement for expected, judgement in clicks if expected in ("scanner", "machine")]
    misjudged = [judgement for judgement in human if judgement.class_ is not HitClass.HUMAN]
    caught = [judgement for judgement in scanned if judgement.class_ not in EARNING]
    assert len(misjudged) <= 0.005 * len(human), misjudged
    assert len(caught) >= 0.95 * len(scanned)


def test_opens_get_the_class_that_the_facts_say() -> None:
    wrong = [
        (one.words, expected, judgement)
        for one, hit, expected, judgement in judged(read_mix())
        if hit.kind is Kind.OPEN and judgement.class_ != expected
    ]

    assert wrong == []
