"""Claim what the lanes have room for, ask the gate, hand on what may go."""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import cache
from itertools import groupby
from math import inf

from prometheus_client import Counter, Gauge

from engine import gate
from engine.facts import Defer, Facts, Send, Skip, Verdict
from engine.service import Catalogue, Program, Stream
from mtad.base.automation import rules_in_force
from mtad.base.clock import Clock
from mtad.base.config import Config, Shape, rate, seconds
from mtad.base.db import AWAY, STATEMENT_TIMEOUT, Connection, Pool
from mtad.base.source import OTHER
from mtad.compose.composer import Composer
from mtad.dkim.multibuffer import Multibuffer
from mtad.dkim.sign import Signer as Dkim
from mtad.ops.watch import LaneFigures
from mtad.outcome.automation import Automation
from mtad.outcome.classify import Classifier
from mtad.outcome.kinds import Scope
from mtad.pipeline.allowances import Allowances
from mtad.pipeline.beginner import Beginner
from mtad.pipeline.dials import Dials
from mtad.pipeline.endings import Mail, ended_by_doubt, ended_by_proof, ended_by_skip, returned_by_deferral
from mtad.pipeline.providers import Providers
from mtad.pipeline.sessions import Sessions
from mtad.pipeline.signer import Signer
from mtad.pipeline.site import ENOUGH, SiteRunner
from mtad.pipeline.sources import Sources
from mtad.pipeline.tools import Tools
from mtad.pipeline.watchdog import Watchdog
from mtad.queue import store
from mtad.queue.settle import Ending, Settler
from mtad.queue.store import Ended, Returned
from mtad.shape.layers import Shaper
from mtad.wire.session import Dialer

log = logging.getLogger("mtad.pipeline")

# Mails held in memory by one worker, over all lanes.
MOST_WAITING = 4000

# Seconds between two claims, unless a lane runs low before: after one that found
# something, and after ones that found nothing, doubled from the first to the last.
AFTER_SOME = 0.1
IDLE_FIRST, IDLE_LONGEST = 0.01, 0.2
_LOOK = 0.01

# A claim whose connection was lost may still run, and be committed when what it claimed was given
# back: so it is given back once more when the database has ended every statement of that time.
LATE = seconds(STATEMENT_TIMEOUT) + 5.0

# Mail of a stream whose pool is not configured is looked at again after so many seconds.
NO_POOL_AGAIN = 300.0

VERDICTS = Counter("mtad_verdicts_total", "Verdicts of the gate on claimed jobs", ["verdict", "reason"])
WAITING = Gauge("mtad_claimed_mails", "Mails claimed and waiting for a session")


def _counter_of(verdict: Verdict) -> Counter:
    """By the Reason alone: a detail, such as the name of a cap, would be a time series of its own."""
    return _labelled(type(verdict), "" if isinstance(verdict, Send) else verdict.reason.partition(":")[0])


@cache
def _labelled(kind: type, reason: str) -> Counter:
    return VERDICTS.labels(verdict=kind.__name__.lower(), reason=reason)


