"""The end of the demo: do audit, sink and ledger agree? And the table that says so. Pure."""

from collections import Counter
from typing import Any

import msgspec
from rich.table import Table

from mtad.lab.accounts import Ended, compare
from mtad.lab.verify import Verdict

# Hits of these never earn points.
_MACHINES = ("machine", "scanner", "veiled")


class Everybody(msgspec.Struct, frozen=True):
    """Series and newsletter to all who can be reached, whatever they do: computed, not sent."""

    mails: int
    read: int


class Facts(msgspec.Struct, frozen=True):
    """What everybody said, each from its own books."""

    audits: list[dict[str, Any]]  # of `mtad audit --json`
    jobs: list[int | None]  # of each copy, by its envelope's sender; None: not ours
    ledger: list[Ended]
    verdicts: list[Verdict]
    states: dict[str, int]
    hits: dict[str, tuple[int, int]]  # by class: how many, and the points that they earned
    scanner_points: int
    newsletter: dict[str, int]  # delivered, by state at the send
    read: int  # mails of series and newsletter, by people
    everybody: Everybody
    sessions: int
    refused: int
    failed_requests: list[str]
    workers: int
    exit_code: int | None  # of `mtad run`; None: it runs
    deadlocks: int
    fdatasync_ms: float
    seconds: float


class Result(msgspec.Struct):
    """What `--json` prints. All is well when `disagreements` is empty."""

    seconds: float
    audits: list[dict[str, Any]]
    copies: int
    delivered: int
    duplicates: int
    arrived_in_doubt: int
    signed: int
    one_click: int
    machine_hits: int
    machine_points: int
    states: dict[str, int]
    mails: int  # of series and newsletter, delivered
    read: int
    everybody: Everybody
    fdatasync_ms: float
    disagreements: list[str]


def reckon(facts: Facts) -> Result:
    """Compare, and name whatever does not agree."""
    books = compare(Counter(job for job in facts.jobs if job is not None), facts.ledger)
    machines = [facts.hits.get(kind, (0, 0)) for kind in _MACHINES]
    result = Result(
        seconds=round(facts.seconds, 1),
        audits=facts.audits,
        copies=len(facts.jobs),
        delivered=books.delivered,
        duplicates=books.duplicates,
        arrived_in_doubt=books.unknown,
        signed=sum(verdict.signed for verdict in facts.verdicts),
        one_click=sum(verdict.one_click for verdict in facts.verdicts),
        machine_hits=sum(count for count, _ in machines),
        machine_points=sum(points for _, points in machines),
        states=facts.states,
        mails=sum(audit["delivered"] for audit in facts.audits[:2]),
        read=facts.read,
        everybody=facts.everybody,
        fdatasync_ms=round(facts.fdatasync_ms, 2),
        disagreements=[],
    )
    claims = [*_claims_of_books(facts, result), *_claims_of_story(facts, result)]
    result.disagreements = [text for holds, text in claims if not holds] + books.disagreements
    return result


def _claims_of_books(facts: Facts, result: Result) -> list[tuple[bool, str]]:
    """What must hold in every run, and what to say when it does not."""
    copies = result.copies
    delivered = sum(audit["delivered"] for audit in facts.audits)
    accounted = result.delivered + result.duplicates + result.arrived_in_doubt
    return [
        *((audit["adds_up"], f"audit {audit['program']} does not add up") for audit in facts.audits),
        *((_pending(audit) == 0, f"{audit['program']}: {_pending(audit)} still pending") for audit in facts.audits),
        (None not in facts.jobs, "a copy has an envelope sender that is not ours"),
        (delivered == result.delivered, f"audit says {delivered} delivered, the ledger {result.delivered}"),
        (copies == accounted, f"{copies} copies arrived, the ledger accounts for {accounted}"),
        (result.signed == copies, f"{copies - result.signed} of {copies} signatures do not verify"),
        (result.one_click == copies, f"{copies - result.one_click} of {copies} do not sign their one-click fields"),
        (result.machine_points == 0, f"machines earned {result.machine_points} points"),
        (facts.scanner_points == 0, f"mailboxes behind scanners hold {facts.scanner_points} points"),
        (facts.newsletter.get("cooling", 0) == 0, "an Inactive contact got the newsletter"),
        (not facts.failed_requests, f"{len(facts.failed_requests)} requests failed: {facts.failed_requests[:3]}"),
        (facts.workers == 3, f"{facts.workers} workers lived, not 2 and one in place of the killed"),
        (not facts.exit_code, f"mtad run ended with exit {facts.exit_code}"),
        (facts.deadlocks == 0, f"{facts.deadlocks} deadlocks"),
    ]


