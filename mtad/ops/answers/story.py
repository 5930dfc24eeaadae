"""What happened to one person in each program, and why, in sentences. Rows in, text out.

`chapters` gets the rows of a person and says for each program: what became of each
mail, what the person did with it, what led to a mail that was not sent, what comes
next, or why the person never entered.
"""

from collections.abc import Iterator
from typing import assert_never

import msgspec

from engine.facts import Defer, Send, Skip, Verdict
from engine.gate import sentence
from engine.programs import ChooseNode, Definition, EndNode, WaitNode, mails_of
from mtad.ops.answers.absence import Candidate, never_enrolled
from mtad.ops.answers.engagement import INACTIVE, became
from mtad.ops.answers.person import Entry, Event, Mail, Person, Transition
from mtad.ops.answers.times import local

_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")

# Only these are a person's doing; the rest is told by `contact show`.
_HUMAN = ("human", "proxy")


class Chapter(msgspec.Struct, frozen=True):
    """One program's part of the story."""

    program: str
    kind: str
    stream: str
    status: str
    sentences: list[str]


class Present(msgspec.Struct, frozen=True):
    """What holds now: the definition each entry keeps, and of each queued job what the gate says and it waits for.

    Last, of entries whose next mail may not go when its wait is over: when it may.
    """

    definitions: dict[int, Definition]
    verdicts: dict[int, Verdict]
    waits: dict[int, list[str]]
    slots: dict[int, Defer]


def chapters(person: Person, programs: list[Candidate], present: Present, job: int | None = None) -> list[Chapter]:
    """One chapter a program, in the order given; of one `job` only what became of it."""
    return [
        Chapter(program.name, program.kind, program.stream, program.status, list(_told(person, program, present, job)))
        for program in programs
    ]


def _told(person: Person, program: Candidate, present: Present, job: int | None) -> Iterator[str]:
    mails = [mail for mail in person.mails if mail.program == program.name]
    entries = [entry for entry in person.entries if entry.program == program.name]
    if job is not None:
        mails, entries = [mail for mail in mails if mail.job == job], []
    if not mails and not entries:
        yield never_enrolled(person, program)
        return
    for mail in mails:
        yield _mail(person, program, mail, present)
    for entry in entries:
        queued = any(mail.entry == entry.id and mail.at is None for mail in mails)
        if not queued:
            yield _entry(entry, present.definitions[entry.id], present.slots.get(entry.id))


def _mail(person: Person, program: Candidate, mail: Mail, present: Present) -> str:
    at = local(mail.at or mail.created)
    match mail.fate:
        case "delivered":
            became = f"delivered at {at}{_tries(mail)}{_signs(person, mail)}."
        case "bounced":
            became = f"bounced at {at}: {_said(mail)}."
        case "expired":
            became = f"was given up at {at} after {_attempts(mail)}: {_said(mail)}."
        case "in_doubt":
            became = f"was sent, but no answer told whether it arrived; given up at {at}{_signs(person, mail)}."
        case "skipped":
            # Whoever is left out at the start never had a job, so no time passed between its two ends.
            how = "left out" if mail.created == mail.at else "withdrawn"
            because = _cause(person, mail)
            became = f"{how} at {at}: {sentence(mail.reason)}{because and ' ' + because}"
        case "begun":
            became = f"is being sent since {local(mail.begun or mail.created)}{_in_doubt(mail)}."
        case _:
            now = present.verdicts[mail.job]
            name = _mail_name(program.definition, mail.message)
            queued = f"is queued, due {local(mail.due or mail.created)}{_waits(mail)}. {_outlook(now, name)}"
            became = " ".join([queued, *present.waits.get(mail.job, ())])
    return f"{_mail_name(program.definition, mail.message)} {became}"


def _cause(person: Person, mail: Mail) -> str:
    """What led to a mail that was not sent, as far as rows tell: one sentence, or ''."""
    kind, _, detail = mail.reason.partition(":")
    if kind in ("left", "inactive"):
        states = ("engaged",) if detail == "engaged" else INACTIVE
        if change := _last_change(person, mail, states):
            return became(change)
        if detail in ("clicked", "opened"):
            return _first_sign(person, mail, "click" if detail == "clicked" else "open")
    if kind == "unsubscribed" or mail.reason == "left:unsubscribed":
        for on in person.streams:
            if on.stream == mail.stream and on.status == "unsubscribed" and on.changed:
                return f"Unsubscribed at {local(on.changed)} ({on.changed_by})."
    if kind in ("suppressed", "suppressed_domain", "complained") or mail.reason == "left:suppressed":
        for row in reversed(person.suppressions):
            if mail.at and row.created <= mail.at:
                return f"Suppressed at {local(row.created)}: {row.reason}, by {row.source}."
    return ""


