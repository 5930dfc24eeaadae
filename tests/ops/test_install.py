"""`mtad init` and `mtad check`."""

import base64
import re
import socket
import tomllib
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtad.base.config import Config, Database, Dns, Metrics, Mta, Shape, Shaping, Tracker, load_config
from mtad.base.errors import InputError
from mtad.ops.check import Finding, Level, check_all
from mtad.ops.install import Installation, install
from mtad.ops.records import Record

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


async def not_answered(_name: str) -> list[str]:
    raise OSError("no servers could be reached")


async def findings(config: Config, published: list[str] | None = None, database: str | None = None) -> list[Finding]:
    async def answer(_name: str) -> list[str]:
        return published or []

    return await check_all(config, database=database, lookup=not_answered if published is None else answer)


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
        "dkim-m202611.pem": 0o600, "tracking.keys": 0o600, "mtad.toml": 0o644,
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

    async def answer(name: str) -> list[str]:
        return [records[name].replace("k=ed25519; ", "")]

    assert list(records) == [f"{selector}._domainkey.example.com" for selector in selectors]
    assert "k=ed25519; " in records["m202611e._domainkey.example.com"]
    assert [one.selector for one in config.dkim] == selectors
    # Without its kind the record is one of RSA, and nobody can verify.
    found = bad(await check_all(config, database=None, lookup=answer))
    assert [one.about for one in found if one.about.startswith("dkim")] == [f"dkim[{len(records) - 1}]"]


async def test_a_fresh_installation_has_nothing_bad_where_dns_cannot_be_had(config: Config) -> None:
    found = await findings(config)

    assert bad(found) == []
    assert [finding.about for finding in found if finding.level is Level.SKIPPED] == ["dkim[0]"]


async def test_the_published_key_is_compared_however_it_is_written(made: Installation, config: Config) -> None:
    ours = record(made, "m202611._domainkey.example.com", "TXT")

    assert bad(await findings(config, [ours.replace("; ", ";").replace("k=rsa", "t=s;k=rsa")])) == []
    [other] = bad(await findings(config, ["v=DKIM1; k=rsa; p=AAAA"]))
    assert "another key" in other.text
    [none] = bad(await findings(config, []))
    assert "no TXT record" in none.text
    assert ours in none.mend


@pytest.mark.parametrize("name", ["dkim-m202611.pem", "tracking.keys"])
async def test_a_missing_key_file_is_named(config: Config, name: str) -> None:
    path = config.folder / "keys" / name
    path.unlink()

    [finding] = bad(await findings(config))

    assert f"{path}: " in finding.text
    assert "No such file" in finding.text


@pytest.mark.parametrize("name", ["dkim-m202611.pem", "tracking.keys"])
async def test_a_key_file_that_is_no_key_is_named(config: Config, name: str) -> None:
    (config.folder / "keys" / name).write_text("hello\n")

    [finding] = bad(await findings(config))

    assert name in finding.text


async def test_a_key_that_others_can_read_is_found_and_how_to_mend_it(config: Config) -> None:
    path = config.folder / "keys" / "tracking.keys"
    path.chmod(0o640)

    [finding] = bad(await findings(config))

    assert finding.mend == f"chmod 600 {path}"


async def test_a_port_in_use_is_found(made: Installation, tmp_path: Path) -> None:
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
