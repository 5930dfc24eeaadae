"""[automation]: what to do with a lane when receivers complain; the rules that mtad ships, and an operator's own."""

import re
import tomllib
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, UnsetType

from mtad.base.section import Section, rate, seconds
from mtad.base.shape import Positive, Sessions

SHIPPED = Path(__file__).with_name("automation.toml")

_THRESHOLD = re.compile(r"(\d+)/(\d*)(s|min|m|h|hr|hour|d|day)")
_PERIODS = {"s": 1, "min": 60, "m": 60, "h": 3600, "hr": 3600, "hour": 3600, "d": 86400, "day": 86400}


Category = Literal[
    "AuthenticationFailed", "BadConfiguration", "BadConnection", "BadDomain", "ContentRelated", "Greylisted",
    "InactiveMailbox", "InvalidRecipient", "InvalidSender", "LoginRequired", "NoAnswerFromHost", "PolicyRelated",
    "ProhibitedAttachment", "ProtocolErrors", "QuotaIssues", "RateLimited", "RecipientRefused", "RelayDenied",
    "RoutingErrors", "SpamBlock", "SpamContent", "TlsRequired", "TooManyRecipients", "TransientFailure", "VirusRelated",
]  # fmt: skip
Meaning = Literal[
    "attachment", "authentication_failed", "bad_address", "bad_content", "bad_reputation", "bad_reverse_dns",
    "blocklisted", "greylisted", "inactive_mailbox", "login_required", "mail_loop", "mailbox_busy", "mailbox_full",
    "no_such_domain", "no_such_user", "not_supported", "policy", "protocol_error", "rate_limited", "recipient_refused",
    "relaying_denied", "routing", "sender_rejected", "server_trouble", "session_refused", "spam_content",
    "tls_required", "too_large", "too_many_recipients", "virus",
]  # fmt: skip
"""What a reply may mean, with category, scope and consequences: mtad/outcome/texts.py."""


class Reply(Section, frozen=True, kw_only=True):
    """Words of a server that mtad does not know, or reads otherwise than you, and what they mean."""

    regex: Annotated[str, msgspec.Meta(min_length=1)]
    """Searched in refusals, codes first, upper and lower case alike; the first row that matches counts."""
    means: Meaning
    """Category, scope and action follow from it; 4xx or 5xx decides between later and never all the same."""


class Rule(Section, frozen=True, kw_only=True):
    """When servers say this so often, do that for so long."""

    name: str
    """Stands in the reason. A rule of the name of a shipped one replaces it."""
    provider: str = ""
    """A table of [shape.provider]; empty: everybody."""
    regex: str = ""
    """Searched in replies, codes first, upper and lower case alike; not in those about one recipient or mailbox."""
    category: tuple[Category, ...] = ()
    """Or: the reply is of one of these categories (mtad/outcome/README.md)."""
    threshold: str = "1/h"
    """N/h, N/min, N/15m …: so many such replies within so long, over all workers."""
    duration: str
    """How long the effect lasts, from the last time that the threshold was reached."""
    suspend: Literal["", "lane", "source", "campaign"] = ""
    """What to suspend: the lane (source and site), the source everywhere, or the campaign everywhere."""
    max_message_rate: str | UnsetType = UNSET
    """Limits to set for the lane; the configured ones hold where they are lower."""
    connection_limit: Sessions | UnsetType = UNSET
    max_deliveries_per_connection: Positive | UnsetType = UNSET


class Automation(Section, frozen=True, kw_only=True):
    """Rules on replies. See `mtad automation rules` for those that are shipped."""

    off: tuple[str, ...] = ()
    """Names of shipped rules that do not apply; "*" is all of them."""
    bounce_share: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.2
    """A campaign of which more than this part bounces within an hour is suspended; 1: none is."""
    bounce_least: Positive = 1000
    """But not before so many of its mails were delivered or bounced within it."""
    rule: tuple[Rule, ...] = ()
    reply: tuple[Reply, ...] = ()


def threshold(text: str) -> tuple[int, float]:
    """'3/h' → 3 within 3600 seconds, '10/15m' → 10 within 900; ValueError otherwise."""
    match = _THRESHOLD.fullmatch(text.strip())
    if not match or int(match[1]) == 0 or match[2] == "0":
        raise ValueError(f"{text!r} is not a threshold; write 3/h, 10/min or 5/15m")
    return int(match[1]), float(int(match[2] or 1) * _PERIODS[match[3]])


@cache
def shipped_rules() -> tuple[Rule, ...]:
    """The rules that mtad knows, automation.toml."""
    return msgspec.convert(tomllib.loads(SHIPPED.read_text(encoding="utf-8")), Automation).rule


def rules_in_force(automation: Automation) -> list[Rule]:
    """An operator's rules, and the shipped ones that he neither replaced nor took away."""
    gone = {*automation.off, *(rule.name for rule in automation.rule)}
    return [*automation.rule, *(rule for rule in shipped_rules() if "*" not in gone and rule.name not in gone)]


def texts(automation: Automation) -> Iterator[tuple[str, Callable[[str], object], str]]:
    """Every text with a grammar: its key, what parses it or raises ValueError, the text."""
    for number, reply in enumerate(automation.reply):
        yield f"automation.reply[{number}].regex", _regex, reply.regex
    for number, rule in enumerate(automation.rule):
        key = f"automation.rule[{number}]"
        yield f"{key}.regex", _regex, rule.regex
        yield f"{key}.threshold", threshold, rule.threshold
        yield f"{key}.duration", seconds, rule.duration
        if isinstance(rule.max_message_rate, str):
            yield f"{key}.max_message_rate", rate, rule.max_message_rate
        yield key, _complete(rule), rule.name


def _regex(text: str) -> None:
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"{text!r} is no regular expression: {error}") from None


def _complete(rule: Rule) -> Callable[[str], object]:
    def check(name: str) -> None:
        if bool(rule.regex) == bool(rule.category):
            raise ValueError(f"{name}: say either regex or category")
        if not rule.suspend and not limits(rule):
            raise ValueError(f"{name}: has no effect; say suspend or a limit")

    return check


def limits(rule: Rule) -> dict[str, str]:
    """The limits that it sets: knob → value."""
    knobs = ("max_message_rate", "connection_limit", "max_deliveries_per_connection")
    return {knob: str(value) for knob in knobs if (value := getattr(rule, knob)) is not UNSET}
