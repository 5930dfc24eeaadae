"""Which site a domain belongs to: resolved ahead of the queue, kept fresh, never on its path."""

import asyncio

from mtad.base.config import Config
from mtad.base.db import Connection, Pool, in_transaction
from mtad.queue import store
from mtad.shape.layers import site_name
from mtad.wire.dns import Unresolved
from mtad.wire.resolver import NoMail, Resolver, Site

# A domain is asked for again after this; one without an answer sooner.
FRESH = 3600.0
AGAIN = 60.0

# The site of mail that could not be told where to go until it was too late.
NOWHERE = "nowhere"

# Questions under way at once.
ABREAST = 50


async def resolve_domains(pool: Pool, resolver: Resolver, config: Config) -> int:
    """Label up to 200 domains, and the jobs that waited for it; how many domains were asked for.

    A domain that takes no mail gets a site without hosts, where the pipeline ends its
    mail. One without an answer keeps its site, or its mail waits: DNS trouble is never
    the recipient's.
    """
    async with pool.acquire() as conn:
        asked = await store.domains_to_resolve(conn)
    if not asked:
        return 0
    gate = asyncio.Semaphore(ABREAST)

    async def resolve(domain: str) -> Site | NoMail | None:
        async with gate:
            try:
                return await resolver.site_of(domain, config)
            except Unresolved:
                return None

    answers = await asyncio.gather(*(resolve(name) for _, name in asked))
    found: dict[str, list[str]] = {}
    labels: list[tuple[int, str]] = []
    later: list[tuple[int, float]] = []
    for (domain_id, name), answer in zip(asked, answers, strict=True):
        match answer:
            case Site(site, hosts):
                site = site_name(config.shape, name, site)
                found[site] = hosts
                labels.append((domain_id, site))
            case NoMail(why) if answer.absent or answer.refuses:
                site = f"{name}: {why}"
                found[site] = []
                labels.append((domain_id, site))
            case _:
                later.append((domain_id, AGAIN))

    async def write(conn: Connection) -> None:
        ids = await store.sites_by_name(conn, found)
        await store.label_domains(conn, [(domain, ids[site], FRESH) for domain, site in labels])
        await store.postpone_domains(conn, later)

    await in_transaction(pool, write)
    if labels:
        await label_jobs(pool)
    return len(asked)


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
