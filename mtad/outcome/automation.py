"""Rules on replies at work: counts what workers hear, over all of them, and suspends or limits.

    heard (each refusal) → matching rules → counted here → every second into Postgres
      → thresholds that are reached there → suspension, or limit of the lane

A delivered mail costs nothing. Counting takes one short transaction a second and worker,
and only while rules match; so the effect of a rule comes within about a second.
"""

import logging
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

import msgspec
from prometheus_client import Counter

from mtad.base.automation import Rule, limits, threshold
from mtad.base.clock import Clock
from mtad.base.config import seconds
from mtad.base.db import AWAY, Connection, Pool, in_transaction
from mtad.base.sqlfiles import queries
from mtad.outcome.kinds import Bounced, Deferred
from mtad.outcome.rules import Matcher
from mtad.queue import store, suspensions
from mtad.queue.limits import InForce, in_force, set_limit, undo_lapsed
from mtad.queue.suspensions import AUTOMATION
from mtad.smtp.results import Refused

log = logging.getLogger("mtad.automation")

SQL = queries("suspend")

# How often counts are brought in, and limits of sessions asked for.
PERIOD = 1.0

# Rules and what they count, at once. What is beyond while the database is away is not counted.
MOST_COUNTS = 10_000

_NOTHING = InForce()

MATCHED = Counter("mtad_automation_replies_total", "Replies that rules count", ["rule"])
ACTED = Counter("mtad_automation_effects_total", "Suspensions and limits that rules made or prolonged", ["rule"])


class _Count(msgspec.Struct):
    """How often a rule was met since the last flush, by what it would act upon."""

    rule: Rule
    kind: suspensions.Kind
    key: str
    lane_id: int
    n: int = 0
    reply: str = ""  # the last


class Automation:
    """`heard` is called by lanes, in the loop; `run` brings in what it counted."""

    def __init__(
        self,
        pool: Pool,
        clock: Clock,
        worker: int,
        rules: Sequence[Rule],
        provider_of: Callable[[Sequence[str]], str | None],
    ) -> None:
        """`provider_of`: who runs a site, by its hosts."""
        self._pool = pool
        self._clock = clock
        self._worker = worker
        self._matcher = Matcher(rules)
        self._provider_of = provider_of
        self._counts: dict[tuple[str, str], _Count] = {}
        self._limits: dict[int, InForce] = {}

    def heard(self, lane: store.Lane, campaign: str, refused: Refused, outcome: Deferred | Bounced) -> None:
        """A receiver refused: count it for the rules that it matches. `outcome`: what classify made of it."""
        for rule in self._matcher.matching(refused, outcome, self._provider_of(lane.hosts)):
            MATCHED.labels(rule=rule.name).inc()
            kind, key = _subject(rule, lane, campaign)
            count = self._counts.get((rule.name, key))
            if count is None:
                if len(self._counts) >= MOST_COUNTS:
                    continue
                count = self._counts[rule.name, key] = _Count(rule, kind, key, lane.id)
            count.n += 1
            count.reply = refused.text

    def limits(self, lane_id: int) -> InForce:
        """What the sessions of a lane have to keep to now, beside what begin sees."""
        return self._limits.get(lane_id, _NOTHING)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await self.flush()
            except AWAY as error:
                log.warning("replies are counted when the database is back", extra={"why": repr(error)})
            await self._clock.sleep(PERIOD)

    async def flush(self) -> None:
        """Bring in what was heard, act where a threshold is reached, and learn of limits."""
        counts, self._counts = self._counts, {}
        try:
            if counts:
                await in_transaction(self._pool, lambda conn: _bring_in(conn, list(counts.values())))
            async with self._pool.acquire() as conn:
                self._limits = await in_force(conn, self._worker)
        except AWAY:
            self._counts = counts | self._counts
            raise


def _subject(rule: Rule, lane: store.Lane, campaign: str) -> tuple[suspensions.Kind, str]:
    """What a rule counts for and acts upon."""
    match rule.suspend:
        case "campaign":
            return "campaign", campaign
        case "source":
            return "source", lane.source
        case _:
            return "lane", suspensions.lane_key(lane.source, lane.name)


async def _bring_in(conn: Connection, counts: Sequence[_Count]) -> None:
    """Count, and act, once for each threshold that is reached. Counting begins anew after it."""
    await conn.execute(SQL["one_counter"])
    wanted = [threshold(count.rule.threshold) for count in counts]
    rows = await conn.fetch(
        SQL["count_replies"],
        [count.rule.name for count in counts],
        [count.key for count in counts],
        [count.n for count in counts],
        [span for _, span in wanted],
    )
    reached = [(count, row[1]) for count, row, (least, _) in zip(counts, rows, wanted, strict=True) if row[0] >= least]
    # All lanes at once, in order; what raises the epoch after them.
    everywhere = any(count.kind == "source" for count, _ in reached)
    await conn.execute(SQL["lock_lanes_or_all"], [count.lane_id for count, _ in reached], everywhere)
    for count, now in sorted(reached, key=lambda one: one[0].kind == "campaign"):
        await _act(conn, count, now)
    await conn.execute(
        SQL["forget_replies"], [count.rule.name for count, _ in reached], [count.key for count, _ in reached]
    )


async def _act(conn: Connection, count: _Count, now: datetime) -> None:
    rule = count.rule
    until = now + timedelta(seconds=seconds(rule.duration))
    reason = f"{rule.name}: {count.reply}"
    if rule.suspend:
        await suspensions.suspend(conn, count.kind, count.key, until=until, reason=reason, by=AUTOMATION)
    for knob, value in limits(rule).items():
        await set_limit(conn, count.lane_id, knob, value, until=until, reason=reason, by=AUTOMATION)
    ACTED.labels(rule=rule.name).inc()
    log.warning(
        "rule on replies",
        extra={"rule": rule.name, "key": count.key, "until": until.isoformat(), "reply": count.reply},
    )


async def suspend_bouncing(pool: Pool, share: float, least: int) -> int:
    """Suspend each campaign of which more than `share` of at least `least` mails bounced within the hour; how many.

    Never a transactional one: whoever enters strangers' addresses in a form could stop the confirmations of all.
    """

    async def work(conn: Connection) -> int:
        rows = await conn.fetch(SQL["bouncing_campaigns"], share, least)
        for name, ended, bounced in rows:
            reason = f"{bounced / ended:.1%} of {ended:,} mails bounced within an hour"
            await suspensions.suspend(conn, "campaign", name, until=None, reason=reason, by=AUTOMATION)
            log.warning("campaign bounces", extra={"campaign": name, "why": reason})
        return len(rows)

    return await in_transaction(pool, work)


async def sweep(pool: Pool) -> int:
    """End limits whose time is over, and forget replies that no threshold reaches back to; how many limits."""

    async def work(conn: Connection) -> int:
        await conn.execute(SQL["forget_old_replies"])
        return await undo_lapsed(conn)

    return await in_transaction(pool, work)
