"""The command line of what composes or signs the same mails again and again in one process: compose, sign."""

import argparse
from collections.abc import Sequence
from pathlib import Path

import msgspec

MOST_MAILS = 20_000


class Plan(msgspec.Struct, frozen=True):
    """What the command line says."""

    mails: int
    size: int
    rounds: int
    seed: int
    limit: float
    json: Path | None


def plan_of(arguments: Sequence[str], program: str, about: str, *, mails: int, done: str) -> Plan:
    """Exits where it is wrong. `mails` unless it says how many; what is `done` with them in a round is for the help."""
    parser = argparse.ArgumentParser(prog=f"benchmarks.{program}", description=about)
    parser.add_argument("--mails", type=int, default=mails, help=f"{done} in one round, at most {MOST_MAILS:,}")
    parser.add_argument("--size", type=int, default=15_000, help="bytes of a message with its signature, about")
    parser.add_argument("--rounds", type=int, default=15, help="of all parts in turn")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--limit", type=float, default=300, help="seconds until it is given up")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    found = parser.parse_args(arguments)
    if not 1 <= found.mails <= MOST_MAILS:
        parser.error(f"--mails: 1 to {MOST_MAILS:,}, is {found.mails}")
    if found.rounds < 1:
        parser.error("--rounds: at least 1")
    return Plan(**vars(found))
