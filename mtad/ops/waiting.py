"""What operators do to mail that waits: purge it, send it to another site, wake what was suspended.

The queue is gone through once, in windows of ids, each its own short transaction: delivery
goes on meanwhile, whatever the depth, and an interruption leaves whole windows done. What
a worker has claimed in between is left to it.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial

import msgspec

from engine.programs import next_stop
from engine.service import Catalogue
from mtad.base.address import normal_domain
from mtad.base.config import Config
from mtad.base.db import Connection, Pool, in_transaction
from mtad.base.errors import InputError
from mtad.base.source import sources_of, weights_of
from mtad.base.sqlfiles import queries
from mtad.ops.answers.programs import program_by_name
from mtad.queue import store
from mtad.queue.intake import COMMAND_SLOT

SQL = queries("operate")


class Selection(msgspec.Struct, frozen=True):
    """Jobs of one site, domain or program, or of some streams; None: of any."""

    site: int | None = None
    domain: int | None = None
    program: int | None = None
    streams: tuple[int, ...] | None = None


class Done(msgspec.Struct):
    """How far the queue has been gone through, of how many ids, and how many jobs were changed."""

    passed: int
    total: int
    changed: int = 0
    newest: int = 0  # the last id of all


class Waiting(msgspec.Struct, frozen=True, gc=False):
    """A job that waits."""

    id: int
    program_id: int
    version: int
    node: str


Change = Callable[[Connection, Sequence[Waiting]], Awaitable[int]]
"""Changes these jobs in the caller's transaction; how many."""


async def site_by_name(conn: Connection, name: str) -> tuple[int, str]:
    """Id and name of the site of this name, of this domain, or the only one with it in its name; else InputError."""
    found = [(row[0], row[1]) for row in await conn.fetch(SQL["sites_of_name"], name)]
    if len(found) == 1:
        return found[0]
    if not found:
        raise InputError(f"site {name!r} is unknown; `mtad queue` lists those with mail")
    raise InputError(f"site {name!r} is not the only one: {', '.join(other for _, other in found)}")


async def selection(conn: Connection, config: Config, kind: str, key: str) -> Selection:
    """What `kind` (of suspensions.KINDS) and `key` name; InputError when there is no such thing.

    Of a source, and so of a lane, it is the mail that no other source can send: which one
    sends it is decided when a session is wanted.
    """
    match kind:
        case "site":
            return Selection(site=(await site_by_name(conn, key))[0])
        case "source":
            return Selection(streams=await _only_by(conn, config, key))
        case "lane":
            source, name = lane_names(key)
            site, _ = await site_by_name(conn, name)
            return Selection(site=site, streams=await _only_by(conn, config, source))
        case "campaign":
            return Selection(program=(await program_by_name(conn, key)).id)
        case _:
            domain = await conn.fetchval(SQL["domain_by_name"], domain_name(key))
            if domain is None:
                raise InputError(f"domain {key!r}: no contact has an address there")
            return Selection(domain=domain)


def lane_names(key: str) -> tuple[str, str]:
    """Source and site of a lane's name; InputError when it is none."""
    source, slash, site = key.partition("/")
    if not (source and slash and site):
        raise InputError(f"lane {key!r}: write SOURCE/SITE")
    return source, site


async def require_source(conn: Connection, config: Config, name: str) -> None:
    """InputError when there is no such source, and never was."""
    names = [source.name for source in sources_of(config.source)]
    if name not in names and not await conn.fetchval(SQL["source_is_known"], name):
        raise InputError(f"source {name!r} is unknown; there are: {', '.join(names)}")


async def _only_by(conn: Connection, config: Config, source: str) -> tuple[int, ...]:
    """The streams whose mail this source alone sends."""
    await require_source(conn, config, source)
    pools = [pool for pool, its in weights_of(config.source, config.pool).items() if set(its) == {source}]
    streams = tuple(row[0] for row in await conn.fetch(SQL["streams_of_pools"], pools))
    if not streams:
        raise InputError(
            f"source {source!r}: other sources of its pools can send all its mail; suspend it, and they do"
        )
    return streams


