"""The SQL of forms, sign-ups and preferences, sql/queries/consent.sql."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec

from engine.policy import StreamDefinition
from mtad.base.address import Address
from mtad.base.db import Connection, Pool, row_values
from mtad.base.sqlfiles import queries
from mtad.consent.words import FormWords
from tracker.desk import BURST, REFILL, WIDER, Asking, Confirmed, Form

SQL = queries("consent")


class FormRow(msgspec.Struct, frozen=True):
    """A form as it is now."""

    id: int
    name: str
    version: int
    words: FormWords
    stream_id: int
    program_id: int
    program_version: int
    message_id: int
    stream: StreamDefinition

    @property
    def shown(self) -> Form:
        """As pages show it."""
        words = self.words
        return Form(
            words.name,
            self.version,
            words.language,
            words.title,
            self.stream.shown,
            words.text,
            words.consent,
            words.measuring,
        )


class Asked(msgspec.Struct, frozen=True):
    """A confirmation mail of the last day, or one that is still to come."""

    form_id: int
    form_version: int
    at: datetime  # when it went, or may go
    confirmed: bool
    queued: bool  # nobody knows when it goes


class Waiting(msgspec.Struct, frozen=True):
    """What a confirmation mail asked for."""

    contact_id: int
    stream_id: int
    source: str
    asked_to_measure: bool
    may_measure: bool
    confirmed: bool
    fresh: bool  # not older than an unconfirmed one may become
    subscribed: bool  # the contact is, now


async def form(conn: Connection | Pool, name: str) -> FormRow | None:
    row = await conn.fetchrow(SQL["form"], name)
    if row is None:
        return None
    return _form(row_values(row))


async def forms(conn: Connection) -> list[tuple[FormRow, int, int]]:
    """Every form by name, with how many it has asked that wait, and how many that confirmed."""
    rows = [row_values(row) for row in await conn.fetch(SQL["forms"])]
    return [(_form(row[:-2]), row[-2], row[-1]) for row in rows]


async def way_back(conn: Connection, contact_id: int, stream_id: int) -> tuple[str, str] | None:
    """The form by which a contact comes back, best in its own language, and its address; None without a form."""
    row = await conn.fetchrow(SQL["way_back"], contact_id, stream_id)
    return (row[0], row[1]) if row else None


async def add_form(conn: Connection, name: str, stream_id: int, program_id: int) -> int:
    """Make it with version 1, whose definition the caller adds."""
    return int(await conn.fetchval(SQL["add_form"], name, stream_id, program_id))


async def set_form_version(conn: Connection, form_id: int, version: int, stream_id: int) -> None:
    await conn.execute(SQL["set_form_version"], form_id, version, stream_id)


async def add_form_version(conn: Connection, form_id: int, version: int, definition: object, by: str) -> None:
    await conn.execute(SQL["add_form_version"], form_id, version, definition, by)


async def open_program(conn: Connection, program_id: int) -> None:
    """It sends whatever is queued for it, and has no audience to be started with."""
    await conn.execute(SQL["open_program"], program_id)


async def use_form(pool: Pool, household: str, network: str) -> bool:
    """Count a use of a form, if household and network have one left."""
    return bool(await pool.fetchval(SQL["use_form"], household, network, BURST, REFILL, WIDER))


async def add_contact(conn: Connection, address: Address, language: str) -> tuple[int, str, int | None]:
    """Find or make the contact and lock its gate; its id, its address as it is known, its site."""
    await conn.execute(SQL["add_contact"], address.given, address.key, address.domain, language)
    row = await conn.fetchrow(SQL["lock_contact"], address.key)
    assert row is not None
    return row[0], row[1], row[2]


async def subscribed(conn: Connection, contact_id: int, stream_id: int) -> bool:
    """Whether the contact gets mail of the stream already."""
    return bool(await conn.fetchval(SQL["subscribed"], contact_id, stream_id))


async def asked(conn: Connection, contact_id: int) -> list[Asked]:
    """Confirmation mails to a contact within the last day, or still to come, the latest first."""
    return [Asked(*row_values(row)) for row in await conn.fetch(SQL["asked"], contact_id)]


async def next_job(conn: Connection) -> tuple[int, datetime]:
    """An id for a mail that is being made, and the time of this transaction."""
    (row,) = await conn.fetch(SQL["next_job"])
    return row[0], row[1]


async def ask(
    conn: Connection,
    form: FormRow,
    *,
    job_id: int,
    contact_id: int,
    site_id: int | None,
    due: datetime,
    not_after: datetime,
    slot: int,
    proof: Sequence[object],
) -> None:
    """Queue the mail, with its proof; `proof`: address, page, consent, measuring, ip, agent, message id."""
    await conn.execute(
        SQL["ask"],
        job_id,
        contact_id,
        form.stream_id,
        form.program_id,
        form.program_version,
        form.message_id,
        site_id,
        due,
        not_after,
        slot,
        form.id,
        form.version,
        *proof,
    )
    await conn.execute(SQL["add_unconfirmed"], form.stream_id, contact_id, f"form:{form.name}")


async def asking(pool: Pool, job_id: int) -> Asking | None:
    """What a mail asks to confirm; None when that has expired."""
    row = await pool.fetchrow(SQL["asking"], job_id)
    return Asking(row[0], row[1], row[2], Confirmed(row[3]) if row[3] else None) if row else None


async def lock_waiting(conn: Connection, job_id: int) -> Waiting | None:
    """What a mail asked for, its gate and its proof locked."""
    if await conn.fetchrow(SQL["lock_asked"], job_id) is None:
        return None
    row = await conn.fetchrow(SQL["waiting"], job_id)
    return Waiting(*row_values(row)) if row else None


async def confirm(conn: Connection, job_id: int, at: datetime, ip: str | None, agent: str) -> None:
    await conn.execute(SQL["confirm"], job_id, at, ip, agent)


async def note_answers(conn: Connection) -> int:
    """Copy what servers said to confirmation mails into their proofs; how many."""
    return len(await conn.fetch(SQL["note_answers"]))


async def forget_uses(conn: Connection) -> int:
    """Forget up to 5,000 households that may use forms as often as anybody again; how many."""
    status: str = await conn.execute(SQL["forget_uses"])
    return int(status.rpartition(" ")[2])


async def expire(conn: Connection) -> int:
    """Forget up to 500 that were never confirmed; how many. Not while a file is imported."""
    if await conn.fetchval(SQL["importing"]):
        return 0
    await conn.execute(SQL["lock_imports"])
    rows = await conn.fetch(SQL["expired"])
    if not rows:
        return 0
    jobs, contacts = [row[0] for row in rows], sorted({row[1] for row in rows})
    await conn.execute(SQL["lock_gates"], contacts)
    await conn.execute(SQL["forget_asking"], jobs)
    await conn.execute(SQL["forget_unconfirmed"], contacts)
    gone = [row[0] for row in await conn.fetch(SQL["known_by_form_only"], contacts)]
    if gone:
        await conn.execute(SQL["forget_mails"], gone)
        await conn.execute(SQL["forget_events"], gone)
        await conn.execute(SQL["forget_contacts"], gone)
    return len(rows)


class Standing(msgspec.Struct, frozen=True):
    """A contact, and how it stands to one stream; without one where it has nothing to do with any."""

    address: str
    locale: str | None
    of_mail: int | None  # the stream of the mail in which the link stood, and its language
    language: str | None
    stream_id: int | None
    definition: Any
    status: str
    break_until: datetime | None
    mode: str | None  # None: as the stream says
    undo: bool
    form: bool


async def person(pool: Pool, contact_id: int, program_id: int) -> list[Standing]:
    """One for each stream; none at all when there is no such contact any more."""
    return [Standing(*row_values(row)) for row in await pool.fetch(SQL["person"], contact_id, program_id)]


async def streams_of(pool: Pool, contact_id: int) -> list[int]:
    """To which the contact stands in some way."""
    return [row[0] for row in await pool.fetch(SQL["streams_of"], contact_id)]


def _form(values: Sequence[Any]) -> FormRow:
    made: list[Any] = [*values]
    made[3], made[-1] = msgspec.convert(made[3], FormWords), StreamDefinition.from_json(made[-1])
    return FormRow(*made)
