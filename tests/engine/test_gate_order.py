"""The order of the gate, against the table of engine/README.md, stated here once more and by itself."""

from collections.abc import Callable
from datetime import UTC, datetime, time, timedelta
from itertools import combinations, product
from typing import Any, Literal

import msgspec
from hypothesis import event, given, settings
from hypothesis import strategies as st

from engine.facts import Defer, Facts, Send, Skip, Verdict
from engine.gate import Context, Suspended, verdict
from engine.programs import Audience, Definition, EndNode, SendNode
from engine.rules import Policy
from engine.slots import Cap, Quiet, Slots

# A Monday, half past nine in Berlin; the mail lives until Thursday.
NOW = datetime(2026, 11, 2, 8, 30, tzinfo=UTC)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
LAST = NOW + 3 * DAY
WEEK = 7 * 86400.0
STREAM = 3


Kind = Literal["campaign", "series", "reactivation"]


KINDS: tuple[Kind, ...] = ("campaign", "series", "reactivation")


class World(msgspec.Struct, frozen=True):
    """A mail, and what decides beside it."""

    facts: Facts
    kind: Kind
    on_engaged: Literal["leave", "stay"]
    held: Suspended
    rules: Slots


Says = Callable[[World], tuple[str, datetime] | str | None]
"""The reason if the row holds, with a time if the mail only waits."""


def suppressed(world: World) -> str | None:
    return world.facts.suppressed_all and f"suppressed:{world.facts.suppressed_all}"


def marketing(world: World) -> str | None:
    why = world.facts.suppressed_marketing
    return why and ("complained" if why == "complained" else f"suppressed:{why}")


def permission(world: World) -> str | None:
    return {None: "not_subscribed", "unconfirmed": "not_confirmed", "unsubscribed": "unsubscribed"}.get(
        world.facts.subscription
    )


def on_break(world: World) -> tuple[str, datetime] | str | None:
    until = world.facts.break_until
    if until is None or until <= NOW:
        return None
    return "contact_on_break" if world.kind == "campaign" and world.facts.class_ == 2 else ("contact_on_break", until)


def left(world: World) -> str | None:
    if world.facts.entry_ended:
        return f"left:{world.facts.entry_why}"
    leaves = world.kind == "campaign" and world.on_engaged == "leave" and world.facts.state == "engaged"
    return "left:engaged" if leaves and world.facts.since and world.facts.since > world.facts.created else None


def inactive(world: World) -> str | None:
    phases = {"cooling": "cooling", "trying": "in_reactivation", "resting": "resting"}
    phase = phases.get(world.facts.state or "")
    if world.kind == "reactivation":
        return {"in_reactivation": None, None: "left:came_back"}.get(phase, f"inactive:{phase}")
    return phase and f"inactive:{phase}"


def suspended(world: World) -> tuple[str, datetime] | None:
    for kind, until in (
        ("campaign", world.held.programs.get(world.facts.program_id)),
        ("domain", world.held.domains.get(world.facts.domain)),
    ):
        if until and until > NOW:
            return f"suspended:{kind}", min(until, world.facts.not_after)
    return None


def slot(world: World) -> tuple[str, datetime] | str | None:
    """Minute by minute, as the clock on the wall in Berlin shows it (UTC + 1 all week)."""
    why = ""
    sent = [at for at in world.facts.sent or () if at != world.facts.slot]
    for n in range(14 * 1440 + 1):
        at = NOW + n * MINUTE
        if at >= world.facts.not_after:
            return "no_slot"
        wall = at + HOUR
        for cap in (*world.rules.caps, *world.rules.caps_all):
            window = timedelta(seconds=cap.window)
            if sum(at - window < when <= at for when in sent) >= cap.most:
                if cap.skip:
                    return f"cap:{cap.name}"
                why = f"cap:{cap.name}"
                break
        else:
            if world.rules.quiet and is_quiet(world.rules.quiet, wall.time()):
                why = "quiet_hours"
            elif wall.weekday() not in world.rules.days:
                why = "sending_day"
            else:
                return (why, at) if n else None
    return "no_slot"


def is_quiet(quiet: Quiet, wall: time) -> bool:
    if quiet.start < quiet.end:
        return quiet.start <= wall < quiet.end
    return wall >= quiet.start or wall < quiet.end


# In order: what it says, and which classes it binds (T transactional, G triggered, B bulk).
TABLE: list[tuple[Says, str]] = [
    (lambda w: "erased" if w.facts.erased else None, "TGB"),
    (suppressed, "TGB"),
    (lambda w: "suppressed_domain" if w.facts.domain == "blocked.test" else None, "TGB"),
    (marketing, "GB"),
    (permission, "GB"),
    (on_break, "GB"),
    (lambda w: "cancelled" if w.facts.program_status == "cancelled" else None, "TGB"),
    (lambda w: ("paused", NOW) if w.facts.program_status == "paused" else None, "TGB"),
    (lambda w: "too_late" if w.facts.not_after <= NOW else None, "TGB"),
    (left, "GB"),
    (inactive, "GB"),
    (lambda w: None if w.facts.attributes.get("country") == "DE" else "left_audience", "GB"),
    (suspended, "TGB"),
    (slot, "GB"),
]


