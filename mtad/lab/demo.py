"""The storyboard of `mtad demo`: everything for real, on loopback, in a folder of its own.

The product is driven through its own command line (mtad.lab.installation); around it
stand a receiving server, its users and one mailbox for the viewer. One day lasts one
second, as the demo's stream says.
"""

import asyncio
import contextlib
import csv
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from mtad.base.clock import Clock
from mtad.base.db import Connection, Pool, open_pool
from mtad.base.errors import Problem
from mtad.lab import store
from mtad.lab.installation import Installation, fdatasync_ms, free_port, next_commands
from mtad.lab.mailbox import Mailbox
from mtad.lab.people import DOMAINS, VIEWER, VIEWER_DOMAIN, VIEWER_NAME, Crowd, crowd
from mtad.lab.recipients import SERIES_MAILS, Character, Recipients, character_of, reads
from mtad.lab.reckoning import Everybody, Facts, Result, reckon, table
from mtad.lab.screen import Screen, View
from mtad.lab.sink import Sink
from mtad.lab.verify import Verifier, verify_all
from tracker.tokens import Keys, read_return_path

T = TypeVar("T")

DOMAIN = "fernweh.example"
STREAM, SERIES, NEWSLETTER, WINBACK = "courses", "first-steps", "newsletter", "winback"
THRESHOLD = 20
DAY = 1.0

# One mail to everybody shall take so long that the next is still queued when people react.
SECONDS_A_MAIL = 12

# Nothing moved for so long: something is broken, and waiting on would hide it.
PATIENCE = 60.0


class Options(msgspec.Struct, frozen=True):
    """What the command says."""

    contacts: int
    seed: int
    stay: bool


async def run_demo(options: Options, place: Installation, url: str, screen: Screen, clock: Clock) -> Result:
    """Play the whole story on the database `url`; Problem when it cannot go on."""
    if task := asyncio.current_task():
        # As by Ctrl-C: whoever ends the demo ends what it started.
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    people = crowd(options.contacts, options.seed)
    recipients = Recipients(clock, seed=options.seed, day=DAY, besides=frozenset({VIEWER}))
    pool = await open_pool(url, most=4, name="mtad demo")
    try:
        verifier = Verifier.from_config(place.config)
        async with (
            Sink(ports=len(DOMAINS) + 1, arrived=recipients.deliver) as sink,
            Mailbox(
                sink, pool, verifier, name=VIEWER_NAME, address=VIEWER, stream=STREAM, threshold=THRESHOLD
            ) as mailbox,
            running(recipients.run()),
        ):
            demo = Demo(
                options=options, place=place, pool=pool, sink=sink, recipients=recipients, mailbox=mailbox,
                people=people, screen=screen, clock=clock,
            )  # fmt: skip
            try:
                await demo.set_stage()
                async with running(demo.watch()):
                    await demo.play()
                if not options.stay:
                    demo.exit_code = await place.stop()
                result = await demo.settle_books()
                if options.stay:
                    async with running(demo.watch()):
                        await demo.stay()
                return result
            finally:
                await place.stop()
    finally:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(pool.close(), 5)


