"""SQL of the queue, sql/queries/queue.sql: claim, begin, settle, workers, lanes, domains."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from engine.facts import Facts, Reason
from mtad.base.db import Connection, row_values
from mtad.base.source import DEFAULT, OTHER
from mtad.base.sqlfiles import queries

SQL = queries("queue")

# What one claim takes at most. The second is a literal of the query, which takes more of a site
# where few have any.
MOST_SITES = 120
MOST_A_SITE = 64


class Offer(msgspec.Struct, frozen=True, gc=False):
    """A mail that is composed, signed and held by an idle session, and the versions of its verdict."""

    facts: Facts
    lane_id: int
    yields: bool = False  # a tenth of the lane's tokens is not for this one
    counts: bool = False  # for caps


class Trip(msgspec.Struct, frozen=True, gc=False):
    """How an attempt went out, for those who are told of it; of one without a session most is ''."""

    source: str
    host: str  # the server, "name [address]:port"
    sender: str = ""  # the return path
    size: int = 0  # of the signed message, octets
    tls: str = ""  # its version, '' in clear
    cipher: str = ""
    subject: tuple[str, ...] = ()  # of the server's certificate, "CN=mx.example.net"; none where nobody verified it
    site: str = ""  # the name of the site
    pool: str = ""
    local: str = ""  # the address of ours that it left by
    session: int = 0  # as in `mtad trace`; 0: none


class Ended(msgspec.Struct, frozen=True, gc=False):
    """A job that is over."""

    facts: Facts
    outcome: str  # delivered, bounced, expired, skipped, in_doubt
    reason: str = ""
    scope: str | None = None
    reply: str | None = None
    attempts: int = 0
    dot_at: datetime | None = None
    ended: datetime | None = None  # None: now
    next_node: str | None = None  # where its entry goes on
    next_wait: float = 0.0  # seconds
    why: str | None = None  # its entry ends
    suppress: bool = False  # the address is gone: never mail it again
    redirect: str = ""  # the program that may take the contact over
    trip: Trip | None = None  # of the last attempt of this worker


class Returned(msgspec.Struct, frozen=True, gc=False):
    """A job that goes back to the queue."""

    facts: Facts
    delay: float  # seconds
    reason: str
    attempts: int
    doubt: bool = False
    trip: Trip | None = None  # None: it was not tried
    category: str = ""  # of a refusal
    scope: str | None = None


# Stream, outcome, reason, scope, attempts, state at the send, next node, wait, why the entry ends, source, tracking.
_Ending = tuple[int, str, str, str | None, int, str | None, str | None, float, str | None, str | None, str | None]


class Released(msgspec.Struct, frozen=True, gc=False):
    """A job that goes back untouched: nothing of it was sent."""

    facts: Facts


async def claim(
    conn: Connection, worker: int, shut: Sequence[int] = (), full: Sequence[int] = (), *, sites: int = MOST_SITES
) -> list[Facts]:
    """Lease due jobs that no other worker holds: none of sites that are shut, transactional ones of all others.

    Other jobs only of up to `sites` sites, and of none that are full.
    """
    return [Facts(*row_values(row)) for row in await conn.fetch(SQL["claim"], worker, shut, full, sites)]


async def begin(conn: Connection, worker: int, offers: Sequence[Offer]) -> dict[int, float | None]:
    """By job: 0.0 go; seconds until there is a token; None where the verdict is stale.

    Of offers to one contact that count for caps only the first is asked for: the others' verdicts do not know of it.
    """
    if not offers:
        return {}
    # An older epoch is over, for it only rises.
    epoch = max([o.facts.epoch for o in offers])
    asked = _one_a_contact([o for o in offers if o.facts.epoch == epoch])
    kinds: dict[tuple[int, int, bool, bool], int] = {}
    ((going, waiting, waits),) = await conn.fetch(
        SQL["begin"],
        worker,
        [o.facts.job_id for o in asked],
        [o.facts.contact_id for o in asked],
        [o.facts.gate_version for o in asked],
        [o.lane_id for o in asked],
        epoch,
        [kinds.setdefault(_kind(o), len(kinds) + 1) for o in asked],
        *zip(*kinds, strict=True),
    )
    stale: dict[int, float | None] = dict.fromkeys([o.facts.job_id for o in offers])
    return stale | dict.fromkeys(going, 0.0) | dict(zip(waiting, waits, strict=True))


def _kind(offer: Offer) -> tuple[int, int, bool, bool]:
    """What most offers of a batch have in common: program, fence, and how they take tokens and slots."""
    return offer.facts.program_id, offer.facts.program_fence, offer.yields, offer.counts


def _one_a_contact(offers: Sequence[Offer]) -> list[Offer]:
    first: dict[int, Offer] = {}
    return [o for o in offers if not o.counts or first.setdefault(o.facts.contact_id, o) is o]


async def wake_proven(conn: Connection) -> int:
    """Have mails in doubt claimed that a person has read; how many."""
    return len(await conn.fetch(SQL["wake_proven"]))


async def settle_ended(
    conn: Connection, worker: int, slot: int, jobs: Sequence[Ended], *, flush: bool = True
) -> set[int]:
    """Write endings down, of each job one; the ids that were still this worker's to settle.

    Without `flush` they are durable when the next commit on this connection is. Where they give
    somebody a slot of a cap back, their mail that waits for one is due with the same commit.
    """
    if not jobs:
        return set()
    jobs = list({job.facts.job_id: job for job in jobs}.values())
    endings: dict[_Ending, int] = {}
    numbers = [endings.setdefault(_ending(job), len(endings) + 1) for job in jobs]
    ((settled, sites),) = await conn.fetch(
        SQL["settle_ended"],
        worker,
        slot,
        not flush,
        [j.facts.job_id for j in jobs],
        [j.facts.contact_id for j in jobs],
        [j.facts.entry_id for j in jobs],
        [j.reply for j in jobs],
        [j.dot_at and j.dot_at.timestamp() for j in jobs],
        [j.ended and j.ended.timestamp() for j in jobs],
        numbers,
        *zip(*endings, strict=True),
    )
    if sites:
        await wake_sites(conn, sorted(sites))
    return set(settled)


def _ending(job: Ended) -> _Ending:
    """What most jobs of a batch have in common."""
    facts = job.facts
    return (
        facts.stream_id, job.outcome, job.reason, job.scope, job.attempts, facts.state, job.next_node, job.next_wait,
        job.why, job.trip.source if job.trip else None, facts.tracking,
    )  # fmt: skip


async def settle_returned(conn: Connection, worker: int, slot: int, jobs: Sequence[Returned]) -> set[int]:
    """Put jobs back after an attempt or a deferral; the ids that were still this worker's."""
    capped = [j.facts if j.reason.startswith(f"{Reason.CAP}:") else None for j in jobs]
    rows = await conn.fetch(
        SQL["settle_returned"],
        worker,
        slot,
        [j.facts.job_id for j in jobs],
        [j.delay for j in jobs],
        [j.reason for j in jobs],
        [j.attempts for j in jobs],
        [j.doubt for j in jobs],
        [facts and facts.contact_id for facts in capped],
        [facts and facts.gate_version for facts in capped],
    )
    return {row[0] for row in rows}


