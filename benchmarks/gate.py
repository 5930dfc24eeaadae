"""``python -m benchmarks.gate``: the CPU time of one verdict, for a seeded mix of people, with all facts at hand.

Seven in ten may be sent to; against each of the others speaks one of the things that the
gate looks at. The share of each is that of --seed, the same in every run.
"""

import argparse
import random
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.cpu import Cost, costs, exhaust
from benchmarks.entry import finish, machine
from benchmarks.letters import NOW, letters
from engine.facts import Defer, Facts, Send, Skip, Verdict
from engine.gate import Context, verdict
from engine.programs import Audience
from mtad.base.errors import InputError

MOST_FACTS = 200_000

_SENT = 0.7
_BLOCKED = "blocked.example.net"

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
)


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
    by_verdict: Mapping[str, Cost]
    verdicts: Mapping[str, int]
    reasons: Mapping[str, int]
    command: list[str]
    machine: Mapping[str, str | int]


def main() -> None:
    """Run, print a line, write the JSON."""
    plan = _plan(sys.argv[1:])
    finish("gate", measure(plan), limit=plan.limit, json=plan.json, line=_line, good=lambda _: True)


def _plan(arguments: list[str]) -> Plan:
    parser = argparse.ArgumentParser(prog="benchmarks.gate", description=__doc__.partition("\n")[2])
    parser.add_argument("--facts", type=int, default=20_000, help=f"judged in one round, at most {MOST_FACTS:,}")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--limit", type=float, default=300, help="seconds until it is given up")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    found = parser.parse_args(arguments)
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
    context = Context(msgspec.structs.replace(made.program.definition, audience=audience), frozenset({_BLOCKED}))
    mixed = [_against(facts, draw) for facts in made.facts]
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
    }
    found = await costs(works, plan.facts, plan.rounds)
    return Report(
        facts=len(mixed),
        mixed=found.pop("mixed"),
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
    return f"{report.mixed.median:.2f} µs a verdict ({kinds})"


if __name__ == "__main__":
    main()
