"""SQL of streams, programs and messages, sql/queries/compose.sql."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec

from engine.policy import StreamDefinition
from engine.programs import Definition
from mtad.base.db import Connection, row_values
from mtad.base.sqlfiles import queries

SQL = queries("compose")


class Parts(msgspec.Struct, frozen=True):
    """The templates of one message; `html` has calls in place of its links. At least one of html and txt is there."""

    subject: str
    html: str | None
    txt: str | None
    made: bool  # txt was made from html, and has marks to settle


class Stored(msgspec.Struct, frozen=True):
    """One message as it stands in the database, its links in order of position."""

    id: int
    node: str
    name: str
    parts: Parts
    pixel: bool
    link_ids: list[int]
    positions: list[int]  # 0 is the pixel
    urls: list[str]

    @property
    def links(self) -> list[tuple[int, str]]:
        """What of the links an author can change: their positions and addresses."""
        return list(zip(self.positions, self.urls, strict=True))


class LockedStream(msgspec.Struct, frozen=True):
    id: int
    version: int
    definition: Any


class LockedProgram(msgspec.Struct, frozen=True):
    id: int
    version: int
    status: str
    stream_id: int
    definition: Any


class StreamRow(msgspec.Struct, frozen=True):
    """A stream with its current definition."""

    id: int
    name: str
    version: int
    definition: StreamDefinition
    made: datetime
    made_by: str
    subscribed: int = 0


class StreamVersion(msgspec.Struct, frozen=True):
    """What a stream was, from a moment on."""

    name: str
    version: int
    definition: StreamDefinition
    made: datetime
    made_by: str


class ProgramRow(msgspec.Struct, frozen=True):
    """One line of `mtad program list`."""

    id: int
    name: str
    kind: str
    stream: str
    status: str
    why: str | None
    version: int
    starts: datetime | None
    not_after: datetime | None
    created: datetime


class Versions(msgspec.Struct, frozen=True):
    """What of a program and its stream is current now."""

    program_id: int
    version: int
    class_: int
    stream_id: int
    stream_version: int
    epoch: int


class Person(msgspec.Struct, frozen=True):
    """What a template may say of somebody."""

    address: str
    address_key: str
    locale: str | None
    zone: str | None
    attributes: dict[str, Any]


async def lock_stream(conn: Connection, name: str) -> LockedStream | None:
    row = await conn.fetchrow(SQL["lock_stream"], name)
    return LockedStream(*row_values(row)) if row else None


async def definitions_of_stream(conn: Connection, stream_id: int) -> list[Definition]:
    """What the programs of a stream that are not over do."""
    return [Definition.from_json(row[0]) for row in await conn.fetch(SQL["definitions_of_stream"], stream_id)]


async def new_stream(conn: Connection, definition: StreamDefinition, by: str) -> bool:
    """Make it with version 1; False when somebody made one of this name meanwhile."""
    stream_id = await conn.fetchval(SQL["new_stream"], definition.name)
    if stream_id is None:
        return False
    await conn.execute(SQL["add_stream_version"], stream_id, 1, definition.to_json(), by)
    return True


async def next_stream(conn: Connection, stream: LockedStream, definition: StreamDefinition, by: str) -> int:
    """The next version of a stream that we hold locked; every verdict made before is void."""
    version = stream.version + 1
    await conn.execute(SQL["raise_epoch"])
    await conn.execute(SQL["set_stream_version"], stream.id, version)
    await conn.execute(SQL["add_stream_version"], stream.id, version, definition.to_json(), by)
    return version


async def stream_by_name(conn: Connection, name: str) -> StreamRow | None:
    row = await conn.fetchrow(SQL["stream_by_name"], name)
    return _stream_row(row_values(row)) if row else None


async def streams(conn: Connection) -> list[StreamRow]:
    return [_stream_row(row_values(row)) for row in await conn.fetch(SQL["streams"])]


async def stream_history(conn: Connection, name: str) -> list[StreamVersion]:
    """Every version, the newest first; none: there is no such stream."""
    rows = [row_values(row) for row in await conn.fetch(SQL["stream_history"], name)]
    return [StreamVersion(row[0], row[1], StreamDefinition.from_json(row[2]), *row[3:]) for row in rows]


async def stream_names(conn: Connection) -> list[str]:
    return [row[0] for row in await conn.fetch(SQL["stream_names"])]


async def attribute_types(conn: Connection) -> dict[str, str]:
    """By name: text, number, date or bool."""
    return {row[0]: row[1] for row in await conn.fetch(SQL["attribute_types"])}


async def lock_program(conn: Connection, name: str) -> LockedProgram | None:
    row = await conn.fetchrow(SQL["lock_program"], name)
    return LockedProgram(*row_values(row)) if row else None


async def new_program(conn: Connection, definition: Definition, stream_id: int, by: str) -> int | None:
    """A draft with version 1, its id; None when somebody made one of this name meanwhile."""
    made: int | None = await conn.fetchval(
        SQL["new_program"],
        definition.name,
        definition.kind,
        stream_id,
        definition.class_,
        definition.priority,
        definition.starts,
        definition.ends,
    )
    if made is not None:
        await conn.execute(SQL["add_program_version"], made, 1, definition.to_json(), by)
    return made


async def next_program(
    conn: Connection, program: LockedProgram, definition: Definition, stream_id: int, by: str
) -> int:
    """The next version of a program that we hold locked; verdicts on the one before are void."""
    version = program.version + 1
    await conn.execute(
        SQL["set_program_version"],
        program.id,
        version,
        definition.kind,
        stream_id,
        definition.class_,
        definition.priority,
        definition.starts,
        definition.ends,
    )
    await conn.execute(SQL["add_program_version"], program.id, version, definition.to_json(), by)
    return version


async def hand_overs(conn: Connection) -> dict[str, Definition]:
    """Programs that are not over, by name; nobody else changes who hands over to whom until we commit."""
    definitions = [Definition.from_json(row[0]) for row in await conn.fetch(SQL["hand_overs"])]
    return {definition.name: definition for definition in definitions}


async def standing(conn: Connection, program_id: int) -> dict[str, int]:
    """How many people stand at each node, or have mail of it that did not begin."""
    return {row[0]: row[1] for row in await conn.fetch(SQL["standing"], program_id)}


async def move_to_version(conn: Connection, program_id: int, version: int) -> tuple[int, int]:
    """Have everybody go on in this version but those whose mail is under way: how many people, and mails."""
    [(people, mails)] = await conn.fetch(SQL["move_to_version"], program_id, version)
    return people, mails


async def add_messages(
    conn: Connection, program_id: int, version: int, drafts: Sequence[tuple[str, str, Parts, bool]]
) -> dict[str, int]:
    """Store (node, name, parts, pixel); the ids by node."""
    rows = await conn.fetch(
        SQL["add_messages"],
        program_id,
        version,
        [node for node, _, _, _ in drafts],
        [name for _, name, _, _ in drafts],
        [msgspec.json.encode(parts).decode() for _, _, parts, _ in drafts],
        [pixel for _, _, _, pixel in drafts],
    )
    return {row[0]: row[1] for row in rows}


async def add_links(conn: Connection, links: Sequence[tuple[int, int, str]]) -> None:
    """Store (message, position, address)."""
    await conn.execute(
        SQL["add_links"], [link[0] for link in links], [link[1] for link in links], [link[2] for link in links]
    )


async def messages_of(conn: Connection, program_id: int, version: int) -> list[Stored]:
    return [_stored(row_values(row)) for row in await conn.fetch(SQL["messages_of"], program_id, version)]


async def messages(conn: Connection, ids: Sequence[int]) -> list[Stored]:
    return [_stored(row_values(row)) for row in await conn.fetch(SQL["messages"], ids)]


async def programs(conn: Connection) -> list[ProgramRow]:
    return [ProgramRow(*row_values(row)) for row in await conn.fetch(SQL["programs"])]


async def program_versions(conn: Connection, name: str) -> Versions | None:
    row = await conn.fetchrow(SQL["program_versions"], name)
    return Versions(*row_values(row)) if row else None


async def contact_by_key(conn: Connection, key: str) -> Person | None:
    row = await conn.fetchrow(SQL["contact_by_key"], key)
    return Person(*row_values(row)) if row else None


def _stream_row(values: tuple[Any, ...]) -> StreamRow:
    stream_id, name, version, definition, *rest = values
    return StreamRow(stream_id, name, version, StreamDefinition.from_json(definition), *rest)


def _stored(values: tuple[Any, ...]) -> Stored:
    message_id, node, name, parts, *rest = values
    return Stored(message_id, node, name, msgspec.convert(parts, Parts), *rest)