class Pipeline:
    """From the queue to the wire and back, for one worker."""

    def __init__(
        self, *, config: Config, pool: Pool, clock: Clock, worker: int, slot: int, catalogue: Catalogue,
        composer: Composer, dkim: Dkim, dialer: Dialer, luck: Callable[[], float],
        dkim_by_source: Mapping[str, Dkim] = {},
        settled: Callable[[Sequence[Ending]], None] = lambda _: None,
    ) -> None:  # fmt: skip
        """`settled` hears of every ending that was written down; `dkim_by_source` signs there instead of `dkim`."""
        self._shaper = Shaper(config.shape, config.routes)
        self._pool = pool
        self._clock = clock
        self._worker = worker
        self._catalogue = catalogue
        self._composer = composer
        signer = Signer(composer, dkim, clock, dkim_by_source, Multibuffer.found())
        self._settler = Settler(pool, clock, worker, slot, config=config, more=lambda: signer.busy, told=settled)
        beginner = Beginner(pool, clock, worker, self._settler, catalogue, more=lambda: signer.busy)
        self._sessions = Sessions(pool, worker)
        self._sources = Sources(config, clock)
        plans = {source.name: source.warmup for source in config.source if source.warmup}
        self._allowances = Allowances(pool, clock, plans)
        dials = Dials(pool)
        providers = Providers(pool, clock, worker)
        automation = Automation(pool, clock, worker, rules_in_force(config.automation), self._shaper.provider)
        watchdog = Watchdog(clock)
        self._services = [
            service.run
            for service in (
                self._settler,
                signer,
                beginner,
                dials,
                automation,
                self._allowances,
                watchdog,
            )
        ] + [self._sessions.run_asking, self._sessions.run_leaving, providers.run_paces, providers.run_sessions]
        self._tools = Tools(
            pool=pool, clock=clock, dialer=dialer, sessions=self._sessions, sources=self._sources,
            allowances=self._allowances, dials=dials, providers=providers, signer=signer, beginner=beginner,
            settler=self._settler, automation=automation, retries=config.retry, luck=luck, watchdog=watchdog,
            classify=Classifier(config.automation.reply),
        )  # fmt: skip
        self._sites: dict[int, SiteRunner] = {}
        self._draining = asyncio.Event()
        self._unheard = False  # a claim may have been committed without our hearing of it
        self._late_until = inf  # monotonic; so long such a claim may still be committed; infinite: there was none

    async def run(self) -> None:
        """Deliver until drained or cancelled. What is cancelled in the middle of a mail is in doubt."""
        async with asyncio.TaskGroup() as services, asyncio.TaskGroup() as lanes:
            running = [services.create_task(run()) for run in self._services]
            await self._claim_until_drained(lanes)
            self._tools.providers.close_line()
            await asyncio.gather(*(site.drain() for site in self._sites.values()))
            await self._allowances.end()
            for task in running:
                task.cancel()

    def lanes(self) -> list[LaneFigures]:
        """Every lane that has sessions, and every site that there is something to do for."""
        return [lane for id_, site in self._sites.items() for lane in site.figures(id_)]

    def drain(self) -> None:
        """Claim nothing more, finish what is on the wire, give the rest back; then `run` returns."""
        self._draining.set()

    def abort(self) -> None:
        """The time to drain is over: leave what is on the wire, and what the database does not take."""
        self._settler.give_up()
        for site in self._sites.values():
            site.abort()

    async def _claim_until_drained(self, group: asyncio.TaskGroup) -> None:
        idle = IDLE_FIRST
        while not self._draining.is_set():
            try:
                sites = await self._claim(group)
            except AWAY as error:
                log.warning("claim: the database is away", extra={"why": repr(error)})
                sites, idle = 0, IDLE_LONGEST
            if sites >= store.MOST_SITES:
                continue  # there are more
            await self._pause(AFTER_SOME if sites else idle)
            idle = IDLE_FIRST if sites else min(idle * 2, IDLE_LONGEST)

    async def _pause(self, longest: float) -> None:
        """Let sessions work; not longer than until one lane runs low."""
        until = self._clock.monotonic() + longest
        more = [site for site in self._sites.values() if site.has_more]  # few of the thousands in the tail
        await self._clock.sleep(_LOOK)
        while self._clock.monotonic() < until and not any(site.is_low for site in more):
            await self._clock.sleep(_LOOK)

    async def _claim(self, group: asyncio.TaskGroup) -> int:
        """Take what there is room for; from how many sites there was something."""
        shut, full, waiting = self._look_after_sites()
        # A batch that waits for the database may have been committed: what it released
        # could be claimed here, begun, and released again under the session that sends it.
        if self._settler.behind or self._sources.none_is_well:
            return 0
        sites = 0 if waiting >= MOST_WAITING or self._sessions.full else store.MOST_SITES
        async with self._pool.acquire() as conn:
            now = self._clock.monotonic()
            if self._unheard or now > self._late_until:
                lost = await store.release_unknown(conn, self._worker, list(self._settler.unsettled))
                log.warning("claim: gave back what was claimed unheard", extra={"jobs": lost})
                self._late_until = now + LATE if self._unheard else inf
            self._unheard = True
            claimed = await store.claim(conn, self._worker, shut, full, sites=sites)
        self._unheard = False  # not before the connection is given back, which can fail too
        self._settler.unsettled.update([facts.job_id for facts in claimed])
        if not claimed:
            return 0
        try:
            await self._need(claimed, group)
        except AWAY:
            # The claim may have been the last thing the database did for us.
            await self._settle([store.Released(facts) for facts in claimed])
            raise
        return await self._judge(claimed)

    def _look_after_sites(self) -> tuple[list[int], list[int], int]:
        """Forget sites that are over, let others grow; those that are shut, those that are full, and the mails of all.

        There are thousands in the tail of small domains, and each claim looks at all of them.
        """
        now = self._clock.monotonic()
        crowded = self._sessions.full
        total = 0
        shut: list[int] = []
        full: list[int] = []
        for id_, site in list(self._sites.items()):
            waiting = site.waiting
            total += waiting
            if site.is_shut(now):
                # It stays, and is named to the claim, which would bring its mail again and again.
                shut.append(id_)
            elif not waiting and site.is_over(now):
                del self._sites[id_]
            else:
                if waiting:
                    site.grow(now)
                if waiting >= ENOUGH and site.is_full:
                    full.append(id_)
                else:
                    site.asked()
            if crowded:
                site.close_idle()
        WAITING.set(total)
        return shut, full, total

    async def _need(self, claimed: Sequence[Facts], group: asyncio.TaskGroup) -> None:
        """Have programs, streams, messages and lanes of these jobs in memory."""
        await self._catalogue.need(
            {(f.program_id, f.version) for f in claimed},
            {(f.stream_id, f.stream_version) for f in claimed},
            max([f.epoch for f in claimed]),
        )
        await self._composer.need(self._pool, {f.message_id for f in claimed})
        if missing := sorted({f.site_id for f in claimed} - self._sites.keys()):
            async with self._pool.acquire() as conn:
                lanes = await self._lanes_to(conn, missing)
            for site, its in groupby(lanes, key=lambda one: one[0].site_id):
                self._sites[site] = SiteRunner(list(its), self._tools, group)

    async def _lanes_to(self, conn: Connection, sites: Sequence[int]) -> list[tuple[store.Lane, Shape]]:
        named = await store.site_hosts(conn, sites)
        shapes = {
            (site, source): self._shaper.shape(name, hosts, source)
            for site, (name, hosts) in named.items()
            for source in self._sources.names
        }
        limits = []
        for (site, source), shape in shapes.items():
            limit = rate(shape.max_message_rate)
            provider = self._shaper.provider(named[site][1]) or OTHER
            limits.append(store.Limit(site, limit.per_second, limit.burst, shape.connection_limit, source, provider))
        return [(lane, shapes[lane.site_id, lane.source]) for lane in await store.lanes_of(conn, limits)]

    async def _judge(self, claimed: Sequence[Facts]) -> int:
        """Ask the gate; the number of sites that have something to send."""
        now = self._clock.now()
        over: list[Ending] = []
        going: dict[int, list[Mail]] = {}
        for facts in claimed:
            match self._verdict(facts, now):
                case Mail() as mail:
                    going.setdefault(facts.site_id, []).append(mail)
                case row:
                    over.append(row)
        for site, mails in going.items():
            self._sites[site].add(mails)
            await self._sites[site].strand()
        await self._settle(over)
        return len({facts.site_id for facts in claimed})

    def _verdict(self, facts: Facts, now: datetime) -> Mail | Ended | Returned:
        program = self._catalogue.program(facts.program_id, facts.version)
        if facts.proven is not None:
            return ended_by_proof(facts, program, facts.proven)
        if facts.doubts and self._tools.retries.of(facts.class_).in_doubt == "give_up":
            return ended_by_doubt(facts, program)
        stream = self._catalogue.stream(facts.stream_id, facts.stream_version)
        catalogue = self._catalogue
        context = gate.Context(
            program.definition, catalogue.suppressed_domains, catalogue.suspended, stream.definition.policy
        )
        verdict = gate.verdict(facts, context, now)
        _counter_of(verdict).inc()
        match verdict:
            case Skip(reason):
                return ended_by_skip(facts, program, reason)
            case Defer():
                return returned_by_deferral(facts, verdict, now)
            case Send():
                return self._sendable(facts, program, stream)

    def _sendable(self, facts: Facts, program: Program, stream: Stream) -> Mail | Ended | Returned:
        """A mail that the gate lets go, where there is a way."""
        site = self._sites[facts.site_id]
        if not site.hosts:
            return Ended(
                facts, "bounced", "BadDomain", scope=Scope.RECIPIENT, reply=site.name, suppress=True,
                attempts=facts.attempt, why="bounced",
            )  # fmt: skip
        if stream.definition.pool not in self._sources.pools:
            # It must not go by another address than those that somebody chose.
            why = f"the configuration has no [[pool]] named {stream.definition.pool!r}"
            return Returned(facts, NO_POOL_AGAIN, why, facts.attempt)
        return Mail(facts, program, stream)

    async def _settle(self, rows: Sequence[Ending]) -> None:
        done = [await self._settler.batcher.submit(row) for row in rows]
        await asyncio.gather(*done)
