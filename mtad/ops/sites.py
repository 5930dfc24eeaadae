"""Which site a domain belongs to: resolved ahead of the queue, kept fresh, never on its path."""

import asyncio
from collections.abc import Sequence

import msgspec

from mtad.base.address import normal_domain
from mtad.base.config import Config
from mtad.base.db import Connection, Pool, in_transaction
from mtad.base.sqlfiles import queries
from mtad.ops.locator import Barred, Located, Locator
from mtad.queue import store
from mtad.queue.store import Due, Label
from mtad.wire.dns import Unresolved
from mtad.wire.policy import Policy
from mtad.wire.resolver import NoMail

SQL = queries("queue")

# A domain is asked for again when the answer is no longer true, within these: below, a
# million domains would cost a core; above, a move would go unnoticed for long.
LEAST_FRESH, FRESH = 900.0, 3600.0

# And so where there was no answer that helps: mail waits for the first site of a domain;
# one that has a site keeps it.
AGAIN, AGAIN_KNOWN = 60.0, 300.0

# That a domain does not exist is believed when DNS has said so each time for an hour: a
# resolver or a registry that is out of order says it too, and all its people would be
# suppressed.
ABSENT_AGAIN, ABSENT_FOR = 1200.0, 3600.0

# The site of mail that could not be told where to go until it was too late.
NOWHERE = "nowhere"

# Domains in hand, and questions under way at once.
IN_HAND, ABREAST = 400, 200

# Answers are written down, and new domains looked for, so often while questions are under way.
WRITTEN_EVERY = 0.1
LABELLED_EVERY = 1.0

Answer = Located | NoMail | Unresolved  # the last: why there is none


async def resolve_domains(pool: Pool, locator: Locator) -> int:
    """Label all domains that are due, and the jobs that waited for it; how many domains were asked for.

    One without an answer keeps its site, or its mail waits: DNS trouble is never the
    recipient's. Slow ones hold up nobody: others are asked for meanwhile.
    """
    gate = asyncio.Semaphore(ABREAST)

    async def ask(due: Due) -> tuple[Due, Answer]:
        async with gate:
            try:
                return due, await locator.locate(due.name, _policy(due))
            except Unresolved as error:
                return due, error

    asked = firsts = 0
    labelled = asyncio.get_running_loop().time()
    asking: set[asyncio.Task[tuple[Due, Answer]]] = set()
    try:
        while True:
            found = await _due(pool) if len(asking) <= IN_HAND - 200 else []
            asked += len(found)
            asking |= {asyncio.create_task(ask(due)) for due in found}
            if not asking:
                break
            done, asking = await asyncio.wait(asking, timeout=WRITTEN_EVERY)
            if done:
                firsts += await _write(pool, [task.result() for task in done])
            now = asyncio.get_running_loop().time()
            if firsts and now > labelled + LABELLED_EVERY:
                await label_jobs(pool)
                firsts, labelled = 0, now
    finally:
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
    if firsts:
        await label_jobs(pool)
    return asked


async def follow_configuration(pool: Pool, config: Config) -> int:
    """Have domains asked for again whose [[route]] or [shape.domain] came, went or changed; always 0.

    Not as they were at the last start, but against what the database says: whoever starts
    has no memory of the configuration before.
    """
    sites = {route.domain if route.domain == "*" else normal_domain(route.domain): route.site for route in config.route}
    elsewhere = sites.pop("*", None)
    async with pool.acquire() as conn:
        await conn.execute(SQL["ask_again"], list(sites), list(sites.values()), elsewhere, list(config.shape.domain))
    return 0  # a sweep that moved something would run again before they are resolved


async def _due(pool: Pool) -> list[Due]:
    async with pool.acquire() as conn:
        return await store.domains_to_resolve(conn)


async def _write(pool: Pool, answers: Sequence[tuple[Due, Answer]]) -> int:
    """How many of the domains have their first site now."""
    hosts: dict[str, list[str]] = {}
    for due, answer in answers:
        name, found = _site(due, answer)
        if name:
            hosts[name] = found

    async def write(conn: Connection) -> int:
        ids = await store.sites_by_name(conn, hosts)
        return await store.label_domains(conn, [_label(due, answer, ids) for due, answer in answers])

    return await in_transaction(pool, write)


def _policy(due: Due) -> Policy | None:
    return msgspec.convert(due.policy, Policy) if due.policy else None


def _site(due: Due, answer: Answer) -> tuple[str, list[str]]:
    """Name and hosts of the site that a domain belongs to now; "": as before.

    One that takes no mail gets a site without hosts, where the pipeline ends its mail.
    """
    match answer:
        case Located(name, hosts):
            return name, hosts
        case NoMail(why) if answer.refuses or (answer.absent and (due.absent or 0) >= ABSENT_FOR):
            return f"{due.name}: {why}", []
        case _:
            return "", []


def _label(due: Due, answer: Answer, ids: dict[str, int]) -> Label:
    site = ids.get(_site(due, answer)[0])
    match answer:
        case Located():
            again = min(max(answer.ttl, LEAST_FRESH), FRESH) if answer.ttl else FRESH
            policy = msgspec.to_builtins(answer.policy)
            return Label(due.id, site, again, absent=False, policy=policy)
        case NoMail(why):
            again = FRESH if site else ABSENT_AGAIN if answer.absent else AGAIN_KNOWN
            return Label(due.id, site, again, why, absent=answer.absent, policy=due.policy)
        case Unresolved():
            # A policy that bars all hosts counts also when nobody lets us ask for it any more.
            policy = msgspec.to_builtins(answer.policy) if isinstance(answer, Barred) else due.policy
            return Label(due.id, None, AGAIN_KNOWN if due.known else AGAIN, str(answer), policy=policy)


async def label_jobs(pool: Pool) -> int:
    """Give jobs that were made before their domain was resolved its site; how many.

    Those for which that comes too late get the site NOWHERE, where the gate ends them.
    """

    async def write(conn: Connection) -> int:
        overdue = await store.label_overdue(conn, NOWHERE)
        labelled = await store.label_jobs(conn)
        await store.wake_sites(conn, sorted(set(labelled)))
        return len(labelled) + overdue

    return await in_transaction(pool, write)
