"""Answers as an operator sees them. Rows in, rich renderables out.

Addresses, replies and URLs come from strangers: they are shown as text, never as
markup, and what could move a terminal's cursor is replaced.
"""

from collections.abc import Mapping
from datetime import timedelta

from rich.columns import Columns
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from mtad.ops.answers.counts import Pending
from mtad.ops.answers.person import Event, Mail, Person, Transition
from mtad.ops.answers.progress import Progress
from mtad.ops.answers.report import Report
from mtad.ops.answers.times import local
from mtad.ops.answers.why import Explanation
from mtad.ops.audit import Audit

_STYLES = {
    "delivered": "green",
    "engaged": "green",
    "skipped": "yellow",
    "in_doubt": "yellow",
    "bounced": "red",
    "expired": "red",
}


def plain(text: object, style: str = "") -> Text:
    """Text from outside, harmless."""
    return Text("".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in str(text)), style)


def audit_view(found: Audit) -> RenderableType:
    """Both sums, then whether they add up and, if not, which rows are wrong."""
    jobs, entries = _table(), _table()
    _total(jobs, "enrolled", found.enrolled)
    _counts(jobs, {"delivered": found.delivered, "bounced": found.bounced, "expired": found.expired})
    _reasons(jobs, "skipped", found.skipped)
    _counts(jobs, {"in doubt, given up": found.in_doubt})
    _pending(jobs, found.pending)
    _total(jobs, "sum", found.accounted)
    _total(entries, "entered", found.entered)
    _counts(entries, {"running": found.running})
    _reasons(entries, "ended", found.ended)
    _total(entries, "sum", found.running + sum(found.ended.values()))
    tables = [jobs, entries] if found.entered else [jobs]
    verdict = Text("✓ it adds up", "bold green") if found.adds_up else Text("✗ it does not add up", "bold red")
    holes = [plain(f"  {hole}", "red") for hole in found.holes]
    return Group(
        _title(found.program, f"at {local(found.at)}"), Text(), Columns(tables, padding=(0, 4)), Text(), verdict, *holes
    )


def status_view(now: Progress) -> RenderableType:
    """How far it is, refreshed every second on a terminal."""
    why = f": {now.why}" if now.why else ""
    table = _table()
    _counts(table, {"delivered": now.delivered, "deferred": now.pending.deferred})
    _reasons(table, "skipped", now.skipped)
    _counts(table, {"bounced": now.bounced, "expired": now.expired, "in doubt": now.in_doubt + now.pending.in_doubt})
    _counts(table, {"queued": now.pending.waiting + now.pending.begun})
    if now.kind != "campaign":
        _counts(table, {"people on their way": now.running})
    table.add_row("mails a second", "-" if now.rate is None else f"{now.rate:,.1f}")
    table.add_row("time left", duration(now.seconds_left))
    if now.status == "running" and now.next_due and now.next_due > now.at:
        table.add_row("next mail", local(now.next_due))
    done = ProgressBar(total=max(1, now.enrolled), completed=now.ended, width=30)
    progress = Table.grid(padding=(0, 1))
    progress.add_row(done, f"{now.ended:,} of {now.enrolled:,}")
    return Group(_title(now.program, f"{now.kind} on {now.stream}, {now.status}{why}"), progress, Text(), table)


def report_view(found: Report) -> RenderableType:
    """People first; machines apart from them and last."""
    people = _table()
    _counts(people, {"enrolled": found.enrolled, "delivered": found.delivered})
    people.add_row("opened", _share(found.opened, found.delivered))
    people.add_row("clicked", _share(found.clicked, found.delivered))
    _counts(people, {"newly Engaged": found.engaged, "unsubscribed": found.unsubscribed})
    _counts(people, {"complained": found.complained})
    rest = _table()
    _reasons(rest, "bounced", found.bounced)
    _reasons(rest, "skipped", found.skipped)
    _counts(rest, {"expired": found.expired, "in doubt, given up": found.in_doubt})
    _pending(rest, found.pending)
    parts: list[RenderableType] = [
        _title(found.program, f"{found.kind} on {found.stream}, {found.status}"),
        Text(),
        Columns([people, rest], padding=(0, 4)),
    ]
    if len(found.mails) > 1:
        parts += [Text(), _mails(found)]
    if found.links:
        parts += [Text(), _links(found)]
    machines = [
        f"{class_}: {', '.join(f'{kind} {n:,}' for kind, n in kinds.items())}"
        for class_, kinds in found.machine.items()
    ]
    parts.append(Text())
    parts.append(plain(f"machines, not counted: {'; '.join(machines) or 'none'}", "dim"))
    if found.unjudged:
        parts.append(plain(f"not judged yet: {found.unjudged:,} hits", "dim"))
    return Group(*parts)


def person_view(person: Person) -> RenderableType:
    """Who it is, where the person stands on each stream, and all that happened."""
    contact = person.contact
    about = Table.grid(padding=(0, 2))
    for identity in person.identities:
        about.add_row(plain(identity.kind, "dim"), plain(identity.key))
    for name, value in contact.attributes.items():
        about.add_row(plain(name, "dim"), plain(value))
    for row in person.suppressions:
        until = f" until {local(row.until)}" if row.until else ""
        closed = f", released {local(row.released)}" if row.released else ""
        what = f"{row.key}, {row.reason} by {row.source}, {local(row.created)}{until}{closed} ({row.scope})"
        about.add_row(Text("suppressed", "red" if row.open else "dim"), plain(what))
    state = "erased" if contact.erased else f"contact {contact.id}, since {local(contact.created)}"
    if contact.merged_into:
        state += f", merged into contact {contact.merged_into}"
    return Group(_title(contact.address, state), about, Text(), _streams(person), Text(), _history(person))


