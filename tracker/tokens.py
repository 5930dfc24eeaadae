"""Tokens: what stands in our links, unforgeable, bound to one purpose. Bytes in, text out; pure.

A token for an open or a click is 27 bytes, 36 characters of base64url::

    version and key id 1 · job 8 · link 4 · MAC 14

and one for leaving needs no job, so it outlives the ledger::

    version and key id 1 · contact 8 · program 4 · MAC 14

A token for preferences is made like that one, and one for confirming says the job of the mail
in which it stands. A return path is 25 bytes in base32, because receivers may fold the case of a
local part: version and key id 1, job 8, MAC 16.

The MAC is keyed BLAKE2b (RFC 7693). Its personalisation is the purpose, so a
pixel's token is no click's, whatever the rest of it says. The destination of a
click is never in the token; only values of this recipient may stand behind it,
under the same MAC.
"""

import base64
import binascii
import hashlib
import hmac
import re
import struct
from collections.abc import Sequence
from enum import Enum
from urllib.parse import quote, unquote_to_bytes

import msgspec

from mtad.base.errors import ConfigError

VERSION = 1
KEY_BYTES = 32
LINK_MAC_BYTES = 14
RETURN_MAC_BYTES = 16

# The marker before each value in a click's path. Without it the values "", "."
# and ".." would make segments that browsers and proxies drop or resolve.
VALUE_MARK = "-"

# For base32: the upper half of what stands together moves up, of 64 letters, of 32 … of 2, until each five bits are a
# byte of their own. A table of pairs, as base64.b32encode has, takes four times as long with cold caches.
_APART = tuple(
    (sum((1 << 5 * half) - 1 << 8 * at + 5 * half for at in range(0, 40, 2 * half)), (1 << 3 * half) - 1)
    for half in (32, 16, 8, 4, 2, 1)
)
_BASE32 = bytes.maketrans(bytes(range(32)), b"abcdefghijklmnopqrstuvwxyz234567")

# base64.urlsafe_b64encode does the same by way of three functions of Python.
_URLSAFE = bytes.maketrans(b"+/", b"-_")
_HEAD = struct.Struct(">BQI")
_RETURN_HEAD = struct.Struct(">BQ")
_TOKEN_BYTES = _HEAD.size + LINK_MAC_BYTES
_ALPHABET = bytes.maketrans(b"-_+/=", b"+/!!!")  # of base64url to that of base64; what else that has is in neither
_RETURN_PATH = re.compile(r"b-([a-z2-7]{40})")
_KEY_LINE = re.compile(r"(\d{1,2}):([0-9a-fA-F]{64})")


class Purpose(Enum):
    """What a token is good for; the value is the personalisation of its MAC (at most 16 bytes)."""

    OPEN = b"mtad open"
    HYGIENE = b"mtad hygiene"  # an open of which no more than its date may be kept
    CLICK = b"mtad click"
    UNSUBSCRIBE = b"mtad unsubscribe"
    PREFERENCES = b"mtad preference"
    CONFIRM = b"mtad confirm"
    RETURN_PATH = b"mtad return path"
    VISIT = b"mtad visit"  # handed over by a click: job, and when (seconds since 1970)
    PROBE = b"mtad probe"  # behind a number that was asked just now: who answers has our keys
    VISITOR = b"mtad visitor"  # in the cookie of a site: the same, from then on
    VISIT_MASK = b"mtad visit mask"  # hides the job of these two from whoever has not our keys

    # There is one of each. Enum's own hash is that of the name, in Python: a third of the cost of a token.
    __hash__ = object.__hash__


class LinkToken(msgspec.Struct, frozen=True, gc=False):
    """Whose mail (0: nobody's in particular) and which link of it."""

    job_id: int
    link_id: int
    hygiene: bool = False  # of a pixel: only the date of the open may be kept


class ContactToken(msgspec.Struct, frozen=True):
    """Who (0: nobody, in a preview or a test), and the program whose mail carried the link."""

    contact_id: int
    program_id: int


