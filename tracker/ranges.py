"""Clicks of late by the range they came from: gateways look at the mails of many people. Pure.

One click on a mail with one link says nothing. The same range following links in the mails of
five people within ten seconds, each soon after its own 250, may be a gateway that works through
what came in, or a carrier, a relay, an office, behind which thousands read what a quick campaign
brings. A gateway is one program that comes after the same time again and again: so the five must be
of one agent and in the same two seconds after their mails, and most of what the range did meanwhile
must be like them. People's delays lie anywhere between the 250 and next week.
"""

from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from uuid import UUID

import msgspec

PEOPLE = 5
SPAN = timedelta(seconds=10)
SOON = timedelta(minutes=2)

# In how many whole seconds after the 250, one behind the other, a gateway's visits lie.
ALIKE = 2

# Of all visits of a range within SPAN of the five, at least so many are like them.
SHARE = 0.75

# A flood of clicks within two minutes of their mails must not fill the memory: beyond so many,
# what is older than SPAN is forgotten.
MOST = 20_000


class Visit(msgspec.Struct, frozen=True, gc=False, order=True):
    """A click within SOON of the 250 of its mail, with nothing beside it that shows a reader."""

    at: datetime
    event_id: UUID
    contact_id: int
    agent: str
    after: int  # whole seconds since the 250


class Sweeps(msgspec.Struct):
    """What is known of visits that are remembered."""

    found: set[UUID] = msgspec.field(default_factory=set)  # a gateway's
    begun: set[UUID] = msgspec.field(default_factory=set)  # that would be if more like them came

    def add(self, other: "Sweeps") -> None:
        self.found |= other.found
        self.begun |= other.begun


class Ranges:
    """What is remembered of each range: at least SPAN before its latest visit."""

    def __init__(self) -> None:
        self._visits: dict[str, list[Visit]] = {}
        self._count = 0

    def sweeps(self, visits: Iterable[tuple[str, Visit]]) -> Sweeps:
        """Take visits in, each once, however often it is told; what they and those before them are.

        Who was judged before the first five were together stays a person for now: `mtad events
        reclassify` sees all of them.
        """
        touched: set[str] = set()
        for network, visit in visits:
            remembered = self._visits.setdefault(network, [])
            touched.add(network)
            place = bisect_left(remembered, visit)
            if remembered[place : place + 1] != [visit]:
                remembered.insert(place, visit)
                self._count += 1
        found = Sweeps()
        for network in touched:
            remembered = self._visits[network]
            found.add(_together(remembered))
            old = bisect_left(remembered, remembered[-1].at - 2 * SPAN, key=lambda visit: visit.at)
            del remembered[:old]
            self._count -= old
        if self._count > MOST:
            self._forget()
        return found

    def _forget(self) -> None:
        latest = max(visits[-1].at for visits in self._visits.values())
        recent = {
            network: [visit for visit in visits if visit.at >= latest - SPAN]
            for network, visits in self._visits.items()
            if visits[-1].at >= latest - SPAN
        }
        self._visits = recent
        self._count = sum(map(len, recent.values()))


def _together(visits: Sequence[Visit]) -> Sweeps:
    """What the visits of one range are, given in order of time."""
    times = [visit.at for visit in visits]
    alike: defaultdict[tuple[str, int], list[Visit]] = defaultdict(list)
    for visit in visits:
        for first in range(visit.after - ALIKE + 1, visit.after + 1):
            alike[visit.agent, first].append(visit)
    known = Sweeps()
    for some in alike.values():
        for one, other in pairwise(some):
            if one.contact_id != other.contact_id and other.at - one.at <= SPAN:
                known.begun |= {one.event_id, other.event_id}
        taken = 0
        for first, end in _sweeps(some):
            meanwhile = bisect_right(times, some[first].at + SPAN) - bisect_left(times, some[end - 1].at - SPAN)
            if end - first >= SHARE * meanwhile:
                known.found.update(visit.event_id for visit in some[max(first, taken) : end])
                taken = end
    return known


def _sweeps(visits: Sequence[Visit]) -> Iterator[tuple[int, int]]:
    """Begin and end of the longest pieces, SPAN long at most, with visits to the mails of PEOPLE people."""
    people: Counter[int] = Counter()
    first = 0
    for last, visit in enumerate(visits):
        people[visit.contact_id] += 1
        while visit.at - visits[first].at > SPAN:
            gone = visits[first].contact_id
            people[gone] -= 1
            if not people[gone]:
                del people[gone]
            first += 1
        longest = last + 1 == len(visits) or visits[last + 1].at - visits[first].at > SPAN
        if longest and len(people) >= PEOPLE:
            yield first, last + 1
