"""What the pages of the tracker ask for, answered by the database."""

import hashlib
from datetime import datetime, timedelta
from functools import partial
from uuid import UUID

from engine import permission
from engine.policy import StreamDefinition
from engine.service import unsubscribe
from mtad.base.address import parse_address
from mtad.base.config import Config
from mtad.base.db import Connection, Pool, in_transaction
from mtad.base.ids import unix_ms_of, uuid7
from mtad.consent import signup, store
from tracker.desk import Act, Asking, Confirmed, Form, Person, Subscription, Visitor

# How long a break lasts.
BREAK = timedelta(days=30)

# Who changed a permission, on the page of preferences.
HOW = "preferences"


class ConsentDesk:
    """tracker.desk.Desk: a call returns when it is committed, in one transaction; leaving all streams, in one each."""

    def __init__(self, pool: Pool, config: Config) -> None:
        self._pool = pool
        self._config = config

    async def person(self, contact_id: int, program_id: int) -> Person | None:
        """Whose page it is, and all streams that have something to do with them."""
        rows = await store.person(self._pool, contact_id, program_id)
        if not rows:
            return None
        streams = [_subscription(row) for row in rows if row.stream_id and row.status != "unconfirmed"]
        first = rows[0]
        return Person(first.address, first.locale or first.language or "en", first.of_mail or 0, streams)

    async def form(self, name: str) -> Form | None:
        """A form as it is now."""
        row = await store.form(self._pool, name)
        return row.shown if row else None

    async def allow(self, household: str, network: str) -> bool:
        """See tracker.desk."""
        return await store.use_form(self._pool, household, network)

    async def subscribe(self, name: str, version: int, address: str, visitor: Visitor, *, measuring: bool) -> bool:
        """See tracker.desk."""
        parsed = parse_address(address)

        async def work(conn: Connection) -> bool:
            form = await store.form(conn, name)
            if form is None or form.version != version:
                return False
            await signup.ask(conn, self._config, form, parsed, visitor, measuring=measuring)
            return True

        return await in_transaction(self._pool, work)

    async def asking(self, job_id: int) -> Asking | None:
        """See tracker.desk."""
        return await store.asking(self._pool, job_id)

    async def confirm(self, job_id: int, visitor: Visitor, *, event_id: UUID, at: datetime) -> Confirmed:
        """See tracker.desk."""
        work = partial(signup.confirm, job_id=job_id, visitor=visitor, event_id=event_id, at=at)
        return await in_transaction(self._pool, work)

    async def act(
        self,
        act: Act,
        contact_id: int,
        stream_id: int | None,
        visitor: Visitor,
        *,
        event_id: UUID,
        at: datetime,
        late: bool = False,
    ) -> bool:
        """See tracker.desk. All streams: leaving and not being measured; what else is asked for of all is nothing."""
        streams = [one for one in await store.streams_of(self._pool, contact_id) if stream_id in (None, one)]
        if act is Act.LEAVE:
            # Each stream with an event of its own. The last has the id that was given: once it is known, all is done.
            left = [
                await unsubscribe(
                    self._pool,
                    contact_id=contact_id,
                    stream_id=one,
                    event_id=event_id if one == streams[-1] else _event_of(event_id, one),
                    at=at,
                    how=HOW,
                    late=late,
                )
                for one in streams
            ]
            return any(left)
        if not streams or (stream_id is None and act is not Act.UNMEASURE):
            return False
        return await in_transaction(
            self._pool, partial(self._on_streams, act, contact_id, streams, visitor, event_id=event_id, at=at)
        )

    async def _on_streams(
        self,
        act: Act,
        contact_id: int,
        streams: list[int],
        visitor: Visitor,
        conn: Connection,
        *,
        event_id: UUID,
        at: datetime,
    ) -> bool:
        if act is Act.UNMEASURE:
            return bool(await permission.stop_measuring(conn, contact_id, streams, event_id=event_id, at=at, how=HOW))
        [stream] = streams
        if act is Act.BREAK:
            return await permission.take_break(
                conn, contact_id, stream, event_id=event_id, at=at, until=at + BREAK, how=HOW
            )
        if act is Act.RESUME:
            return await permission.end_break(conn, contact_id, stream, event_id=event_id, at=at, how=HOW)
        if act is Act.UNDO:
            return await permission.undo(conn, contact_id, stream, event_id=event_id, at=at, how=HOW)
        return await self._ask_again(conn, contact_id, stream, visitor)

    async def _ask_again(self, conn: Connection, contact_id: int, stream_id: int, visitor: Visitor) -> bool:
        """An old link is no consent: the address has to confirm anew, on a page with the words of the form."""
        found = await store.way_back(conn, contact_id, stream_id)
        if found is None:
            return False
        name, address = found
        form = await store.form(conn, name)
        assert form is not None
        return await signup.ask(conn, self._config, form, parse_address(address), visitor, measuring=False) is not None


def _event_of(event_id: UUID, stream_id: int) -> UUID:
    """The id of what an event means on one of several streams: the same whenever it is told again."""
    told = event_id.bytes + stream_id.to_bytes(4, "big")
    return uuid7(unix_ms_of(event_id), hashlib.blake2b(told, digest_size=10).digest())


def _subscription(row: store.Standing) -> Subscription:
    stream = StreamDefinition.from_json(row.definition)
    return Subscription(
        stream_id=row.stream_id or 0,
        title=stream.shown,
        subscribed=row.status == "subscribed",
        break_until=row.break_until,
        measured=(row.mode or stream.tracking) != "none",
        undo=row.undo,
        form=row.form,
    )
