"""The site that a domain's mail goes to, as it is now: route or DNS, and what the domain's policy leaves of it."""

from typing import Self

import msgspec

from mtad.base.clock import Clock
from mtad.base.config import Config
from mtad.shape.layers import Shaper, site_name
from mtad.wire.dns import Unresolved
from mtad.wire.mtasts import Policies
from mtad.wire.policy import Policy
from mtad.wire.resolver import NoMail, Resolver


class Located(msgspec.Struct, frozen=True):
    """A domain's site: its name in the database, its hosts ("10 mx1.example.com:25")."""

    name: str
    hosts: list[str]
    ttl: float  # seconds for which that is so; 0 for a route
    policy: Policy | None = None


class Barred(Unresolved):
    """The policy of a domain allows none of its hosts; it is to be kept like any other."""

    def __init__(self, why: str, policy: Policy) -> None:
        super().__init__(why)
        self.policy = policy


class Locator:
    """Asks `resolver`, and `policies` where the configuration wants them heard."""

    def __init__(self, config: Config, resolver: Resolver, policies: Policies) -> None:
        self._config = config
        self._resolver = resolver
        self._policies = policies
        self._shaper = Shaper(config.shape, config.routes)

    @classmethod
    def from_config(cls, config: Config, resolver: Resolver, clock: Clock) -> Self:
        """As the configuration says."""
        return cls(config, resolver, Policies(resolver, clock))

    async def locate(self, domain: str, known: Policy | None = None) -> Located | NoMail:
        """Where mail for a domain (ASCII, lower case) goes; `known` is its last policy. Raises Unresolved, Barred."""
        shaping = self._config.shape
        site = await self._resolver.site_of(domain, self._config)
        if isinstance(site, NoMail):
            return site
        name = site_name(shaping, domain, site.name)
        if self._config.route_for(domain) or not self._shaper.shape(name, site.hosts, "").enable_mta_sts:
            return Located(name, site.hosts, site.ttl)
        policy = await self._policies.policy_of(domain, known)
        if policy is None or not policy.binds:
            return Located(name, site.hosts, site.ttl, policy)
        allowed = site.only(policy.allows)
        if allowed is None:
            raise Barred(f"the MTA-STS policy of {domain} allows none of its hosts: {site.name}", policy)
        return Located(site_name(shaping, domain, allowed.name, secured=True), allowed.hosts, site.ttl, policy)
