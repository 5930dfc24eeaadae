"""The command line of what composes or signs the same mails again and again in one process: compose, sign."""

from pathlib import Path

import msgspec

from benchmarks.entry import command_line

MOST_MAILS = 20_000


class Plan(msgspec.Struct, frozen=True):
    """What the command line says."""

    mails: int
    size: int
    rounds: int
    seed: int
    limit: float
    json: Path | None


def plan_of(program: str, doc: str, *, mails: int, done: str) -> Plan:
    """Exits where it is wrong. `mails` unless it says how many; what is `done` with them in a round is for the help."""
    parser = command_line(program, doc, limit=300)
    parser.add_argument("--mails", type=int, default=mails, help=f"{done} in one round, at most {MOST_MAILS:,}")
    parser.add_argument("--size", type=int, default=15_000, help="bytes of a message with its signature, about")
    parser.add_argument("--rounds", type=int, default=15, help="of all parts in turn")
    found = parser.parse_args()
    if not 1 <= found.mails <= MOST_MAILS:
        parser.error(f"--mails: 1 to {MOST_MAILS:,}, is {found.mails}")
    if found.rounds < 1:
        parser.error("--rounds: at least 1")
    return Plan(**vars(found))
