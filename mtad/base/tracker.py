"""The configuration of pixels, links and the pages behind them: the section [tracker]. Pure."""

import re
from collections.abc import Callable, Iterator
from ipaddress import ip_network
from typing import Annotated

import msgspec

from mtad.base.address import normal_domain
from mtad.base.endpoint import host_and_port
from mtad.base.section import Section, seconds

# RFC 8058 section 3.1 wants https; a demo or a test on loopback has no certificate.
_PUBLIC_URL = re.compile(
    r"https://[a-z0-9.-]+(?::\d+)?(?:/[\w./-]*)?|http://(?:127\.0\.0\.1|localhost|\[::1\])(?::\d+)?",
    re.ASCII,
)


class Tracker(Section, frozen=True, kw_only=True):
    """[tracker]: where links lead, and what is believed of who follows them."""

    url: str = ""
    """Public base of pixel, click and unsubscribe links, https. Default: https://t.<domain>."""
    listen: str = "127.0.0.1:8025"
    """Address and port; put a TLS-terminating proxy before it."""
    probe: str = "60s"
    """How often we look whether the public addresses answer; `off` where this host cannot see its own from inside."""
    keys: str = "keys/tracking.keys"
    """File with one `id:hex` a line; the last one signs, all verify."""
    trusted_proxies: tuple[str, ...] = ("127.0.0.0/8", "::1/128")
    """Networks whose X-Forwarded-For is believed."""
    journal_limit: Annotated[int, msgspec.Meta(ge=16)] = 1024
    """Megabytes of hits that one worker keeps while the database is away; then they are answered and not kept."""
    scanner_networks: str = ""
    """File with one `NETWORK clicks|all [label]` a line: hits from there are scanners'. Empty: none."""
    trusted_networks: str = ""
    """File with one `NETWORK [label]` a line: how hits come from there is never held against them. Empty: none."""
    event_keys: str = ""
    """File with one `source:token` a line, for servers that POST /events. Empty: nobody may."""
    sites: tuple[str, ...] = ()
    """Hosts of yours that carry our script: a click that leads there hands over who clicked."""


def texts(tracker: Tracker, url: str) -> Iterator[tuple[str, Callable[[str], object], str]]:
    """Every text with a grammar: its key, what parses it or raises ValueError, the text; `url` where it says none."""
    yield "tracker.url", public_url, url
    yield "tracker.listen", host_and_port, tracker.listen
    yield "tracker.probe", _probe, tracker.probe
    for network in tracker.trusted_proxies:
        yield "tracker.trusted_proxies", ip_network, network
    for site in tracker.sites:
        yield "tracker.sites", _site, site


def public_url(text: str) -> None:
    """ValueError unless it is a base of public addresses, of all streams or of one."""
    if not _PUBLIC_URL.fullmatch(text):
        raise ValueError(f"write https://host; http only for this machine, is {text!r}")


def _probe(text: str) -> None:
    if text != "off" and not 1 <= seconds(text) <= 600:
        raise ValueError(f"write off, or 1s to 10m, is {text!r}")


def _site(text: str) -> None:
    if text != normal_domain(text):
        raise ValueError(f"write a host such as www.example.com, is {text!r}")
