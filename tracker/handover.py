"""What a click tells the operator's own sites: who clicked, in a parameter that works once. Pure.

Only on hosts that the operator lists, and only of mail sent in mode full (all else carries no
job). The site's script takes it out of the address before anybody sees or shares it.

Parameter and cookie are 27 bytes, 36 characters of base64url::

    version and key id 1 · job 8 and second of the click 4, masked · MAC 14

The mask is a keyed hash of the MAC: addresses and cookies stand in logs of the site, where whoever
withdraws or is erased must not be found by the number of a job. That is asked when the parameter is
redeemed; asking it of each click would need the database.
"""

import base64
import hmac
import operator
import re
import struct
from collections.abc import Collection

import msgspec

from tracker.tokens import LINK_MAC_BYTES, Keys, Purpose

PARAMETER = "mtad"

# Long enough for a slow page; short enough for a link that is passed on to be nobody's; seconds.
GOOD_FOR = 3600

# How long a site's cookie is believed: as long as the script asks browsers to keep it; seconds.
KNOWN_FOR = 15_552_000

# By so much the clock of the host that made it may be ahead of ours; seconds.
AHEAD = 60

_HEAD = struct.Struct(">QI")
_TOKEN = re.compile(r"[A-Za-z0-9_-]{36}")
_URL = re.compile(r"(https?)://([^/?#\\@:]+)(?::\d+)?(?:[/?#].*)?", re.DOTALL)
_OURSELVES = ("127.0.0.1", "localhost")


class Came(msgspec.Struct, frozen=True):
    """By which click somebody came."""

    job_id: int
    second: int  # of the click, since 1970


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
        token = _sealed(self._keys, Purpose.VISIT, Came(job_id, int(now)))
        return f"{head}{'&' if '?' in head else '?'}{PARAMETER}={token}{mark}{fragment}"

    def read(self, token: str, now: float) -> Came | None:
        """The click of the last hour that handed this over; None for any other parameter."""
        return self._read(Purpose.VISIT, token, now, GOOD_FOR)

    def visitor(self, came: Came) -> str:
        """What the site's cookie holds from then on."""
        return _sealed(self._keys, Purpose.VISITOR, came)

    def read_visitor(self, text: str, now: float) -> Came | None:
        """The click by which a visitor became known, half a year ago at most."""
        return self._read(Purpose.VISITOR, text, now, KNOWN_FOR)

    def _read(self, purpose: Purpose, token: str, now: float, good_for: int) -> Came | None:
        came = _opened(self._keys, purpose, token)
        return came if came and -AHEAD <= now - came.second <= good_for else None


def _sealed(keys: Keys, purpose: Purpose, came: Came) -> str:
    lead = bytes([keys.lead])
    head = _HEAD.pack(came.job_id, came.second)
    mac = keys.mac(purpose, lead + head)
    assert mac is not None
    return base64.urlsafe_b64encode(lead + _masked(keys, lead, mac, head) + mac).decode("ascii")


def _opened(keys: Keys, purpose: Purpose, token: str) -> Came | None:
    if not _TOKEN.fullmatch(token):
        return None
    raw = base64.urlsafe_b64decode(token)
    lead, masked, mac = raw[:1], raw[1:-LINK_MAC_BYTES], raw[-LINK_MAC_BYTES:]
    head = _masked(keys, lead, mac, masked)
    ours = keys.mac(purpose, lead + head)
    return Came(*_HEAD.unpack(head)) if ours and hmac.compare_digest(ours, mac) else None


def _masked(keys: Keys, lead: bytes, mac: bytes, head: bytes) -> bytes:
    """Masked, or bare again; empty where the key is none of ours."""
    return bytes(map(operator.xor, head, keys.mac(Purpose.VISIT_MASK, lead + mac) or b""))
