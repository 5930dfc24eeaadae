"""DKIM signatures: RSA-SHA256, relaxed/relaxed, over headers that bulk mail must not lose.

Every field that is signed stands once more in h= than in the message (oversigning,
RFC 6376 section 8.15): nobody can add a second From or List-Unsubscribe on the way.
There is never an l=: it would let anybody append a body of their own.

RFC 8058 section 4 asks that List-Unsubscribe and List-Unsubscribe-Post are covered,
Google that Feedback-ID is; a bulk mail for which that cannot be said is not signed,
and what is not signed is not sent.
"""

import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.hashes import SHA256

from mtad.base.config import Config
from mtad.base.errors import ConfigError
from mtad.dkim.canon import relaxed_body, relaxed_header
from mtad.dkim.keys import read_key

Header = tuple[bytes, bytes]

# Signed where present, and once more, so that none can be added; the order is that of h=.
SIGNED = (
    "From",
    "To",
    "Subject",
    "Date",
    "Message-ID",
    "Reply-To",
    "MIME-Version",
    "Content-Type",
    "Content-Transfer-Encoding",
    "List-Id",
    "List-Unsubscribe",
    "List-Unsubscribe-Post",
    "Feedback-ID",
)
# Without these a bulk mail is not signed.
BULK_NEEDS = (
    "From",
    "To",
    "Subject",
    "Date",
    "Message-ID",
    "List-Unsubscribe",
    "List-Unsubscribe-Post",
    "Feedback-ID",
)

_SIGNED = tuple(name.lower().encode() for name in SIGNED)
_BULK_NEEDS = frozenset(name.lower().encode() for name in BULK_NEEDS)
_FROM = b"from"
_PADDING = PKCS1v15()
_SHA256 = SHA256()
_WIDTH = 72


class NotCovered(Exception):
    """No signature can be made that covers what it must; the text says why. The mail must not go."""


class Identity(msgspec.Struct, frozen=True):
    """Who signs: d=, s= and the private key."""

    domain: str
    selector: str
    key: RSAPrivateKey


class Signer:
    """Signs messages with the identity that is nearest to the domain in From."""

    def __init__(self, identities: Sequence[Identity]) -> None:
        self._identities = sorted(identities, key=lambda identity: -len(identity.domain))
        self._fields: dict[tuple[str, tuple[bytes, ...]], bytes] = {}

    @classmethod
    def from_config(cls, config: Config) -> "Signer":
        """Read the keys of [[dkim]]; ConfigError names the file that is missing or no key."""
        identities = []
        for dkim in config.dkim:
            path: Path = config.path(dkim.key)
            if not dkim.domain or not dkim.selector:
                raise ConfigError(f"dkim: {path}: domain and selector must not be empty")
            identities.append(Identity(dkim.domain.lower().rstrip("."), dkim.selector, read_key(path)))
        return cls(identities)

    def identity_for(self, from_domain: str) -> Identity | None:
        """The longest d= that equals `from_domain` or is a parent of it (DMARC's relaxed alignment)."""
        domain = from_domain.lower().rstrip(".")
        for identity in self._identities:
            if domain == identity.domain or domain.endswith("." + identity.domain):
                return identity
        return None

    def sign(
        self, headers: Sequence[Header], body: bytes, from_domain: str, now_unix: int, *, bulk: bool = True
    ) -> bytes:
        """The whole `DKIM-Signature: …` field with its CRLF, to be put before `headers`.

        `headers` are (name, value), folded or not; `body` has CRLF only. Raises NotCovered
        when no identity fits `from_domain`, when From is missing, or when a bulk mail lacks a
        header that its signature must cover. About 0.5 ms, nearly all of it RSA.
        """
        identity = self.identity_for(from_domain)
        if identity is None:
            raise NotCovered(f"no [[dkim]] of the configuration fits From: …@{from_domain}")
        found: dict[bytes, list[Header]] = {}
        for header in headers:
            found.setdefault(header[0].lower(), []).append(header)
        needed = _BULK_NEEDS if bulk else {_FROM}
        if missing := sorted(name.decode() for name in needed if name not in found):
            raise NotCovered(f"the signature would not cover {', '.join(missing)}")

        signed: list[bytes] = []  # the lower-case names as they stand in h=, without the one too many
        hashed: list[bytes] = []
        for name in _SIGNED:
            # Of several with one name the lowest is taken first (RFC 6376 section 5.4.2).
            for header in reversed(found.get(name, ())):
                signed.append(name)
                hashed.append(relaxed_header(*header))
        body_hash = base64.b64encode(hashlib.sha256(relaxed_body(body)).digest())
        value = self._field(identity, tuple(signed)) + f"\r\n\tt={now_unix}; bh=".encode() + body_hash + b";\r\n\tb="
        # The field itself comes last, with an empty b= and without its CRLF (section 3.7).
        hashed.append(relaxed_header(b"dkim-signature", value)[:-2])
        signature = base64.b64encode(identity.key.sign(b"".join(hashed), _PADDING, _SHA256))
        lines = [signature[at : at + _WIDTH] for at in range(0, len(signature), _WIDTH)]
        return b"DKIM-Signature: " + value + b"\r\n\t".join(lines) + b"\r\n"

    def _field(self, identity: Identity, signed: tuple[bytes, ...]) -> bytes:
        """The field up to h=; the same for every mail with the same headers, so it is kept."""
        key = (identity.domain, signed)
        field = self._fields.get(key)
        if field is None:
            names = sorted([*signed, *_SIGNED], key=_SIGNED.index)
            field = (
                f"v=1; a=rsa-sha256; c=relaxed/relaxed; d={identity.domain};\r\n\ts={identity.selector};"
                f"\r\n\th={_folded([name.decode() for name in names])};"
            ).encode()
            self._fields[key] = field
        return field


def _folded(names: Sequence[str]) -> str:
    """The list for h=, folded only behind colons: some verifiers fail on a name that is split."""
    lines: list[str] = [""]
    for at, name in enumerate(names):
        piece = name if at == len(names) - 1 else name + ":"
        if lines[-1] and len(lines[-1]) + len(piece) > _WIDTH:
            lines.append("")
        lines[-1] += piece
    return "\r\n\t".join(lines)
