"""What `mtad config explain` says."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest

from mtad.base.clock import SystemClock
from mtad.base.config import Config, Route, Shaping
from mtad.base.db import Pool
from mtad.base.shape import Layer
from mtad.ops import explain as module
from mtad.ops.explain import Explained, explain
from mtad.ops.locator import Locator
from mtad.queue import store
from mtad.shape.layers import Ceiling, Setting
from mtad.wire.dns import Records, Unresolved
from mtad.wire.resolver import NoMail, Resolver, Site

GMAIL = ["5 gmail-smtp-in.l.google.com:25"]


class Dns(Resolver):
    """Answers with one thing."""

    def __init__(self, answer: Site | NoMail | Unresolved | None = None) -> None:
        self._answer = answer

    async def site_of(self, domain: str, config: Config) -> Site | NoMail:
        del domain, config
        if self._answer is None:
            await asyncio.Event().wait()
        if isinstance(self._answer, Unresolved):
            raise self._answer
        assert self._answer is not None
        return self._answer

    async def records(self, name: str, kind: str) -> Records:
        raise Unresolved(f"{kind} {name}")


async def asked(config: Config, dns: Dns, pool: Pool | None = None) -> Explained:
    locator = Locator.from_config(config, dns, SystemClock())
    return await explain(config, "gmail.com", "default", pool=pool, locator=locator)


def said(explained: Explained) -> tuple[str, str, str | None, object]:
    return explained.site, explained.found, explained.provider, explained.settings[0].value


async def test_what_dns_says_leads_to_the_provider() -> None:
    found = await asked(Config(domain="x.test"), Dns(Site("g", GMAIL)))

    assert said(found) == ("g", "DNS", "google", 5)
    assert found.settings[0].origin == "provider google (shipped)"
    assert found.ceiling == Ceiling(100, "max_message_rate")


async def test_a_route_comes_first_and_a_table_of_the_domain_makes_it_a_site_of_its_own() -> None:
    config = Config(
        domain="x.test", route=(Route(domain="*", host="::1"),), shape=Shaping(domain={"gmail.com": Layer()})
    )

    assert said(await asked(config, Dns())) == ("gmail.com via [::1]:25", "route", None, 10)


async def test_the_database_is_asked_before_dns(pool: Pool) -> None:
    async with pool.acquire() as conn:
        sites = await store.sites_by_name(conn, {"g": GMAIL})
        await conn.execute("insert into domain (name, site_id) values ('gmail.com', $1)", sites["g"])

    assert said(await asked(Config(domain="x.test"), Dns(), pool)) == ("g", "database", "google", 5)


async def test_what_the_policy_of_a_domain_asks_for_lies_over_every_table(pool: Pool) -> None:
    async with pool.acquire() as conn:
        sites = await store.sites_by_name(conn, {"g+mta-sts": GMAIL})
        await conn.execute("insert into domain (name, site_id) values ('gmail.com', $1)", sites["g+mta-sts"])
    table = Layer(connection_limit=3, enable_tls="Disabled")

    found = await asked(Config(domain="x.test", shape=Shaping(domain={"gmail.com": table})), Dns(), pool)

    assert said(found) == ("gmail.com via g+mta-sts", "database", "google", 3)
    assert [one for one in found.settings if one.knob == "enable_tls"] == [
        Setting("enable_tls", "MTA-STS", "policy of the domain")
    ]


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (Unresolved("DNS MX gmail.com: no answer"), "unknown: DNS MX gmail.com: no answer"),
        (None, "unknown: no answer within 0.01 s from DNS or the server of its policy"),
        (NoMail("there is no such domain"), "none: there is no such domain"),
    ],
)
async def test_where_nobody_knows_the_site_the_general_limits_are_told(
    answer: NoMail | Unresolved | None, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.01)

    assert said(await asked(Config(domain="x.test"), Dns(answer))) == ("", why, None, 10)


def test_the_command_needs_no_running_server_and_starts_no_database(tmp_path: Path) -> None:
    (tmp_path / "mtad.toml").write_text(
        "domain = 'x.test'\n[[source]]\nname = 'cold'\n"
        "[[route]]\ndomain = '*'\nhost = 'h'\n[route.shape.source.cold]\nconnection_limit = 2"
    )
    command = [sys.executable, "-m", "mtad", "config", "explain", "München.example", "--source", "cold", "--json"]

    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["domain"], told["site"], told["source"]) == ("xn--mnchen-3ya.example", "h:25", "cold")
    assert told["settings"][0] == {"knob": "connection_limit", "value": 2, "origin": "[route.shape.source.cold]"}
    assert not (tmp_path / "state").exists()