def _last_change(person: Person, mail: Mail, states: tuple[str, ...]) -> Transition | None:
    """The last transition on the mail's stream into one of the states, up to the end of the mail."""
    void = {t.takes_back for t in person.transitions}
    found = [t for t in person.transitions if t.stream == mail.stream and t.to_state in states and t.id not in void]
    return next((t for t in reversed(found) if mail.at is None or t.at <= mail.at), None)


def _deed(event: Event) -> str:
    where = f" on link {event.link}" if event.kind == "click" and event.link else ""
    mail = f" of {event.message}" if event.message else ""
    job = f", job {event.job}" if event.job else ""
    return f"{event.kind}{where}{mail}{job}"


def _first_sign(person: Person, mail: Mail, kind: str) -> str:
    for event in person.events:
        if event.program == mail.program and event.kind == kind and event.class_ in _HUMAN:
            return f"First {_deed(event)}, at {local(event.at)}."
    return ""


def _signs(person: Person, mail: Mail) -> str:
    """What the person did with it, each thing once."""
    done: dict[str, str] = {}
    for event in person.events:
        if event.job == mail.job and event.kind in ("open", "click") and event.class_ in _HUMAN:
            deed = "opened" if event.kind == "open" else f"clicked link {event.link}"
            done.setdefault(deed, f"{deed} {local(event.at)}")
    return "".join(f", {text}" for text in done.values())


def _entry(entry: Entry, definition: Definition, slot: Defer | None) -> str:
    if entry.ended:
        return f"Left {entry.program} at {local(entry.ended)}: {sentence(f'left:{entry.why}')}"
    if entry.due is None:
        return f"Stands still in {entry.program} at {entry.node}: neither due nor queued, which is a defect."
    node = entry.node
    while isinstance(at := definition.nodes[node], WaitNode):
        node = at.next
    if isinstance(at, EndNode):
        silent = ", and becomes Inactive if there is none" if definition.when_silent == "inactive" else ""
        return f"Waits for an answer to {entry.program} until {local(entry.due)}, then ends{silent}."
    if isinstance(at, ChooseNode):
        offers = ", ".join(f"{option.next} if {option.if_}" for option in at.options)
        return f"Waits: what comes next in {entry.program} is chosen {local(entry.due)}: {offers}."
    name = _lowered(_mail_name(definition, node))
    return f"Waits: {_next(name, slot)}" if slot else f"Waits: next {name} due {local(entry.due)}."


def _outlook(now: Verdict, name: str) -> str:
    match now:
        case Send():
            return "The gate would let it go now."
        case Skip(reason):
            return f"The gate would withdraw it now: {sentence(reason)}"
        case Defer(zone=zone) if zone:
            return f"Waits: {_next(_lowered(name), now)}"
        case Defer(until, reason):
            return f"The gate would hold it until {local(until)}: {sentence(reason)}"
        case _:
            assert_never(now)


def _next(name: str, slot: Defer) -> str:
    """'next mail 2 of nudge, Tuesday 2026-11-03 09:00, waiting for quiet hours (zone Europe/Berlin, the contact's).'"""
    assert slot.zone is not None
    wall = slot.until.astimezone(slot.zone.clock)
    kind, _, cap = slot.reason.partition(":")
    what = {"quiet_hours": "quiet hours", "sending_day": "a sending day", "cap": f"a free slot of the cap {cap}"}[kind]
    seconds = "" if wall.second == wall.microsecond == 0 else f":{wall.second:02}"
    return f"next {name}, {_DAYS[wall.weekday()]} {wall:%Y-%m-%d %H:%M}{seconds}, waiting for {what} ({slot.zone})."


def _mail_name(definition: Definition, node: str) -> str:
    """'Mail 3 of nudge', by the order of sending; a node of another version goes by its own name."""
    if definition.kind == "campaign":
        return f"Mail of {definition.name}"
    order = mails_of(definition)
    which = order.index(node) + 1 if node in order else node
    return f"Mail {which} of {definition.name}"


def _lowered(text: str) -> str:
    return text[0].lower() + text[1:]


def _attempts(mail: Mail) -> str:
    return "1 attempt" if mail.attempts == 1 else f"{mail.attempts} attempts"


def _tries(mail: Mail) -> str:
    return f" after {_attempts(mail)}" if mail.attempts > 1 else ""


def _said(mail: Mail) -> str:
    return ", ".join(text for text in (mail.reason, mail.reply) if text).rstrip(".") or "no reason was kept"


def _in_doubt(mail: Mail) -> str:
    return ", perhaps delivered already" if mail.doubts else ""


def _waits(mail: Mail) -> str:
    tried = f", after {_attempts(mail)}" if mail.attempts else ""
    return f"{tried}{_in_doubt(mail)}" + (f": {mail.reason}".rstrip(".") if mail.reason else "")
