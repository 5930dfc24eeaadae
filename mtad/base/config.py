"""One TOML file, decoded into frozen structs. Unknown keys are refused.

Every field says its unit and its default here, and mtad/base/README.md shows
the same; a test compares the two. Secrets are paths to files, never values:
relative to the folder of the configuration file, or ``$CREDENTIALS_DIRECTORY``.
"""

import os
import re
import tomllib
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from mtad.base import automation, retry, source, tracker
from mtad.base.address import normal_domain
from mtad.base.automation import Automation
from mtad.base.endpoint import host_and_port, host_port, name_server
from mtad.base.errors import ConfigError
from mtad.base.retry import Retries
from mtad.base.section import Section, decoded, rate, seconds
from mtad.base.shape import Layer, Shape, Shaping, known_providers, sources_named, texts
from mtad.base.source import Source, SourcePool
from mtad.base.tracker import Tracker

__all__ = [
    "Automation", "Config", "Database", "Dkim", "Dns", "Metrics", "Mta", "Privacy", "Retries", "Route", "Shape",
    "Shaping", "Tracker", "load_config", "rate", "seconds",
]  # fmt: skip

SELECTOR = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*")


class Database(Section, frozen=True, kw_only=True):
    url: str = "embedded"
    """`embedded`: our own Postgres in the state folder; or postgresql://… of a server, 15 or newer."""
    connections: Annotated[int, msgspec.Meta(ge=3, le=64)] = 8
    """Connections of one worker."""


class Mta(Section, frozen=True, kw_only=True):
    hostname: str = ""
    """What we say in EHLO; its address must resolve to us and back. Default: mail.<domain>."""
    return_path_domain: str = ""
    """Where bounces go; its MX must be us. Default: bounce.<domain>."""
    workers: Annotated[int, msgspec.Meta(ge=0, le=256)] = 0
    """Processes; 0 is one a core."""
    drain: str = "30s"
    """After SIGTERM: how long open transactions may take until they are left in doubt."""


class Privacy(Section, frozen=True, kw_only=True):
    """How long what is kept; mtad/ops/README.md has the table of all data."""

    suppression_key: str = "keys/suppression.key"
    """File with 64 hex digits: what is left of erased addresses can be compared with it alone. Back it up."""
    hits: str = "90d"
    """Addresses and agents of hits; the verdict stays with the event."""
    events: str = "760d"
    """Events and counts of hits, by calendar month: 25 months."""
    rejects: str = "30d"
    """Files of what imports did not take, and segments of the journal that were put aside."""
    proofs: str = "1095d"
    """Proofs of consent, after the consent ended: three years."""

    @property
    def terms(self) -> dict[str, timedelta]:
        """Each term by its key."""
        return {key: timedelta(seconds=seconds(getattr(self, key))) for key in PRIVACY_TERMS}


PRIVACY_TERMS = ("hits", "events", "rejects", "proofs")


class Dkim(Section, frozen=True, kw_only=True):
    domain: str
    """The d= of the signature: equal to, or a parent of, the domain in From."""
    selector: str
    """The s= of the signature."""
    key: str
    """File with the private key, PEM: RSA of 2048 to 4096 bits, or Ed25519. One of each kind signs."""
    streams: tuple[str, ...] = ()
    """Streams for which it signs instead of the keys that name none."""
    starts: date | None = None
    """Signs from this day on, 0:00 UTC, in place of the older key of its kind. None: at once."""
    source: str = ""
    """Signs only what leaves through this source, there instead of those of the domain that name none. Empty: all."""


class Route(Section, frozen=True, kw_only=True):
    """Send a domain to a fixed host, for relays and tests. `*` is every domain without a route."""

    domain: str
    host: str
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)] = 25
    username: str = ""
    """What we log in with (AUTH PLAIN). enable_tls is Required then, unless RequiredInsecure or Disabled is set."""
    password: str = ""
    """File with the password, one line."""
    shape: Layer = Layer()
    """The limits of this destination, as in `[shape.site."host:port"]`."""

    @property
    def site(self) -> str:
        """host:port, with brackets around an IPv6 address: the name of its site."""
        return host_port(self.host, self.port)


class Dns(Section, frozen=True, kw_only=True):
    nameservers: tuple[str, ...] = ()
    """Asked in this order, ADDRESS or ADDRESS:PORT. Empty: those of /etc/resolv.conf."""
    prefer: Literal["ipv4", "ipv6", "ipv4_only", "ipv6_only"] = "ipv4"
    """Which addresses of receiving servers are dialled first, or alone."""

    @property
    def servers(self) -> list[tuple[str, int]]:
        return [name_server(text) for text in self.nameservers]


