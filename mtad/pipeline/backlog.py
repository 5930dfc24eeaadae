"""The mails of one pool that wait in memory at a site: class by class, each in its order. Pure."""

from collections import deque
from collections.abc import Iterable

from mtad.pipeline.endings import Mail

CLASSES = 3  # transactional, triggered, bulk
TRANSACTIONAL = 0

# As many as one claim brings: a warming source looks for its readers among them.
LOOKED_AT = 64

# Who has clicked and opened lately, then who came back, then who may yet; the silent last.
_ORDER = {"engaged": 0, "reactivated": 1, "active": 2, None: 2}
_OTHERS = 3


class Backlog:
    """A queue in which a transactional mail overtakes all others."""

    def __init__(self) -> None:
        self._mails: tuple[deque[Mail], ...] = tuple(deque() for _ in range(CLASSES))
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def add(self, mails: Iterable[Mail]) -> None:
        """To the end of their class."""
        for mail in mails:
            self._mails[mail.facts.class_].append(mail)
            self._length += 1

    def put_back(self, mail: Mail) -> None:
        """To the head of its class."""
        self._mails[mail.facts.class_].appendleft(mail)
        self._length += 1

    def take(self, *, urgent: bool = False) -> Mail | None:
        """The next, or the next transactional one; None when there is none."""
        for mails in self._mails[: TRANSACTIONAL + 1] if urgent else self._mails:
            if mails:
                self._length -= 1
                return mails.popleft()
        return None

    def take_best(self) -> Mail | None:
        """Of the first class that there is the mail, among its first, to whoever is known best to read."""
        for mails in self._mails:
            if mails:
                best = min(range(min(len(mails), LOOKED_AT)), key=lambda at: _ORDER.get(mails[at].facts.state, _OTHERS))
                mail = mails[best]
                del mails[best]
                self._length -= 1
                return mail
        return None

    def clear(self) -> list[Mail]:
        """Take all, in their order."""
        return list(iter(self.take, None))
