"""Hits for tests."""

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

from tracker.hits import Hit, Kind, Method
from tracker.tokens import Keys

KEYS = Keys.parse("1:" + "ab" * 32)
BROWSER = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
GMAIL = "Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)"
NOON = datetime(2026, 11, 2, 12, 0, tzinfo=UTC)


def hit(
    kind: Kind = Kind.CLICK,
    *,
    at: datetime | float = 60.0,
    job: int = 1,
    link: int = 1,
    method: Method = Method.GET,
    agent: str = BROWSER,
    network: str | None = "192.0.2.0/24",
    event_id: UUID | None = None,
) -> Hit:
    """A browser's click, a minute after noon unless told otherwise."""
    when = at if isinstance(at, datetime) else NOON + timedelta(seconds=at)
    return Hit(event_id or uuid4(), when, kind, method, agent, network, job_id=job, link_id=link)


def unsubscribe(contact: int, program: int, *, kind: Kind = Kind.UNSUBSCRIBE, at: float = 60.0) -> Hit:
    """One click of RFC 8058, or a look at the page."""
    when = NOON + timedelta(seconds=at)
    method, how = (Method.POST, "one_click") if kind is Kind.UNSUBSCRIBE else (Method.GET, "")
    return Hit(uuid4(), when, kind, method, BROWSER, None, contact_id=contact, program_id=program, how=how)
