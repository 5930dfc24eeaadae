"""What an operator sets by hand: the state of a contact on a stream, with a name and a reason.

Facts from before do not count any more, whenever they are read: replays begin here.
"""

from datetime import datetime, timedelta

from engine import rows as kept_rows
from engine import store
from engine.policy import Policy
from engine.rows import Change, Kept
from engine.score import INACTIVE, Leave
from engine.states import Row, State, Transition
from engine.tell import Told, policies_of, write
from engine.timers import next_at
from mtad.base.db import Connection
from mtad.base.errors import InputError

__all__ = ["SETTABLE", "placed", "set_state"]

# Whom nothing was sent is New, and only a program makes somebody try.
SETTABLE = tuple(state for state in State if state not in (State.NEW, State.TRYING))


async def set_state(conn: Connection, contact_id: int, stream_id: int, state: str, *, by: str, reason: str) -> State:
    """Set it; the state before. Entries that do not fit the new state end, as if facts had led there.

    InputError: there is no such state to set, no reason, or no such contact.
    """
    if state not in SETTABLE:
        raise InputError(f"state {state!r}: write one of {', '.join(SETTABLE)}")
    if not reason.strip():
        raise InputError("--reason: is missing; whoever reads the log has to know why")
    if not await store.lock_gates(conn, [contact_id]):
        raise InputError(f"there is no contact {contact_id}")
    key = (stream_id, contact_id)
    now = await store.now(conn)
    await store.add_engagements(conn, [(key, now)])
    before = (await kept_rows.lock_rows(conn, [key]))[key]
    policy = (await policies_of(conn, {stream_id}))[stream_id]
    at = max(now, before.told)
    row = placed(before.row, State(state), at, policy)
    move = Transition(before.row.state, row.state, "operator", f"set by {by}: {reason.strip()}", at)
    after = Kept(row, at, None, next_at(row, policy, at))
    await write(conn, {key: Told(before, after, (Change(move),), (), {})}, {})
    if row.state in INACTIVE:
        await store.leave(conn, [Leave(contact_id, "inactive", stream_id)])
    await kept_rows.set_bases(conn, [key])
    return before.row.state


def placed(row: Row, state: State, at: datetime, policy: Policy) -> Row:
    """The row in that state since `at`: a round or a cool-down begins, and nothing was ignored so far."""
    inactive = state in INACTIVE
    last = len(policy.cool_downs)
    return Row(
        state=state,
        since=at,
        score=row.score if state is State.ENGAGED else 0,
        round_from=row.round_from if state is State.ENGAGED else at,
        last_sign=row.last_sign,
        first_sent=row.first_sent or (None if inactive else at),  # else it would be New
        cycle={State.COOLING: 1, State.RESTING: last}.get(state, 0),
        cool_until=at + timedelta(seconds=policy.cool_downs[0]) if state is State.COOLING else None,
    )