async def release(conn: Connection, worker: int, jobs: Sequence[Released]) -> set[int]:
    """Give jobs back; the ids that were still this worker's."""
    rows = await conn.fetch(SQL["release"], worker, [j.facts.job_id for j in jobs])
    return {row[0] for row in rows}


async def release_unknown(conn: Connection, worker: int, known: Sequence[int]) -> int:
    """Give back what this worker claimed without hearing of it: all but the jobs it knows; how many."""
    return len(await conn.fetch(SQL["release_unknown"], worker, known))


async def wake_sites(conn: Connection, sites: Sequence[int]) -> None:
    """Hint that something may be due at these sites."""
    await conn.execute(SQL["wake_sites"], sites)


async def refresh_hints(conn: Connection) -> None:
    """Recompute every site's hint."""
    await conn.execute(SQL["refresh_hints"])


async def register_worker(conn: Connection, host: str, slot: int, pid: int, *, hears: bool = True) -> int:
    """A new worker id; it is alive from now on. `hears`: it runs a tracker, whose journal others wait for."""
    return int(await conn.fetchval(SQL["register_worker"], host, slot, pid, hears))


async def former_workers(conn: Connection, host: str, slot: int, worker: int) -> list[int]:
    """Workers that held this slot before; the supervisor starts a slot anew only after a death."""
    return [row[0] for row in await conn.fetch(SQL["former_workers"], host, slot, worker)]


