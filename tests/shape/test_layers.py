"""Which limits are in force where."""

import itertools
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtad.base.config import Config, Route, Shape, Shaping
from mtad.base.shape import Knobs, Layer, Provider, shipped_providers
from mtad.shape.layers import Ceiling, Setting, Shaper, ceiling, over, site_name

GMAIL = ["5 gmail-smtp-in.l.google.com:25", "10 alt1.gmail-smtp-in.l.google.com:25"]

tables = st.builds(
    Knobs,
    connection_limit=st.one_of(st.just(msgspec.UNSET), st.integers(1, 9)),
    max_message_rate=st.one_of(st.just(msgspec.UNSET), st.sampled_from(["1/s", "2/s"])),
    idle_timeout=st.one_of(st.just(msgspec.UNSET), st.sampled_from(["1s", "2s"])),
)


@given(tables, tables, tables)
def test_it_does_not_matter_which_tables_are_laid_over_each_other_first(a: Knobs, b: Knobs, c: Knobs) -> None:
    assert over(over(a, b), c) == over(a, over(b, c))
    assert over(a, Knobs()) == over(Knobs(), a) == a


@given(tables, tables)
def test_of_two_tables_the_upper_one_counts_and_the_lower_one_where_it_is_silent(below: Knobs, above: Knobs) -> None:
    both = over(below, above)

    for knob in Knobs.__struct_fields__:
        said = getattr(above, knob)
        assert getattr(both, knob) == (getattr(below, knob) if said is msgspec.UNSET else said)


def limit(number: int) -> dict[str, Any]:
    return {"connection_limit": number}


# From the general to the particular; each sets one limit more than the one before.
LEVELS: list[tuple[str, dict[str, Any]]] = [
    ("[shape]", limit(11)),
    ("[shape.source.cold]", {"source": {"cold": Knobs(**limit(12))}}),
    ("[shape.provider.google]", {"provider": {"google": Provider(**limit(13))}}),
    (
        "[shape.provider.google.source.cold]",
        {"provider": {"google": Provider(**limit(13), source={"cold": Knobs(**limit(14))})}},
    ),
    ('[shape.site."g:25"]', {"site": {"g:25": Layer(**limit(15))}}),
    ('[shape.site."g:25".source.cold]', {"site": {"g:25": Layer(source={"cold": Knobs(**limit(16))})}}),
    ('[shape.domain."y.test"]', {"domain": {"y.test": Layer(**limit(17))}}),
    ('[shape.domain."y.test".source.cold]', {"domain": {"y.test": Layer(source={"cold": Knobs(**limit(18))})}}),
]


@pytest.mark.parametrize("highest", range(2, len(LEVELS) + 1))
def test_the_most_particular_table_counts_and_is_named(highest: int) -> None:
    shaping = Shaping(**dict(itertools.chain.from_iterable(level.items() for _, level in LEVELS[:highest])))
    shaper = Shaper(shaping, {})
    site = site_name(shaping, "y.test", "g:25")

    found = shaper.settings(site, GMAIL, "cold")[0]

    # The shipped table of Google lies over [shape] and its sources.
    origin, value = ("provider google (shipped)", 5) if highest == 2 else (LEVELS[highest - 1][0], 10 + highest)
    assert found == Setting("connection_limit", value, origin)
    assert shaper.shape(site, GMAIL, "cold").connection_limit == value


def test_what_nobody_sets_is_the_default() -> None:
    shaper = Shaper(Shaping(), {})

    assert shaper.shape("mx.y.test", ["10 mx.y.test:25"], "default") == Shape()
    assert {setting.origin for setting in shaper.settings("mx.y.test", [], "default")} == {"default"}


def test_what_is_the_same_for_all_destinations_comes_from_the_first_table() -> None:
    shaper = Shaper(Shaping(max_age="2d"), {})

    assert Setting("max_age", "2d", "[shape]") in shaper.settings("mx.y.test", [], "default")


def test_a_route_has_its_own_table() -> None:
    config = Config(domain="x.test", route=(Route(domain="*", host="::1", port=2525, shape=Layer(connection_limit=3)),))
    shaper = Shaper(config.shape, config.routes)

    assert shaper.settings("[::1]:2525", ["0 [::1]:2525"], "default")[0].origin == "[route.shape]"
    assert shaper.shape("[::1]:2526", ["0 [::1]:2526"], "default") == Shape()


