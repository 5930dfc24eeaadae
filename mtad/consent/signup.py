"""Double opt-in: ask an address to confirm, take the answer, forget who gave none."""

from datetime import datetime
from uuid import UUID

from engine import permission
from mtad.base.address import Address
from mtad.base.config import Config
from mtad.base.db import Connection, Pool, in_transaction
from mtad.base.ids import message_id
from mtad.consent import store
from mtad.consent.limits import APART, TERM, next_slot
from mtad.consent.words import TRANSACTIONAL
from mtad.queue.intake import COMMAND_SLOT
from mtad.queue.store import wake_sites
from tracker.desk import Confirmed, Visitor

# What browsers tell is kept, in measure.
MOST_TEXT = 300


async def ask(
    conn: Connection, config: Config, form: store.FormRow, address: Address, visitor: Visitor, *, measuring: bool
) -> datetime | None:
    """Queue the mail that asks this address to confirm; when it may go, None when no mail is needed or allowed.

    Not needed: subscribed already, or asked by the same form within the hour. So pressing the
    button again changes nothing, and whoever presses it learns nothing about the address.
    Not allowed: too often, or while another is queued, since both might arrive together.
    """
    words = form.words
    contact_id, known_as, site_id = await store.add_contact(conn, address, words.language)
    if await store.subscribed(conn, contact_id, form.stream_id):
        return None
    job_id, now = await store.next_job(conn)
    asked = await store.asked(conn, contact_id)
    if any(one.queued for one in asked):
        return None
    version = (form.id, form.version)
    if any((one.form_id, one.form_version) == version and not one.confirmed and one.at > now - APART for one in asked):
        return None
    due = next_slot([one.at for one in asked], now)
    if due is None:
        return None
    await store.ask(
        conn,
        form,
        job_id=job_id,
        contact_id=contact_id,
        site_id=site_id,
        due=due,
        not_after=min(due + config.max_age(TRANSACTIONAL), now + TERM),
        slot=COMMAND_SLOT,
        proof=(
            # The mail goes to the address as it is known, and that is whose consent it proves.
            known_as,
            visitor.page[:MOST_TEXT],
            words.consent,
            words.measuring if measuring and words.measuring else None,
            visitor.ip,
            visitor.agent[:MOST_TEXT],
            message_id(job_id, now, config.domain),
        ),
    )
    await wake_sites(conn, [site_id] if site_id is not None else [])
    return due


async def confirm(conn: Connection, job_id: int, visitor: Visitor, *, event_id: UUID, at: datetime) -> Confirmed:
    """Whoever reads the mail of this job agreed. Once confirmed, a second answer changes nothing."""
    waiting = await store.lock_waiting(conn, job_id)
    if waiting is None:
        return Confirmed.UNKNOWN
    if waiting.confirmed:
        return Confirmed.DONE if waiting.subscribed else Confirmed.USED
    if not waiting.fresh:
        return Confirmed.UNKNOWN
    await store.confirm(conn, job_id, at, visitor.ip, visitor.agent[:MOST_TEXT])
    await permission.subscribe(
        conn,
        waiting.contact_id,
        waiting.stream_id,
        event_id=event_id,
        at=at,
        source=waiting.source,
        asked_to_measure=waiting.asked_to_measure,
        may_measure=waiting.may_measure,
    )
    return Confirmed.DONE


async def sweep(pool: Pool) -> int:
    """Keep what servers answered with the proofs; forget who did not confirm within 7 days, and old uses of forms.

    How many of all.
    """
    noted = await in_transaction(pool, store.note_answers)
    expired = await in_transaction(pool, store.expire)
    return noted + expired + await in_transaction(pool, store.forget_uses)
