"""Facts are told to the rows of contacts on streams, in the caller's transaction.

Each row is what `engine/replay.py` makes of its facts. One that is younger than all that is
in the row is applied at once, with the timers before it; anything else is a replay over
what the other tables know. What follows from a change of state follows in the same
transaction: the log, ends of entries, a newer gate version, jobs that are due now.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta

import msgspec

from engine import past as tables
from engine import rows as kept_rows
from engine import store
from engine.history import corrected, facts_of, mails_told, veils_told
from engine.listening import holds_over
from engine.past import Outages
from engine.policy import Policy
from engine.replay import NEVER, Earned, Fact, Replayed, forward, replay
from engine.rows import Change, Kept
from engine.score import Hit, Key, Leave, ends
from engine.states import Kind, Row, State, Transition, new_row
from engine.timers import next_at
from mtad.base.db import Connection

# Triggered and bulk; transactional mail goes on whatever somebody's state is.
ADVERTISING = 1

# So far back a span in which nobody listened is looked for: no window is longer.
LONGEST_OUTAGE = timedelta(days=30)

# No fact comes later than that, so what was before may be forgotten; it is looked for when it is twice as old.
LATEST = timedelta(days=30)

Facts = Mapping[Key, Sequence[Fact]]
Policies = Mapping[int, Policy]
Heard = Mapping[int, datetime]  # by stream: the watermark


class Told(msgspec.Struct, frozen=True):
    """What became of a row."""

    before: Kept
    after: Kept
    changes: tuple[Change, ...]
    earned: tuple[Earned, ...]
    hits: dict[str, Hit]  # that a replay found, by the id of their fact
    since: datetime | None = None  # of a replay
    base: Kept | None = None  # where later ones may begin

    @property
    def moves(self) -> list[Transition]:
        """Transitions that are new."""
        return [change.transition for change in self.changes if change.takes_back is None]


async def policies_of(conn: Connection, streams: Collection[int]) -> dict[int, Policy]:
    """The rules of streams as they are now."""
    return {id_: stream.policy for id_, stream in (await store.current_streams(conn, streams)).items()}


async def tell(
    conn: Connection,
    facts: Facts,
    *,
    policies: Policies | None = None,
    answered: Collection[str] = (),
    hits: Mapping[str, Hit] | None = None,
    again: bool = False,
    make: bool = False,
    spare: Sequence[int] = (),
) -> dict[Key, Told]:
    """Facts to rows; who has no row is left out, or gets one (`make`). The gates of these contacts are locked.

    `hits`: people's hits by the id of their fact, `answered`: what earned its points before.
    `again`: replay whatever comes, for a fact was none after all. Entries to `spare` are
    the caller's to end.
    """
    rows = await kept_rows.lock_rows(conn, facts)
    missing = facts.keys() - rows.keys() if make else set()
    if missing:
        erased = await store.erased_of(conn, {contact for _, contact in missing})
        missing = {key for key in missing if key[1] not in erased}
        since = [(key, min(fact.event.at for fact in facts[key])) for key in sorted(missing)]
        await store.add_engagements(conn, since)
        rows |= await kept_rows.lock_rows(conn, missing)
    if not rows:
        return {}
    if policies is None:
        policies = await policies_of(conn, {stream for stream, _ in rows})
    on = await tables.heard_on(conn, {stream for stream, _ in rows})
    told = await judged(conn, rows, facts, policies, on, answered=answered, again=again)
    await write(conn, told, hits or {}, spare=spare)
    return told


async def judged(
    conn: Connection,
    rows: Mapping[Key, Kept],
    facts: Facts,
    policies: Policies,
    heard: Heard,
    *,
    answered: Collection[str] = (),
    again: bool = False,
) -> dict[Key, Told]:
    """What becomes of locked rows; nothing is written. Without facts: what time alone does to them."""
    late: dict[Key, Sequence[Fact]] = {}
    early: dict[Key, list[Fact]] = {}
    for key, kept in rows.items():
        given = sorted(facts.get(key, ()), key=lambda fact: fact.place)
        if again or _is_late(kept, given, heard[key[0]]) or _may_lapse(kept.row, given, policies[key[0]]):
            late[key] = given
        else:
            early[key] = given
    await _add_untold(conn, rows, early, policies, heard)
    deaf = await _spans(conn, rows, early, policies, heard) if late or early else {}
    for key in [key for key in early if _was_deaf(rows[key], policies[key[0]], heard[key[0]], deaf.get(key, ()))]:
        late[key] = early.pop(key)
    told = {}
    for key, given in early.items():
        kept = rows[key]
        begun = Replayed(kept.row, last=(kept.told, ""), answered=frozenset(answered))
        done = forward(begun, given, policies[key[0]], heard[key[0]])
        changes = tuple(Change(logged.transition) for logged in done.log)
        held = _earlier(kept.held, done.held)
        told[key] = Told(kept, _after(kept, done, policies[key[0]], heard[key[0]], held), changes, done.earned, {})
    if late:
        told |= await _replayed(conn, rows, late, policies, heard, deaf)
    return told


def _is_late(kept: Kept, given: Sequence[Fact], heard: datetime) -> bool:
    """Whether only a replay gives the row."""
    if kept.held is not None and kept.held <= heard:
        return True
    if not given:
        return False
    # Who answers has been mailed, even where settle had no row to say so on.
    unknown = kept.row.state is State.NEW and any(fact.event.kind is Kind.SIGN for fact in given)
    return unknown or given[0].event.at <= kept.told


def _may_lapse(row: Row, given: Sequence[Fact], policy: Policy) -> bool:
    """Whether points may have lapsed by a sign; when they were earned only a replay knows."""
    if not policy.points_last or not row.score:
        return False
    begun = row.round_from + timedelta(seconds=policy.points_last)
    return any(fact.event.kind is Kind.SIGN and fact.event.at >= begun for fact in given)


async def _add_untold(
    conn: Connection, rows: Mapping[Key, Kept], early: dict[Key, list[Fact]], policies: Policies, heard: Heard
) -> None:
    """What nobody wrote on the rows: mail into an open window, and what was fetched of it by a privacy proxy."""
    open_ = {key for key in early if rows[key].row.window_until is not None}
    if not open_:
        return
    came = await tables.mails(conn, {key: rows[key].told for key in open_})
    for key, mails in came.items():
        early[key] += [fact for fact in mails_told(mails) if fact.event.at > rows[key].told]
        early[key].sort(key=lambda fact: fact.place)
    over = {key for key in open_ if _is_over(rows[key].row, early[key], heard[key[0]])}
    if not over:
        return
    # A row is not told of it, so it may be older than what is told.
    since = {key: _opened(rows[key].row, policies[key[0]]) for key in over}
    for key, fetched in (await tables.veiled(conn, since)).items():
        early[key] += veils_told(fetched)
        early[key].sort(key=lambda fact: fact.place)


def _is_over(row: Row, given: Sequence[Fact], heard: datetime) -> bool:
    """Whether the window closes unanswered, by what is known so far."""
    ends_at = row.window_until
    return ends_at is not None and (ends_at <= heard or any(fact.event.at >= ends_at for fact in given))


def _opened(row: Row, policy: Policy) -> datetime:
    """When the open window was opened, if nothing prolonged it."""
    assert row.window_until is not None
    return row.window_until - timedelta(seconds=policy.window)


async def _spans(
    conn: Connection, rows: Mapping[Key, Kept], early: Mapping[Key, Sequence[Fact]], policies: Policies, heard: Heard
) -> dict[Key, Outages]:
    """When nobody listened, or too little was heard, asked only where silence may be concluded, or a replay is due."""
    if len(early) == len(rows) and not any(
        (at := next_at(rows[key].row, policies[key[0]], rows[key].told)) and at <= heard[key[0]] for key in early
    ):
        return {}
    # All of them: a replay goes back to the beginning.
    outages = await tables.outages(conn, NEVER, {stream for stream, _ in rows})
    held = await holds_over(conn, rows, NEVER)
    return {key: outages.get(key[0], []) + held.get(key, []) for key in rows} if outages else held


def _was_deaf(kept: Kept, policy: Policy, heard: datetime, deaf: Collection[tuple[datetime, datetime]]) -> bool:
    """Whether the row's window, or the end of its days, met a span in which nobody listened."""
    at = next_at(kept.row, policy, kept.told)
    if at is None or at > heard:
        return False
    since = _opened(kept.row, policy) if kept.row.window_until else at
    return any(until > since for _, until in deaf)


