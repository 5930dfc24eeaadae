"""Streams and programs from files into the database, as a whole or not at all.

Applying the same file again changes nothing. A change of a stream raises the epoch, a
change of a program its fence, so no verdict that was made before it lets a mail go.
"""

import re
import tomllib
from collections.abc import Collection
from pathlib import Path
from typing import Any, Literal

import msgspec

from engine.policy import Policy, StreamDefinition, mailbox, parse_stream
from engine.programs import (
    TRIGGERED,
    Definition,
    SendNode,
    parse_program,
    require_reachable,
    require_threshold_in_reach,
    require_time_to_answer,
)
from engine.revision import Effect, effect, hasten, retime
from engine.service import count_forgettable
from mtad.base.db import Connection, Pool, in_transaction
from mtad.base.errors import InputError
from mtad.base.source import DEFAULT
from mtad.compose import store
from mtad.compose.folder import Draft, read_message
from mtad.compose.refusals import (
    require_date,
    require_hand_overs,
    require_known_audience,
    require_links,
    require_nobody_strands,
    require_same_sort,
)

_LIST_ID = re.compile(r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)+")


class Applied(msgspec.Struct, frozen=True):
    """What became of a file."""

    name: str
    version: int
    did: Literal["created", "changed", "unchanged"]
    people: int = 0  # who went on in this version
    mails: int = 0  # of a program: that waited and are of this version now; of a stream: that go sooner by it


def read_stream(path: Path) -> StreamDefinition:
    """The stream of a file; InputError in one line for whatever is wrong with it."""
    raw = read_table(path)
    try:
        return parse_stream(raw)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


class Plan(msgspec.Struct, frozen=True):
    """What applying the file of a stream would do. `version`: that which it would get, or has."""

    name: str
    version: int
    did: Literal["created", "changed", "unchanged"]
    old: StreamDefinition | None
    new: StreamDefinition
    effect: Effect


async def plan_stream(pool: Pool, path: Path, *, pools: Collection[str] = (DEFAULT,)) -> Plan:
    """What `apply_stream` would do, and to how many people; InputError as there. Nothing is written."""
    definition = _checked_stream(path, pools)
    async with pool.acquire() as conn, conn.transaction(isolation="repeatable_read", readonly=True):
        known = await store.stream_by_name(conn, definition.name)
        if known is None:
            return Plan(definition.name, 1, "created", None, definition, Effect())
        if known.definition == definition:
            return Plan(definition.name, known.version, "unchanged", known.definition, definition, Effect())
        await _require_fit(conn, path, known.id, definition)
        old, new = known.definition.policy, definition.policy
        found = Effect()
        if old != new:
            found = await effect(conn, known.id, old, new, await conn.fetchval("select now()"))
        if known.definition.forgets_after != definition.forgets_after:
            found.forgotten = await count_forgettable(conn, known.id, definition.forgets_after)
        return Plan(definition.name, known.version + 1, "changed", known.definition, definition, found)


async def apply_stream(pool: Pool, path: Path, by: str, *, pools: Collection[str] = (DEFAULT,)) -> Applied:
    """Make or change the stream of a file; `by` is who did it, `pools` are those of the configuration.

    InputError: nothing was changed.
    """
    definition = _checked_stream(path, pools)

    async def work(conn: Connection) -> tuple[Applied, tuple[int, Policy] | None]:
        """And the stream with its policy before, where that is another one."""
        while (known := await store.lock_stream(conn, definition.name)) is None:
            if await store.new_stream(conn, definition, by):
                return Applied(definition.name, 1, "created"), None
        before = StreamDefinition.from_json(known.definition)
        if before == definition:
            return Applied(definition.name, known.version, "unchanged"), None
        await _require_fit(conn, path, known.id, definition)
        version = await store.next_stream(conn, known, definition, by)
        other = before.policy != definition.policy
        return Applied(definition.name, version, "changed"), (known.id, before.policy) if other else None

    applied, before = await in_transaction(pool, work)
    if before is not None:
        stream_id, old = before
        await retime(pool, stream_id, definition.policy)
        return msgspec.structs.replace(applied, mails=await hasten(pool, stream_id, old, definition.policy))
    return applied


def _checked_stream(path: Path, pools: Collection[str]) -> StreamDefinition:
    definition = read_stream(path)
    try:
        _check_sender(definition)
        _check_pool(definition, pools)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    return definition


async def _require_fit(conn: Connection, path: Path, stream_id: int, definition: StreamDefinition) -> None:
    """The new rules fit the programs that there are: the threshold can be reached, and answers have their time."""
    programs = await store.definitions_of_stream(conn, stream_id)
    try:
        require_threshold_in_reach(definition.policy, programs)
        require_time_to_answer(definition.policy, programs)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


