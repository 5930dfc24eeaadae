"""`mtad init` and `mtad check`."""

import base64
import re
import socket
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtad.base.clock import SystemClock
from mtad.base.config import Config, Database, Dns, Metrics, Mta, Shape, Shaping, Tracker, load_config
from mtad.base.db import open_pool
from mtad.base.errors import InputError
from mtad.ops.check import Finding, Level, check_all
from mtad.ops.install import Installation, install
from mtad.ops.records import Record
from mtad.wire.dns import Records, Unresolved
from mtad.wire.resolver import Resolver
from tests.rows import Rows

KEY = '# listen = "127.0.0.1:8025"'


@pytest.fixture
def made(tmp_path: Path) -> Installation:
    return install(tmp_path / "mail", "Example.COM", "m202611")


@pytest.fixture
def config(made: Installation) -> Config:
    text = made.config.read_text().replace(KEY, 'listen = "127.0.0.1:0"')
    made.config.write_text(text)
    return load_config(made.config)


def record(made: Installation, name: str, kind: str) -> str:
    return next(found.value for found in made.records if (found.name, found.type) == (name, kind))


HOST = {
    ("bounce.example.com", "MX"): ["10 Mail.example.com."],
    ("bounce.example.com", "TXT"): ["v=spf1 a:mail.example.com -all"],
    ("mail.example.com", "A"): ["192.0.2.1"],
    ("mail.example.com", "AAAA"): ["2001:db8::1"],
    ("1.2.0.192.in-addr.arpa", "PTR"): ["other.test.", "mail.example.com."],
    (f"1.{'0.' * 23}8.b.d.0.1.0.0.2.ip6.arpa", "PTR"): ["mail.example.com."],
}


def resolver(records: Mapping[tuple[str, str], Sequence[str]] | None) -> Resolver:
    """DNS as a table; None: there is none."""

    async def lookup(name: str, kind: str) -> Records:
        if records is None:
            raise Unresolved("no servers could be reached")
        return Records(records.get((name, kind), []), 600)

    return Resolver(SystemClock(), lookup)


async def findings(
    config: Config,
    published: list[str] | None = None,
    database: str | None = None,
    host: Mapping[tuple[str, str], Sequence[str]] = HOST,
) -> list[Finding]:
    records = {**host, ("m202611._domainkey.example.com", "TXT"): published} if published is not None else None
    return await check_all(config, database=database, resolver=resolver(records))


def bad(found: list[Finding]) -> list[Finding]:
    return [finding for finding in found if finding.level is Level.BAD]


def test_what_it_writes_shows_every_key_with_its_default(made: Installation) -> None:
    head, _, tail = made.config.read_text().partition("# Send a domain")
    shown = re.sub(r"^# (?=[a-z_]+ = )", "", head + tail[tail.index("[metrics]") :], flags=re.MULTILINE)
    everything = made.config.with_name("all.toml")
    everything.write_text(shown)
    raw = tomllib.loads(shown)

    assert msgspec.structs.replace(load_config(everything), shape=Shaping()) == load_config(made.config)
    assert msgspec.convert(raw["shape"], Shape) == Shape()
    assert set(raw) == set(Config.__struct_fields__) - {"folder", "route", "source", "pool"}
    for section in (Database, Mta, Tracker, Shape, Dns, Metrics):
        assert set(raw[section.__name__.lower()]) == set(section.__struct_fields__)


def test_secrets_are_their_owners_alone(made: Installation) -> None:
    modes = {path.name: path.stat().st_mode & 0o777 for path in made.files}

    assert modes == {
        "dkim-m202611.pem": 0o600, "tracking.keys": 0o600, "suppression.key": 0o600, "mtad.toml": 0o644,
    }  # fmt: skip


def test_two_installations_share_no_secret(made: Installation, tmp_path: Path) -> None:
    other = install(tmp_path / "other", "example.com", "m202611")

    for ours, theirs in zip(made.files[:-1], other.files[:-1], strict=True):
        assert ours.name == theirs.name
        assert ours.read_bytes() != theirs.read_bytes()


@pytest.mark.parametrize("number", range(3))
def test_it_refuses_to_overwrite_and_then_writes_nothing(made: Installation, number: int) -> None:
    kept = made.files[number]
    before = kept.read_bytes()
    for path in made.files:
        if path != kept:
            path.unlink()

    with pytest.raises(InputError, match=f"{kept}: is there already"):
        install(made.config.parent, "example.com", "m202611")

    assert kept.read_bytes() == before
    assert [path for path in made.files if path.exists()] == [kept]


@pytest.mark.parametrize("domain", ["", "example", "exa mple.com", "-x.com", "a@b.com"])
def test_it_refuses_what_is_no_domain(tmp_path: Path, domain: str) -> None:
    with pytest.raises(InputError, match="--domain"):
        install(tmp_path / "mail", domain, "m202611")

    assert not (tmp_path / "mail").exists()


