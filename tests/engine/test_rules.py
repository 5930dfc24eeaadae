"""Policies: presets, slots and events as a file says them, and what contradicts itself."""

import tomllib
from datetime import time

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.policy import parse_stream
from engine.policytable import PRESETS, PolicyTable, parse_policy
from engine.programs import Definition, parse_program, require_threshold_in_reach
from engine.rules import Brake, OnEngaged, Policy
from engine.slots import EVERY_DAY, Cap, Quiet, Slots
from engine.tables import decoded
from mtad.base.errors import InputError

FULL = """
threshold = 25
points_last = "30d"
zone = "Europe/Berlin"
quiet_hours = "21:00-07:00"
sending_days = ["mon", "tue", "sat"]
caps = [{ most = 2, window = "7d" }, { most = 3, window = "7d", streams = "all", name = "often", used_up = "skip" }]
on_engaged = { campaign = "leave" }
brake = { share = 0.1 }
[[events]]
event = "purchase"
where = { plan = ["pro", "team"], trial = [false] }
points = 20
[[events]]
event = "purchase"
"""


def policy(text: str) -> Policy:
    """Also of keys that a stream may not have yet."""
    return parse_policy(decoded(tomllib.loads(text), PolicyTable))


def stream(text: str) -> Policy:
    head = 'name = "news"\nfrom = "a@example.com"\ntracking = "full"\n[policy]\n'
    return parse_stream(tomllib.loads(head + text)).policy


def test_file_says_when_and_how_often_mail_may_go() -> None:
    read = policy(FULL)

    assert read.slots == Slots(
        caps=(Cap(2, 7 * 86400.0, "2/7d"),),
        caps_all=(Cap(3, 7 * 86400.0, "often", skip=True),),
        quiet=Quiet(time(21), time(7)),
        days=frozenset({0, 1, 5}),
    )
    assert read.brake == Brake(share=0.1, least=100)
    assert read.points_last == 30 * 86400.0
    assert (read.zone, read.on_engaged) == ("Europe/Berlin", OnEngaged(series="leave", campaign="leave"))
    assert msgspec.convert(msgspec.to_builtins(read), Policy) == read


@pytest.mark.parametrize(
    ("text", "said", "line"),
    [
        ('window = "1d"', "windows of 1 days are too short for people who are away", 'window = "3d"'),
        ('window = "8d"', "windows of 8 days are so long that silence is noticed late", 'window = "3d"'),
        ("days = 14", "14 days are over before 5 attempts can be", "days = 15"),
        ("", "nothing limits how often somebody is mailed", "caps = "),
        ("", "mail goes at any hour of the night", "quiet_hours = "),
        ('quiet_hours = "21:00-07:00"', "whose zone nobody knows is held to the hours of UTC", "zone = "),
    ],
)
def test_what_is_allowed_but_seldom_meant_is_told(text: str, said: str, line: str) -> None:
    advice = list(policy(text).advice())

    assert [one for one in advice if one[0].startswith(said) and one[1].startswith(line)]


def test_nothing_is_told_where_nothing_is_left_open() -> None:
    careful = policy('quiet_hours = "21:00-07:00"\nzone = "UTC"\ncaps = [{ most = 1, window = "1d" }]')

    assert list(careful.advice()) == []


def test_nothing_said_holds_nothing_back() -> None:
    assert policy("") == Policy()
    assert Policy().slots == Slots(caps=(), caps_all=(), quiet=None, days=EVERY_DAY)


@pytest.mark.parametrize(
    ("event", "properties", "points"),
    [
        ("purchase", {"plan": "pro", "trial": False, "sum": 3}, 20),
        ("purchase", {"plan": "pro", "trial": True}, 0),
        ("purchase", {"plan": "pro", "trial": 0}, 0),
        ("purchase", {}, 0),
        ("logout", {"plan": "pro", "trial": False}, None),
    ],
)
def test_first_rule_that_fits_an_event_counts(event: str, properties: dict[str, object], points: int | None) -> None:
    rule = policy(FULL).event(event, properties)

    assert (rule and rule.points) == points


