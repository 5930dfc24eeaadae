"""People's hits as facts of the machine, and what ends with what they come to. Pure.

A hit earns points once per job and kind: the fact says what `once` means, the replay
decides which hit was the first.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Literal
from uuid import UUID

import msgspec

from engine.policy import Policy
from engine.replay import Earned, Fact
from engine.states import Event, Kind, Row, State, Transition

SignKind = Literal["open", "click"]
Key = tuple[int, int]  # stream, contact

# Why an entry ends at the first answer to its own mail.
_ENDS = {"open": "opened", "click": "clicked"}

# States of people who get no advertising.
INACTIVE = frozenset({State.COOLING, State.TRYING, State.RESTING})


class Hit(msgspec.Struct, frozen=True, gc=False):
    """One open or click by a person, with what the ledger says about its mail."""

    event_id: UUID
    job_id: int
    kind: SignKind
    link_id: int
    at: datetime
    stream_id: int
    contact_id: int
    entry_id: int | None
    node: str
    position: int  # of the link; 0 is the pixel
    reactivation: bool  # the mail is one of a reactivation

    @property
    def key(self) -> Key:
        return self.stream_id, self.contact_id

    @property
    def once(self) -> str:
        """What earns points once."""
        return once(self.job_id, self.kind)


class Leave(msgspec.Struct, frozen=True):
    """Entries that end: of a contact, on a stream (None: all), one (None: all), if its `leave_on` has `sign`.

    `sign` '': whatever leave_on says; 'reactivation': those of reactivations.
    """

    contact_id: int
    why: str
    stream_id: int | None = None
    entry_id: int | None = None
    sign: str = ""


def once(job_id: int, kind: str) -> str:
    """What earns points once per message and kind."""
    return f"{kind} {job_id}"


def sign(hit: Hit, policy: Policy) -> Fact:
    """The hit as a fact."""
    event = Event(Kind.SIGN, hit.at, words(hit), points_of(hit.kind, policy), reactivation=hit.reactivation)
    return Fact(id=f"sign {hit.event_id}", event=event, once=hit.once)


def points_of(kind: str, policy: Policy) -> int:
    """What the first open or click of a mail is worth."""
    return policy.points.open if kind == "open" else policy.points.click


def words(hit: Hit) -> str:
    """For people: 'click on link 3 of nudge-2, job 17'."""
    what = "open of" if hit.kind == "open" else f"click on link {hit.position} of"
    return f"{what} {hit.node}, job {hit.job_id}"


def ends(
    key: Key, before: Row, after: Row, moves: Iterable[Transition], earned: Iterable[Earned], hits: Mapping[str, Hit]
) -> list[Leave]:
    """The entries that end with what was told, `hits` by the id of their fact; what stands first gives the reason."""
    stream, contact = key
    leaves: list[Leave] = []
    for move in moves:
        if move.to_state is State.ENGAGED:
            leaves.append(Leave(contact, "engaged", stream, sign="engaged"))
        elif move.to_state is State.COOLING and move.from_state not in INACTIVE:
            leaves.append(Leave(contact, "inactive", stream))
    if before.state is State.TRYING and after.state not in INACTIVE:
        leaves.append(Leave(contact, "came_back", stream, sign="reactivation"))
    for one in earned:
        hit = hits.get(one.fact.id)
        if hit and hit.entry_id is not None:
            leaves.append(Leave(contact, _ENDS[hit.kind], stream, hit.entry_id, hit.kind))
    return leaves
