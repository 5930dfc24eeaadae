"""What a change of a stream's rules does to the people on it: told before, and seen to afterwards.

New rules act on what happens from now on. Two things of theirs concern what has happened
already: days and attempts that are more than they allow make somebody Inactive at the
next sweep, and cool-downs that they shorten are over sooner. Nobody is mailed by it, but
mail that waits for hours or caps which they relax goes sooner.
"""

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Any

import msgspec

from engine.facts import Defer
from engine.gate import slot_for
from engine.policy import Policy
from engine.silence import may_pause
from engine.states import Kind, Row, State
from engine.timers import cool_until, next_timer
from mtad.base.db import Connection, Pool, in_transaction, row_values
from mtad.base.sqlfiles import queries

SQL = queries("elasticity")

# Rows a transaction, the literal limit of the query people_of_stream.
PAGE = 5000

_PAUSE = (Kind.WINDOW_LAST, Kind.DAYS_OVER)


# Mails a transaction, the literal limit of the query lock_waiting_mail.
MAILS = 5000


class Effect(msgspec.Struct):
    """How many people a change of rules concerns, of those who may be mailed."""

    inactive: int = 0  # become Inactive at the next sweep
    at_risk: int = 0  # would after one more silent window, and would not have
    spared: int = 0  # would have become Inactive by then, and do not any more
    returning: int = 0  # their cool-down is over at once
    engaged: int = 0  # have points enough, so are Engaged by their next sign
    forgotten: int = 0  # are erased by the next sweep
    reachable: int = 0  # not Inactive now
    brake: int = 0  # so many may become Inactive within a day

    @property
    def concerns_anybody(self) -> bool:
        return any((self.inactive, self.at_risk, self.spared, self.returning, self.engaged, self.forgotten))


class OnStream(msgspec.Struct, frozen=True):
    """Somebody's row; `told`: the time of the last fact in it."""

    contact_id: int
    row: Row
    told: datetime
    wake_at: datetime | None


def concern(effect: Effect, one: OnStream, old: Policy, new: Policy, now: datetime) -> None:
    """Count one person in."""
    if one.row.state is State.COOLING:
        over = one.row.cool_until is not None and one.row.cool_until <= now
        effect.returning += not over and (cooled := cool_until(one.row, new)) is not None and cooled <= now
        return
    effect.reachable += 1
    before, after = (_nearness(one, policy, now) for policy in (old, new))
    effect.inactive += after == 0 and before != 0
    effect.at_risk += after == 1 and before == 2
    effect.spared += after == 2 and before < 2
    waits = one.row.state in (State.ACTIVE, State.REACTIVATED)
    effect.engaged += waits and new.threshold <= one.row.score < old.threshold


def _nearness(one: OnStream, policy: Policy, now: datetime) -> int:
    """0: Inactive at the next sweep; 1: after one more silent window; 2: not yet."""
    timer = next_timer(one.row, policy, one.told)
    if timer and timer.kind in _PAUSE and timer.at <= now:
        return 0
    return 1 if one.row.ignored + 1 >= policy.attempts and not one.row.veiled else 2


def earlier(one: OnStream, new: Policy) -> datetime | None:
    """When the sweep has to come round sooner than it would; None: it need not."""
    timer = next_timer(one.row, new, one.told) if one.row.state is not State.COOLING else None
    return timer.at if timer and (one.wake_at is None or timer.at < one.wake_at) else None


async def effect(conn: Connection, stream_id: int, old: Policy, new: Policy, now: datetime) -> Effect:
    """Whom the change would concern; reads every row of the stream, page by page."""
    found = Effect()
    async for page in _pages(conn, stream_id):
        for one in page:
            concern(found, one, old, new, now)
    found.brake = may_pause(new.brake, reachable=found.reachable, paused=0)
    return found


async def retime(pool: Pool, stream_id: int, new: Policy) -> int:
    """After a change: have sweeps come round when the new rules say; how many rows were changed.

    Each page is a transaction of its own, so folds do not wait. Interrupted, the rest is
    looked at when the old rules said.
    """
    changed, after = 0, 0
    while True:

        async def work(conn: Connection, after: int = after) -> tuple[int, int]:
            page = [_on_stream(row_values(row)) for row in await conn.fetch(SQL["lock_people"], stream_id, after)]
            due = [(one, at) for one in page if (at := earlier(one, new)) or _cools_sooner(one, new)]
            await conn.execute(
                SQL["retime_people"],
                stream_id,
                [one.contact_id for one, _ in due],
                [at or one.wake_at for one, at in due],
                [cool_until(one.row, new) for one, _ in due],
            )
            return len(due), page[-1].contact_id if len(page) == PAGE else -1

        more, after = await in_transaction(pool, work)
        changed += more
        if after < 0:
            return changed


class WaitingMail(msgspec.Struct, frozen=True):
    """A mail that the gate put off, and what decides when it may go; `slot`: its own among `sent`."""

    job_id: int
    due: datetime
    not_after: datetime
    slot: datetime | None
    zone: str | None
    attributes: dict[str, Any]
    sent: list[datetime] | None
    sent_on: list[int] | None


def sooner(mail: WaitingMail, stream_id: int, new: Policy, now: datetime) -> datetime | None:
    """When these rules let it go, if that is sooner than it is due; None: it is not. What they end goes to the gate."""
    sends = [(at, on) for at, on in zip(mail.sent or (), mail.sent_on or (), strict=True) if at != mail.slot]
    found = slot_for(new, stream_id, mail.zone, mail.attributes, sends, now=now, not_after=mail.not_after)
    at = found.until if isinstance(found, Defer) else now
    return at if at < mail.due else None


async def hasten(pool: Pool, stream_id: int, old: Policy, new: Policy) -> int:
    """After a change: mail that waits for hours or caps is due when the new rules say, if that is sooner; how much.

    Each page is a transaction of its own. Interrupted, the rest goes when the old rules said.
    Sites hear of it within seconds (`refresh_hints`).
    """
    if (old.slots, old.zone) == (new.slots, new.zone):
        return 0
    hastened, after = 0, 0
    while True:

        async def work(conn: Connection, after: int = after) -> tuple[int, int]:
            rows = await conn.fetch(SQL["lock_waiting_mail"], stream_id, after)
            mails = [WaitingMail(*row_values(row)) for row in rows]
            now: datetime = await conn.fetchval("select now()")
            due = [(mail.job_id, at) for mail in mails if (at := sooner(mail, stream_id, new, now))]
            await conn.execute(SQL["retime_mail"], [job for job, _ in due], [at for _, at in due])
            return len(due), mails[-1].job_id if len(mails) == MAILS else -1

        more, after = await in_transaction(pool, work)
        hastened += more
        if after < 0:
            return hastened


def _cools_sooner(one: OnStream, new: Policy) -> bool:
    return one.row.state is State.COOLING and cool_until(one.row, new) != one.row.cool_until


async def _pages(conn: Connection, stream_id: int) -> AsyncIterator[Sequence[OnStream]]:
    after = 0
    while True:
        page = [_on_stream(row_values(row)) for row in await conn.fetch(SQL["people_of_stream"], stream_id, after)]
        if page:
            yield page
            after = page[-1].contact_id
        if len(page) < PAGE:
            return


def _on_stream(values: tuple[object, ...]) -> OnStream:
    contact_id, state, *rest = values
    return OnStream(contact_id, Row(State(state), *rest[:-2]), *rest[-2:])  # type: ignore[arg-type]  # a row is what it is