class Metrics(Section, frozen=True, kw_only=True):
    listen: str = ""
    """Address and port for /metrics and /healthz; each worker adds its slot to the port. Empty: none."""
    least_free_percent: Annotated[int, msgspec.Meta(ge=0, le=100)] = 5
    """/healthz says no while less of the disk of `state_dir`, or of the embedded database, is free."""


class Config(Section, frozen=True, kw_only=True):
    domain: str
    """The organisation's domain; the defaults of other names are made from it."""
    state_dir: str = "state"
    """Journals, snapshots and the embedded database live here."""
    log_format: str = "logfmt"
    """logfmt or json."""
    log_outcomes: str = "off"
    """A line of JSON on stdout for each outcome: off, on (recipients as …@domain), addresses (in full)."""
    database: Database = Database()
    mta: Mta = Mta()
    tracker: Tracker = Tracker()
    privacy: Privacy = Privacy()
    dkim: tuple[Dkim, ...] = ()
    shape: Shaping = Shaping()
    route: tuple[Route, ...] = ()
    retry: Retries = Retries()
    automation: Automation = Automation()
    source: tuple[Source, ...] = ()
    pool: tuple[SourcePool, ...] = ()
    dns: Dns = Dns()
    metrics: Metrics = Metrics()

    folder: Path = Path()
    """Not a key: the folder of the file, from which relative paths start."""

    def path(self, relative: str) -> Path:
        """A path of the file: below $CREDENTIALS_DIRECTORY when it is there, else from `folder`."""
        if credentials := os.environ.get("CREDENTIALS_DIRECTORY"):
            candidate = Path(credentials) / Path(relative).name
            if candidate.exists():
                return candidate
        return (self.folder / relative).resolve()

    @property
    def state(self) -> Path:
        return (self.folder / self.state_dir).resolve()

    @property
    def hostname(self) -> str:
        return self.mta.hostname or f"mail.{self.domain}"

    @property
    def hostnames(self) -> frozenset[str]:
        """Every name that we say in EHLO."""
        return frozenset(name.lower() for name in (self.hostname, *(one.hostname for one in self.source)) if name)

    @property
    def return_path_domain(self) -> str:
        return self.mta.return_path_domain or f"bounce.{self.domain}"

    @property
    def tracker_url(self) -> str:
        return (self.tracker.url or f"https://t.{self.domain}").rstrip("/")

    def max_age(self, class_: int) -> timedelta:
        """How old mail of a class may become."""
        return timedelta(seconds=self.retry.seconds(class_, "max_age", self.shape))

    @property
    def in_doubt_intervals(self) -> list[float]:
        """By class: seconds until a mail in doubt is looked at again."""
        return [self.retry.seconds(class_, "in_doubt_interval", self.shape) for class_ in range(3)]

    @property
    def routes(self) -> dict[str, Layer]:
        """What is said of the sites of routes."""
        return {route.site: route.shape for route in self.route}

    def route_for(self, domain: str) -> Route | None:
        """The fixed destination of a recipient's domain, if it has one."""
        exact = [route for route in self.route if route.domain != "*" and normal_domain(route.domain) == domain]
        star = [route for route in self.route if route.domain == "*"]
        return next(iter(exact + star), None)


def load_config(path: Path) -> Config:
    """Read and check the file; ConfigError names the key and the value."""
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: there is no such file; `mtad init --domain …` writes one") from None
    except OSError as error:
        raise ConfigError(f"{path}: {(error.strerror or str(error)).lower()}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: byte {error.start} is not UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: {error}") from None
    if "folder" in raw:
        raise ConfigError(f"{path}: folder: no such key")
    config = decoded(raw, Config, path)
    try:
        domain = normal_domain(config.domain)
    except ValueError as error:
        raise ConfigError(f"{path}: domain: {error}") from None
    config = msgspec.structs.replace(config, domain=domain, folder=path.resolve().parent)
    _check(config, path)
    return config


