"""Programs: what a file means, what is refused, where somebody goes next."""

import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.policy import Points, Policy
from engine.programs import (
    Audience,
    Definition,
    EndNode,
    SendNode,
    Stop,
    next_stop,
    parse_program,
    require_reachable,
)
from mtad.base.errors import InputError

SERIES = """
name = "nudge"
kind = "series"
stream = "sales-de"
audience = { attributes = { country = ["DE", "AT"] } }
start = "2026-12-01 09:00 Europe/Berlin"

[[step]]
message = "nudge-1"
[[step]]
wait = "3d"
message = "nudge-2"
"""
CAMPAIGN = """
name = "letter"
kind = "campaign"
stream = "sales-de"
[[step]]
message = "letter"
"""


def parsed(text: str) -> Definition:
    return parse_program(tomllib.loads(text), day=86400.0, window=259200.0)


def test_series_is_a_line_that_ends_a_window_after_its_last_mail() -> None:
    series = parsed(SERIES)

    assert (series.kind, series.class_, series.first, series.leave_on) == ("series", 2, "nudge-1", ("engaged",))
    assert (series.when_silent, series.start) == ("inactive", "2026-12-01T08:00:00+00:00")
    assert next_stop(series, "nudge-1") == Stop("nudge-2", 259200.0, ends=False)
    assert next_stop(series, "nudge-2") == Stop("end", 259200.0, ends=True)


def test_campaign_is_one_mail() -> None:
    campaign = parsed(CAMPAIGN)

    assert (campaign.leave_on, campaign.when_silent, campaign.on_engaged) == ((), "nothing", "stay")
    assert next_stop(campaign, "letter") == Stop("end", 0.0, ends=True)


def test_a_day_lasts_what_the_stream_says() -> None:
    series = parse_program(tomllib.loads(SERIES), day=1.0, window=3.0)

    assert next_stop(series, "nudge-1").wait == 3.0


@pytest.mark.parametrize("text", [SERIES, CAMPAIGN])
def test_definition_survives_json(text: str) -> None:
    assert Definition.from_json(parsed(text).to_json()) == parsed(text)