async def beat(conn: Connection, worker: int) -> bool:
    """Say that this worker lives; False when it was declared dead."""
    return await conn.fetchval(SQL["beat"], worker) is not None


async def silent_workers(conn: Connection, seconds: float) -> list[int]:
    """Workers that have not said for `seconds` that they live, and the dead who hold jobs."""
    return [row[0] for row in await conn.fetch(SQL["silent_workers"], seconds)]


async def bury(conn: Connection, workers: Sequence[int], in_doubt_delays: Sequence[float]) -> tuple[int, int]:
    """Declare workers dead and free their jobs; how many were freed, and in doubt. Delays in seconds by class."""
    await conn.execute(SQL["bury_workers"], workers)
    await conn.execute(SQL["drop_sessions"], workers)
    rows = await conn.fetch(SQL["free_jobs"], workers, in_doubt_delays)
    in_doubt = sum(row[1] for row in rows)
    return len(rows) - in_doubt, in_doubt


async def end_leases(conn: Connection) -> int:
    """Forget claims of which no worker holds anything any more; how many rows of them."""
    return len(await conn.fetch(SQL["end_leases"]))


class Lane(msgspec.Struct, frozen=True):
    """Where one site's mail goes from one source, and how much of it may."""

    id: int
    site_id: int
    name: str  # of the site
    hosts: tuple[str, ...]  # "preference host:port"; empty: the domains take no mail
    sessions: int  # limit over all workers
    source: str = DEFAULT
    provider: str = OTHER  # who runs the site


class Limit(msgspec.Struct, frozen=True):
    """How much mail may go to a site from a source, over all workers."""

    site_id: int
    rate: float  # messages a second
    burst: float
    sessions: int
    source: str = DEFAULT
    provider: str = OTHER


class Wish(msgspec.Struct, frozen=True, gc=False):
    """How many sessions of a lane a worker wants to hold."""

    lane_id: int
    wanted: int
    running: int  # it cannot hold fewer
    growing: bool = False  # beyond its fair share, where others leave some


class Grant(msgspec.Struct, frozen=True, gc=False):
    """How many sessions of a lane a worker may hold."""

    sessions: int
    share: int  # its fair one
    others_lack: bool  # another has had less than its share lately, and no more


async def site_hosts(conn: Connection, sites: Sequence[int]) -> dict[int, tuple[str, list[str]]]:
    """Names and hosts of sites: an MX set, or the host and port of a route."""
    return {row[0]: (row[1], row[2]) for row in await conn.fetch(SQL["site_hosts"], sites)}


async def lanes_of(conn: Connection, limits: Sequence[Limit]) -> list[Lane]:
    """The lanes to sites, made or brought up to date with their limits; those of a site together."""
    columns = ([getattr(limit, name) for limit in limits] for name in Limit.__struct_fields__)
    rows = await conn.fetch(SQL["lanes_of"], *columns)
    return [Lane(row[0], row[1], row[2], tuple(row[3]), *row_values(row)[4:]) for row in rows]


async def hold_sessions(conn: Connection, worker: int, wishes: Sequence[Wish]) -> dict[int, Grant]:
    """By lane: how many sessions this worker may hold now. At most one wish a lane."""
    columns = ([getattr(wish, name) for wish in wishes] for name in Wish.__struct_fields__)
    return {row[0]: Grant(row[1], row[2], row[3]) for row in await conn.fetch(SQL["hold_sessions"], worker, *columns)}