def test_the_records_are_what_receivers_look_for(made: Installation) -> None:
    assert record(made, "bounce.example.com", "MX") == "10 mail.example.com."
    assert record(made, "bounce.example.com", "TXT") == "v=spf1 a:mail.example.com -all"
    assert record(made, "_dmarc.example.com", "TXT").startswith("v=DMARC1; p=none")
    assert record(made, "t.example.com", "CNAME") == "mail.example.com."
    public = record(made, "m202611._domainkey.example.com", "TXT").removeprefix("v=DKIM1; k=rsa; p=")
    assert len(base64.b64decode(public, validate=True)) == 294
    assert "mail.example.com" in made.reminder


@given(st.text(st.characters(codec="ascii", exclude_categories=["C"], exclude_characters='"\\'), max_size=2000))
def test_a_zone_line_splits_a_text_without_losing_any_of_it(text: str) -> None:
    line = Record("x.example.com", "TXT", text, "").zone_line()
    strings = re.findall(r'"([^"]*)"', line)

    assert "".join(strings) == text
    assert all(len(string) <= 255 for string in strings)


@pytest.mark.parametrize(
    ("dkim", "selectors"),
    [("ed25519", ["m202611e"]), ("both", ["m202611", "m202611e"])],
)
async def test_each_key_that_is_wanted_has_its_record_and_is_compared(
    tmp_path: Path, dkim: str, selectors: list[str]
) -> None:
    made = install(tmp_path / "mail", "example.com", "m202611", dkim=dkim)
    config = load_config(made.config)
    records = {found.name: found.value for found in made.records if "_domainkey" in found.name}

    published = {(name, "TXT"): [text.replace("k=ed25519; ", "")] for name, text in records.items()}
    assert list(records) == [f"{selector}._domainkey.example.com" for selector in selectors]
    assert "k=ed25519; " in records["m202611e._domainkey.example.com"]
    assert [one.selector for one in config.dkim] == selectors
    # Without its kind the record is one of RSA, and nobody can verify.
    found = bad(await check_all(config, database=None, resolver=resolver(published)))
    assert [one.about for one in found if one.about.startswith("dkim")] == [f"dkim[{len(records) - 1}]"]


async def test_a_fresh_installation_has_nothing_bad_where_dns_cannot_be_had(config: Config) -> None:
    found = await findings(config)

    assert bad(found) == []
    skipped = [finding.about for finding in found if finding.level is Level.SKIPPED]
    assert skipped == ["dkim[0]", "mta.return_path_domain", "mta.hostname", "spf"]


async def test_the_published_key_is_compared_however_it_is_written(made: Installation, config: Config) -> None:
    ours = record(made, "m202611._domainkey.example.com", "TXT")

    assert bad(await findings(config, [ours.replace("; ", ";").replace("k=rsa", "t=s;k=rsa")])) == []
    [other] = bad(await findings(config, ["v=DKIM1; k=rsa; p=AAAA"]))
    assert "another key" in other.text
    [none] = bad(await findings(config, []))
    assert "no TXT record" in none.text
    assert ours in none.mend


@pytest.mark.parametrize("name", ["dkim-m202611.pem", "tracking.keys", "suppression.key"])
async def test_a_missing_key_file_is_named(config: Config, name: str) -> None:
    path = config.folder / "keys" / name
    path.unlink()

    [finding] = bad(await findings(config))

    assert f"{path}: " in finding.text
    assert "No such file" in finding.text


@pytest.mark.parametrize("name", ["dkim-m202611.pem", "tracking.keys", "suppression.key"])
async def test_a_key_file_that_is_no_key_is_named(config: Config, name: str) -> None:
    (config.folder / "keys" / name).write_text("hello\n")

    [finding] = bad(await findings(config))

    assert name in finding.text


async def test_a_key_that_others_can_read_is_found_and_how_to_mend_it(config: Config) -> None:
    path = config.folder / "keys" / "tracking.keys"
    path.chmod(0o640)

    [finding] = bad(await findings(config))

    assert finding.mend == f"chmod 600 {path}"


async def test_a_port_in_use_is_found(made: Installation) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        made.config.write_text(made.config.read_text().replace(KEY, f'listen = "{address}"'))

        [finding] = bad(await findings(load_config(made.config)))

    assert address in finding.text


async def test_a_database_that_is_away_is_found(config: Config) -> None:
    [finding] = bad(await findings(config, database="postgresql://me:secret@127.0.0.1:1/mtad"))

    assert "127.0.0.1:1" in finding.text
    assert "secret" not in finding.text