@pytest.mark.parametrize(
    ("text", "old", "new", "says"),
    [
        (SERIES, "stream =", "streem =", "unknown key `streem`"),
        (SERIES, 'name = "nudge"', "", "missing key `name`"),
        (SERIES, '"nudge"', "7", "name: expected `str`, got `int`"),
        (SERIES, '"nudge"', '"nu dge"', "name: letters, digits"),
        (SERIES, '"series"', '"trigger"', "kind: campaign or series or reactivation, is 'trigger'"),
        (SERIES, '"3d"', '"-3d"', "step[1].wait: must not be negative, is -3d"),
        (SERIES, '"3d"', '"999999999d"', "step[1].wait: at most ten years, is 999999999d"),
        (SERIES, '"3d"', '"3 weeks"', "step[1].wait: '3 weeks' is not a duration"),
        (SERIES, '"3d"', '"2d"', "step: the wait after nudge-1 is 2d, shorter"),
        (SERIES, 'wait = "3d"', "", "step[1].wait: is missing"),
        (SERIES, 'message = "nudge-2"', 'massage = "nudge-2"', "step[1]: "),
        (SERIES, '"nudge-2"', '"nudge-1"', "step: message 'nudge-1' stands there twice"),
        (SERIES, '"nudge-2"', '"end"', "step: message 'end' is a reserved name"),
        (SERIES, '"nudge-2"', '"../x"', "step[1].message: letters, digits"),
        (SERIES, '["DE", "AT"]', '"DE"', "audience.attributes"),
        (SERIES, '09:00 Europe/Berlin"', '25:00 Europe/Berlin"', "start: '2026-12-01 25:00 Europe/Berlin' is not"),
        (SERIES, "Europe/Berlin", "Europe/Bonn", "start: '2026-12-01 09:00 Europe/Bonn' is not a time"),
        (SERIES, " Europe/Berlin", "", "start: '2026-12-01 09:00' has no zone"),
        (SERIES, "start =", 'not_after = "2026-11-01 09:00 Europe/Berlin"\nstart =', "not_after: must be after start"),
        (SERIES, "start =", 'leave_on = ["reply"]\nstart =', "leave_on[0]: engaged or click or open, is 'reply'"),
        (SERIES, "start =", 'on_engaged = "leave"\nstart =', "on_engaged: only campaigns have it"),
        (SERIES, "start =", 'waives = ["inactive"]\nstart =', "waives: only of a yearly program"),
        (SERIES, "start =", "priority = 0\nstart =", "priority: 1 to 9, is 0"),
        (SERIES, "start =", 'enrol = "future"\nstart =', "enrol: current or current_and_future or handed_over, is 'fu"),
        (SERIES, '"series"', '"reactivation"\ninstead = { inactive = "winback" }', "instead: a reactivation has none"),
        (CAMPAIGN, "[[step]]", 'leave_on = ["click"]\n[[step]]', "leave_on: only a series has it"),
        (CAMPAIGN, "[[step]]", 'when_silent = "inactive"\n[[step]]', "when_silent: only a series"),
        (CAMPAIGN, "[[step]]", '[[step]]\nmessage = "a"\n[[step]]', "step: a campaign is one mail, here are 2"),
        (CAMPAIGN, "[[step]]", '[[step]]\nwait = "1d"', "step[0].wait: the first mail is sent at once"),
        (CAMPAIGN, '[[step]]\nmessage = "letter"', "step = []", "step: at least one is needed"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(text: str, old: str, new: str, says: str) -> None:
    assert old in text

    with pytest.raises(InputError) as error:
        parsed(text.replace(old, new, 1))

    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_hasty_series_is_fine_when_silence_means_nothing() -> None:
    assert parsed(SERIES.replace("start =", 'when_silent = "nothing"\nstart =').replace('"3d"', '"1h"'))


def test_native_times_of_toml_are_read() -> None:
    series = parsed(SERIES.replace('"2026-12-01 09:00 Europe/Berlin"', "2026-12-01T09:00:00+01:00"))

    assert series.start == "2026-12-01T08:00:00+00:00"


def test_series_that_cannot_earn_its_threshold_is_refused() -> None:
    require_reachable(parsed(SERIES), Policy(threshold=30))
    require_reachable(parsed(CAMPAIGN), Policy(threshold=31))

    with pytest.raises(InputError, match="engaged needs 31 points, and 2 mails earn at most 30"):
        require_reachable(parsed(SERIES), Policy(threshold=31))
    with pytest.raises(InputError, match="at most 2"):
        require_reachable(parsed(SERIES), Policy(points=Points(open=1, click=0)))


@given(st.lists(st.integers(0, 50), min_size=1, max_size=8))
def test_every_mail_is_reached_once_and_waits_add_up(waits: list[int]) -> None:
    steps: list[dict[str, Any]] = [{"message": "m0"}]
    steps += [{"message": f"m{n}", "wait": f"{wait}h"} for n, wait in enumerate(waits, 1)]
    raw = {"name": "x", "kind": "series", "stream": "s", "when_silent": "nothing", "step": steps}
    series = parse_program(raw, day=86400.0, window=60.0)

    way, total, stop = [series.first], 0.0, next_stop(series, series.first)
    while not stop.ends:
        way.append(stop.node)
        total += stop.wait
        stop = next_stop(series, stop.node)

    assert way == [step["message"] for step in steps]
    assert way == [key for key, node in series.nodes.items() if isinstance(node, SendNode)]
    assert total == sum(waits) * 3600
    assert stop == Stop("end", 60.0, ends=True)
    assert isinstance(series.nodes["end"], EndNode)


@pytest.mark.parametrize(
    ("attributes", "holds"),
    [
        ({"country": "DE", "vip": True}, True),
        ({"country": "FR", "vip": True}, False),
        ({"country": "DE"}, False),
        ({"country": "DE", "vip": 1}, False),
        ({}, False),
    ],
)
def test_audience_is_every_attribute_with_a_listed_value(attributes: dict[str, Any], holds: bool) -> None:
    assert Audience({"country": ["DE", "AT"], "vip": [True]}).holds(attributes) is holds
    assert Audience().holds(attributes)
