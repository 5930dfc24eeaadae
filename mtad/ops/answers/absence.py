"""Why somebody never entered a program. Rows in, one sentence out."""

from datetime import datetime

import msgspec

from engine.gate import TRANSACTIONAL
from engine.programs import Audience, Definition, comes_by
from mtad.ops.answers.person import OnStream, Person
from mtad.ops.answers.times import local


class Candidate(msgspec.Struct, frozen=True):
    """A program in which the person may have a part."""

    name: str
    kind: str
    stream: str
    status: str
    starts: datetime | None
    enqueued: datetime | None  # all of its audience is in
    definition: Definition


def never_enrolled(person: Person, program: Candidate) -> str:
    """One sentence: what kept this person, who has no mail and no entry there, out."""
    on = next((on for on in person.streams if on.stream == program.stream and on.status), None)
    if program.status == "draft":
        why = "it was not started"
    elif program.definition.class_ == TRANSACTIONAL:
        why = "it asks those who sign up by its form to confirm"
    elif on is None:
        why = f"not subscribed to {program.stream}"
    else:
        why = (
            _without_permission(on)
            or _outside(person, program)
            or comes_by(program.definition)
            or _too_early_or_late(on, program)
        )
    return f"Never enrolled in {program.name}: {why}."


def _without_permission(on: OnStream) -> str:
    """That they left the stream, or never confirmed; '' where mail is allowed."""
    if on.status == "subscribed" or not on.changed:
        return ""
    did = "has not confirmed what was asked for" if on.status == "unconfirmed" else "unsubscribed"
    return f"{did} at {local(on.changed)}, so not subscribed to {on.stream}"


def _outside(person: Person, program: Candidate) -> str:
    """The first attribute that the audience does not want; '' when all fit."""
    have = person.contact.attributes
    for name, wanted in program.definition.audience.attributes.items():
        if not Audience({name: wanted}).holds(have):
            value = f"is {have[name]!r}" if name in have else "is not known"
            return f"not in its audience: {name} {value}, wanted is {' or '.join(map(repr, wanted))}"
    return ""


def _too_early_or_late(on: OnStream, program: Candidate) -> str:
    if program.status == "scheduled" and program.starts:
        return f"it starts at {local(program.starts)}"
    if program.enqueued is None:
        return f"its audience is not complete yet; the program is {program.status}"
    taken = local(program.enqueued)
    if on.changed and on.changed > program.enqueued:
        return f"subscribed to {on.stream} at {local(on.changed)}, after its audience was taken at {taken}"
    return f"not in its audience when that was taken at {taken}"
