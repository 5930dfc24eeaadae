"""Policies of domains: how they are found, and what they do to their mail. DNS, HTTPS and SMTP are real."""

import contextlib
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from aiohttp import web

from mtad.base.clock import SystemClock
from mtad.base.config import Config, load_config
from mtad.ops.locator import Barred, Located, Locator
from mtad.shape.layers import Shaper
from mtad.smtp.results import Lost, Stage
from mtad.wire.dns import DnsLookup
from mtad.wire.mtasts import Policies
from mtad.wire.policy import Policy, parsed
from mtad.wire.resolver import Resolver
from mtad.wire.session import Dialer, Session
from mtad.wire.terms import Tls, terms_of
from tests.clock import ManualClock
from tests.wire.authority import Authority
from tests.wire.nameserver import NameServer
from tests.wire.peer import Peer, server_context

TEXT = "version: STSv1\nmode: enforce\nmx: mx.x.test\nmax_age: 604800\n"
CONFIG = Config(domain="us.test")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


class Domain:
    """x.test, with a record in `dns` and a policy in `answer`; `fetched` counts who came for it."""

    def __init__(self, dns: NameServer) -> None:
        self.dns = dns
        self.clock = ManualClock(datetime(2026, 3, 2, tzinfo=UTC))
        self.answer: Callable[[], web.StreamResponse] = lambda: web.Response(text=TEXT)
        self.fetched = 0
        self.policies: Policies
        self.resolver = Resolver(self.clock, DnsLookup([dns.address]).records)

    async def says(self, id_: str | None) -> None:
        """From now on its record has this id; None is no record."""
        self.dns.records["_mta-sts.x.test", "TXT"] = [f'"v=STSv1; id={id_};"'] if id_ else []
        await self.clock.advance(3600)  # and what we remember is over

    async def serve(self, request: web.Request) -> web.StreamResponse:
        assert request.path == "/.well-known/mta-sts.txt"
        self.fetched += 1
        return self.answer()

    async def policy(self, known: Policy | None = None) -> Policy | None:
        return await self.policies.policy_of("x.test", known)


@contextlib.asynccontextmanager
async def serving(authority: Authority, *, name: str = "mta-sts.x.test", private: bool = True) -> AsyncIterator[Domain]:
    """x.test; its server of policies has a certificate for `name`. Without `private` it may not be on loopback."""
    records = {
        ("x.test", "MX"): ["10 mx.x.test.", "20 spare.test."],
        ("_mta-sts.x.test", "TXT"): ['"v=STSv1; id=1;"'],
        ("mta-sts.x.test", "A"): ["127.0.0.1"],
        ("mx.x.test", "A"): ["127.0.0.1"],
    }
    async with NameServer(records) as dns:
        domain = Domain(dns)
        app = web.Application()
        app.router.add_get("/{tail:.*}", domain.serve)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=authority.server(name))
        await site.start()
        port: int = runner.addresses[0][1]
        domain.policies = (
            Policies(domain.resolver, domain.clock, port=port, may_dial=lambda _: True)
            if private
            else Policies(domain.resolver, domain.clock, port=port)
        )
        try:
            yield domain
        finally:
            await runner.cleanup()


@pytest.fixture
async def domain(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Domain]:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.path))
    async with serving(authority) as domain:
        yield domain


async def test_a_policy_is_fetched_once_and_again_when_it_changes_or_grows_old(domain: Domain) -> None:
    first = await domain.policy()
    counts = [domain.fetched]
    again = await domain.policy(first)
    counts.append(domain.fetched)
    await domain.says("2")
    second = await domain.policy(again)
    counts.append(domain.fetched)
    await domain.clock.advance(86400)
    third = await domain.policy(second)
    counts.append(domain.fetched)

    assert first == again == parsed(TEXT, id="1", now=first.fetched if first else 0)
    assert second is not None
    assert third is not None
    assert (second.id, third.id, third.fetched > second.fetched) == ("2", "2", True)
    assert counts == [1, 1, 2, 3]


async def test_what_is_known_counts_until_it_ends_whatever_is_kept_from_us(domain: Domain) -> None:
    first = await domain.policy()
    domain.answer = lambda: web.Response(status=503)
    await domain.says("2")
    no_policy = await domain.policy(first)
    await domain.says(None)
    no_record = await domain.policy(first)
    domain.dns.failing.add("_mta-sts.x.test")
    await domain.clock.advance(3600)
    no_dns = await domain.policy(first)
    await domain.clock.advance(604800)

    assert first == no_policy == no_record == no_dns is not None
    assert await domain.policy(first) is None


