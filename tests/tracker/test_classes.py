"""The mix of hits that was written down from the facts, judged."""

from collections import Counter

from tests.tracker.mix import MixedMail, read_mix
from tracker.hits import EARNING, Hit, HitClass, Judgement, Kind
from tracker.judging import judge, visits
from tracker.networks import NOWHERE
from tracker.ranges import Ranges

Judged = list[tuple[MixedMail, Hit, str, Judgement]]


def judged(mails: list[MixedMail]) -> Judged:
    """As `mtad events reclassify` does: with everything that is known in the end."""
    swept = Ranges().sweeps(visit for one in mails for visit in visits(one.hits, one.mail, one.number, NOWHERE))
    return [
        (one, hit, expected, judgement)
        for one in mails
        for hit, expected, judgement in zip(one.hits, one.expected, judge(one.hits, one.mail, swept=swept), strict=True)
        if expected != "-"
    ]


def test_the_mix_has_what_the_facts_tell_of() -> None:
    mails = read_mix()

    assert sum(len(one.hits) for one in mails) >= 300
    assert {1, 2, 3, 4, 5} <= {one.mail.links for one in mails}
    assert Counter(one.mail.doubts > 0 for one in mails)[True] >= 5


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
