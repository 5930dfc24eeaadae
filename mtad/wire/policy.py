"""MTA-STS policies, RFC 8461: which hosts a domain's mail may go to, and that it goes encrypted. Pure."""

import re
from collections.abc import Sequence

import msgspec

# RFC 8461 section 3.2.
MOST_OCTETS = 64 * 1024
MOST_AGE = 31_557_600

# A domain has a few; what is beyond them only costs us.
MOST_HOSTS = 100

_RECORD = re.compile(r"v=STSv1[ \t]*;(.*)", re.DOTALL)
_ID = re.compile(r"[A-Za-z0-9]{1,32}")
_HOST = re.compile(r"(?:\*\.)?[a-z0-9_-]+(?:\.[a-z0-9_-]+)*")


class Policy(msgspec.Struct, frozen=True):
    """What a domain asks for; as it is kept in the database."""

    id: str
    """Of the record in DNS by which it was found: another one says that there is another policy."""
    mode: str
    """enforce, testing or none."""
    mx: tuple[str, ...]
    """Names of hosts, lower case; `*.` stands for one label."""
    max_age: int
    """Seconds for which it counts."""
    fetched: float
    """Seconds since 1970."""

    @property
    def until(self) -> float:
        """When it ends, seconds since 1970."""
        return self.fetched + self.max_age

    @property
    def binds(self) -> bool:
        """Whether mail must not go otherwise; `testing` asks for reports only."""
        return self.mode == "enforce"

    def allows(self, host: str) -> bool:
        """Whether mail may go to a host (RFC 8461 section 4.1)."""
        host = host.lower()
        return any(host == mx or (mx[:2] == "*." and host.partition(".")[2] == mx[2:]) for mx in self.mx)


def policy_id(records: Sequence[str]) -> str | None:
    """The id in the TXT records of _mta-sts.DOMAIN; None where they name no policy (RFC 8461 section 3.1)."""
    found = [match[1] for text in records if (match := _RECORD.fullmatch(text))]
    if len(found) != 1:
        return None
    for field in found[0].split(";"):
        key, _, value = field.strip().partition("=")
        if key == "id":
            return value if _ID.fullmatch(value) else None
    return None


def parsed(text: str, *, id: str, now: float) -> Policy:  # noqa: A002 - the RFC's name
    """The policy in the text of /.well-known/mta-sts.txt; ValueError says what is wrong with it."""
    fields: dict[str, str] = {}
    hosts: list[str] = []
    for line in text.splitlines():
        key, colon, value = (part.strip() for part in line.partition(":"))
        if key == "mx" and colon:
            hosts.append(value.lower().rstrip("."))
        elif colon:
            fields.setdefault(key, value)  # of two the first counts
    if fields.get("version") != "STSv1":
        raise ValueError("version: is not STSv1")
    mode, age = fields.get("mode", ""), fields.get("max_age", "")
    if mode not in ("enforce", "testing", "none"):
        raise ValueError(f"mode: {mode[:40]!r} is not enforce, testing or none")
    if not re.fullmatch(r"[0-9]{1,10}", age):
        raise ValueError(f"max_age: {age[:40]!r} is no number of seconds")
    if mode != "none" and not hosts:
        raise ValueError("mx: there is none")
    if wrong := [host for host in hosts if not _HOST.fullmatch(host)]:
        raise ValueError(f"mx: {wrong[0][:80]!r} is not the name of a host")
    if len(hosts) > MOST_HOSTS:
        raise ValueError(f"mx: there are more than {MOST_HOSTS}")
    return Policy(id, mode, tuple(hosts), min(int(age), MOST_AGE), now)
