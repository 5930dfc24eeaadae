"""Forms on which people sign up, from files into the database, as a whole or not at all.

    form.toml                  name, stream, consent, and what else the page says
    confirm/                   the mail that asks to confirm, if ours will not do: a message folder

Each form has a program of its own, `confirm-NAME`, of transactional mail. Applying the same
file again changes nothing. A change makes a new version; proofs name the one that was seen.
"""

import re
from pathlib import Path
from typing import Any, Literal

import msgspec

from engine.policy import StreamDefinition
from engine.programs import Definition, EndNode, SendNode
from mtad.base.config import Config
from mtad.base.db import Connection, Pool, in_transaction
from mtad.base.errors import InputError
from mtad.compose import store as messages
from mtad.compose.apply import read_table
from mtad.compose.folder import Draft, read_message
from mtad.compose.store import Parts
from mtad.consent import store
from mtad.consent.mails import CONFIRMATIONS
from mtad.consent.words import TRANSACTIONAL, FormWords
from tracker.pages import render_snippet

NODE = "confirm"

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")


class Applied(msgspec.Struct, frozen=True):
    """What became of a file."""

    name: str
    version: int
    did: Literal["created", "changed", "unchanged"]


class Shown(msgspec.Struct, frozen=True):
    """A form and what has come of it."""

    name: str
    stream: str
    version: int
    address: str  # of its page
    waiting: int  # asked, and neither confirmed nor expired
    confirmed: int
    snippet: str  # HTML for a page of somebody else's


async def apply_form(pool: Pool, path: Path, by: str) -> Applied:
    """Make or change the form of a file; `by` is who did it. InputError: nothing was changed."""
    form = read_form(path)

    async def work(conn: Connection) -> Applied:
        stream = await messages.lock_stream(conn, form.stream)
        if stream is None:
            others = ", ".join(await messages.stream_names(conn)) or "none"
            raise InputError(f"{path}: stream: there is no {form.stream!r} (there is: {others})")
        title = StreamDefinition.from_json(stream.definition).shown
        draft = await _draft(conn, path, form, title)
        known = await store.form(conn, form.name)
        if known is None:
            await _make(conn, form, stream.id, draft, by)
            return Applied(form.name, 1, "created")
        stored = await messages.messages_of(conn, known.program_id, known.program_version)
        same_mail = [message.parts for message in stored] == [draft.parts]
        if same_mail and known.words == form:
            return Applied(form.name, known.version, "unchanged")
        if not same_mail or known.stream_id != stream.id:
            await _change_mail(conn, known, form, stream.id, draft, by)
        version = known.version + 1
        await store.set_form_version(conn, known.id, version, stream.id)
        await store.add_form_version(conn, known.id, version, msgspec.to_builtins(form), by)
        return Applied(form.name, version, "changed")

    return await in_transaction(pool, work)


async def list_forms(config: Config, pool: Pool) -> list[Shown]:
    """Every form, by name."""
    async with pool.acquire() as conn:
        rows = await store.forms(conn)
    shown = []
    for row, waiting, confirmed in rows:
        base = row.stream.tracking_url or config.tracker_url
        snippet = render_snippet(row.shown, row.words.language, action=f"{base}/subscribe")
        address = f"{base}/s/{row.name}"
        shown.append(Shown(row.name, row.stream.name, row.version, address, waiting, confirmed, snippet))
    return shown


def read_form(path: Path) -> FormWords:
    """The form of a file; InputError in one line for whatever is wrong with it."""
    raw = read_table(path)
    try:
        form = msgspec.convert(raw, FormWords)
    except msgspec.ValidationError as error:
        raise InputError(f"{path}: {_named(error)}") from None
    if not _NAME.fullmatch(form.name):
        raise InputError(f"{path}: name: small letters, digits and hyphens, at most 40, is {form.name!r}")
    if not form.consent.strip():
        raise InputError(f"{path}: consent: is empty; write the words that people agree to")
    return form


def _named(error: msgspec.ValidationError) -> str:
    """The key first, and a key is what a file has."""
    text, _, key = str(error).partition(" - at `$.")
    text = text.replace("Object contains unknown field", "unknown key")
    text = text.replace("Object missing required field", "missing key")
    return f"{key.removesuffix('`')}: {text}" if key else text


async def _draft(conn: Connection, path: Path, form: FormWords, title: str) -> Draft:
    """The mail that asks to confirm."""
    if not form.message:
        subject, text = CONFIRMATIONS[form.language]
        return Draft(NODE, Parts(subject, None, text.replace("TITLE", _literal(title)), made=False), ())
    types = await messages.attribute_types(conn)
    draft = read_message(path.parent / form.message, {*types, "confirm_url"}, bulk=False)
    for kind, part in (("html", draft.parts.html), ("txt", draft.parts.txt)):
        if part is not None and "confirm_url" not in part:
            raise InputError(f"{path.parent / form.message}: message.{kind}: {{{{ confirm_url }}}} must be in it")
    if draft.links:
        raise InputError(
            f"{path.parent / form.message}: message.html: a link to {draft.links[0].url}:"
            " a mail that asks to confirm carries no advertising; the only link is {{ confirm_url }}"
        )
    return draft


def _literal(text: str) -> str:
    """As text in a template, whatever stands in it."""
    return text.replace("{", "{{ '{' }}")


async def _make(conn: Connection, form: FormWords, stream_id: int, draft: Draft, by: str) -> None:
    definition = _definition(form)
    program = await messages.new_program(conn, definition, stream_id, by)
    if program is None:
        raise InputError(
            f"there is a program {definition.name} already, which is no form's; give the form another name"
        )
    await _add_message(conn, program, 1, draft)
    await store.open_program(conn, program)
    form_id = await store.add_form(conn, form.name, stream_id, program)
    await store.add_form_version(conn, form_id, 1, msgspec.to_builtins(form), by)


async def _change_mail(
    conn: Connection, known: store.FormRow, form: FormWords, stream_id: int, draft: Draft, by: str
) -> None:
    program = await messages.lock_program(conn, f"confirm-{form.name}")
    assert program is not None
    version = await messages.next_program(conn, program, _definition(form), stream_id, by)
    await _add_message(conn, known.program_id, version, draft)
    await store.open_program(conn, known.program_id)


async def _add_message(conn: Connection, program: int, version: int, draft: Draft) -> None:
    ids = await messages.add_messages(conn, program, version, [(NODE, draft.name, draft.parts, draft.pixel)])
    await messages.add_links(conn, [(ids[NODE], position, url) for position, url in draft.all_links])


def _definition(form: FormWords) -> Definition:
    nodes: dict[str, Any] = {NODE: SendNode(NODE, "end"), "end": EndNode()}
    return Definition(
        name=f"confirm-{form.name}", kind="campaign", stream=form.stream, class_=TRANSACTIONAL, first=NODE, nodes=nodes
    )