async def leave_lanes(conn: Connection, worker: int, lanes: Sequence[int]) -> None:
    """This worker holds no session of these any more."""
    await conn.execute(SQL["leave_lanes"], worker, lanes)


async def close_lane(conn: Connection, lane_id: int, seconds: float, why: str) -> None:
    """Nothing begins on this lane for so long."""
    await conn.execute(SQL["close_lane"], lane_id, seconds, why)


async def site_of_domain(conn: Connection, domain: str) -> tuple[str, list[str]] | None:
    """Name and hosts of the site that a domain was resolved to; None where it was not yet."""
    row = await conn.fetchrow(SQL["site_of_domain"], domain)
    return (row[0], row[1]) if row else None


class Due(msgspec.Struct, frozen=True):
    """A domain that has to be asked for."""

    id: int
    name: str
    known: bool  # it has a site
    absent: float | None  # for so many seconds DNS has said each time that it does not exist
    policy: Mapping[str, Any] | None  # MTA-STS, as a Label had it


async def domains_to_resolve(conn: Connection) -> list[Due]:
    """Up to 200 domains that have to be asked for; each is handed out once a minute."""
    return [Due(*row) for row in await conn.fetch(SQL["domains_to_resolve"])]


async def sites_by_name(conn: Connection, hosts: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """The ids of sites by name, made or brought up to date with their hosts."""
    return {row[0]: row[1] for row in await conn.fetch(SQL["sites_by_name"], hosts)}


class Label(msgspec.Struct, frozen=True):
    """What was found out about a domain."""

    domain_id: int
    site_id: int | None  # None: as before
    again: float  # seconds until it is asked for again
    trouble: str | None = None  # why there was no answer that helps
    absent: bool | None = None  # whether DNS says that it does not exist; None: it says nothing
    policy: Mapping[str, Any] | None = None  # what the domain asks of whoever delivers (MTA-STS), if anything


async def label_domains(conn: Connection, labels: Sequence[Label]) -> int:
    """Write down where domains' mail goes; how many have their first site now. Mail of those that moved will follow."""
    columns = ([getattr(label, name) for label in labels] for name in Label.__struct_fields__)
    return sum(row[0] for row in await conn.fetch(SQL["label_domains"], *columns))


class Move(msgspec.Struct, frozen=True):
    """A domain that has left a site where mail may wait for it."""

    domain_id: int
    from_site: int
    to_site: int
    moved: datetime
    age: float  # seconds since then


async def domain_moves(conn: Connection) -> list[Move]:
    """Up to 10,000 domains whose mail has to follow them."""
    return [Move(*row) for row in await conn.fetch(SQL["domain_moves"])]


async def move_jobs(conn: Connection, move: Move, after: int) -> tuple[int | None, int, list[int]]:
    """Mail to the 5,000 contacts behind `after`: the last of them, how many jobs went, and those that workers hold."""
    row = await conn.fetchrow(SQL["move_jobs"], move.domain_id, move.from_site, move.to_site, after)
    assert row is not None
    return row[0], row[1], row[2]


async def move_held(conn: Connection, move: Move, jobs: Sequence[int]) -> tuple[list[int], int]:
    """Of jobs that workers held: those that they hold still, and how many went."""
    rows = await conn.fetch(SQL["move_held"], jobs, move.from_site, move.to_site)
    held = [row[0] for row in rows if not row[1]]
    return held, len(rows) - len(held)


async def end_move(conn: Connection, move: Move) -> None:
    """All mail of the domain has followed."""
    await conn.execute(SQL["end_move"], move.domain_id, move.from_site, move.moved)


async def label_jobs(conn: Connection) -> list[int]:
    """Give up to 10,000 waiting jobs the site of their domain; the site of each."""
    return [row[0] for row in await conn.fetch(SQL["label_jobs"])]


async def label_overdue(conn: Connection, site: str) -> int:
    """Give up to 10,000 waiting jobs that are too late and have no site one of this name; how many."""
    return len(await conn.fetch(SQL["label_overdue"], site))