def _check(config: Config, path: Path) -> None:
    """What types alone cannot say."""
    for key, parse, text in _texts(config):
        try:
            parse(text)
        except ValueError as error:
            raise ConfigError(f"{path}: {key}: {error}") from None
    for key, wrong in source.faults(config.source, config.pool):
        raise ConfigError(f"{path}: {key}: {wrong}")
    named = {one.name for one in config.source}
    for number, dkim in enumerate(config.dkim):
        if dkim.source and dkim.source not in named:
            raise ConfigError(f"{path}: dkim[{number}].source: there is no [[source]] named {dkim.source!r}")
    for key, wrong in _unknown_names(config):
        raise ConfigError(f"{path}: {key}: {wrong}")
    if config.log_format not in ("logfmt", "json"):
        raise ConfigError(f"{path}: log_format: logfmt or json, is {config.log_format!r}")
    if config.log_outcomes not in ("off", "on", "addresses"):
        raise ConfigError(f"{path}: log_outcomes: off, on or addresses, is {config.log_outcomes!r}")
    # DNS has one key for a selector: of two, one would sign what nobody can verify.
    names = [(dkim.domain.lower(), dkim.selector.lower()) for dkim in config.dkim]
    for number, name in enumerate(names):
        if name in names[:number]:
            first = names.index(name)
            raise ConfigError(f"{path}: dkim[{number}].selector: {name[1]!r} is that of dkim[{first}] already")


def _unknown_names(config: Config) -> Iterator[tuple[str, str]]:
    """Names of sources, providers and routes that would have no effect, as key and words."""
    sources = [one.name for one in source.sources_of(config.source)]
    for key, name in sources_named(config.shape, _routes_by_key(config)):
        if name not in sources:
            yield key, f"there is no [[source]] named {name!r}; there are: {', '.join(sources)}"
    providers = known_providers(config.shape)
    for number, rule in enumerate(config.automation.rule):
        if rule.provider and rule.provider not in providers:
            yield f"automation.rule[{number}].provider", f"{rule.provider!r} is none of {', '.join(sorted(providers))}"
    for number, one in enumerate(config.source):
        for name in one.warmup.provider if one.warmup else ():
            if name not in {*providers, source.OTHER}:
                known = ", ".join(sorted({*providers, source.OTHER}))
                yield f"source[{number}].warmup.provider", f"{name!r} is none of {known}"
    for number, route in enumerate(config.route):
        if bool(route.username) != bool(route.password):
            yield f"route[{number}].username", "goes with `password`, a file: set both, or neither"
        first = next(one for one in config.route if one.site == route.site)
        if (route.username, route.password) != (first.username, first.password):
            yield (
                f"route[{number}].username",
                f"of one host and port there is one login, and {first.domain!r} says another",
            )
    domains = [route.domain for route in config.route]
    for number, domain in enumerate(domains):
        if domain in domains[:number]:
            yield f"route[{number}].domain", f"{domain!r} is that of route[{domains.index(domain)}] already"


def _routes_by_key(config: Config) -> dict[str, Layer]:
    return {f"route.{route.domain}.shape": route.shape for route in config.route}


def _texts(config: Config) -> Iterator[tuple[str, Callable[[str], object], str]]:
    """Every text with a grammar: its key, what parses it or raises ValueError, the text."""
    yield "database.url", _database_url, config.database.url
    yield "mta.hostname", normal_domain, config.hostname
    yield "mta.return_path_domain", normal_domain, config.return_path_domain
    yield "mta.drain", seconds, config.mta.drain
    yield from tracker.texts(config.tracker, config.tracker_url)
    for key in PRIVACY_TERMS:
        yield f"privacy.{key}", seconds, getattr(config.privacy, key)
    for number, dkim in enumerate(config.dkim):
        yield f"dkim[{number}].domain", normal_domain, dkim.domain
        yield f"dkim[{number}].selector", _selector, dkim.selector
    for number, route in enumerate(config.route):
        if route.domain != "*":
            yield f"route[{number}].domain", normal_domain, route.domain
    yield from texts(config.shape, _routes_by_key(config))
    yield from retry.texts(config.retry)
    yield from automation.texts(config.automation)
    for text in config.dns.nameservers:
        yield "dns.nameservers", name_server, text
    if config.metrics.listen:
        yield "metrics.listen", host_and_port, config.metrics.listen


def _database_url(text: str) -> None:
    if text != "embedded" and not text.startswith(("postgresql://", "postgres://")):
        scheme, sep, _ = text.partition("://")  # behind it may stand a password
        raise ValueError(f"write embedded or postgresql://…, is {f'{scheme}{sep}…' if sep else 'no URL'}")


def _selector(text: str) -> None:
    if not SELECTOR.fullmatch(text):
        raise ValueError(f"{text!r} is not a name in DNS; write letters, digits, hyphens, dots")
