"""``python -m benchmarks.gate``: the CPU time of one verdict, for a seeded mix of people, with all facts at hand.

Seven in ten may be sent to; against each of the others speaks one of the things that the
gate looks at. The share of each is that of --seed, the same in every run. The stream has
caps of its own and over all streams, quiet hours and sending days, and everybody has had
16 mails of it and 16 of others; `plain` is the same on a stream without.
"""

import random
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import time, timedelta
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.cpu import Cost, costs, exhaust
from benchmarks.entry import command_line, finish, machine
from benchmarks.letters import NOW, letters
from engine.facts import Defer, Facts, Send, Skip, Verdict
from engine.gate import Context, Suspended, verdict
from engine.programs import Audience
from engine.rules import Policy
from engine.slots import EVERY_DAY, Cap, Quiet, Slots
from mtad.base.errors import InputError

MOST_FACTS = 200_000

_SENT = 0.7
_BLOCKED = "blocked.example.net"
_SUSPENDED = 6

# One thing that speaks against a mail, in the order in which the gate looks.
_AGAINST: tuple[dict[str, Any], ...] = (
    {"erased": True},
    {"suppressed_all": "hard_bounce"},
    {"domain": _BLOCKED},
    {"suppressed_marketing": "complained"},
    {"subscription": "unsubscribed"},
    {"break_until": NOW + timedelta(days=1)},
    {"program_status": "cancelled"},
    {"program_status": "paused"},
    {"not_after": NOW - timedelta(hours=1)},
    {"entry_ended": True, "entry_why": "clicked"},
    {"state": "cooling"},
    {"attributes": {"country": "FR"}},
    {"program_id": _SUSPENDED},
    {"sent": [NOW - timedelta(hours=hour) for hour in (30, 20)], "sent_on": [3, 3]},
    {"zone": "Asia/Tokyo"},
    {"zone": "Pacific/Auckland"},
)

# It is five in the afternoon of a Sunday, and night in Tokyo and Auckland.
_POLICY = Policy(
    slots=Slots(
        caps=(Cap(2, 2 * 86400.0, "2/2d"), Cap(8, 30 * 86400.0, "8/30d")),
        caps_all=(Cap(16, 30 * 86400.0, "16/30d/all"),),
        quiet=Quiet(time(21), time(7)),
        days=EVERY_DAY - {2},
    ),
    zone="Europe/Berlin",
)
# Nothing of it within the windows of the caps.
_SENT_TO_ALL = {
    "sent": [NOW - timedelta(days=31 + day) for day in range(32, 0, -1)],
    "sent_on": [3, 4] * 16,
}


class Plan(msgspec.Struct, frozen=True):
    """The command line."""

    facts: int
    rounds: int
    seed: int
    limit: float
    json: Path | None


class Report(msgspec.Struct, frozen=True):
    """What --json writes; µs of one core a verdict. `verdicts`: how many of each the mix has."""

    facts: int
    mixed: Cost
    plain: Cost
    by_verdict: Mapping[str, Cost]
    verdicts: Mapping[str, int]
    reasons: Mapping[str, int]
    command: list[str]
    machine: Mapping[str, str | int]


def main() -> None:
    """Run, print a line, write the JSON."""
    plan = _plan()
    finish("gate", measure(plan), limit=plan.limit, json=plan.json, line=_line, good=lambda _: True)


def _plan() -> Plan:
    parser = command_line("gate", __doc__, limit=300)
    parser.add_argument("--facts", type=int, default=20_000, help=f"judged in one round, at most {MOST_FACTS:,}")
    parser.add_argument("--rounds", type=int, default=15)
    found = parser.parse_args()
    if not 100 <= found.facts <= MOST_FACTS:
        parser.error(f"--facts: 100 to {MOST_FACTS:,}, is {found.facts}")
    if found.rounds < 1:
        parser.error("--rounds: at least 1")
    return Plan(**vars(found))


async def measure(plan: Plan) -> Report:
    """The whole mix, and each kind of verdict by itself."""
    made = letters(plan.facts, 0, plan.seed)
    draw = random.Random(plan.seed)
    audience = Audience({"country": ["DE", "AT", "CH"]})
    definition = msgspec.structs.replace(made.program.definition, audience=audience)
    plain = Context(definition, frozenset({_BLOCKED}), Suspended({}, {_SUSPENDED: NOW + timedelta(days=1)}))
    context = msgspec.structs.replace(plain, policy=_POLICY)
    mixed = [_against(msgspec.structs.replace(facts, **_SENT_TO_ALL), draw) for facts in made.facts]
    said = [verdict(facts, context, NOW) for facts in mixed]
    kinds: dict[str, list[Facts]] = {"send": [], "skip": [], "defer": []}
    for facts, what in zip(mixed, said, strict=True):
        kinds[_kind(what)].append(facts)
    if not all(kinds.values()):
        raise InputError(f"--seed {plan.seed}: no mail of each kind among {plan.facts}")
    # As many of each kind as there are of all, so that the costs are of one verdict.
    works: dict[str, Callable[[], object]] = {
        name: _judging((few * (plan.facts // len(few) + 1))[: plan.facts], context)
        for name, few in {"mixed": mixed, **kinds}.items()
    } | {"plain": _judging(mixed, plain)}
    found = await costs(works, plan.facts, plan.rounds)
    return Report(
        facts=len(mixed),
        mixed=found.pop("mixed"),
        plain=found.pop("plain"),
        by_verdict=found,
        verdicts={name: len(few) for name, few in kinds.items()},
        reasons=Counter(str(getattr(what, "reason", "send")) for what in said),
        command=sys.argv[1:],
        machine=machine("none"),
    )


def _against(facts: Facts, draw: random.Random) -> Facts:
    return facts if draw.random() < _SENT else msgspec.structs.replace(facts, **draw.choice(_AGAINST))


def _kind(what: Verdict) -> str:
    match what:
        case Send():
            return "send"
        case Skip():
            return "skip"
        case Defer():
            return "defer"


def _judging(all_facts: list[Facts], context: Context) -> Callable[[], object]:
    return lambda: exhaust(verdict(facts, context, NOW) for facts in all_facts)


def _line(report: Report) -> str:
    kinds = ", ".join(f"{name} {cost.median:.2f}" for name, cost in report.by_verdict.items())
    return f"{report.mixed.median:.2f} µs a verdict ({kinds}); {report.plain.median:.2f} without slots"


if __name__ == "__main__":
    main()