ANSWERS: dict[str, Callable[[], web.StreamResponse]] = {
    "not found": lambda: web.Response(status=404, text=TEXT),
    "elsewhere": lambda: web.Response(status=302, headers={"Location": "/.well-known/mta-sts.txt"}),
    "a page": lambda: web.Response(text=TEXT, content_type="text/html"),
    "too long": lambda: web.Response(text=TEXT + "#" * 70_000),
    "no UTF-8": lambda: web.Response(body=b"\xff", content_type="text/plain"),
    "no policy": lambda: web.Response(text="hello"),
}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
async def test_what_is_no_policy_binds_nobody(domain: Domain, answer: Callable[[], web.StreamResponse]) -> None:
    domain.answer = answer

    assert await domain.policy() is None
    assert domain.fetched == 1


async def test_a_server_that_is_not_whom_it_says_or_in_our_network_is_not_heard(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.path))
    async with serving(authority, name="other.test") as named, serving(authority, private=False) as inside:
        policies = [await named.policy(), await inside.policy()]

    assert policies == [None, None]
    assert (named.fetched, inside.fetched) == (0, 0)


async def test_mail_goes_to_the_hosts_of_the_policy_alone_and_only_where_the_certificate_is_theirs(
    authority: Authority, domain: Domain, tmp_path: Path
) -> None:
    located = await Locator(CONFIG, domain.resolver, domain.policies).locate("x.test")
    assert isinstance(located, Located)
    terms = terms_of(Shaper(CONFIG.shape, {}).shape(located.name, located.hosts, "default"))
    opened: list[object] = []
    peers = Peer(tls=authority.server("mx.x.test")), Peer(tls=server_context(tmp_path)), Peer()
    for peer in peers:
        async with peer:
            hosts = [host.replace(":25", f":{peer.port}") for host in located.hosts]
            clock = SystemClock()
            dialer = Dialer("me.test", domain.resolver, clock, routed=[hosts[0].partition(" ")[2]])
            session = await dialer.open(hosts, terms)
            opened.append(session)
            if isinstance(session, Session):
                assert session.encryption[2] == ("CN=mx.x.test",)
                await session.close()

    assert (located.name, located.hosts) == ("mx.x.test+mta-sts", ["10 mx.x.test:25"])
    assert terms.tls is Tls.MTA_STS
    good, expired, clear = opened
    assert isinstance(good, Session)
    assert isinstance(expired, Lost)
    assert isinstance(clear, Lost)
    assert (expired.stage, clear.stage) == (Stage.TLS, Stage.STARTTLS)
    assert "certificate verify failed" in expired.why
    assert expired.why.endswith(", and the MTA-STS policy of the domain requires it")
    assert clear.why == "the server offers no TLS, and the MTA-STS policy of the domain requires it"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (TEXT.replace("enforce", "testing"), "mx.x.test,spare.test"),
        (TEXT.replace("mx.x.test", "*.x.test"), "mx.x.test+mta-sts"),
    ],
)
async def test_only_what_is_enforced_makes_a_site_of_its_own(domain: Domain, text: str, name: str) -> None:
    domain.answer = lambda: web.Response(text=text)

    located = await Locator(CONFIG, domain.resolver, domain.policies).locate("x.test")

    assert isinstance(located, Located)
    assert located.name == name
    assert msgspec.convert(msgspec.to_builtins(located.policy), Policy) == located.policy


async def test_mail_waits_where_the_policy_allows_none_of_the_hosts(domain: Domain) -> None:
    domain.answer = lambda: web.Response(text=TEXT.replace("mx.x.test", "mx.y.test"))

    with pytest.raises(Barred, match=r"policy of x\.test allows none of its hosts: mx\.x\.test,spare\.test") as barred:
        await Locator(CONFIG, domain.resolver, domain.policies).locate("x.test")

    assert barred.value.policy.mx == ("mx.y.test",)


@pytest.mark.parametrize("table", ["[shape]", "[shape.site.'mx.x.test,spare.test']", "[shape.domain.'x.test']"])
async def test_who_wants_no_policies_asks_for_none(domain: Domain, table: str, tmp_path: Path) -> None:
    (tmp_path / "mtad.toml").write_text(f"domain = 'us.test'\n{table}\nenable_mta_sts = false")
    config = load_config(tmp_path / "mtad.toml")

    located = await Locator(config, domain.resolver, domain.policies).locate("x.test")

    assert isinstance(located, Located)
    assert not located.name.endswith("+mta-sts")
    assert ("_mta-sts.x.test", "TXT") not in domain.dns.asked
