"""What a queued mail waits for on its way out: its site, lanes, suspensions, limits. Rows in, sentences out."""

from collections.abc import Sequence
from datetime import datetime

import msgspec

from mtad.base.db import Connection, row_values
from mtad.base.sqlfiles import queries
from mtad.ops.answers.queue import LaneState, lanes_of_sites
from mtad.ops.answers.times import local
from mtad.queue.limits import LaneLimit
from mtad.queue.suspensions import Suspension, suspensions

SQL = queries("operate")

# What the query counts up to.
COUNTED = 10_000


class Queued(msgspec.Struct, frozen=True):
    """A queued mail, and how many of its site's go first; None: it is not due, or not waiting."""

    job: int
    site_id: int | None
    site: str | None
    domain: str
    program: str
    due: datetime
    worker: int | None  # who has it
    trouble: str | None  # why DNS has no answer that helps
    ahead: int | None


async def deliveries(conn: Connection, contact_id: int) -> dict[int, list[str]]:
    """What each queued mail of a contact waits for, by job. In the caller's transaction."""
    queued = [Queued(*row_values(row)) for row in await conn.fetch(SQL["queued_of_contact"], contact_id)]
    if not queued:
        return {}
    held = await suspensions(conn)
    lanes = await lanes_of_sites(conn, sorted({mail.site_id for mail in queued if mail.site_id is not None}), held)
    at: datetime = await conn.fetchval("select now()")
    return {mail.job: waits_for(mail, lanes.get(mail.site_id or 0, ()), held, at) for mail in queued}


def waits_for(mail: Queued, lanes: Sequence[LaneState], held: Sequence[Suspension], at: datetime) -> list[str]:
    """Sentences, the most decisive first; none where nothing but its time is waited for."""
    said = [
        _suspended(row) for row in held if (row.kind, row.key) in {("domain", mail.domain), ("campaign", mail.program)}
    ]
    if mail.site is None:
        trouble = f", so far in vain: {_stop(mail.trouble)}" if mail.trouble else "."
        return [*said, f"Where mail for {mail.domain} goes is being looked up{trouble}"]
    for lane in lanes:
        there = f"{mail.site} from {lane.source}" if len(lanes) > 1 else mail.site
        said += [_suspended(row) for row in lane.suspended]
        if lane.closed_until:
            said.append(f"Nothing begins at {there} until {local(lane.closed_until)}: {_stop(lane.closed_why or '')}")
        said += [_limit(row, there) for row in lane.limits]
        if warmup := warmup_over(lane):
            said.append(f"{warmup}.")
    said = list(dict.fromkeys(said))  # what holds a site holds each of its lanes
    if mail.worker:
        said.append(f"A worker has it and sends it with its next session: {_sessions(lanes)}.")
    if mail.ahead is not None and mail.due <= at:
        said.append(_turn(mail.site, mail.ahead, lanes))
    return said


def rate(per_second: float) -> str:
    """As operators write rates: '100/s', '1/min', '20/h'."""
    for unit, seconds in (("s", 1), ("min", 60), ("h", 3600)):
        if per_second * seconds >= 0.9995:
            return f"{per_second * seconds:,.4g}/{unit}"
    return f"{per_second * 86400:,.4g}/d"


def _turn(site: str, ahead: int, lanes: Sequence[LaneState]) -> str:
    """How many go first, and how fast they can."""
    number = f"{ahead:,} mails" if ahead < COUNTED else f"{COUNTED:,} mails or more"
    first = f"Waiting for {site}: " + (
        "it is the next" if not ahead else f"{'1 mail is' if ahead == 1 else f'{number} are'} before it"
    )
    if not lanes:
        return f"{first}."
    allowed = sum(lane.rate for lane in lanes)
    return f"{first}, the rate is {rate(allowed)}, {_sessions(lanes)}."


def _sessions(lanes: Sequence[LaneState]) -> str:
    opened, most = sum(lane.sessions for lane in lanes), sum(lane.session_limit for lane in lanes)
    return f"{opened} of {most} sessions are open"


def warmup_over(lane: LaneState) -> str:
    """That its source has sent what its warm-up allows today, or ''."""
    if lane.warmup_allowed is None or (lane.warmup_used or 0) < lane.warmup_allowed:
        return ""
    day = f"{lane.warmup_allowed:,} mails that its warm-up allows for receivers of {lane.provider!r}"
    return f"The source {lane.source} has used the {day} today"


def _suspended(row: Suspension) -> str:
    until = f"until {local(row.until)}" if row.until else "until it is resumed"
    return f"The {row.kind} {row.key} is suspended {until} by {row.made_by}: {_stop(row.reason)}"


def _limit(row: LaneLimit, site: str) -> str:
    return f"Waiting for {site}: {row.knob} is {row.value} until {local(row.until)} because of {_stop(row.reason)}"


def _stop(text: str) -> str:
    return f"{text.rstrip('.')}."
