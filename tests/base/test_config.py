"""What the operator is told about a configuration file, and what the reference says about it."""

import json
import re
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtad.base import config as module
from mtad.base.automation import Automation, Reply, Rule
from mtad.base.config import (
    Config,
    Database,
    Dkim,
    Dns,
    Metrics,
    Mta,
    Route,
    Shape,
    Tracker,
    load_config,
    rate,
    seconds,
)
from mtad.base.endpoint import host_and_port, name_server
from mtad.base.errors import ConfigError
from mtad.base.retry import Retry, Transactional
from mtad.base.section import Section
from mtad.base.shape import GRAMMAR, Knobs, Layer, Shaping
from mtad.base.source import Source, SourcePool, Warmup

REFERENCE = Path(module.__file__).with_name("README.md")
SECTIONS: dict[str, type[Section]] = {
    "top": Config, "database": Database, "mta": Mta, "tracker": Tracker,
    "[dkim]": Dkim, "shape": Shape, "[route]": Route, "dns": Dns, "metrics": Metrics,
    "[source]": Source, "source.warmup": Warmup, "[pool]": SourcePool,
    "automation": Automation, "[automation.rule]": Rule, "[automation.reply]": Reply,
    "retry.transactional": Transactional, "retry.bulk": Retry,
}  # fmt: skip


