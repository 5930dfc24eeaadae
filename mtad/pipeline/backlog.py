"""The mails that wait in memory for the sessions of one lane: class by class, each in its order. Pure."""

from collections import deque
from collections.abc import Iterable

from mtad.pipeline.endings import Mail

CLASSES = 3  # transactional, triggered, bulk
TRANSACTIONAL = 0


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

    def clear(self) -> list[Mail]:
        """Take all, in their order."""
        return list(iter(self.take, None))