class Keys:
    """Secrets by id, 0 to 15; the last one signs, all of them verify. Shows none of them in a repr."""

    __slots__ = ("_by_id", "_prepared", "lead")

    def __init__(self, by_id: dict[int, bytes]) -> None:
        self._by_id = by_id
        signer = list(by_id)[-1]
        # The first byte of what is signed now: version and key id.
        self.lead = VERSION << 4 | signer
        # Copying a hash that has taken its key already saves a third.
        self._prepared = {purpose: _keyed(by_id[signer], purpose) for purpose in Purpose}

    @classmethod
    def parse(cls, text: str, source: str = "tracking keys") -> "Keys":
        """Lines `id:hex`, 64 hex digits each; empty lines and `#` comments are passed over.

        ConfigError names `source` and the line, never the secret.
        """
        by_id: dict[int, bytes] = {}
        for number, line in enumerate(text.splitlines(), 1):
            stripped = line.strip()
            if not stripped or stripped.startswith("#"):
                continue
            match = _KEY_LINE.fullmatch(stripped)
            if not match or int(match[1]) > 15:
                raise ConfigError(f"{source}: line {number}: write id:hex, id 0 to 15 and {2 * KEY_BYTES} hex digits")
            if int(match[1]) in by_id:
                raise ConfigError(f"{source}: line {number}: id {int(match[1])} stands there twice")
            by_id[int(match[1])] = bytes.fromhex(match[2])
        if not by_id:
            raise ConfigError(f"{source}: there is no key in it")
        return cls(by_id)

    def signed(self, purpose: Purpose, message: bytes) -> bytes:
        """The MAC under the key that signs now; `message` begins with `lead`."""
        mac = self._prepared[purpose].copy()
        mac.update(message)
        return mac.digest()

    def mac(self, purpose: Purpose, message: bytes) -> bytes | None:
        """The MAC under the key that the first byte of `message` names; None for one we do not have."""
        if message[0] == self.lead:
            return self.signed(purpose, message)
        key = self._by_id.get(message[0] & 0x0F) if message[0] >> 4 == VERSION else None
        return _keyed(key, purpose, message).digest() if key else None


def _keyed(key: bytes, purpose: Purpose, message: bytes = b"") -> "hashlib.blake2b":
    size = RETURN_MAC_BYTES if purpose is Purpose.RETURN_PATH else LINK_MAC_BYTES
    return hashlib.blake2b(message, digest_size=size, key=key, person=purpose.value)


def link_token(keys: Keys, purpose: Purpose, job_id: int, link_id: int, values: Sequence[str] = ()) -> str:
    """36 characters for one link of one mail; `values` are those that will stand behind it."""
    head = _HEAD.pack(keys.lead, job_id, link_id)
    return _sealed(keys, purpose, head, _packed(values) if values else b"")


def read_link_token(keys: Keys, purpose: Purpose, token: str, values: Sequence[str] = ()) -> LinkToken | None:
    """What a token says; None unless it is ours, for this purpose and for just these values."""
    found = _opened(keys, purpose, token, _packed(values) if values else b"")
    return LinkToken(*found) if found else None


def read_pixel_token(keys: Keys, token: str) -> LinkToken | None:
    """What the token of a pixel says, and in which mode its mail was sent; None unless it is ours."""
    if found := _opened(keys, Purpose.OPEN, token):
        return LinkToken(*found)
    found = _opened(keys, Purpose.HYGIENE, token)
    return LinkToken(*found, hygiene=True) if found else None


def contact_token(keys: Keys, contact_id: int, program_id: int) -> str:
    """36 characters with which one contact leaves the stream of one program."""
    return _sealed(keys, Purpose.UNSUBSCRIBE, _HEAD.pack(keys.lead, contact_id, program_id), b"")


def read_contact_token(keys: Keys, token: str) -> ContactToken | None:
    """What a token for leaving says; None unless it is ours."""
    found = _opened(keys, Purpose.UNSUBSCRIBE, token)
    return ContactToken(*found) if found else None


def preferences_token(keys: Keys, contact_id: int, program_id: int) -> str:
    """36 characters with which one contact sees and changes what it gets."""
    return _sealed(keys, Purpose.PREFERENCES, _HEAD.pack(keys.lead, contact_id, program_id), b"")


def read_preferences_token(keys: Keys, token: str) -> ContactToken | None:
    """Whose preferences; None unless it is ours."""
    found = _opened(keys, Purpose.PREFERENCES, token)
    return ContactToken(*found) if found else None


def confirm_token(keys: Keys, job_id: int) -> str:
    """36 characters that stand in the one mail by which an address is confirmed."""
    return _sealed(keys, Purpose.CONFIRM, _HEAD.pack(keys.lead, job_id, 0), b"")


def read_confirm_token(keys: Keys, token: str) -> int | None:
    """The mail that was answered (0: a preview); None unless it is ours."""
    found = _opened(keys, Purpose.CONFIRM, token)
    return found[0] if found else None