def test_lanes_under_the_same_tables_share_one_shape() -> None:
    shaper = Shaper(Shaping(), {})

    assert shaper.shape("one", ["1 mx.one.test:25"], "default") is shaper.shape("two", ["1 mx.two.test:25"], "default")
    assert shaper.shape("g", GMAIL, "default") is not shaper.shape("one", ["1 mx.one.test:25"], "default")


@pytest.mark.parametrize(
    ("hosts", "provider"),
    [
        (GMAIL, "google"),
        (["0 hotmail-com.olc.protection.outlook.com:25"], "outlook"),
        (["0 example-com.mail.protection.outlook.com:25"], "microsoft365"),
        (["10 aspmx.l.google.com:25", "20 mx.customer.test:25"], "google"),
        (["10 mx.customer.test:25", "20 aspmx.l.google.com:25"], None),
        (["10 mx.customer.test:25", "10 aspmx.l.google.com:25"], None),
        (["10 mx.notgoogle.com:25"], None),
        (["10 google.com:25"], "google"),
        (["10 google.com.evil.test:25"], None),
        (["0 [::1]:25"], None),
        ([], None),
    ],
)
def test_a_provider_is_known_by_the_hosts_that_mail_goes_to_first(hosts: list[str], provider: str | None) -> None:
    assert Shaper(Shaping(), {}).provider(hosts) == provider


@pytest.mark.parametrize(
    ("knobs", "per_second", "knob"),
    [
        ({}, 100, "max_message_rate"),
        ({"provider_message_rate": "600/min"}, 10, "provider_message_rate"),
        (
            {"max_connection_rate": "6/min", "max_deliveries_per_connection": 20}, 2,
            "max_connection_rate and max_deliveries_per_connection",
        ),
    ],
)  # fmt: skip
def test_the_knob_that_binds_a_steady_flow_is_named(knobs: dict[str, Any], per_second: float, knob: str) -> None:
    assert ceiling(msgspec.structs.replace(Shape(), **knobs)) == Ceiling(per_second, knob)


def test_the_longest_suffix_counts_and_a_table_that_names_suffixes_replaces_those_that_are_known() -> None:
    providers = {
        "whole": Provider(mx_suffix=(".y.test",)),
        "part": Provider(mx_suffix=(".eu.y.test",)),
        "google": Provider(mx_suffix=(".goog.test",)),
    }
    shaper = Shaper(Shaping(provider=providers), {})

    assert [shaper.provider([f"1 {host}:25"]) for host in ("mx.y.test", "mx.eu.y.test", "mx.goog.test")] == [
        "whole", "part", "google",
    ]  # fmt: skip
    assert shaper.provider(GMAIL) is None


def test_a_domain_shares_the_site_of_its_hosts_unless_it_has_a_table() -> None:
    shaping = Shaping(domain={"gmail.com": Layer(connection_limit=3)})
    shaper = Shaper(shaping, {})

    assert site_name(shaping, "customer.test", "g") == "g"
    assert shaper.shape("g", GMAIL, "default").connection_limit == 5
    assert shaper.shape(site_name(shaping, "gmail.com", "g"), GMAIL, "default").connection_limit == 3


def test_a_site_that_the_policies_of_domains_made_has_the_tables_of_its_hosts_and_its_own() -> None:
    shaping = Shaping(site={"g": Layer(**limit(2)), "g+mta-sts": Layer(max_message_rate="1/s")})
    shaper = Shaper(shaping, {})

    shapes = [shaper.shape(name, GMAIL, "default") for name in ("g", "g+mta-sts", "x.test via g+mta-sts", "h+mta-sts")]

    told = [(shape.connection_limit, shape.max_message_rate, shape.enable_tls) for shape in shapes]
    assert told == [
        (2, "100/s", "RequiredInsecure"), (2, "1/s", "MTA-STS"), (2, "1/s", "MTA-STS"), (5, "100/s", "MTA-STS"),
    ]  # fmt: skip


def test_the_large_receivers_are_known() -> None:
    known = shipped_providers()

    assert {"google", "yahoo", "outlook", "microsoft365", "apple", "gmx", "t-online", "comcast", "orange"} <= set(known)
    assert all(provider.mx_suffix for provider in known.values())
    suffixes = [suffix for provider in known.values() for suffix in provider.mx_suffix]
    assert len(suffixes) == len(set(suffixes))
