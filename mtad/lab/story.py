"""The story of `mtad demo`, act by act: what is done to the installation, and what the viewer is told of it."""

import asyncio
import csv
import os
import signal
from pathlib import Path

from mtad.base.db import Connection
from mtad.lab import store
from mtad.lab.patience import Patience, holds
from mtad.lab.people import VIEWER
from mtad.lab.stage import DAY, NEWSLETTER, SERIES, STREAM, WINBACK, Stage


class Story:
    """Plays on a stage that is set. `line` says what is waited for, where that takes long."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._patience = Patience(stage)
        self.line = ""

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

    async def _contacts(self) -> None:
        (self._stage.place.folder / "people.csv").write_text(self._stage.people.contacts_csv, encoding="utf-8")
        (self._stage.place.folder / "suppressed.csv").write_text(self._stage.people.suppressed_csv, encoding="utf-8")
        await self._stage.place.command("stream", "apply", "stream.toml")
        imported = await self._stage.place.command(
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
        await self._stage.place.command("suppress", "import", "suppressed.csv")
        bad = first_reject(self._stage.place.folder / imported["rejects"])
        self._stage.screen.act(
            "Contacts.",
            f"{imported['made']:,} contacts imported; {imported['refused']} rows refused, each with line and reason in"
            f" people.rejects.csv (line {bad['line']}, {bad['email']}: {bad['reason']}).",
            f"{len(self._stage.people.suppressed):,} of them are suppressed by a second file.",
            f"Contact {self._stage.options.contacts + 1:,} is you, {VIEWER}. Your mailbox: {self._stage.mailbox.url}",
            "Open your mails there and click: you are scored like everybody else. Be quick, your series takes nine"
            " seconds; or stay silent, see what that does, and come back with a click.",
        )

    async def _series(self) -> None:
        await self._stage.place.command("program", "apply", f"{SERIES}.toml")
        forecast = await self._stage.place.command("program", "forecast", SERIES)
        await self._stage.place.start()
        await self._patience.until(lambda conn: holds(store.workers(conn), lambda living: len(living) == 2))
        started = await self._stage.place.command("program", "start", SERIES)
        skipped = ", ".join(f"{n:,} {reason}" for reason, n in forecast["skipped"].items())
        self._stage.screen.act(
            "A series of three.",
            f"Forecast: {forecast['send']:,} mails now, and left out: {skipped or 'nobody'}.",
            f"Started: {started['queued']:,} queued, {started['left_out']:,} left out with a reason in the ledger.",
            "Two workers sign and send. People open, click and leave; scanners fetch every link at once.",
        )

    async def _kill(self) -> None:
        await self._patience.until(
            lambda conn: holds(store.mails(conn), lambda mails: mails[0].delivered > mails[0].enrolled / 5)
        )
        # In a small crowd we may never meet a worker with a mail under way: then any will do.
        killed = await self._patience.while_running(SERIES, _busiest)
        if killed is None:
            killed = await self._patience.until(_any_worker)
        os.kill(killed.pid, signal.SIGKILL)
        at = self._stage.clock.monotonic()
        self._stage.screen.act(
            "kill -9.",
            f"Worker {killed.pid} was killed; mails between begin and the receiver's answer: {killed.begun}.",
        )

        async def replaced(conn: Connection) -> bool:
            living = await store.workers(conn)
            return len(living) == 2 and all(worker.id != killed.id for worker in living)

        await self._patience.until(replaced)
        self._stage.screen.say(
            f"After {self._stage.clock.monotonic() - at:.1f} s another has its place. What had not begun goes on;"
            " what had is in doubt, marked so, and asked for again."
        )

    async def _responses(self) -> None:
        """Somebody reaches the threshold, and somebody leaves, each with a mail in the queue.

        In a small crowd it may happen to nobody.
        """

        async def told(reason: str) -> store.Withdrawn | None:
            return await self._patience.while_running(SERIES, lambda conn: store.withdrawn(conn, SERIES, reason))

        engaged = asyncio.create_task(told("left:engaged"))
        left = asyncio.create_task(told("unsubscribed"))
        try:
            for done in asyncio.as_completed((engaged, left)):
                mail = await done
                if mail is None:
                    continue
                name = mail.first_name or mail.address
                if mail.reason == "unsubscribed":
                    self._stage.screen.act(
                        "One click, and out.",
                        f"{name} ({mail.address}) left by RFC 8058 POST while {mail.queued:,} mails were queued."
                        f" One of them, {mail.node!r}, was for {name}: it was taken out, ledger {mail.reason!r}.",
                    )
                else:
                    self._stage.screen.act(
                        "Twenty points.",
                        f"{name} ({mail.address}) answered twice and is Engaged. The mail {mail.node!r} was already"
                        f" queued among {mail.queued:,}; it was withdrawn: ledger {mail.reason!r}.",
                    )
        finally:
            engaged.cancel()
            left.cancel()

    async def _silence(self) -> None:
        await self._patience.over(SERIES)
        async with self._stage.pool.acquire() as conn:
            states = await store.states(conn, STREAM)
        self._stage.screen.act(
            "Silence.",
            f"The series is over. {states.get('inactive', 0):,} answered none of three mails and are Inactive now:"
            f" they cool down. {states.get('engaged', 0):,} are Engaged, {states.get('active', 0):,} Active,"
            f" {states.get('left', 0):,} left.",
        )

    async def _newsletter(self) -> None:
        await self._stage.place.command("program", "apply", f"{NEWSLETTER}.toml")
        forecast = await self._stage.place.command("program", "forecast", NEWSLETTER)
        inactive = sum(n for reason, n in forecast["skipped"].items() if reason.startswith("inactive"))
        self._stage.screen.act(
            "The newsletter that follows.",
            f"Forecast: {forecast['send']:,} get it, Engaged readers among them; {inactive:,} Inactive ones do not.",
        )
        await self._stage.place.command("program", "start", NEWSLETTER)
        await self._patience.over(NEWSLETTER)

    async def _winback(self) -> None:
        await self._stage.place.command("program", "apply", f"{WINBACK}.toml")
        self.line = "waiting for the end of the cool-downs"
        await self._patience.until(lambda conn: holds(store.cooling(conn, STREAM), lambda count: count == 0))
        self.line = ""
        started = await self._stage.place.command("program", "start", WINBACK)
        self._stage.screen.act(
            "The cool-down is over.",
            f"{started['queued']:,} Inactive ones are asked once more, by one plain mail. Nothing else may mail them.",
        )
        await self._patience.over(WINBACK)
        ended = (await self._stage.place.command("audit", WINBACK))["ended"]
        self._stage.screen.say(
            f"{ended.get('came_back', 0):,} answered: they are back in the audience. {ended.get('silent', 0):,} stayed"
            " silent: they rest, not deleted, and any sign of life would bring them back."
        )

    async def _quiet(self) -> None:
        """Everybody has acted, and all of it has been counted."""
        self.line = "letting the last answers settle"

        async def at_rest(_: Connection) -> bool:
            return self._stage.recipients.busy == 0

        await self._patience.until(at_rest)
        await self._stage.clock.sleep(2 * DAY)
        await self._patience.until(lambda conn: holds(store.unsettled(conn), lambda count: count == 0))


def first_reject(path: Path) -> dict[str, str]:
    """The first row of a rejects file that has an address: line, email, reason."""
    with path.open(encoding="utf-8", newline="") as rejects:
        return next(row for row in csv.DictReader(rejects) if row["email"])


async def _busiest(conn: Connection) -> store.Living | None:
    """The worker with the most mails under way, if there is one with any."""
    best = await _any_worker(conn)
    return best if best and best.begun else None


async def _any_worker(conn: Connection) -> store.Living | None:
    """The worker with the most mails under way, or none of them."""
    return max(await store.workers(conn), key=lambda worker: worker.begun, default=None)