async def _replayed(
    conn: Connection,
    rows: Mapping[Key, Kept],
    late: Mapping[Key, Sequence[Fact]],
    policies: Policies,
    heard: Heard,
    deaf: Mapping[Key, Outages],
) -> dict[Key, Told]:
    bases = await kept_rows.bases(conn, late)
    since = {key: bases[key].told if key in bases else NEVER for key in late}
    known = await tables.past(conn, since)
    versions = await store.versions_of(conn, {stream for stream, _ in late})
    told = {}
    for key, given in late.items():
        kept, past, policy, until = rows[key], known[key], policies[key[0]], heard[key[0]]
        facts = {fact.id: fact for fact in given}
        # What earns points is worth what it was at its time, whatever it is worth by now.
        facts |= {
            one.id: one
            for one in facts_of(past, versions[key[0]], deaf.get(key, ()))
            if one.once or one.id not in facts
        }
        facts = {id_: fact for id_, fact in facts.items() if fact.event.at > since[key]}
        base = bases[key].row if key in bases else _unknown(facts.values(), kept)
        rules = [(begin, one.policy) for begin, one in versions[key[0]]]
        done = replay(facts.values(), rules, until, base, since=since[key], answered=past.answered)
        after = _after(kept, done, policy, until, done.held)
        changes = tuple(Change(*row) for row in corrected(past, done.log))
        hits = {f"sign {hit.event_id}": hit for hit in past.hits}
        moved = None
        if max(since[key], min((fact.event.at for fact in facts.values()), default=until)) + 2 * LATEST < until:
            at = _settled(until, deaf.get(key, []))
            before = [fact for fact in facts.values() if fact.event.at <= at]
            then = [rule for rule in rules if rule[0] <= at]
            row = replay(before, then, at, base, since=since[key], answered=past.answered).row
            moved = Kept(row, at) if row.state is not State.NEW else None
        told[key] = Told(kept, after, changes, done.earned, hits, since[key], moved)
    return told