async def apply_program(pool: Pool, path: Path, by: str, *, move: bool = False) -> Applied:
    """Make or change the program of a file with the messages beside it.

    A new program is a draft. Of one that has begun a new version is for those who enter from
    now on; with `move` for everybody on the way too, also one that was made before. InputError,
    and nothing is changed, for whatever is wrong in the file or a template, and where a move
    would strand somebody.
    """
    raw = read_table(path)
    async with pool.acquire() as conn:
        stream = await _stream(conn, path, raw)
        types = await store.attribute_types(conn)
    policy = stream.definition.policy
    try:
        definition = parse_program(raw, day=policy.day, window=policy.window, engaged=policy.on_engaged)
        require_reachable(definition, policy)
        require_known_audience(definition, types)
        require_date(definition, types)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    drafts = {
        key: read_message(path.parent / node.message, types, bulk=definition.class_ >= TRIGGERED, utm=definition.utm)
        for key, node in definition.nodes.items()
        if isinstance(node, SendNode)
    }
    require_links(path, definition, drafts)

    async def work(conn: Connection) -> Applied:
        if definition.then or definition.instead:
            require_hand_overs(path, definition, await store.hand_overs(conn))
        while (known := await store.lock_program(conn, definition.name)) is None:
            made = await store.new_program(conn, definition, stream.id, by)
            if made is not None:
                await _add_messages(conn, made, 1, drafts)
                return Applied(definition.name, 1, "created")
        if await _is_same(conn, known, definition, stream.id, drafts):
            applied = Applied(definition.name, known.version, "unchanged")
        else:
            if known.status != "draft":
                require_same_sort(path, known, definition, stream.id)
            version = await store.next_program(conn, known, definition, stream.id, by)
            await _add_messages(conn, known.id, version, drafts)
            applied = Applied(definition.name, version, "changed")
        if not move:
            return applied
        await require_nobody_strands(conn, path, known.id, definition)
        people, mails = await store.move_to_version(conn, known.id, applied.version)
        return msgspec.structs.replace(applied, people=people, mails=mails)

    return await in_transaction(pool, work)


def _check_sender(definition: StreamDefinition) -> None:
    """What every mail of the stream would fail on."""
    if not definition.imprint.strip():
        raise InputError("imprint: is missing; every bulk mail must say who sends it")
    for key, text in (("from", definition.from_), ("reply_to", definition.reply_to)):
        if text and not mailbox(key, text)[1].wire.isascii():
            raise InputError(f"{key}: {text!r}: only ASCII before the @, or half of all servers cannot answer")
    if not _LIST_ID.fullmatch(definition.list_id):
        raise InputError(f"list_id: write it like news.example.com (RFC 2919), is {definition.list_id!r}")


def _check_pool(definition: StreamDefinition, pools: Collection[str]) -> None:
    if definition.pool not in pools:
        raise InputError(f"pool: there is no [[pool]] named {definition.pool!r} (there is: {', '.join(pools)})")


def read_table(path: Path) -> dict[str, Any]:
    """The TOML of a file that the command line names; InputError in one line when it cannot be read."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such file") from None
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"{path}: {error}") from None


async def _stream(conn: Connection, path: Path, raw: dict[str, Any]) -> store.StreamRow:
    name = raw.get("stream")
    if not isinstance(name, str):
        raise InputError(f"{path}: stream: is missing; write the name of the stream that the program sends on")
    stream = await store.stream_by_name(conn, name)
    if stream is None:
        others = ", ".join(await store.stream_names(conn)) or "none"
        raise InputError(f"{path}: stream: there is no {name!r} (there is: {others}); run `mtad stream apply` first")
    return stream


async def _is_same(
    conn: Connection, known: store.LockedProgram, definition: Definition, stream_id: int, drafts: dict[str, Draft]
) -> bool:
    if known.stream_id != stream_id or Definition.from_json(known.definition) != definition:
        return False
    stored = await store.messages_of(conn, known.id, known.version)
    return {message.node: (message.name, message.parts, message.links) for message in stored} == {
        node: (draft.name, draft.parts, draft.all_links) for node, draft in drafts.items()
    }


async def _add_messages(conn: Connection, program_id: int, version: int, drafts: dict[str, Draft]) -> None:
    ids = await store.add_messages(
        conn, program_id, version, [(node, draft.name, draft.parts, draft.pixel) for node, draft in drafts.items()]
    )
    links = [(ids[node], position, url) for node, draft in drafts.items() for position, url in draft.all_links]
    await store.add_links(conn, links)
