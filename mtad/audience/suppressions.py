"""Who gets no mail, as operators write it: addresses, domains, lists of other systems. Pure."""

from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec

from mtad.audience.columns import normal_name
from mtad.audience.rows import Rejected
from mtad.base.address import normal_domain, parse_address
from mtad.base.errors import InputError

REASONS = ("manual", "hard_bounce", "complained")

Scope = Literal["all", "marketing"]


class Listed(msgspec.Struct, frozen=True):
    """One suppression to be made, without an end."""

    key: str
    scope: Scope
    reason: str
    source: str


def key_of(text: str) -> str:
    """The key of an address, or of a domain with or without its @; ValueError when it is neither."""
    local, at, domain = text.strip().rpartition("@")
    if local:
        return parse_address(text).key
    if at or "." in domain:
        return "@" + normal_domain(domain)
    raise ValueError(f"{text!r} is neither an address nor a domain")


def suppression(text: str, reason: str, source: str, scope: Scope | None = None) -> Listed:
    """One suppression. A complaint is about advertising, everything else about all mail, unless `scope` says.

    A reason of another system is kept in `source` and counts as manual: a list must
    not lose people for the words it uses.
    """
    key = key_of(text)
    word = normal_name(reason)
    if word and word not in REASONS:
        source, word = f"{source}: {reason.strip()}", "manual"
    if scope is None:
        scope = "marketing" if word == "complained" and not key.startswith("@") else "all"
    return Listed(key, scope, word or "manual", source)


def suppressions_of(
    header_line: int, header: Sequence[str], rows: Iterable[tuple[int, Sequence[str]]], source: str
) -> tuple[list[Listed], list[Rejected]]:
    """A file with the columns email and perhaps reason, or without a header one address or domain a line.

    InputError when it is neither.
    """
    names = [normal_name(text) for text in header]
    found: list[Listed] = []
    rejected: list[Rejected] = []
    if "email" in names:
        email = names.index("email")
        reason = names.index("reason") if "reason" in names else None
    elif len(header) == 1:
        email, reason = 0, None
        rows = [(header_line, header), *rows]
    else:
        raise InputError(f"no column 'email' in the header: {', '.join(map(repr, header[:8]))}")
    for line, row in rows:
        text = row[email].strip() if email < len(row) else ""
        try:
            if len(row) != len(header):
                raise ValueError(f"{len(row)} cells, the header has {len(header)}")  # noqa: TRY301 - as for any bad row
            found.append(suppression(text, "" if reason is None else row[reason], source))
        except ValueError as error:
            rejected.append(Rejected(line, text, str(error)))
    return found, rejected
