"""Clicks of late by the range they came from: gateways look at the mails of many people. Pure.

One click on a mail with one link says nothing. The same range following links in the mails of
five people within ten seconds, each of them within two minutes of its own 250, is a gateway
that works through what came in. People behind one address (an office, a mobile carrier) read
when they come to it: their clicks lie anywhere between that 250 and next week.
"""

from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Iterable
from datetime import datetime, timedelta
from uuid import UUID

import msgspec

PEOPLE = 5
SPAN = timedelta(seconds=10)
SOON = timedelta(minutes=2)

# A flood of clicks within two minutes of their mails must not fill the memory: beyond so many,
# what is older than SPAN is forgotten.
MOST = 20_000


class Visit(msgspec.Struct, frozen=True, gc=False, order=True):
    """A click within SOON of the 250 of its mail."""

    at: datetime
    event_id: UUID
    contact_id: int


class Ranges:
    """What is remembered of each range: at least SPAN before its latest visit."""

    def __init__(self) -> None:
        self._visits: dict[str, list[Visit]] = {}
        self._count = 0

    def sweeps(self, visits: Iterable[tuple[str, Visit]]) -> set[UUID]:
        """Take visits in, each once; which of those that are remembered are a gateway's.

        Who was judged before the first five were together stays a person for now: `mtad events
        reclassify` sees all of them.
        """
        touched: set[str] = set()
        for network, visit in visits:
            insort(self._visits.setdefault(network, []), visit)
            self._count += 1
            touched.add(network)
        found: set[UUID] = set()
        for network in touched:
            remembered = self._visits[network]
            if len(remembered) >= PEOPLE:
                found |= _together(remembered)
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


def _together(visits: list[Visit]) -> set[UUID]:
    """Visits, given in order of time, that lie within SPAN of those to the mails of PEOPLE people."""
    found: set[UUID] = set()
    people: Counter[int] = Counter()
    first = taken = 0
    for last, visit in enumerate(visits):
        people[visit.contact_id] += 1
        while visit.at - visits[first].at > SPAN:
            gone = visits[first].contact_id
            people[gone] -= 1
            if not people[gone]:
                del people[gone]
            first += 1
        if len(people) >= PEOPLE:
            found.update(one.event_id for one in visits[max(first, taken) : last + 1])
            taken = last + 1
    return found
