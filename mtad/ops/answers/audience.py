"""How the audience of a stream breathes: who is in which state, how that came about, who comes back, what is held.

Time is counted in the stream's own days, back from now. Sizes of the past are those of
now with every change since taken back, so only the changes are read.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime

import msgspec

from engine.service import brakes, holds
from mtad.base.db import Connection, row_values
from mtad.base.sqlfiles import queries
from mtad.compose.store import StreamRow
from mtad.ops.answers.programs import known_stream
from mtad.ops.answers.unheard import unheard

SQL = queries("elasticity")

# Cool-downs that end within so many days are the returns that can be expected.
RETURN_DAYS = 30

MAILED = ("new", "active", "engaged", "reactivated")
RESTING = ("cooling", "trying", "resting")


class Move(msgspec.Struct, frozen=True):
    """So many people came from one state to another; `why` as in the log, or delivered, subscribed and the like."""

    from_state: str
    to_state: str
    why: str
    people: int


class Hold(msgspec.Struct, frozen=True):
    """Silence that is not believed: of the whole stream (brake, tracker) or of one provider."""

    kind: str  # brake, provider, tracker
    why: str
    since: datetime | None


class Returns(msgspec.Struct, frozen=True):
    """Who may come back: a cool-down ends, a reactivation asks, some answer."""

    ending: list[int]  # people whose cool-down ends in each of the next days of the stream
    waiting: int  # people whose cool-down is over
    reactivations: list[str]  # programs that run and take them in


class Audience(msgspec.Struct, frozen=True):
    """One stream at one moment. `history` is a row of sizes a day, the oldest first, the last that of now."""

    stream: str
    version: int
    at: datetime
    day: float  # seconds
    sizes: dict[str, int]  # of those who may be mailed, by state; the rest by what forbids it
    unmeasured: int  # may be mailed, but their tracking mode lets elasticity do nothing
    history: list[dict[str, int]]
    moves: list[Move]  # since the first of them, the most first
    returns: Returns
    asked: int  # by reactivations, to their end, since the first day of the history
    came_back: int  # of them
    holds: list[Hold]

    @property
    def mailed(self) -> int:
        return sum(self.sizes.get(state, 0) for state in MAILED)


async def audience(conn: Connection, name: str, days: int) -> Audience:
    """The stream and its last `days` days. `conn` must not be in a transaction. InputError: no such stream."""
    async with conn.transaction(isolation="repeatable_read", readonly=True):
        stream = await known_stream(conn, name)
        at: datetime = await conn.fetchval("select now()")
        day = stream.definition.policy.day
        sizes = {row[0]: (row[1], row[2]) for row in await conn.fetch(SQL["audience_sizes"], stream.id)}
        changes = [
            (row[0], Move(*row_values(row)[1:]))
            for row in await conn.fetch(SQL["audience_moves"], stream.id, days, day, at)
        ]
        returns = await expected_returns(conn, stream)
        held = await _holds(conn, stream.id, name)
    counts = {state: people for state, (people, _) in sizes.items()}
    moves = _totals(move for _, move in changes)
    return Audience(
        stream=name,
        version=stream.version,
        at=at,
        day=day,
        sizes=counts,
        unmeasured=sum(unmeasured for state, (_, unmeasured) in sizes.items() if state in (*MAILED, *RESTING)),
        history=sizes_before(counts, changes, days),
        moves=moves,
        returns=returns,
        asked=sum(move.people for move in moves if move.from_state == "trying" and move.to_state != "left"),
        came_back=sum(move.people for move in moves if (move.from_state, move.to_state) == ("trying", "reactivated")),
        holds=held,
    )


async def expected_returns(conn: Connection, stream: StreamRow) -> Returns:
    """Cool-downs of a stream that end within 30 of its days, or have ended."""
    rows = await conn.fetch(SQL["audience_returns"], stream.id, RETURN_DAYS, stream.definition.policy.day)
    ends = {row[0]: row[1] for row in rows}
    running = [row[0] for row in await conn.fetch(SQL["audience_reactivations"], stream.id)]
    return Returns([ends.get(day, 0) for day in range(RETURN_DAYS)], ends.get(-1, 0), running)


def sizes_before(now: Mapping[str, int], changes: Iterable[tuple[int, Move]], days: int) -> list[dict[str, int]]:
    """Sizes at the end of each of the last days, the oldest first; `changes` are (whole days ago, move).

    'left' holds who unsubscribed or was suppressed. Never negative: what was imported with
    a state has no change that tells of it.
    """
    size = Counter({state: now.get(state, 0) for state in (*MAILED, *RESTING)})
    size["left"] = now.get("unsubscribed", 0) + now.get("suppressed", 0)
    by_day: dict[int, list[Move]] = {}
    for ago, move in changes:
        by_day.setdefault(ago, []).append(move)
    rows = [dict(size)]
    for ago in range(days):
        for move in by_day.get(ago, ()):
            size[move.to_state] -= move.people
            size[move.from_state] += move.people
        rows.append({state: max(0, people) for state, people in size.items() if state != "outside"})
    return rows[::-1]


def _totals(moves: Iterable[Move]) -> list[Move]:
    """Over all days, the most people first."""
    people: Counter[tuple[str, str, str]] = Counter()
    for move in moves:
        people[move.from_state, move.to_state, move.why] += move.people
    return [Move(*key, count) for key, count in people.most_common()]


async def _holds(conn: Connection, stream: int, name: str) -> list[Hold]:
    braked = [
        Hold(
            "brake",
            f"{held.silent:,} of {held.reachable:,} would become Inactive at once; at most {held.allowed:,} may in a"
            " day. So many silent people are more likely our fault than theirs.",
            held.since,
        )
        for held in await brakes(conn)
        if held.stream == name
    ]
    unheard_of = [
        Hold("tracker", f"{_sentence(one.why)}.", one.since)
        for one in await unheard(conn)
        if one.holds and (name in one.streams or not one.streams)
    ]
    providers = [Hold("provider", f"{_sentence(held.why)}.", held.since) for held in await holds(conn, stream)]
    return braked + unheard_of + providers


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