def load(folder: Path, text: str) -> Config:
    path = folder / "mtad.toml"
    path.write_text(text)
    return load_config(path)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "missing required field `domain`"),
        ("domain = 'x.test'\n[[source]]\nname = 'A b'", "source[0].name: Expected `str` matching regex"),
        (
            "domain = 'x.test'\n[[source]]\nname = 'a'\n[[source]]\nname = 'a'",
            "source[1].name: 'a' is that of source[0] already",
        ),
        (
            "domain = 'x.test'\n[[source]]\nname = 'a'\naddress = ['192.0.2.300']",
            "source[0].address: '192.0.2.300' does not appear to be an IPv4 or IPv6 address",
        ),
        (
            "domain = 'x.test'\n[[source]]\nname = 'a'\naddress = ['192.0.2.1', '192.0.2.2']",
            "source[0].address: one IPv4 and one IPv6 at most",
        ),
        (
            "domain = 'x.test'\n[[source]]\nname = 'a'\nhostname = 'a b'",
            "source[0].hostname: the domain 'a b' is not valid",
        ),
        (
            "domain = 'x.test'\n[[pool]]\nname = 'p'\nsources = { cold = 1 }",
            "pool[0].sources: there is no [[source]] named 'cold'",
        ),
        ("domain = 'x.test'\n[[pool]]\nname = 'p'\nsources = {}", "pool[0].sources: is empty"),
        (
            "domain = 'x.test'\n[[dkim]]\ndomain = 'x.test'\nselector = 's'\nkey = 'k'\nsource = 'cold'",
            "dkim[0].source: there is no [[source]] named 'cold'",
        ),
        (
            "domain = 'x.test'\n[shape.provider.google.source.clod]\nconnection_limit = 1",
            "shape.provider.google.source.clod: there is no [[source]] named 'clod'; there are: default",
        ),
        (
            "domain='x.test'\n[[automation.rule]]\nname='a'\nprovider='gogle'\nregex='x'\nduration='1h'\nsuspend='lane'",
            "automation.rule[0].provider: 'gogle' is none of apple, ",
        ),
        (
            "domain = 'x.test'\n[[source]]\nname='a'\nwarmup={ start = 2026-01-01, provider = { gogle = [1] } }",
            "source[0].warmup.provider: 'gogle' is none of apple, ",
        ),
        (
            "domain = 'x.test'\n[[route]]\ndomain='*'\nhost='a'\n[[route]]\ndomain='*'\nhost='b'",
            "route[1].domain: '*' is that of route[0] already",
        ),
        (
            "domain = 'x.test'\n[shape]\nprovider_connection_limit = 5",
            "shape.provider_connection_limit: say provider_connection_limit in [shape.provider.NAME]",
        ),
        (
            "domain = 'x.test'\n[shape.provider.google]\nprovider_message_rate = 'x'",
            "shape.provider.google.provider_message_rate: 'x' is not a rate",
        ),
        (
            "domain = 'x.test'\n[shape.provider.google.source.default]\nenable_mta_sts = false",
            "shape.provider.google.source.default.enable_mta_sts: has no effect here: policies are those of domains",
        ),
        (
            "domain = 'x.test'\n[[route]]\ndomain='*'\nhost='a'\n[route.shape]\nenable_mta_sts = true",
            "route.*.shape.enable_mta_sts: has no effect here: policies are those of domains",
        ),
        (
            "domain='x.test'\n[[automation.rule]]\nname='a'\ncategory=['SpamContnt']\nduration='1h'\nsuspend='lane'",
            "automation.rule[0].category[0]: Invalid enum value 'SpamContnt'",
        ),
        (
            "domain = 'x.test'\n[[automation.reply]]\nregex = '('\nmeans = 'policy'",
            "automation.reply[0].regex: '(' is no regular expression",
        ),
        ("domain = 7", "domain: Expected `str`, got `int`"),
        ("domain = 'x.test'\ncolour = 'red'", "unknown field `colour`"),
        ("domain = 'x.test'\n[mta]\nworkres = 2", "mta: Object contains unknown field `workres`"),
        ("domain = 'x.test'\n[mta]\nworkers = 'two'", "mta.workers: Expected `int`, got `str`"),
        ("domain = 'x.test'\n[mta]\nworkers = -1", "mta.workers: Expected `int` >= 0"),
        ("domain = 'x.test'\n[mta]\ndrain = '5 parsecs'", "mta.drain: '5 parsecs' is not a duration; write 500ms"),
        ("domain = 'x.test'\n[shape]\nmax_age = '5'", "shape.max_age: '5' is not a duration"),
        ("domain = 'x.test'\n[shape]\nmax_message_rate = 'fast'", "shape.max_message_rate: 'fast' is not a rate"),
        ("domain = 'x.test'\n[shape]\nmax_message_rate = ''", "shape.max_message_rate: '' is not a rate"),
        ("domain = 'x.test'\n[shape.source.cold]\nidle_timeout = 'x'", "shape.source.cold.idle_timeout: 'x' is not"),
        (
            "domain = 'x.test'\n[shape.provider.google]\n[shape.provider.yahoo]\nconection_limit = 1",
            "shape.provider.yahoo: Object contains unknown field `conection_limit`",
        ),
        (
            "domain = 'x.test'\n[shape.site.'a:25']\n[shape.site.'b:25'.source.y]\nconnection_limit = '1'",
            'shape.site."b:25".source.y.connection_limit: Expected `int`, got `str`',
        ),
        (
            "domain = 'x.test'\n[shape.domain.'y.test']\nmax_age = '1d'",
            'shape.domain."y.test": Object contains unknown',
        ),
        ("domain = 'x.test'\n[shape.domain.'Y.test']", 'shape.domain."Y.test": write it as y.test'),
        ("domain = 'x.test'\n[shape.provider.gogle]", "shape.provider.gogle: needs mx_suffix, for it is none of those"),
        (
            "domain = 'x.test'\n[shape.provider.p]\nmx_suffix = ['y.test']",
            "shape.provider.p.mx_suffix: 'y.test' is not a suffix",
        ),
        ("domain = 'x.test'\n[shape.provider]\ngoogle = 3", "shape.provider.google: Expected `object`, got `int`"),
        ("domain = 'x.test'\n[shape]\nmax_message_rate = '0/s'", "shape.max_message_rate: '0/s' is not a rate"),
        (
            "domain = 'x.test'\n[[route]]\ndomain = '*'\nhost = 'h'\n[route.shape]\nidle_timeout = 'x'",
            "route.*.shape.idle_timeout: 'x' is not a duration",
        ),
        ("domain = 'x.test'\n[[route]]\ndomain = '*'", "route[0]: Object missing required field `host`"),
        (
            "domain = 'x.test'\n[[route]]\ndomain = '*'\nhost = 'h'\nusername = 'me'",
            "route[0].username: goes with `password`, a file: set both, or neither",
        ),
        (
            (
                "domain = 'x.test'\n[[route]]\ndomain = 'a.test'\nhost = 'h'\nusername = 'me'\npassword = 'p'\n"
                "[[route]]\ndomain = 'b.test'\nhost = 'h'"
            ),
            "route[1].username: of one host and port there is one login, and 'a.test' says another",
        ),
        (
            "domain = 'x.test'\n[[route]]\ndomain = '*'\nhost = 'h'\nport = 70000",
            "route[0].port: Expected `int` <= 65535",
        ),
        ("domain = 'x.test'\nlog_format = 'xml'", "log_format: logfmt or json, is 'xml'"),
        (
            "domain = 'x.test'\n[tracker]\nurl = 't.x.test'",
            "tracker.url: write https://host; http only for this machine, is 't.x.test'",
        ),
        (
            "domain = 'x.test'\n[tracker]\nurl = 'http://t.x.test'",
            "tracker.url: write https://host; http only for this machine, is 'http://t.x.test'",
        ),
        ("domain = 'exa mple.test'", "domain: the domain 'exa mple.test' is not valid"),
        ("domain = 'x.test'\n[tracker]\nlisten = '8025'", "tracker.listen: '8025' is not ADDRESS:PORT"),
        ("domain = 'x.test'\n[metrics]\nlisten = 'here:http'", "metrics.listen: 'here:http' is not ADDRESS:PORT"),
        ("domain = 'x.test'\nfolder = '/'", "folder: no such key"),
        (
            "domain = 'x.test'\n[database]\nurl = 'postgresq://me:secret@db/mtad'",
            "database.url: write embedded or postgresql://…, is postgresq://…",
        ),
        ("domain = 'x.test'\n[mta]\nhostname = 'a b'", "mta.hostname: the domain 'a b' is not valid"),
        ("domain = 'x.test'\n[tracker]\nprobe = '11m'", "tracker.probe: write off, or 1s to 10m, is '11m'"),
        ("domain = 'x.test'\n[tracker]\ntrusted_proxies = ['all']", "tracker.trusted_proxies: 'all' does not appear"),
        (
            "domain = 'x.test'" + 2 * "\n[[dkim]]\ndomain = 'x.test'\nkey = 'k'\nselector = 'a'",
            "dkim[1].selector: 'a' is that of dkim[0] already",
        ),
        ("domain = 'x.test'\n[[dkim]]\ndomain = 'x.test'\nkey = 'k'\nselector = 'a b'", "dkim[0].selector: 'a b' is"),
        ("domain = ", "Invalid value (at end of document)"),
        ("domain = 'x.test'\n[mta]\n[mta]", "Cannot declare ('mta',) twice"),
    ],
)
def test_what_is_wrong_is_one_line_with_file_key_and_value(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(ConfigError) as raised:
        load(tmp_path, text)

    said = str(raised.value)
    assert said.startswith(f"{tmp_path / 'mtad.toml'}: ")
    assert says in said
    assert "\n" not in said
    assert "secret" not in said
    assert raised.value.exit_code == 78


def test_a_file_that_is_not_there_says_what_makes_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no such file; `mtad init"):
        load_config(tmp_path / "mtad.toml")


def test_a_file_that_is_not_utf8_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "mtad.toml").write_bytes(b"domain = '\xe9'")

    with pytest.raises(ConfigError, match=r"mtad\.toml: byte 10 is not UTF-8"):
        load_config(tmp_path / "mtad.toml")


def test_names_that_are_not_given_come_from_the_domain(tmp_path: Path) -> None:
    config = load(tmp_path, "domain = 'x.test'")

    assert config.hostname == "mail.x.test"
    assert config.return_path_domain == "bounce.x.test"
    assert config.tracker_url == "https://t.x.test"
    assert config.state == tmp_path / "state"


def test_the_route_of_a_domain_comes_before_the_star(tmp_path: Path) -> None:
    config = load(
        tmp_path,
        "domain = 'x.test'\n[[route]]\ndomain = '*'\nhost = 'all'\n[[route]]\ndomain = 'Y.test'\nhost = 'one'",
    )

    assert [route.host if (route := config.route_for(name)) else None for name in ("y.test", "z.test")] == [
        "one",
        "all",
    ]
    assert load(tmp_path, "domain = 'x.test'").route_for("y.test") is None


def test_a_credential_comes_before_the_file_of_the_same_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = load(tmp_path, "domain = 'x.test'")
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(credentials))
    assert config.path("keys/tracking.keys") == tmp_path / "keys" / "tracking.keys"

    (credentials / "tracking.keys").touch()

    assert config.path("keys/tracking.keys") == credentials / "tracking.keys"


@given(st.integers(0, 10**6), st.sampled_from([("ms", 0.001), ("s", 1), ("m", 60), ("h", 3600), ("d", 86400)]))
def test_a_duration_is_its_number_times_its_unit(number: int, unit: tuple[str, float]) -> None:
    assert seconds(f"{number}{unit[0]}") == number * unit[1]


@given(st.text())
def test_any_text_is_a_duration_or_refused_with_the_text(text: str) -> None:
    try:
        found = seconds(text)
    except ValueError as refused:
        found, said = 0.0, str(refused)
    else:
        said = repr(text)

    assert found >= 0
    assert repr(text) in said


@given(st.integers(1, 10**6), st.sampled_from([("s", 1), ("min", 60), ("h", 3600), ("d", 86400)]))
def test_a_rate_lets_one_seconds_worth_go_at_once_and_at_least_one(number: int, period: tuple[str, int]) -> None:
    found = rate(f"{number}/{period[0]}")

    assert found.per_second == number / period[1]
    assert found.burst == max(1, found.per_second)
    assert rate(f"{number}/{period[0]},max_burst=7").burst == 7


@pytest.mark.parametrize(
    ("text", "parts"),
    [("127.0.0.1:8025", ("127.0.0.1", 8025)), ("[::1]:0", ("::1", 0)), ("mail.x.test:25", ("mail.x.test", 25))],
)
def test_an_address_and_port_are_taken_apart(text: str, parts: tuple[str, int]) -> None:
    assert host_and_port(text) == parts


def test_a_route_is_found_however_its_domain_is_written() -> None:
    config = Config(domain="example.com", route=(Route(domain="Bücher.Example", host="relay.test"),))

    assert config.route_for("xn--bcher-kva.example") == config.route[0]
    assert config.route_for("other.example") is None


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("192.0.2.53", ("192.0.2.53", 53)),
        ("2001:db8::53", ("2001:db8::53", 53)),
        ("127.0.0.1:5353", ("127.0.0.1", 5353)),
        ("[2001:DB8::53]:5353", ("2001:db8::53", 5353)),
    ],
)
def test_a_name_server_is_an_address_with_or_without_a_port(text: str, parts: tuple[str, int]) -> None:
    assert name_server(text) == parts


@pytest.mark.parametrize("text", ["", "localhost", "ns.test:53", "192.0.2.53:", "192.0.2.53:x", "1.2.3:53"])
def test_what_is_no_name_server_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not ADDRESS or ADDRESS:PORT"):
        name_server(text)


@pytest.mark.parametrize("text", ["", "8025", ":8025", "x:", "x:70000", "x:-1", "x:²"])
def test_what_is_no_address_and_port_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not ADDRESS:PORT"):
        host_and_port(text)


@pytest.mark.parametrize("name", SECTIONS)
def test_the_reference_has_every_key_with_its_default(name: str) -> None:
    shown = {row[1]: row[2] for row in re.finditer(r"^\| `([a-z_]+)` \| (.*?) \|", _section(name), re.MULTILINE)}
    wanted = {}
    for field in msgspec.structs.fields(SECTIONS[name]):
        if field.name == "folder" or (name == "top" and isinstance(field.default, Section | tuple)):
            continue
        made = field.default_factory
        wanted[field.name] = _as_toml(field.default if made is msgspec.NODEFAULT else made())

    assert shown == wanted


def test_every_knob_can_be_set_in_every_table_and_every_text_has_a_grammar() -> None:
    alone = {"max_age", "in_doubt_interval"}
    texts = {field.name for field in msgspec.structs.fields(Shape) if isinstance(field.default, str)}

    assert set(Knobs.__struct_fields__) == set(Shape.__struct_fields__) - alone
    assert alone < set(Shaping.__struct_fields__)
    assert set(GRAMMAR) == texts - {"enable_tls"}  # whose words are its type


def _section(name: str) -> str:
    heading = "Top of the file" if name == "top" else f"`[{name}]`"
    match = re.search(rf"^### {re.escape(heading)}.*?$(.*?)(?=^#|\Z)", REFERENCE.read_text(), re.MULTILINE | re.DOTALL)
    assert match, f"{REFERENCE}: no heading for {name}"
    return match[1]


def _as_toml(default: object) -> str:
    match default:
        case str():
            return f'`"{default}"`'
        case tuple() | bool():
            return f"`{json.dumps(default)}`"
        case Layer() | msgspec.UnsetType() | None | {}:
            return "none"
        case _ if default is msgspec.NODEFAULT:
            return "required"
        case _:
            return f"`{default}`"


def test_a_domain_is_brought_into_its_normal_form(tmp_path: Path) -> None:
    path = tmp_path / "mtad.toml"
    path.write_text("domain = 'MÜNCHEN.example'", encoding="utf-8")

    assert load_config(path).domain == "xn--mnchen-3ya.example"