class Demo:
    """One run of the story, act by act."""

    def __init__(
        self, *, options: Options, place: Installation, pool: Pool, sink: Sink, recipients: Recipients,
        mailbox: Mailbox, people: Crowd, screen: Screen, clock: Clock,
    ) -> None:  # fmt: skip
        self._options = options
        self._place = place
        self._pool = pool
        self._sink = sink
        self._recipients = recipients
        self._mailbox = mailbox
        self._people = people
        self._screen = screen
        self._clock = clock
        self._began = clock.monotonic()
        self.exit_code: int | None = None  # of `mtad run`; None while it runs
        self._line = ""
        self._moved = clock.monotonic()
        self._copies_seen = 0

    async def play(self) -> None:
        """All acts in order, until nobody has anything left to do."""
        await self._contacts()
        await self._series()
        await self._kill()
        await self._responses()
        await self._silence()
        await self._newsletter()
        await self._winback()
        await self._quiet()

    async def watch(self) -> None:
        """Draw the screen until cancelled; Problem when `mtad run` ends by itself."""
        while True:
            self._place.require_running()
            async with self._pool.acquire() as conn:
                view = View(await store.mails(conn), await store.states(conn, STREAM), self._line)
            self._screen.update(view, self._clock.monotonic())
            await self._clock.sleep(0.5)

    async def stay(self) -> None:
        """Until Ctrl-C or SIGTERM."""
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        self._screen.act("It goes on.", f"Your mailbox: {self._mailbox.url}", "Ctrl-C ends it.")
        await stop.wait()

    # ── The acts ─────────────────────────────────────────────────────────────

    async def set_stage(self) -> None:
        """Configuration and schema; comes first."""
        ports = dict(zip((*DOMAINS, VIEWER_DOMAIN), self._sink.ports, strict=True))
        rate = max(4, -(-self._options.contacts // (SECONDS_A_MAIL * len(DOMAINS))))
        self._place.route(ports, tracker_port=free_port(), rate=rate)
        self._place.copy_files(self._mailbox.url + "shop/")
        self._screen.act(
            "The stage.",
            f"An installation in {self._place.folder}, with a Postgres of its own.",
            f"A receiving server on {len(ports)} ports of loopback: five domains, {rate} mails a second to each.",
            "One day lasts one second here, and hits settle after one second; everything else is as in production.",
        )
        await self._place.command("migrate")

    async def _contacts(self) -> None:
        (self._place.folder / "people.csv").write_text(self._people.contacts_csv, encoding="utf-8")
        (self._place.folder / "suppressed.csv").write_text(self._people.suppressed_csv, encoding="utf-8")
        await self._place.command("stream", "apply", "stream.toml")
        imported = await self._place.command(
            "contacts",
            "import",
            "people.csv",
            "--stream",
            STREAM,
            "--basis",
            "consent",
            "--source",
            "demo sign-up form",
        )
        await self._place.command("suppress", "import", "suppressed.csv")
        bad = first_reject(self._place.folder / imported["rejects"])
        self._screen.act(
            "Contacts.",
            f"{imported['made']:,} contacts imported; {imported['refused']} rows refused, each with line and reason in"
            f" people.rejects.csv (line {bad['line']}, {bad['email']}: {bad['reason']}).",
            f"{len(self._people.suppressed):,} of them are suppressed by a second file.",
            f"Contact {self._options.contacts + 1:,} is you, {VIEWER}. Your mailbox: {self._mailbox.url}",
            "Open your mails there and click: you are scored like everybody else. Be quick, your series takes nine"
            " seconds; or stay silent, see what that does, and come back with a click.",
        )

    async def _series(self) -> None:
        await self._place.command("program", "apply", f"{SERIES}.toml")
        forecast = await self._place.command("program", "forecast", SERIES)
        await self._place.start()
        await self._until(lambda conn: _is(store.workers(conn), lambda living: len(living) == 2))
        started = await self._place.command("program", "start", SERIES)
        skipped = ", ".join(f"{n:,} {reason}" for reason, n in forecast["skipped"].items())
        self._screen.act(
            "A series of three.",
            f"Forecast: {forecast['send']:,} mails now, and left out: {skipped or 'nobody'}.",
            f"Started: {started['queued']:,} queued, {started['left_out']:,} left out with a reason in the ledger.",
            "Two workers sign and send. People open, click and leave; scanners fetch every link at once.",
        )

    async def _kill(self) -> None:
        await self._until(lambda conn: _is(store.mails(conn), lambda mails: mails[0].delivered > mails[0].enrolled / 5))
        # In a small crowd we may never meet a worker with a mail under way: then any will do.
        killed = await self._while_running(SERIES, _busiest)
        if killed is None:
            killed = await self._until(_any_worker)
        os.kill(killed.pid, signal.SIGKILL)
        at = self._clock.monotonic()
        self._screen.act(
            "kill -9.",
            f"Worker {killed.pid} was killed; mails between begin and the receiver's answer: {killed.begun}.",
        )

        async def replaced(conn: Connection) -> bool:
            living = await store.workers(conn)
            return len(living) == 2 and all(worker.id != killed.id for worker in living)

        await self._until(replaced)
        self._screen.say(
            f"After {self._clock.monotonic() - at:.1f} s another has its place. What had not begun goes on;"
            " what had is in doubt, marked so, and asked for again."
        )

    async def _responses(self) -> None:
        """Somebody reaches the threshold, and somebody leaves, each with a mail in the queue.

        In a small crowd it may happen to nobody.
        """

        async def told(reason: str) -> store.Withdrawn | None:
            return await self._while_running(SERIES, lambda conn: store.withdrawn(conn, SERIES, reason))

        engaged = asyncio.create_task(told("left:engaged"))
        left = asyncio.create_task(told("unsubscribed"))
        try:
            for done in asyncio.as_completed((engaged, left)):
                mail = await done
                if mail is None:
                    continue
                name = mail.first_name or mail.address
                if mail.reason == "unsubscribed":
                    self._screen.act(
                        "One click, and out.",
                        f"{name} ({mail.address}) left by RFC 8058 POST while {mail.queued:,} mails were queued."
                        f" One of them, {mail.node!r}, was for {name}: it was taken out, ledger {mail.reason!r}.",
                    )
                else:
                    self._screen.act(
                        "Twenty points.",
                        f"{name} ({mail.address}) answered twice and is Engaged. The mail {mail.node!r} was already"
                        f" queued among {mail.queued:,}; it was withdrawn: ledger {mail.reason!r}.",
                    )
        finally:
            engaged.cancel()
            left.cancel()

    async def _silence(self) -> None:
        await self._over(SERIES)
        async with self._pool.acquire() as conn:
            states = await store.states(conn, STREAM)
        self._screen.act(
            "Silence.",
            f"The series is over. {states.get('inactive', 0):,} answered none of three mails and are Inactive now:"
            f" they cool down. {states.get('engaged', 0):,} are Engaged, {states.get('active', 0):,} Active,"
            f" {states.get('left', 0):,} left.",
        )

    async def _newsletter(self) -> None:
        await self._place.command("program", "apply", f"{NEWSLETTER}.toml")
        forecast = await self._place.command("program", "forecast", NEWSLETTER)
        inactive = sum(n for reason, n in forecast["skipped"].items() if reason.startswith("inactive"))
        self._screen.act(
            "The newsletter that follows.",
            f"Forecast: {forecast['send']:,} get it, Engaged readers among them; {inactive:,} Inactive ones do not.",
        )
        await self._place.command("program", "start", NEWSLETTER)
        await self._over(NEWSLETTER)

    async def _winback(self) -> None:
        await self._place.command("program", "apply", f"{WINBACK}.toml")
        self._line = "waiting for the end of the cool-downs"
        await self._until(lambda conn: _is(store.cooling(conn, STREAM), lambda count: count == 0))
        self._line = ""
        started = await self._place.command("program", "start", WINBACK)
        self._screen.act(
            "The cool-down is over.",
            f"{started['queued']:,} Inactive ones are asked once more, by one plain mail. Nothing else may mail them.",
        )
        await self._over(WINBACK)
        ended = (await self._place.command("audit", WINBACK))["ended"]
        self._screen.say(
            f"{ended.get('came_back', 0):,} answered: they are back in the audience. {ended.get('silent', 0):,} stayed"
            " silent: they rest, not deleted, and any sign of life would bring them back."
        )

    async def _quiet(self) -> None:
        """Everybody has acted, and all of it has been counted."""
        self._line = "letting the last answers settle"

        async def at_rest(_: Connection) -> bool:
            return self._recipients.busy == 0

        await self._until(at_rest)
        await self._clock.sleep(2 * DAY)
        await self._until(lambda conn: _is(store.unsettled(conn), lambda count: count == 0))

    async def settle_books(self) -> Result:
        """Compare what everybody says, and show it."""
        audits = [await self._place.command("audit", name) for name in (SERIES, NEWSLETTER, WINBACK)]
        verdicts = await verify_all(
            Verifier.from_config(self._place.config), [copy.message for copy in self._sink.messages]
        )
        keys = Keys.parse(self._place.config.path(self._place.config.tracker.keys).read_text(encoding="ascii"))
        jobs = [read_return_path(keys, copy.sender.partition("@")[0]) for copy in self._sink.messages]
        scanners = [a for a in self._people.addresses if character_of(a, self._options.seed) is Character.SCANNER]
        async with self._pool.acquire() as conn:
            facts = Facts(
                audits=audits,
                jobs=jobs,
                ledger=await store.ended(conn),
                verdicts=verdicts,
                states=await store.states(conn, STREAM),
                hits={hit.class_: (hit.count, hit.points) for hit in await store.hits(conn)},
                scanner_points=await store.points_of(conn, scanners),
                newsletter=await store.got_by_state(conn, "december"),
                sessions=self._sink.sessions,
                refused=self._sink.refused.total(),
                failed_requests=self._recipients.failed,
                workers=await store.workers_ever(conn),
                exit_code=self.exit_code,
                read=await store.read(conn, (SERIES, NEWSLETTER)),
                everybody=everybody(self._people, self._options.seed),
                deadlocks=await store.deadlocks(conn),
                fdatasync_ms=await asyncio.to_thread(fdatasync_ms, self._place.folder),
                seconds=self._clock.monotonic() - self._began,
            )
        result = reckon(facts)
        self._screen.show(table(facts, result))
        self._screen.act(
            "Ask it yourself.",
            *next_commands(self._place, f"why {VIEWER}", f"program report {SERIES}", f"audience {STREAM}"),
        )
        return result

    # ── Waiting ──────────────────────────────────────────────────────────────

    async def _over(self, program: str) -> None:
        await self._until(lambda conn: _is(store.running(conn, program), lambda count: count == 0))

    async def _while_running(self, program: str, question: Callable[[Connection], Awaitable[T | None]]) -> T | None:
        """Ask again and again until the answer is true, or None when the program is over first."""

        async def either(conn: Connection) -> tuple[T | None] | None:
            over = not await store.running(conn, program)
            answer = await question(conn)
            return (answer or None,) if answer or over else None

        return (await self._until(either))[0]

    async def _until(self, question: Callable[[Connection], Awaitable[T | None]]) -> T:
        """Ask again and again until the answer is true; Problem when nothing arrives any more."""
        self._moved = self._clock.monotonic()
        while True:
            async with self._pool.acquire() as conn:
                if answer := await question(conn):
                    return answer
            now = self._clock.monotonic()
            if len(self._sink.messages) != self._copies_seen:
                self._copies_seen, self._moved = len(self._sink.messages), now
            if now - self._moved > PATIENCE:
                raise Problem(f"nothing has moved for {PATIENCE:.0f} s; see {self._place.log_path}")
            await self._clock.sleep(0.2)


def everybody(people: Crowd, seed: int) -> Everybody:
    """What series and newsletter would have been with nobody left alone: the same people, computed.

    Who leaves by the second mail gets no third one, as the law has it. You are silent.
    """
    got = {
        address: 2 if character_of(address, seed) is Character.LEAVER else SERIES_MAILS + 1
        for address in people.reachable
    }
    return Everybody(
        mails=sum(got.values()) + SERIES_MAILS + 1,
        read=sum(
            reads(character_of(address, seed), number) for address, n in got.items() for number in range(1, n + 1)
        ),
    )


def first_reject(path: Path) -> dict[str, str]:
    """The first row of a rejects file that has an address: line, email, reason."""
    with path.open(encoding="utf-8", newline="") as rejects:
        return next(row for row in csv.DictReader(rejects) if row["email"])


async def _is(answer: Awaitable[T], holds: Callable[[T], bool]) -> bool:
    return holds(await answer)


async def _busiest(conn: Connection) -> store.Living | None:
    """The worker with the most mails under way, if there is one with any."""
    best = await _any_worker(conn)
    return best if best and best.begun else None


async def _any_worker(conn: Connection) -> store.Living | None:
    """The worker with the most mails under way, or none of them."""
    return max(await store.workers(conn), key=lambda worker: worker.begun, default=None)


@contextlib.asynccontextmanager
async def running(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Have `work` running inside the block; if it fails, the block is cancelled and its error raised."""
    try:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(work)
            try:
                yield
            finally:
                task.cancel()
    except* Problem as problems:
        raise problems.exceptions[0] from None
