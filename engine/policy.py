"""What a stream is: who sends, and by which rules its audience contracts and expands. Pure.

A policy that contradicts itself is refused with the reason: it would not fail,
it would quietly pause or praise the wrong people.
"""

import re
from typing import Any, Literal

import msgspec

from engine.tables import DAY, Table, decoded, duration, name
from mtad.base.address import Address, parse_address
from mtad.base.errors import InputError

TrackingMode = Literal["full", "hygiene", "aggregate", "none"]

_MAILBOX = re.compile(r"(?:(?P<display>[^<>]*)<(?P<inside>[^<>]+)>|(?P<bare>[^<>]+))")

# Stands in headers and in every link, before a path of ours.
_BASE_URL = re.compile(r"https?://[A-Za-z0-9.:\[\]_-]+(?:/[A-Za-z0-9._~/-]*)?")

# A sign of more would be a threshold by itself; the column ends at 32,767.
MOST_POINTS = 1000


class Points(Table, frozen=True, kw_only=True):
    """What a first human sign of each kind is worth, once per message."""

    open: int = 5
    click: int = 10
    page: int = 15


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """The rules of a stream. Spans are in seconds; `days…` are counts of `day`."""

    points: Points = Points()
    threshold: int = 20
    window: float = 3 * DAY
    attempts: int = 5
    days: int = 90
    days_unclear: int = 180
    days_need_attempts: int = 2
    cool_downs: tuple[float, ...] = (30 * DAY, 90 * DAY)
    settle: float = 5.0
    day: float = DAY
    missing_limit: float = 0.02  # share of a program's mails that may fail for one content reason
    missing_least: int = 50  # and at least this many, before it pauses itself


class StreamDefinition(msgspec.Struct, frozen=True, kw_only=True):
    """One version of a stream: sender identity and policy."""

    name: str
    from_: str = msgspec.field(name="from")
    """The From header: `Display Name <local@domain>` or an address."""
    reply_to: str = ""
    imprint: str = ""
    list_id: str = ""
    tracking: TrackingMode
    tracking_url: str = ""
    """Public base of this stream's links; '' is the configuration's."""
    language: str = "en"
    pool: str = "default"
    """The [[pool]] of the configuration whose sources send it."""
    policy: Policy = Policy()

    def to_json(self) -> dict[str, Any]:
        return dict(msgspec.to_builtins(self))

    @classmethod
    def from_json(cls, obj: object) -> "StreamDefinition":
        return msgspec.convert(obj, cls)


class _PolicyTable(Table, frozen=True, kw_only=True):
    points: Points = Points()
    threshold: int = 20
    window: str = "3d"
    attempts: int = 5
    days: int = 90
    days_unclear: int = 180
    days_need_attempts: int = 2
    cool_downs: tuple[str, ...] = ("30d", "90d")
    settle: str = "5s"
    day: str = "1d"
    missing_limit: float = 0.02
    missing_least: int = 50


class _StreamTable(Table, frozen=True, kw_only=True):
    name: str
    from_: str = msgspec.field(name="from")
    reply_to: str = ""
    imprint: str = ""
    list_id: str = ""
    tracking: TrackingMode
    tracking_url: str = ""
    language: str = "en"
    pool: str = "default"
    policy: _PolicyTable = _PolicyTable()


def parse_stream(raw: dict[str, Any]) -> StreamDefinition:
    """The TOML of a stream; InputError in one line for whatever is wrong or contradicts itself."""
    if "tracking" not in raw:
        # No default: measuring people is a decision that somebody has to make.
        raise InputError("tracking: is missing; write full, hygiene, aggregate or none")
    table = decoded(raw, _StreamTable)
    _, sender = mailbox("from", table.from_)
    if table.reply_to:
        mailbox("reply_to", table.reply_to)
    if table.tracking_url and not _BASE_URL.fullmatch(table.tracking_url):
        raise InputError(f"tracking_url: write https://host or https://host/path, is {table.tracking_url!r}")
    return StreamDefinition(
        name=name("name", table.name),
        from_=table.from_,
        reply_to=table.reply_to,
        imprint=table.imprint,
        list_id=table.list_id or f"{table.name}.{sender.domain}",
        tracking=table.tracking,
        tracking_url=table.tracking_url.rstrip("/"),
        language=table.language,
        pool=table.pool,
        policy=_policy(table.policy),
    )


def mailbox(key: str, text: str) -> tuple[str, Address]:
    """`Display Name <local@domain>` as its two parts; the name is '' where there is none."""
    match = _MAILBOX.fullmatch(text.strip())
    if not match or not text.isprintable():
        raise InputError(f'{key}: {text!r} is not an address; write "Name <local@domain>"')
    try:
        address = parse_address(match["inside"] or match["bare"])
    except ValueError as error:
        raise InputError(f"{key}: {text!r}: {error}") from None
    name = (match["display"] or "").strip()
    if name.startswith('"'):  # a quoted-string, RFC 5322 section 3.2.4
        name = re.sub(r"\\(.)", r"\1", name.strip('"'))
    return name, address


def _policy(table: _PolicyTable) -> Policy:
    day = duration("policy.day", table.day)
    if day == 0:
        raise InputError("policy.day: must be above 0")
    policy = Policy(
        points=table.points,
        threshold=table.threshold,
        window=duration("policy.window", table.window, day),
        attempts=table.attempts,
        days=table.days,
        days_unclear=table.days_unclear,
        days_need_attempts=table.days_need_attempts,
        cool_downs=tuple(duration("policy.cool_downs", text, day) for text in table.cool_downs),
        settle=duration("policy.settle", table.settle, day),
        day=day,
        missing_limit=table.missing_limit,
        missing_least=table.missing_least,
    )
    _refuse_contradictions(policy)
    return policy


def _refuse_contradictions(policy: Policy) -> None:
    points = policy.points
    for key, value in (("open", points.open), ("click", points.click), ("page", points.page)):
        if not 0 <= value <= MOST_POINTS:
            raise InputError(f"policy.points.{key}: 0 to {MOST_POINTS}, is {value}")
    for key in ("threshold", "attempts", "days", "days_unclear", "days_need_attempts", "missing_least"):
        if getattr(policy, key) < 1:
            raise InputError(f"policy.{key}: must be 1 or more, is {getattr(policy, key)}")
    if policy.window == 0:
        raise InputError("policy.window: must be above 0, or nobody has time to answer")
    if points.open + points.click + points.page == 0:
        raise InputError(f"policy.threshold: {policy.threshold} cannot be reached, for no sign earns points")
    if not policy.cool_downs:
        raise InputError("policy.cool_downs: at least one is needed")
    if list(policy.cool_downs) != sorted(policy.cool_downs):
        raise InputError("policy.cool_downs: must not shrink, for who stayed silent longer is asked less often")
    if not 0 < policy.missing_limit <= 1:
        raise InputError(f"policy.missing_limit: a share above 0 and up to 1, is {policy.missing_limit}")
