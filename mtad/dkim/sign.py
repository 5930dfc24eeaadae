"""DKIM signatures: relaxed/relaxed, over headers that bulk mail must not lose.

Every field that is signed stands once more in h= than in the message (oversigning,
RFC 6376 section 8.15): nobody can add a second From or List-Unsubscribe on the way.
There is never an l=: it would let anybody append a body of their own.

RFC 8058 section 4 asks that List-Unsubscribe and List-Unsubscribe-Post are covered,
Google that Feedback-ID is; a bulk mail for which that cannot be said is not signed,
and what is not signed is not sent.
"""

import base64
import hashlib
import math
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, time
from pathlib import Path

import msgspec
from nacl.signing import SigningKey

from mtad.base.config import Config
from mtad.base.errors import ConfigError
from mtad.dkim.canon import ended, relaxed_body, relaxed_value
from mtad.dkim.keys import Key, algorithm, read_key, signature

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
_WIDTH = 72


class NotCovered(Exception):
    """No signature can be made that covers what it must; the text says why. The mail must not go."""


class Identity(msgspec.Struct, frozen=True):
    """Who signs: d=, s= and the private key; for which streams (none: all), and from when on (Unix time)."""

    domain: str
    selector: str
    key: Key
    streams: tuple[str, ...] = ()
    starts: float = -math.inf


class _Line(msgspec.Struct):
    """A header as it is hashed, kept from mail to mail: most values are those of the mail before."""

    name: bytes
    at: int  # which header it is
    value: bytes | None = None
    relaxed: bytes = b""


class _Plan(msgspec.Struct, frozen=True):
    """What all mails of a stream with the same names of headers and the same domains have in common."""

    until: float  # when another key starts
    missing: list[str]  # what a bulk mail must have and these have not
    lines: list[_Line]  # in the order of hashing
    fields: list[tuple[Key, bytes, bytes]]  # who signs; the field up to h=, on the wire and relaxed

    def hashed(self, values: Sequence[bytes]) -> bytes:
        """The headers in the canonical form."""
        pieces: list[bytes] = []
        for line in self.lines:
            value = values[line.at]
            if value != line.value:
                line.value = value
                line.relaxed = b"%b:%b\r\n" % (line.name, relaxed_value(value))
            pieces.append(line.relaxed)
        return b"".join(pieces)


class Draft(msgspec.Struct, frozen=True):
    """What is left to do of a mail's signatures: a digest for each key."""

    wanted: list[tuple[Key, bytes]]
    fields: list[bytes]  # of each, up to h=
    last: bytes  # t= and bh=

    def signed(self, made: Sequence[bytes]) -> bytes:
        """The whole `DKIM-Signature: …` fields with their CRLF, to be put before the mail's headers."""
        out: list[bytes] = []
        for field, one in zip(self.fields, made, strict=True):
            value = base64.b64encode(one)
            lines = [value[at : at + _WIDTH] for at in range(0, len(value), _WIDTH)]
            out += (b"DKIM-Signature: ", field, b"\r\n\t", self.last, b"\r\n\tb=", b"\r\n\t".join(lines), b"\r\n")
        return b"".join(out)

    def finished(self) -> bytes:
        """The same, signed here and now."""
        return self.signed([signature(key, digest) for key, digest in self.wanted])


