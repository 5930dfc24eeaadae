"""How hits on one mail came: what no reader does, whatever she calls herself. Pure.

Each rule reads hits within REACH of each other. Ranges say that two hits have one origin; a
range that says nothing (tracker.networks) takes part in bursts only.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from itertools import pairwise

from tracker.agents import Agent, kind_of_agent
from tracker.hits import Hit, Kind, Method, certain
from tracker.networks import Networks

# So many different links of one mail within one second are no reader; all of
# them, in a mail that has fewer, and never fewer than two.
BURST_LINKS = 5
BURST_LEAST = 2
BURST_SPAN = timedelta(seconds=1)

# Some walk: every link of a mail of three or more, and the way out, which no reader follows.
CRAWL_LEAST = 3

# With a HEAD a gateway looks when a mail comes in. Later it is a reader's own software that looks before she
# goes, from her own range; with her browser's name where it is an extension. Office always looks, and says its
# own: "Microsoft Office Existence Discovery", "Microsoft Office/16.0 (Windows NT 10.0; …)".
LOOKING = timedelta(minutes=2)
_LOOKS_FIRST = "Microsoft Office"

# How far apart hits are that still tell of each other.
REACH = timedelta(seconds=10)


def conduct(hits: Sequence[Hit], links: int, networks: Networks, accepted_at: datetime | None) -> dict[int, str]:
    """What speaks against hits on one mail, by index; the strongest of several reasons.

    `accepted_at`: the time of its 250; None where that says nothing.
    """
    followed = sorted((i for i, hit in enumerate(hits) if hit.kind is not Kind.OPEN), key=lambda i: hits[i].at)
    if len(followed) < 2:
        return {}
    found = dict.fromkeys(_in_burst(hits, followed, links), "burst")
    by_range: dict[str, list[int]] = {}
    for index in followed:
        network = hits[index].network
        if network is not None and networks.known(network).tells:
            by_range.setdefault(network, []).append(index)
    for same in by_range.values():
        if len(same) > 1:
            found = dict(_of_one_range(hits, same, links, accepted_at)) | found
    return found


def _of_one_range(
    hits: Sequence[Hit], same: Sequence[int], links: int, accepted_at: datetime | None
) -> list[tuple[int, str]]:
    """What speaks against hits of one range, given in order of time; the strongest comes last."""
    looked = [
        hit.at
        for hit in (hits[i] for i in same)
        if hit.method is Method.HEAD
        and not (accepted_at and hit.at > accepted_at + LOOKING)
        and not hit.agent.startswith(_LOOKS_FIRST)
    ]
    found = [(i, "after_head") for i in same if _within(REACH, hits[i].at, looked)]
    clicks: dict[int, list[int]] = {}
    for index in same:
        # What says that it is a program is no browser beside the reader's: an app that asks what it opens.
        if hits[index].kind is Kind.CLICK and certain(hits[index]) is None:
            clicks.setdefault(hits[index].link_id, []).append(index)
    for one in clicks.values():
        found += [(i, "two_agents") for i in {*_after_another(hits, one), *_after_another(hits, one[::-1])}]
    if links >= CRAWL_LEAST:
        found += [(i, "crawl") for i in _windows(hits, same, links + 1, REACH, way_out=True)]
    return found


def _after_another(hits: Sequence[Hit], clicks: Sequence[int]) -> Iterator[int]:
    """Of clicks on one link, in order of time or against it: those soon behind one of another agent."""
    other: int | None = None
    for before, index in pairwise(clicks):
        if hits[before].agent != hits[index].agent:
            other = before
        if other is not None and abs(hits[index].at - hits[other].at) <= BURST_SPAN:
            yield index


def _in_burst(hits: Sequence[Hit], followed: Sequence[int], links: int) -> set[int]:
    """The indexes of hits that belong to a burst, and of pixels fetched beside one."""
    found = _windows(hits, followed, max(BURST_LEAST, min(BURST_LINKS, links)), BURST_SPAN)
    times = [hits[index].at for index in found]
    beside = {i for i, hit in enumerate(hits) if hit.kind is Kind.OPEN and _near(hit, times)}
    return beside.union(found)


def _windows(
    hits: Sequence[Hit], followed: Sequence[int], enough: int, span: timedelta, *, way_out: bool = False
) -> list[int]:
    """Those of the hits, in order of time, that lie in a span in which `enough` different links were followed.

    With `way_out`, the unsubscribe page among them.
    """
    found: list[int] = []
    seen: Counter[int] = Counter()
    first = taken = 0
    for last, index in enumerate(followed):
        seen[_link(hits[index])] += 1
        while hits[index].at - hits[followed[first]].at > span:
            gone = _link(hits[followed[first]])
            seen[gone] -= 1
            if not seen[gone]:
                del seen[gone]
            first += 1
        if len(seen) >= enough and (not way_out or 0 in seen):
            found += followed[max(first, taken) : last + 1]
            taken = last + 1
    return found


def _link(hit: Hit) -> int:
    """Which link, for counting different ones; ids of links begin with 1."""
    return hit.link_id if hit.kind is Kind.CLICK else 0


def _near(hit: Hit, times: Sequence[datetime]) -> bool:
    """Whether a direct fetch of the pixel lies within a second of a burst.

    A proxy's fetch does not belong to whoever followed the links.
    """
    if kind_of_agent(hit.agent) in (Agent.IMAGE_PROXY, Agent.PRIVACY_PROXY):
        return False
    return _within(BURST_SPAN, hit.at, times)


def _within(span: timedelta, at: datetime, times: Sequence[datetime]) -> bool:
    """Whether one of the times, which are in order, is no further away than that."""
    place = bisect_left(times, at - span)
    return place < len(times) and times[place] <= at + span