async def hosts_of_domain(conn: Connection, domain: str) -> tuple[str, ...]:
    """Where its mail goes, "host:port" each; InputError when that is not known."""
    hosts = await conn.fetchval(SQL["hosts_of_domain"], domain)
    if not hosts:
        raise InputError(f"domain {domain!r}: where its mail goes is not known; no contact has an address there yet")
    return tuple(host.partition(" ")[2] for host in hosts)


def domain_name(text: str) -> str:
    """A domain as rows have it; InputError when it is none."""
    try:
        return normal_domain(text)
    except ValueError as error:
        raise InputError(f"domain {text!r}: {error}") from None


async def purge(pool: Pool, chosen: Selection, why: str, *, after: int = 0) -> AsyncIterator[Done]:
    """End what waits as skipped, with the reason 'purged' and `why` in the ledger; entries go on to their next step.

    Of jobs with ids above `after` alone.
    """
    catalogue = Catalogue(pool)

    async def end(conn: Connection, jobs: Sequence[Waiting]) -> int:
        stops = [next_stop(catalogue.program(job.program_id, job.version).definition, job.node) for job in jobs]
        nodes, waits = [stop.node for stop in stops], [stop.wait for stop in stops]
        ids = [job.id for job in jobs]
        ((number, sites),) = await conn.fetch(SQL["purge_jobs"], ids, why, nodes, waits, COMMAND_SLOT)
        await store.wake_sites(conn, sorted(sites or ()))
        return int(number)

    async def prepare(jobs: Sequence[Waiting]) -> None:
        await catalogue.need({(job.program_id, job.version) for job in jobs}, (), 0)

    async for done in _windows(pool, chosen, end, prepare, above=after):
        yield done


async def rebind(
    pool: Pool, chosen: Selection, site: int, *, at_once: bool = False, after: int = 0
) -> AsyncIterator[Done]:
    """Have what waits go to `site` instead, `at_once` also what waits after a refusal; of jobs above `after` alone.

    What is queued later goes where its domain says.
    """

    async def move(conn: Connection, jobs: Sequence[Waiting]) -> int:
        moved = await conn.fetch(SQL["rebind_jobs"], [job.id for job in jobs], site, at_once)
        await store.wake_sites(conn, [site])
        return len(moved)

    async for done in _windows(pool, chosen, move, above=after):
        yield done


async def wake(pool: Pool, chosen: Selection) -> AsyncIterator[Done]:
    """Have what the gate put off while it was suspended be due now."""

    async def hasten(conn: Connection, jobs: Sequence[Waiting]) -> int:
        sites = [row[0] for row in await conn.fetch(SQL["wake_suspended"], [job.id for job in jobs])]
        await store.wake_sites(conn, sorted({site for site in sites if site is not None}))
        return len(sites)

    async for done in _windows(pool, chosen, hasten):
        yield done


async def _nothing(_: Sequence[Waiting]) -> None:
    return None


async def _windows(
    pool: Pool,
    chosen: Selection,
    change: Change,
    prepare: Callable[[Sequence[Waiting]], Awaitable[None]] = _nothing,
    *,
    above: int = 0,
) -> AsyncIterator[Done]:
    """Change what waits, window by window, up to the newest job of now."""
    [(first, last)] = await pool.fetch(SQL["ends_of_queue"])
    first = max(first, above + 1)
    done = Done(0, max(last - first + 1, 0), newest=max(last, above))
    yield done
    after = first - 1
    while (end := await pool.fetchval(SQL["window_end"], after, last)) is not None:
        rows = await pool.fetch(
            SQL["waiting_in_window"], after, end, chosen.site, chosen.domain, chosen.program, chosen.streams
        )
        if jobs := [Waiting(*row.values()) for row in rows]:
            await prepare(jobs)
            done.changed += await in_transaction(pool, partial(_changed, change, jobs))
        after = end
        done.passed = after - first + 1
        yield done


async def _changed(change: Change, jobs: Sequence[Waiting], conn: Connection) -> int:
    return await change(conn, jobs)