def _claims_of_story(facts: Facts, result: Result) -> list[tuple[bool, str]]:
    """What the story promises to show."""
    series, newsletter, winback = facts.audits
    return [
        (result.machine_hits > 0, "no scanner was seen"),
        (series["ended"].get("engaged", 0) > 0, "nobody left the series as Engaged"),
        (series["ended"].get("unsubscribed", 0) > 0, "nobody unsubscribed"),
        (series["ended"].get("silent", 0) > 0, "nobody stayed silent"),
        (series["bounced"] > 0, "nothing bounced"),
        (series["skipped"].get("left:engaged", 0) > 0, "no queued mail of an Engaged contact was withdrawn"),
        (series["skipped"].get("unsubscribed", 0) > 0, "no queued mail of somebody who left was withdrawn"),
        (facts.newsletter.get("engaged", 0) > 0, "no Engaged contact got the newsletter"),
        (any(why.startswith("inactive") for why in newsletter["skipped"]), "nobody was left out as Inactive"),
        (winback["ended"].get("came_back", 0) > 0, "nobody came back from the reactivation"),
        (winback["ended"].get("silent", 0) > 0, "nobody stayed silent through the reactivation"),
        (facts.states.get("resting", 0) > 0, "nobody rests"),
    ]


def table(facts: Facts, result: Result) -> Table:
    """The books, for people."""
    made = Table(title="The books", title_justify="left", show_header=False, pad_edge=False)
    made.add_column("what")
    made.add_column("figure")
    for audit in facts.audits:
        made.add_row(f"{audit['program']}: enrolled", _sum_of(audit))
        if audit["entered"]:
            made.add_row(f"{audit['program']}: entered", _entries_of(audit))
    made.add_section()
    rest = f" + {result.arrived_in_doubt:,} in doubt" if result.arrived_in_doubt else ""
    made.add_row(
        "copies at the sink",
        f"{result.copies:,} = {result.delivered:,} delivered by the ledger + {result.duplicates:,} sent twice,"
        f" marked in doubt by the kill{rest}",
    )
    made.add_row("signatures verified", f"{result.signed:,} of {result.copies:,} (dkimpy)")
    made.add_row("one-click fields signed", f"{result.one_click:,} of {result.copies:,}")
    made.add_row(
        "hits of machines", f"{result.machine_hits:,}, and the points that they earned: {result.machine_points}"
    )
    made.add_row("audience", ", ".join(f"{n:,} {state}" for state, n in sorted(result.states.items())))
    newsletter = ", ".join(f"{n:,} {state}" for state, n in sorted(facts.newsletter.items()))
    made.add_row("newsletter went to", newsletter)
    made.add_row(
        "beside mail to everybody",
        f"{result.mails:,} mails of series and newsletter, not {result.everybody.mails:,}"
        f" ({1 - result.mails / result.everybody.mails:.0%} saved); read {result.read:,} times,"
        f" not {result.everybody.read:,} ({result.read / max(result.everybody.read, 1):.0%} kept)",
    )
    made.add_row("SMTP", f"{facts.sessions:,} sessions for {result.copies:,} mails, {facts.refused:,} refusals")
    made.add_row("disk", f"fdatasync takes {result.fdatasync_ms:.2f} ms")
    made.add_row("time", f"{result.seconds:.0f} s")
    made.add_section()
    verdict = "[green]audit, sink and ledger agree[/]" if not result.disagreements else "[red]they do not agree[/]"
    made.add_row("verdict", verdict)
    for text in result.disagreements:
        made.add_row("", f"[red]{text}[/]")
    return made


def _pending(audit: dict[str, Any]) -> int:
    return sum(audit["pending"].values())


def _sum_of(audit: dict[str, Any]) -> str:
    """The sum enrolled = delivered + bounced + … as one line."""
    skipped = [f"{n:,} {reason}" for reason, n in audit["skipped"].items()]
    parts = [f"{audit[name]:,} {name.replace('_', ' ')}" for name in ("delivered", "bounced", "expired", "in_doubt")]
    return f"{audit['enrolled']:,} = " + " + ".join([*parts, *skipped, f"{_pending(audit):,} pending"])


def _entries_of(audit: dict[str, Any]) -> str:
    ended = [f"{n:,} {why}" for why, n in audit["ended"].items()]
    return f"{audit['entered']:,} = " + " + ".join([f"{audit['running']:,} running", *ended])