def return_path(keys: Keys, job_id: int, domain: str) -> str:
    """The envelope sender of one mail; its local part is 42 octets of lower case."""
    head = _RETURN_HEAD.pack(keys.lead, job_id)
    bits = int.from_bytes(head + keys.signed(Purpose.RETURN_PATH, head), "big")
    for upper, gap in _APART:
        bits += (bits & upper) * gap
    return f"b-{bits.to_bytes(40, 'big').translate(_BASE32).decode()}@{domain}"


def read_return_path(keys: Keys, local_part: str) -> int | None:
    """The job whose mail came back to this local part, in any case of letters; None unless it is ours."""
    match = _RETURN_PATH.fullmatch(local_part.lower()) if local_part.isascii() else None
    if not match:
        return None
    raw = base64.b32decode(match[1].upper())
    head, mac = raw[: _RETURN_HEAD.size], raw[_RETURN_HEAD.size :]
    if not _matches(keys.mac(Purpose.RETURN_PATH, head), mac):
        return None
    return int(_RETURN_HEAD.unpack(head)[1])


def proof(keys: Keys, asked: str) -> str:
    """36 characters that only who has our keys can answer to `asked`, a number that nobody asked before."""
    return _sealed(keys, Purpose.PROBE, _HEAD.pack(keys.lead, 0, 0), asked.encode())


def is_proof(keys: Keys, asked: str, answer: str) -> bool:
    """Whether it was answered by one of ours."""
    return _opened(keys, Purpose.PROBE, answer, asked.encode()) is not None


def probe_url(base: str, asked: str) -> str:
    """The address at which a tracker proves that it is one of ours; `asked`: 32 hex digits."""
    return f"{base}/healthz/{asked}"


def pixel_url(base: str, token: str) -> str:
    """The address of a pixel below the tracker's public `base`, which has no slash at its end."""
    return f"{base}/o/{token}.gif"


def click_url(base: str, token: str, values: Sequence[str] = ()) -> str:
    """The address of a click; `values` percent-encoded behind the token, in the order they were signed."""
    url = f"{base}/c/{token}"
    return url + "".join(f"/{VALUE_MARK}{quote(value, safe='')}" for value in values) if values else url


def unsubscribe_url(base: str, token: str) -> str:
    """The address for leaving: a page for people (GET), one click for mail programs (POST)."""
    return f"{base}/u/{token}"


def preferences_url(base: str, token: str) -> str:
    """The address of the page on which a person says what it wants."""
    return f"{base}/p/{token}"


def confirm_url(base: str, token: str) -> str:
    """The address of the page on which a person confirms that it wants mail at all."""
    return f"{base}/confirm/{token}"


def values_of(path: str) -> tuple[str, ...] | None:
    """The values in what stands behind a click's token ('' or '/-a/-b'), decoded; None if malformed."""
    if not path:
        return ()
    first, *segments = path.split("/")
    if first or not all(segment.startswith(VALUE_MARK) for segment in segments):
        return None
    try:
        return tuple(unquote_to_bytes(segment.removeprefix(VALUE_MARK)).decode() for segment in segments)
    except UnicodeError:
        return None


def _packed(values: Sequence[str]) -> bytes:
    """Values as bytes that no other sequence of values has: each behind its length."""
    return b"".join(len(value).to_bytes(4, "big") + value for value in map(str.encode, values))


def _sealed(keys: Keys, purpose: Purpose, head: bytes, tail: bytes) -> str:
    return binascii.b2a_base64(head + keys.signed(purpose, head + tail), newline=False).translate(_URLSAFE).decode()


def _opened(keys: Keys, purpose: Purpose, token: str, tail: bytes = b"") -> tuple[int, int] | None:
    """The two numbers of a token; None unless it is ours."""
    # Strictly read, 27 bytes are 36 characters of the alphabet without a spare bit: a token has one spelling.
    try:
        raw = binascii.a2b_base64(token.encode("ascii").translate(_ALPHABET), strict_mode=True)
    except ValueError:
        return None
    if len(raw) != _TOKEN_BYTES:
        return None
    head = raw[:-LINK_MAC_BYTES]
    if not _matches(keys.mac(purpose, head + tail), raw[-LINK_MAC_BYTES:]):
        return None
    _, one, other = _HEAD.unpack(head)
    return one, other


def _matches(ours: bytes | None, theirs: bytes) -> bool:
    """Compared in constant time, so that a MAC cannot be guessed byte by byte."""
    return ours is not None and hmac.compare_digest(ours, theirs)
