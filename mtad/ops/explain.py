"""`mtad config explain`: the limits of a domain's mail, and which table says so."""

import asyncio
from collections.abc import Sequence

import msgspec

from mtad.base.config import Config
from mtad.base.db import AWAY, Pool
from mtad.ops.locator import Locator
from mtad.queue import store
from mtad.shape.layers import Ceiling, Setting, Shaper, bare_site, ceiling, is_secured, site_name
from mtad.wire.dns import Unresolved
from mtad.wire.resolver import NoMail

# Somebody waits for the answer; whoever has no DNS here is told what is known without.
PATIENCE = 5.0


class Explained(msgspec.Struct, frozen=True):
    """Where a domain's mail goes and what is in force there."""

    domain: str
    source: str
    site: str  # "" where nobody knows
    hosts: Sequence[str]  # "10 mx1.example.com:25"
    found: str  # how: route, database, DNS; or why not
    provider: str | None
    settings: list[Setting]
    ceiling: Ceiling  # what they leave of a steady flow from this source


async def explain(config: Config, domain: str, source: str, *, pool: Pool | None, locator: Locator) -> Explained:
    """What mtad would do with a domain (ASCII, lower case), asking routes, the database (if any), then DNS.

    Without an answer the site is "" and the settings are those of an unknown provider.
    """
    site, hosts, found = await _site(config, domain, pool, locator)
    shaper = Shaper(config.shape, config.routes)
    name = site_name(config.shape, domain, bare_site(site), secured=is_secured(site))
    settings = shaper.settings(name, hosts, source)
    most = ceiling(shaper.shape(name, hosts, source))
    return Explained(domain, source, name if hosts else "", hosts, found, shaper.provider(hosts), settings, most)


async def _site(config: Config, domain: str, pool: Pool | None, locator: Locator) -> tuple[str, Sequence[str], str]:
    if route := config.route_for(domain):
        return route.site, [f"0 {route.site}"], "route"
    if pool is not None and (known := await _known(pool, domain)):
        return *known, "database"
    try:
        async with asyncio.timeout(PATIENCE):
            answer = await locator.locate(domain)
    except Unresolved as error:
        return "", (), f"unknown: {error}"
    except TimeoutError:
        return "", (), f"unknown: no answer within {PATIENCE:g} s from DNS or the server of its policy"
    match answer:
        case NoMail(why):
            return "", (), f"none: {why}"
        case _:
            return answer.name, answer.hosts, "DNS"


async def _known(pool: Pool, domain: str) -> tuple[str, list[str]] | None:
    try:
        async with pool.acquire() as conn:
            return await store.site_of_domain(conn, domain)
    except AWAY:
        return None