async def test_a_database_without_the_schema_is_found(config: Config, postgres_url: str) -> None:
    [finding] = bad(await findings(config, database=postgres_url))

    assert finding.mend == "mtad migrate"


async def test_a_migrated_database_is_good(config: Config, database_url: str) -> None:
    assert bad(await findings(config, database=database_url)) == []


async def test_a_state_folder_that_cannot_be_written_is_found(config: Config) -> None:
    config.state.write_text("a file")

    [finding] = bad(await findings(config))

    assert finding.about == "state_dir"


def about(found: list[Finding], name: str) -> list[tuple[Level, str, str]]:
    return [(one.level, one.text, one.mend) for one in found if one.about == name]


async def test_a_host_that_has_all_records_is_good(config: Config) -> None:
    found = await findings(config, [])

    assert about(found, "mta.return_path_domain") == [(Level.OK, "bounce.example.com: its MX is mail.example.com", "")]
    assert about(found, "mta.hostname") == [
        (Level.OK, "mail.example.com: 192.0.2.1 and back", ""),
        (Level.OK, "mail.example.com: 2001:db8::1 and back", ""),
    ]


@pytest.mark.parametrize(
    ("mx", "found"),
    [
        ([], "has no MX"),
        (["0 ."], "has no MX"),
        (["10 mx2.test.", "20 mx1.test."], "its MX is mx1.test, mx2.test, not mail.example.com"),
    ],
)
async def test_bounces_that_would_not_find_us_are_found(config: Config, mx: list[str], found: str) -> None:
    seen = await findings(config, [], host={**HOST, ("bounce.example.com", "MX"): mx})

    mend = "publish bounce.example.com. MX 10 mail.example.com."
    assert about(seen, "mta.return_path_domain") == [(Level.BAD, f"bounce.example.com: {found}", mend)]


async def test_a_name_without_address_and_an_address_without_the_name_are_found(config: Config) -> None:
    back = ("1.2.0.192.in-addr.arpa", "PTR")
    none = await findings(config, [], host={})
    other = await findings(config, [], host={("mail.example.com", "A"): ["192.0.2.1"], back: ["host1.isp.test."]})
    nowhere = await findings(config, [], host={("mail.example.com", "A"): ["192.0.2.1"]})

    mend = "have whoever gave you 192.0.2.1 set its PTR record to mail.example.com"
    said = "mail.example.com: 192.0.2.1 leads back to"
    assert [text for _, text, _ in about(none, "mta.hostname")] == ["mail.example.com: has no address"]
    assert about(other, "mta.hostname") == [(Level.BAD, f"{said} host1.isp.test", mend)]
    assert about(nowhere, "mta.hostname") == [(Level.BAD, f"{said} no name", mend)]


async def test_a_machine_that_believes_nobodys_certificate_is_found(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "none").mkdir()
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "none"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "gone.pem"))
    nobody = about(await findings(config), "certificates")
    (tmp_path / "gone.pem").touch()

    assert [(level, mend) for level, _, mend in nobody] == [(Level.ADVICE, "install ca-certificates")]
    assert about(await findings(config), "certificates") == []


async def test_a_port_of_metrics_that_is_taken_is_found_for_each_worker(config: Config) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        metrics = Metrics(listen=f"127.0.0.1:{port - 1}")
        changed = msgspec.structs.replace(config, metrics=metrics, mta=Mta(workers=2))

        [(level, text, _)] = about(await findings(changed), "metrics.listen")

    assert level is Level.BAD
    assert "another program listens there already" in text


async def test_what_a_stream_leaves_open_is_advised_and_nothing_is_wrong(config: Config, database_url: str) -> None:
    careful = {
        "zone": "Europe/Berlin",
        "slots": {
            "caps_all": [{"most": 3, "window": 604800, "name": "3/7d/all"}],
            "quiet": {"start": "21:00:00", "end": "07:00:00"},
        },
    }
    pool = await open_pool(database_url, most=1)
    async with pool.acquire() as conn:
        rows = Rows(conn)
        for name, policy in (("careful", careful), ("loose", {}), ("weekdays", {"slots": {"days": [0, 1]}})):
            await conn.execute(
                "update stream_version set definition = jsonb_set(definition, '{policy}', $1) where stream_id = $2",
                policy, await rows.stream(name),
            )  # fmt: skip
    await pool.close()

    found = await check_all(config, database=database_url, resolver=resolver(None))

    advice = [finding for finding in found if finding.level is Level.ADVICE]
    assert [finding.about for finding in advice] == ["stream loose"] * 2 + ["stream weekdays"] * 3
    assert advice[0] == Finding(
        Level.ADVICE, "stream loose", "nothing limits how often somebody is mailed",
        'say caps = [{ most = 3, window = "7d" }] in its [policy]',
    )  # fmt: skip
    assert "hours of UTC" in advice[-1].text