class Signer:
    """Signs messages with the identities that are nearest to the domain in From, one of each kind of key.

    RSA is for everybody and Ed25519 for who knows it already (RFC 8463 section 6); Ed25519
    stands above, as in its appendix A.3. Of several keys of one kind the one that started
    last signs: so a key is changed at a moment that was announced in DNS before.
    """

    def __init__(self, identities: Sequence[Identity]) -> None:
        self._identities = sorted(identities, key=lambda identity: not isinstance(identity.key, SigningKey))
        self._plans: dict[tuple[str, str, str, tuple[bytes, ...]], _Plan] = {}

    @classmethod
    def from_config(cls, config: Config, source: str = "") -> "Signer":
        """Read the keys of [[dkim]] for what leaves through a source, or that all share ("").

        ConfigError names the file that is missing or no key, or keys that rival.
        """
        own = {dkim.domain.lower() for dkim in config.dkim if dkim.source == source}
        identities = []
        for dkim in config.dkim:
            if dkim.source != source and (dkim.source or dkim.domain.lower() in own):
                continue
            path: Path = config.path(dkim.key)
            if not dkim.domain or not dkim.selector:
                raise ConfigError(f"dkim: {path}: domain and selector must not be empty")
            starts = datetime.combine(dkim.starts, time(), UTC).timestamp() if dkim.starts else -math.inf
            domain = dkim.domain.lower().rstrip(".")
            identities.append(Identity(domain, dkim.selector, read_key(path), dkim.streams, starts))
        ranks = Counter(
            (i.domain, algorithm(i.key), stream, i.starts) for i in identities for stream in i.streams or [""]
        )
        for (domain, kind, _, _), number in ranks.items():
            if number > 1:
                raise ConfigError(
                    f"dkim: {domain}: {number} keys of {kind} start at the same time; set `starts` of the newer"
                )
        return cls(identities)

    def identities_for(self, domain: str, stream: str = "", now: float = math.inf) -> list[Identity]:
        """Who signs at Unix time `now`: those with the longest d= that equals `domain` or is a parent of it.

        That is DMARC's relaxed alignment. Those that name the stream go before those that name none.
        """
        parents = "." + domain.lower().rstrip(".")
        fit = [
            i for i in self._identities
            if parents.endswith("." + i.domain) and i.starts <= now and (not i.streams or stream in i.streams)
        ]  # fmt: skip
        longest = max((len(i.domain) for i in fit), default=0)
        near = [i for i in fit if len(i.domain) == longest]
        named = [i for i in near if i.streams] or near
        newest = {algorithm(i.key): i for i in sorted(named, key=lambda i: i.starts)}
        return [i for i in named if i in newest.values()]

    def draft(
        self,
        headers: Sequence[Header],
        body: bytes,
        from_domain: str,
        now_unix: int,
        *,
        return_domain: str = "",
        stream: str = "",
        bulk: bool = True,
        canonical: bool = False,
    ) -> Draft:
        """All of the signatures but the arithmetic.

        A return path of another organisation's domain is signed for too, where there is a
        key: feedback loops and reputation hang on it.
        `headers` are (name, value), folded or not; `body` has CRLF only. `canonical`: it has
        no tab, no two blanks in a row and no blank before a CRLF, which need not be looked for.
        Raises NotCovered when no identity fits `from_domain`, when From is missing, or when a
        bulk mail lacks a header that its signature must cover.
        """
        names, values = zip(*headers, strict=True) if headers else ((), ())
        case = (from_domain, return_domain, stream, names)
        plan = self._plans.get(case)
        if plan is None or now_unix >= plan.until:
            plan = self._plans[case] = self._plan(*case, now_unix)
        if bulk and plan.missing:
            raise NotCovered(f"the signature would not cover {', '.join(plan.missing)}")
        common = hashlib.sha256(plan.hashed(values))
        body_hash = hashlib.sha256(ended(body) if canonical else relaxed_body(body)).digest()
        last = b"t=%d; bh=%b;" % (now_unix, base64.b64encode(body_hash))
        wanted: list[tuple[Key, bytes]] = []
        for key, _, relaxed in plan.fields:
            digest = common.copy()
            # The field itself comes last, with an empty b= and without its CRLF (section 3.7).
            digest.update(b"%b %b b=" % (relaxed, last))
            wanted.append((key, digest.digest()))
        return Draft(wanted, [field for _, field, _ in plan.fields], last)

    def _plan(self, from_domain: str, return_domain: str, stream: str, names: Sequence[bytes], now: float) -> _Plan:
        identities = self.identities_for(from_domain, stream, now)
        if not identities:
            raise NotCovered(f"no [[dkim]] of the configuration fits From: …@{from_domain}")
        if not f".{return_domain}".endswith(f".{identities[0].domain}"):
            identities += self.identities_for(return_domain, stream, now)
        lower = [name.lower() for name in names]
        if _FROM not in lower:
            raise NotCovered("the signature would not cover from")
        # Of several with one name the lowest is taken first (RFC 6376 section 5.4.2).
        hashed = [(name, at) for name in _SIGNED for at in range(len(lower) - 1, -1, -1) if lower[at] == name]
        covered = [name for name, _ in hashed]
        oversigned = sorted([*covered, *_SIGNED], key=_SIGNED.index)
        fields = []
        for identity in identities:
            field = (
                f"v=1; a={algorithm(identity.key)}; c=relaxed/relaxed; d={identity.domain};\r\n\t"
                f"s={identity.selector};\r\n\th={_folded([name.decode() for name in oversigned])};"
            ).encode()
            fields.append((identity.key, field, b"dkim-signature:" + relaxed_value(field)))
        return _Plan(
            until=min((i.starts for i in self._identities if i.starts > now), default=math.inf),
            missing=sorted(name.decode() for name in _BULK_NEEDS.difference(covered)),
            lines=[_Line(name, at) for name, at in hashed],
            fields=fields,
        )


def _folded(names: Sequence[str]) -> str:
    """The list for h=, folded only behind colons: some verifiers fail on a name that is split."""
    lines: list[str] = [""]
    for at, name in enumerate(names):
        piece = name if at == len(names) - 1 else name + ":"
        if lines[-1] and len(lines[-1]) + len(piece) > _WIDTH:
            lines.append("")
        lines[-1] += piece
    return "\r\n\t".join(lines)