def expected(world: World) -> Verdict:
    for says, classes in TABLE:
        if "TGB"[world.facts.class_] not in classes:
            continue
        match says(world):
            case None:
                continue
            case str(reason):
                return Skip(reason)
            case (reason, until):
                return Defer(max(until, NOW + MINUTE), reason)
    return Send()


USUAL: dict[str, Any] = {
    "job_id": 1, "stream_id": STREAM, "program_id": 5, "created": NOW - DAY, "attempt": 0, "erased": False,
    "domain": "example.com", "subscription": "subscribed", "program_status": "running", "not_after": LAST,
    "entry_ended": False, "state": "active", "attributes": {"country": "DE"},
}  # fmt: skip
WRONG: dict[str, tuple[Any, ...]] = {
    "erased": (True,),
    "suppressed_all": ("hard_bounce", "mailbox_full", "manual", "erased"),
    "suppressed_marketing": ("complained", "manual"),
    "domain": ("blocked.test", "held.test"),
    "subscription": (None, "unconfirmed", "unsubscribed"),
    "break_until": (NOW + MINUTE / 2, NOW + DAY, NOW),
    "program_status": ("cancelled", "paused"),
    "not_after": (NOW, NOW - HOUR, NOW + MINUTE, NOW + 5 * HOUR),
    "entry_ended": (True,),
    "state": ("cooling", "trying", "resting", "engaged", "reactivated"),
    "attributes": ({"country": "FR"}, {}),
    "program_id": (7,),
}


@st.composite
def worlds(draw: st.DrawFn) -> World:
    values: dict[str, Any] = dict.fromkeys(Facts.__struct_fields__)
    values |= USUAL
    values |= {
        name: draw(st.sampled_from(WRONG[name])) for name in draw(st.sets(st.sampled_from([*WRONG]), max_size=3))
    }
    sent = sorted(draw(st.lists(st.integers(1, 9 * 1440), max_size=4, unique=True)), reverse=True)
    values |= {"sent": [NOW - n * MINUTE for n in sent], "sent_on": [STREAM] * len(sent)}
    values |= {
        "class_": draw(st.sampled_from((2, 2, 1, 0))),
        "entry_why": draw(st.sampled_from(("clicked", "opened", "engaged", "silent", "inactive", "came_back", "done"))),
        "since": draw(st.sampled_from((NOW - 2 * DAY, NOW - MINUTE))),
        "slot": draw(st.sampled_from([None, *values["sent"]])),
    }
    caps = st.builds(Cap, st.integers(1, 3), st.sampled_from((86400.0, WEEK)), st.just("x"), st.booleans())
    rules = Slots(
        caps=tuple(draw(st.lists(caps, max_size=1))),
        caps_all=tuple(draw(st.lists(caps, max_size=1))),
        quiet=draw(st.sampled_from((None, Quiet(time(21), time(7)), Quiet(time(20), time(9, 31))))),
        days=frozenset(draw(st.sampled_from((range(7), range(7), (1, 3), (5, 6))))),
    )
    held = Suspended({"held.test": draw(st.sampled_from((NOW, NOW + HOUR, NOW + 9 * DAY)))}, {7: NOW + DAY})
    kind: Kind = draw(st.sampled_from(KINDS))
    on_engaged: Literal["leave", "stay"] = draw(st.sampled_from(("leave", "stay")))
    return World(Facts(**values), kind, on_engaged, held, rules)


def said(world: World) -> Verdict:
    definition = Definition(
        name="x", kind=world.kind, stream="s", first="m", audience=Audience({"country": ["DE"]}),
        on_engaged=world.on_engaged,
        nodes={"m": SendNode("m", "end"), "end": EndNode()},
    )  # fmt: skip
    policy = Policy(slots=world.rules, zone="Europe/Berlin")
    return verdict(world.facts, Context(definition, frozenset({"blocked.test"}), world.held, policy), NOW)


def bare(found: Verdict) -> Verdict:
    """Without the zone, which is told beside it."""
    return Defer(found.until, found.reason) if isinstance(found, Defer) else found


@settings(max_examples=150, deadline=None)
@given(worlds())
def test_first_row_of_the_table_that_holds_decides(world: World) -> None:
    found = said(world)

    event(str(getattr(found, "reason", "send")))
    assert bare(found) == expected(world)
    assert not isinstance(found, Defer) or found.until >= NOW + MINUTE


def test_of_every_two_things_that_are_wrong_the_first_decides() -> None:
    wrong = [(name, value) for name, values in WRONG.items() for value in values]
    base: dict[str, Any] = dict.fromkeys(Facts.__struct_fields__)
    base |= USUAL | {"entry_why": "clicked", "since": NOW - MINUTE}
    held = Suspended({"held.test": NOW + HOUR}, {7: NOW + DAY})
    rules = Slots(quiet=Quiet(time(9), time(9, 45)))
    for two, class_, kind in product(combinations(wrong, 2), (0, 1, 2), KINDS):
        world = World(Facts(**(base | dict(two) | {"class_": class_})), kind, "leave", held, rules)

        assert bare(said(world)) == expected(world), (two, class_, kind)