def _settled(heard: datetime, deaf: Outages) -> datetime:
    """Up to when nothing more comes: a beginning of a day, for pages count once a day, and of no time without ears."""
    at = (heard - LATEST).replace(hour=0, minute=0, second=0, microsecond=0)
    for since, until in sorted(deaf, reverse=True):
        if since <= at < until:
            at = since - timedelta(microseconds=1)
    return at


def _unknown(facts: Collection[Fact], kept: Kept) -> Row:
    return new_row(min((fact.event.at for fact in facts), default=kept.row.since))


def _after(kept: Kept, done: Replayed, policy: Policy, heard: datetime, held: datetime | None) -> Kept:
    """As it is stored. A time to wake that is to come and too early stays: a vain sweep is cheaper than an index."""
    wake = _earlier(next_at(done.row, policy, done.last[0]), held)
    if kept.wake_at is not None and kept.wake_at > heard and (wake is None or kept.wake_at < wake):
        wake = kept.wake_at
    return Kept(done.row, done.last[0], held, wake)


def _earlier(one: datetime | None, other: datetime | None) -> datetime | None:
    return one if other is None or (one is not None and one < other) else other


async def write(
    conn: Connection, told: Mapping[Key, Told], hits: Mapping[str, Hit], *, spare: Sequence[int] = ()
) -> None:
    """Rows, log and answers, and what follows; the gates of those that move are locked.

    What is replayed is written as it was, too: whose answers change, her row does (`fold_plain`).
    """
    moved = {key for key, one in told.items() if one.changes}
    if changed := {key: one.after for key, one in told.items() if one.after != one.before or one.since is not None}:
        await kept_rows.write_rows(conn, {key: changed[key] for key in sorted(changed)}, moved)
    if moved:
        await kept_rows.log(conn, [(key, change) for key in sorted(moved) for change in told[key].changes])
    if bases := {key: one.base for key, one in told.items() if one.base}:
        await kept_rows.write_bases(conn, bases)
    leaves: list[Leave] = []
    for key, one in told.items():
        leaves += ends(key, one.before.row, one.after.row, one.moves, one.earned, hits)
    left = await store.leave(conn, leaves, spare=spare) if leaves else set()
    if disturbed := moved | left:
        await store.raise_gates(conn, [contact for _, contact in disturbed])
        await store.wake_jobs(conn, [(stream, contact, ADVERTISING) for stream, contact in disturbed])
    await _write_answers(conn, told, hits)


async def _write_answers(conn: Connection, told: Mapping[Key, Told], hits: Mapping[str, Hit]) -> None:
    if replayed := {key: one.since for key, one in told.items() if one.since is not None}:
        await tables.drop_answers(conn, replayed)
    answers = [
        (hit, earned.points)
        for one in told.values()
        for earned in one.earned
        if (hit := one.hits.get(earned.fact.id) or hits.get(earned.fact.id))
    ]
    if answers:
        await store.add_answers(conn, answers)