def why_view(found: Explanation) -> RenderableType:
    """A paragraph for each program."""
    parts: list[RenderableType] = []
    for chapter in found.programs:
        parts.append(_title(chapter.program, f"{chapter.kind} on {chapter.stream}, {chapter.status}"))
        parts.extend(_sentence(text) for text in chapter.sentences)
    return Group(*parts) if parts else Text("There is no program yet.")


def _sentence(text: str) -> RenderableType:
    """Below its heading, and no wider than it is: what goes into a file has no trailing blanks."""
    return Padding(plain(text), (0, 0, 0, 2), expand=False)


def _streams(person: Person) -> RenderableType:
    """Of each stream permission and state, and below them policy, facts and what comes next."""
    parts: list[RenderableType] = []
    for on in person.streams:
        state = Text.assemble(
            plain(on.stream, "bold"), "  ", plain(on.state, _STYLES.get(on.state, "")), f", score {on.score:,}"
        )
        if on.since:
            state.append(f", since {local(on.since)}")
        permission = "no permission"
        if on.status and on.changed:
            permission = f"{on.status} {local(on.changed)} by {on.changed_by} ({on.basis}: {on.source})"
        parts.append(state)
        parts += [_sentence(text) for text in (permission, *person.explained.get(on.stream, ()))]
    return Group(*parts)


def _history(person: Person) -> RenderableType:
    table = Table(box=None, header_style="dim", pad_edge=False)
    for name in ("time", "mail", "what", "more"):
        table.add_column(name, no_wrap=name == "time")
    for item in person.history:
        match item:
            case Mail(at=None):
                more = f"{item.attempts} attempts, {item.reason}" if item.attempts else item.reason
                table.add_row(local(item.due or item.created), plain(item.message), plain(item.fate), plain(more))
            case Mail():
                more = " ".join(text for text in (item.reason, item.reply) if text)
                what = plain(item.fate.replace("_", " "), _STYLES.get(item.fate, ""))
                table.add_row(local(item.at or item.created), plain(item.message), what, plain(more))
            case Event():
                what = plain(f"{item.kind} ({item.class_ or 'not judged yet'})" if item.message else item.kind)
                more = f"link {item.link} {item.url}" if item.url else ""
                table.add_row(local(item.at), plain(item.message or ""), what, plain(more))
            case Transition():
                back = " taken back" if item.takes_back else ""
                what = plain(f"{item.from_state} → {item.to_state}{back}", "dim" if back else "bold")
                more = ": ".join(text for text in (item.why.replace("_", " "), item.fact) if text)
                table.add_row(local(item.at), plain(item.stream), what, plain(more))
    return table


def _mails(found: Report) -> RenderableType:
    table = Table(box=None, header_style="dim", pad_edge=False)
    table.add_column("mail")
    for name in ("delivered", "opened", "clicked"):
        table.add_column(name, justify="right")
    for mail in found.mails:
        opened, clicked = (_share(n, mail.delivered) for n in (mail.opened, mail.clicked))
        table.add_row(plain(mail.message), f"{mail.delivered:,}", opened, clicked)
    return table


def _links(found: Report) -> RenderableType:
    table = Table(box=None, header_style="dim", pad_edge=False)
    table.add_column("mail")
    table.add_column("link", justify="right")
    table.add_column("clicks", justify="right")
    table.add_column("people", justify="right")
    table.add_column("url", overflow="fold")
    for link in found.links:
        table.add_row(plain(link.message), f"{link.link}", f"{link.clicks:,}", f"{link.people:,}", plain(link.url))
    return table


def _title(name: str, what: str) -> Text:
    return Text.assemble(plain(name, "bold"), "  ", plain(what, "dim"))


def _table() -> Table:
    """Two columns: what, and how many."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column()
    table.add_column(justify="right")
    return table


def _total(table: Table, name: str, n: int) -> None:
    """One side of a sum."""
    table.add_row(Text(name, "bold"), Text(f"{n:,}", "bold"))


def _counts(table: Table, counts: Mapping[str, int]) -> None:
    for name, n in counts.items():
        table.add_row(name, f"{n:,}")


def _reasons(table: Table, name: str, counts: Mapping[str, int]) -> None:
    """A total, and below it, indented, what it is made of."""
    table.add_row(name, f"{sum(counts.values()):,}")
    for reason, n in counts.items():
        table.add_row(plain(f"  {reason}", "dim"), Text(f"{n:,}", "dim"))


def _pending(table: Table, pending: Pending) -> None:
    parts = {"waiting": pending.waiting, "deferred": pending.deferred, "begun": pending.begun}
    parts["in doubt"] = pending.in_doubt
    _reasons(table, "pending", {name: n for name, n in parts.items() if n})


def _share(part: int, whole: int) -> str:
    return f"{part:,} ({part / whole:.1%})" if whole else f"{part:,}"


def duration(seconds: float | None) -> str:
    """Hours, minutes and seconds; '-' for none."""
    return "-" if seconds is None else str(timedelta(seconds=round(seconds)))
