"""Human hits → rows, points, transitions, ends of entries. Pure.

Invariants: the score moves by hits that are no repetition only, once per job and kind;
the order in which hits are handed in changes nothing, for they are sorted by their time.
"""

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from typing import Literal
from uuid import UUID

import msgspec

from engine.policy import Policy
from engine.states import Event, Kind, Row, State, Transition, apply, new_row

SignKind = Literal["open", "click"]
Key = tuple[int, int]  # stream, contact

# Why an entry ends at the first answer to its own mail.
_ENDS = {"open": "opened", "click": "clicked"}


class Hit(msgspec.Struct, frozen=True):
    """One open or click by a person, with what the ledger says about its mail."""

    event_id: UUID
    job_id: int
    kind: SignKind
    link_id: int
    at: datetime
    stream_id: int
    contact_id: int
    entry_id: int | None
    class_: int
    delivered_at: datetime
    fact: str

    @property
    def key(self) -> Key:
        return self.stream_id, self.contact_id


class Leave(msgspec.Struct, frozen=True):
    """Entries that end: of a contact, on a stream (None: all), one (None: all), if its `leave_on` has `sign`."""

    contact_id: int
    why: str
    stream_id: int | None = None
    entry_id: int | None = None
    sign: str = ""  # '': whatever leave_on says


class Folded(msgspec.Struct):
    """What a batch of hits comes to."""

    rows: dict[Key, Row] = msgspec.field(default_factory=dict)
    transitions: list[tuple[Key, Transition]] = msgspec.field(default_factory=list)
    answers: list[tuple[Hit, int]] = msgspec.field(default_factory=list)  # with the points that counted
    leaves: list[Leave] = msgspec.field(default_factory=list)  # what stands first gives the reason


def fold_hits(
    hits: Iterable[Hit],
    *,
    rows: Mapping[Key, Row],
    answered: Collection[tuple[int, str]],
    policies: Mapping[int, Policy],
) -> Folded:
    """Apply hits to the rows of their contacts; `answered`: (job, kind) that earned their points before."""
    folded = Folded()
    known = set(answered)
    for hit in sorted(hits, key=lambda hit: (hit.at, hit.event_id)):
        policy = policies[hit.stream_id]
        # Clocks of two machines differ, and a mail in doubt is settled late: an answer proves the delivery.
        delivered = min(hit.delivered_at, hit.at)
        row = folded.rows.get(hit.key) or rows.get(hit.key) or new_row(delivered)
        if row.state is State.NEW and hit.class_ > 0:
            # Who has been mailed is not New, even where settle had no row to say so on.
            row, _ = apply(row, Event(Kind.DELIVERED, delivered, hit.fact), policy)
        first = (hit.job_id, hit.kind) not in known
        kind = Kind.SIGN if first else Kind.SIGN_AGAIN
        points = getattr(policy.points, hit.kind) if first else 0
        after, moved = apply(row, Event(kind, hit.at, hit.fact, points), policy)
        folded.rows[hit.key] = after
        if moved:
            folded.transitions.append((hit.key, moved))
            if moved.to_state is State.ENGAGED:
                folded.leaves.append(Leave(hit.contact_id, "engaged", hit.stream_id, sign="engaged"))
        if first:
            known.add((hit.job_id, hit.kind))
            round_began = moved is not None and moved.to_state is State.REACTIVATED
            folded.answers.append((hit, after.score - (0 if round_began else row.score)))
            if hit.entry_id is not None:
                folded.leaves.append(Leave(hit.contact_id, _ENDS[hit.kind], hit.stream_id, hit.entry_id, hit.kind))
    return folded
