"""What a click tells the operator's own sites: who clicked, in a parameter that works once. Pure.

Only on hosts that the operator lists, and only of mail sent in mode full (all else carries no
job). The site's script takes it out of the address before anybody sees or shares it.
"""

import re
from collections.abc import Collection

from tracker.tokens import Keys, Purpose, link_token, read_link_token

PARAMETER = "mtad"

# Long enough for a slow page; short enough for a link that is passed on to be nobody's.
GOOD_FOR = 3600  # seconds

_URL = re.compile(r"(https?)://([^/?#\\@:]+)(?::\d+)?(?:[/?#].*)?", re.DOTALL)
_OURSELVES = ("127.0.0.1", "localhost")


class Handover:
    """Puts the parameter on addresses, and reads it."""

    def __init__(self, keys: Keys, sites: Collection[str]) -> None:
        self._keys = keys
        self._sites = frozenset(sites)

    def lists(self, url: str) -> bool:
        """Whether an address is one of the operator's sites, and nobody on the way can read it."""
        match = _URL.fullmatch(url)
        return bool(match and match[2].lower() in self._sites and (match[1] == "https" or match[2] in _OURSELVES))

    def address(self, url: str, job_id: int, now: float) -> str:
        """Where a click on a mail leads: the address as it is, or with the parameter."""
        if not self._sites or not job_id or not self.lists(url):
            return url
        head, mark, fragment = url.partition("#")
        query = head.partition("?")[2]
        if re.search(rf"(?:^|&){PARAMETER}=", query):
            return url
        token = link_token(self._keys, Purpose.VISIT, job_id, int(now))
        return f"{head}{'&' if '?' in head else '?'}{PARAMETER}={token}{mark}{fragment}"

    def read(self, token: str, now: float) -> int | None:
        """The job whose link was clicked within the last hour; None for any other parameter."""
        found = read_link_token(self._keys, Purpose.VISIT, token)
        return found.job_id if found and 0 <= now - found.link_id <= GOOD_FOR else None

    def visitor(self, job_id: int) -> str:
        """What the site's cookie holds from then on."""
        return link_token(self._keys, Purpose.VISITOR, job_id, 0)

    def read_visitor(self, text: str) -> int | None:
        """The job by which a visitor became known."""
        found = read_link_token(self._keys, Purpose.VISITOR, text)
        return found.job_id if found else None
