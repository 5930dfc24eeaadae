"""What a stream is: who sends, and its policy, which engine/policytable.py reads. Pure."""

import re
from typing import Any, Literal

import msgspec

from engine.policytable import PolicyTable, parse_policy, with_preset
from engine.rules import Points, Policy
from engine.tables import decoded, duration, name
from mtad.base.address import Address, parse_address
from mtad.base.errors import InputError
from mtad.base.tracker import public_url

__all__ = ["Points", "Policy", "StreamDefinition", "mailbox", "parse_stream"]

TrackingMode = Literal["full", "hygiene", "aggregate", "none"]

_MAILBOX = re.compile(r"(?:(?P<display>[^<>]*)<(?P<inside>[^<>]+)>|(?P<bare>[^<>]+))")


class _Stream(msgspec.Struct, frozen=True, kw_only=True):
    """What a stream's file and its versions have alike."""

    name: str
    from_: str = msgspec.field(name="from")
    """The From header: `Display Name <local@domain>` or an address."""
    title: str = ""
    """What people call it, on pages and in the mail that asks to confirm; '' is the name in From."""
    reply_to: str = ""
    imprint: str = ""
    list_id: str = ""
    tracking: TrackingMode
    tracking_url: str = ""
    """Public base of this stream's links, https; '' is the configuration's."""
    language: str = "en"
    forget_after: str = ""
    """Since when nothing was heard of who is Inactive, or since leaving, until the contact is erased; '' is never."""
    pool: str = "default"
    """The [[pool]] of the configuration whose sources send it."""


class StreamDefinition(_Stream, frozen=True, kw_only=True):
    """One version of a stream: sender identity and policy."""

    policy: Policy = Policy()

    @property
    def shown(self) -> str:
        """What people read in place of `name`."""
        return self.title or mailbox("from", self.from_)[0] or self.name

    @property
    def forgets_after(self) -> float:
        """`forget_after` in seconds; 0 is never."""
        return duration("forget_after", self.forget_after, self.policy.day) if self.forget_after else 0.0

    def to_json(self) -> dict[str, Any]:
        return dict(msgspec.to_builtins(self))

    @classmethod
    def from_json(cls, obj: object) -> "StreamDefinition":
        return msgspec.convert(obj, cls)


class _StreamTable(_Stream, frozen=True, kw_only=True, forbid_unknown_fields=True):
    policy: PolicyTable = PolicyTable()


def parse_stream(raw: dict[str, Any]) -> StreamDefinition:
    """The TOML of a stream; InputError in one line for whatever is wrong or contradicts itself."""
    if "tracking" not in raw:
        # No default: measuring people is a decision that somebody has to make.
        raise InputError("tracking: is missing; write full, hygiene, aggregate or none")
    if isinstance(raw.get("policy"), dict):
        raw = {**raw, "policy": with_preset(raw["policy"])}
    table = decoded(raw, _StreamTable)
    _, sender = mailbox("from", table.from_)
    if table.reply_to:
        mailbox("reply_to", table.reply_to)
    if table.tracking_url:
        try:
            public_url(table.tracking_url)
        except ValueError as error:
            raise InputError(f"tracking_url: {error}") from None
    stream = StreamDefinition(
        name=name("name", table.name),
        from_=table.from_,
        title=table.title,
        reply_to=table.reply_to,
        imprint=table.imprint,
        list_id=table.list_id or f"{table.name}.{sender.domain}",
        tracking=table.tracking,
        tracking_url=table.tracking_url.rstrip("/"),
        language=table.language,
        pool=table.pool,
        forget_after=table.forget_after,
        policy=parse_policy(table.policy),
    )
    _refuse_short_memory(stream)
    return stream


def _refuse_short_memory(stream: StreamDefinition) -> None:
    """Nobody is forgotten who would still be won back."""
    least = stream.policy.days_unclear * stream.policy.day + sum(stream.policy.cool_downs)
    if stream.forget_after and stream.forgets_after < least:
        raise InputError(
            f"forget_after: must be {least / stream.policy.day:.0f}d or more, days_unclear and cool_downs together,"
            f" is {stream.forget_after}"
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
