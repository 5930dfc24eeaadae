"""The door of the tracker: it as a whole, and what becomes of hits behind it."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from uuid import UUID

from aiohttp import web

from mtad.base.clock import Clock
from mtad.base.db import Pool
from tracker import store
from tracker.bearer import EventKeys
from tracker.desk import Act, Desk, Visitor
from tracker.hits import PREFERENCES
from tracker.ingest import Ingest, Unsubscribe
from tracker.links import FOLDER, Link, Links
from tracker.occurrences import Offer, offered_to_nobody, take_in
from tracker.reclassify import Reclassified, reclassify
from tracker.ripening import RIPE_BATCH, Fold, ripen, ripener
from tracker.servers import Servers
from tracker.tokens import Keys
from tracker.views import redeem
from tracker.web import make_app
from tracker.writer import MAX_BYTES, Journal

__all__ = ["RIPE_BATCH", "Fold", "Reclassified", "Tracker", "reclassify", "ripen", "ripener"]


# Who leaves proves nothing.
_NOT_ASKED = Visitor(ip=None, agent="", page="")


class Tracker:
    """One worker's tracker: `app` answers, `run` does the rest until cancelled.

    `state` is the folder of this machine's state, `slot` this worker's place in it,
    `worker` its row in the database, None while it has none: nothing here waits for
    the database. `offer` takes what is told of people beside their mail by the servers
    that hold `event_keys`; what pages of `sites` tell waits for `ripen`. Stop serving `app`,
    and `finish`, before cancelling `run`, which returns when everything that was appended is durable.
    """

    def __init__(
        self,
        *,
        pool: Pool,
        keys: Keys,
        state: Path,
        slot: int,
        worker: Callable[[], int | None],
        unsubscribe: Unsubscribe,
        trusted_proxies: Sequence[str],
        clock: Clock,
        desk: Desk | None = None,
        event_keys: EventKeys | None = None,
        sites: Sequence[str] = (),
        offer: Offer = offered_to_nobody,
        journal_bytes: int = MAX_BYTES,
    ) -> None:
        async def source(after: int, missing: list[int], most: int) -> list[tuple[int, Link]]:
            return await store.links(pool, after, missing, most)

        async def leave(
            *, event_id: UUID, contact_id: int, program_id: int, at: datetime, how: str, late: bool = False
        ) -> object:
            """From the journal, as it was asked for: on the page of preferences another stream, or all."""
            place, _, stream = how.partition(" ")
            if desk is None or place != PREFERENCES:
                return await unsubscribe(
                    event_id=event_id, contact_id=contact_id, program_id=program_id, at=at, how=how, late=late
                )
            stream_id = int(stream) if stream else None
            return await desk.act(Act.LEAVE, contact_id, stream_id, _NOT_ASKED, event_id=event_id, at=at, late=late)

        self.journal = Journal(state / "journal", slot, max_bytes=journal_bytes)
        self.links = Links(source, state / FOLDER, str(slot), clock)
        self._ingest = Ingest(pool, self.journal, leave, worker, clock)
        self._app = make_app(
            keys=keys,
            links=self.links,
            record=self.journal.append,
            unsubscribe=unsubscribe,
            trusted_proxies=trusted_proxies,
            ready=lambda: self.links.loaded and self.journal.owned.is_set(),
            clock=clock,
            desk=desk,
            servers=Servers(event_keys, partial(take_in, pool, offer=offer), clock) if event_keys else None,
            sites=sites,
            redeem=partial(redeem, pool) if sites else None,
        )

    def app(self) -> web.Application:
        """What answers recipients; tracker.web.make_runner puts it on sockets."""
        return self._app

    async def finish(self) -> None:
        """Nobody is answered any more: wait until all that came is in the database, however long that is away."""
        await self._ingest.finish()

    async def run(self) -> None:
        """Write the journal, ingest it and keep the links fresh until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.journal.run(), name="journal")
            tasks.create_task(self._ingest.run(), name="ingest")
            tasks.create_task(self.links.run(), name="links")