def test_preset_says_what_the_file_does_not() -> None:
    newsletter = stream('preset = "newsletter"')

    assert (newsletter.attempts, newsletter.days, newsletter.days_unclear) == (8, 180, 360)
    assert stream('preset = "newsletter"\nattempts = 3').attempts == 3
    assert stream('preset = "series"') == stream("") == Policy()


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_are_policies(preset: str) -> None:
    assert stream(f'preset = "{preset}"')


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('preset = "daily"', "preset: series or newsletter, is 'daily'"),
        ("days = 200", "policy.days_unclear: 180 is below days, 200"),
        ('on_engaged = { series = "maybe" }', "on_engaged.series: leave or stay, is 'maybe'"),
        ('zone = "Europe/Bonn"', "policy.zone: 'Europe/Bonn' is no time zone"),
        ('zone = "../etc"', "policy.zone: '../etc' is no time zone"),
        ('quiet_hours = "9pm-7am"', "policy.quiet_hours: '9pm-7am' are no hours"),
        ('quiet_hours = "21:00"', "policy.quiet_hours: '21:00' are no hours"),
        ('quiet_hours = "21:00-21:00"', "policy.quiet_hours: 21:00-21:00 is all day or never"),
        ('quiet_hours = "21:00Z-07:00Z"', "policy.quiet_hours: are in each contact's own zone"),
        ("brake = { share = 5.0 }", "policy.brake.share: a share above 0 and up to 1, is 5.0"),
        ('points_last = "0d"', "policy.points_last: must be above 0"),
        ('points_last = "soon"', "policy.points_last: 'soon'"),
        ('[[events]]\nevent = "out_of_office"', "policy.events[0]: 'out_of_office' is a report about mail"),
        ("brake = { least = 0 }", "policy.brake.least: must be 1 or more, is 0"),
        ("sending_days = []", "policy.sending_days: at least one is needed"),
        ('sending_days = ["monday"]', "sending_days[0]: mon or tue or wed or thu or fri or sat or sun, is 'monday'"),
        ('caps = [{ most = 0, window = "1d" }]', "policy.caps[0].most: 1 to 16, is 0"),
        ('caps = [{ most = 17, window = "1d" }]', "policy.caps[0].most: 1 to 16, is 17"),
        ('caps = [{ most = 1, window = "0d" }]', "policy.caps[0].window: must be above 0"),
        (
            'caps = [{ most = 3, window = "1d" }, { most = 2, window = "7d" }]',
            "policy.caps: 3 in 86400 s never binds, for 2 in 604800 s is stricter",
        ),
        (
            'caps = [{ most = 3, window = "7d" }, { most = 3, window = "7d", streams = "all" }]',
            "policy.caps: 3 in 604800 s never binds",
        ),
        ('caps = [{ most = 1, window = "1d", name = "no way" }]', "caps[0].name: letters, digits"),
        ('caps = [{ most = 1, window = "1d", used_up = "drop" }]', "caps[0].used_up: defer or skip, is 'drop'"),
        (
            'caps = [{ most = 1, window = "1d", name = "a" }, { most = 2, window = "7d", name = "a" }]',
            "policy.caps[1].name: 'a' is the name of another cap",
        ),
        ('events = [{ event = "login", points = -1 }]', "policy.events[0].points: 0 to 1000, is -1"),
        (
            'events = [{ event = "login" }, { event = "login", points = 5 }]',
            "policy.events[1]: never counts, for a rule for every 'login' stands before it",
        ),
    ],
)
def test_what_contradicts_itself_is_said_in_one_line(text: str, says: str) -> None:
    with pytest.raises(InputError) as error:
        policy(text)

    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_events_alone_may_reach_the_threshold() -> None:
    nothing = "points = { open = 0, click = 0, page = 0 }\n"
    with pytest.raises(InputError, match="cannot be reached"):
        policy(nothing)

    assert policy(nothing + 'events = [{ event = "login", points = 20 }]')


def program(name: str, mails: int, more: str = "") -> Definition:
    steps = "".join(f'[[step]]\nmessage = "m{n}"\n' + ('wait = "3d"\n' if n else "") for n in range(mails))
    raw = tomllib.loads(f'name = "{name}"\nkind = "series"\nstream = "news"\n{more}\n{steps}')
    return parse_program(raw, day=86400.0, window=1.0)


def test_threshold_that_no_series_of_the_stream_can_reach_is_refused() -> None:
    short, long = program("short", 1), program("long", 3)
    clicked = program("clicked", 1, 'leave_on = ["click"]')

    require_threshold_in_reach(Policy(threshold=45), [short, long])
    require_threshold_in_reach(Policy(threshold=46), [clicked])
    require_threshold_in_reach(Policy(threshold=46), [])
    with pytest.raises(
        InputError, match="46 cannot be reached in any series of the stream: long earns most, 45 points"
    ):
        require_threshold_in_reach(Policy(threshold=46), [short, long, clicked])


@pytest.mark.parametrize(
    ("kind", "says", "leave_on", "on_engaged"),
    [
        ("series", OnEngaged(), ("engaged",), "stay"),
        ("series", OnEngaged(series="stay"), (), "stay"),
        ("campaign", OnEngaged(), (), "stay"),
        ("campaign", OnEngaged(campaign="leave"), (), "leave"),
    ],
)
def test_stream_says_what_engaged_does_where_the_program_does_not(
    kind: str, says: OnEngaged, leave_on: tuple[str, ...], on_engaged: str
) -> None:
    raw = {"name": "x", "kind": kind, "stream": "s", "step": [{"message": "m"}]}

    made = parse_program(raw, day=86400.0, window=60.0, engaged=says)

    assert (made.leave_on, made.on_engaged) == (leave_on, on_engaged)


@given(
    st.lists(
        st.builds(lambda most, days, all_: (most, days, all_), st.integers(1, 16), st.integers(1, 30), st.booleans()),
        max_size=4,
    )
)
def test_caps_that_are_kept_each_bind_somewhere(caps: list[tuple[int, int, bool]]) -> None:
    """Of caps that are accepted, no one allows at least as much as another in at most its time."""
    text = ", ".join(
        f'{{ most = {most}, window = "{days}d", streams = "{"all" if all_ else "this"}" }}' for most, days, all_ in caps
    )
    try:
        slots = policy(f"caps = [{text}]").slots
    except InputError:
        return

    for group in (slots.caps, slots.caps_all):
        by_window = sorted(group, key=lambda cap: cap.window)
        assert [cap.most for cap in by_window] == sorted({cap.most for cap in group})
