"""What one statement writes of signs to which nothing else comes is what the machine would have written."""

import random
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import msgspec
import pytest

from engine import fold, store
from engine.policy import Policy
from engine.store import Taken
from mtad.base.db import Connection, in_transaction
from tests.engine.world import START, World, definition, event_id

PEOPLE = 2500
HOUR = timedelta(hours=1)
HEARD = START + 35 * HOUR
POLICY = Policy(days=1, days_unclear=2, days_need_attempts=2, window=20 * 3600.0, threshold=20)

COLUMNS = (
    "state", "since", "score", "round_from", "last_sign", "first_sent", "window_until", "veiled", "ignored", "unclear",
    "wake_at", "told", "held",
)  # fmt: skip


class Came(msgspec.Struct):
    """A mail."""

    at: Any
    outcome: str = "delivered"
    bounced_late: Any = None
    has_pixel: bool = True
    transactional: bool = False


class Person(msgspec.Struct):
    """A row, the mails that came, which of them were opened before, and signs: number of the mail, kind, time."""

    row: dict[str, Any]
    mails: list[Came]
    answered: list[tuple[int, str]]
    signs: list[tuple[int, str, Any]]


def drawn(luck: random.Random) -> Person:
    """Mostly somebody who was mailed and answers; and whatever else can stand in a row."""
    told = START + luck.randint(0, 48) * HOUR
    rarely = luck.random() < 0.2
    last_sign = luck.choice((None, told, told - 30 * HOUR))
    row = {
        "state": luck.choice(("active", "engaged", "reactivated", "cooling") if rarely else ("active",)),
        "since": told - 40 * HOUR,
        "score": luck.choice((0, 5, 10, 15)),
        "round_from": told + 8 * HOUR if luck.random() < 0.15 else told - 40 * HOUR,
        "last_sign": last_sign,
        "first_sent": None if luck.random() < 0.05 else told - 40 * HOUR,
        "window_until": luck.choice((None, told + 60 * HOUR, told + 20 * HOUR)),
        "veiled": luck.random() < 0.2,
        "ignored": luck.choice((0, 0, 0, 1, 3)),
        "unclear": luck.choice((0, 0, 1)),
        "wake_at": luck.choice((None, told + 60 * HOUR, told + 20 * HOUR)),
        "told": told,
        "held": told if luck.random() < 0.05 else None,
    }
    usual = luck.random() < 0.4
    if usual:
        row |= {
            "state": "active", "round_from": told - 40 * HOUR, "first_sent": told - 40 * HOUR, "ignored": 0,
            "window_until": luck.choice((None, told + 60 * HOUR)), "wake_at": None, "held": None,
        }  # fmt: skip
    # Into an open window: a row is not told of it.
    later = [after(told, luck) for _ in range(luck.choice((0, 0, 1, 2)) if row["window_until"] else 0)]
    mails = [Came(told - HOUR), Came(told), *later]
    kinds = ("open", "click")
    return Person(
        row,
        mails,
        [one for one in ((n, kind) for n in range(2) for kind in kinds) if luck.random() < 0.2],
        [
            (
                luck.randrange(len(mails)),
                luck.choice(kinds),
                told + luck.choice((1, 2, 5) if usual else (-1, 1, 2, 2, 5, 12, 30)) * HOUR,
            )
            for _ in range(luck.choice((1, 1, 1, 2, 3)))
        ],
    )


def after(told: datetime, luck: random.Random) -> Came:
    """A mail after that, mostly one that somebody can answer."""
    came = Came(told + luck.randint(1, 30) * HOUR)
    match luck.randrange(20):
        case 0:
            came.outcome = luck.choice(("in_doubt", "skipped"))
        case 1:
            came.bounced_late = came.at + HOUR
        case 2 | 3:
            came.has_pixel = False
        case 4 | 5:
            came.transactional = True
    return came


async def filled(world: World, people: list[Person], stream: int, program: int, first: int) -> list[Taken]:
    """Rows of people 1, 2, … on a stream, their mails with jobs from `first` on, and their signs."""
    conn = world.conn
    numbered = list(enumerate(people, 1))
    await conn.executemany(
        f"insert into engagement (stream_id, contact_id, {', '.join(COLUMNS)}) values ($1, $2, $3::text::contact_state,"
        f" {', '.join(f'${n}' for n in range(4, 3 + len(COLUMNS)))})",
        [(stream, contact, *(one.row[name] for name in COLUMNS)) for contact, one in numbered],
    )
    message, click = await world.one(
        "select m.id, k.id from message m join message_link k on k.message_id = m.id and k.position = 1"
        " where program_id = $1 order by 1 limit 1",
        program,
    )
    unseen = await conn.fetchval(
        "insert into message (program_id, version, node, variant, name, parts, pixel)"
        " select program_id, version, node, 'unseen', name, parts, false from message where id = $1 returning id",
        message,
    )
    receipts = await conn.fetchval(
        "insert into program (name, kind, stream_id, class, status, version)"
        " values ($1, 'campaign', $2, 0, 'running', 1) returning id",
        f"receipt of {stream}", stream,
    )  # fmt: skip
    job = {(contact, n): first + 10 * contact + n for contact, one in numbered for n in range(len(one.mails))}
    await conn.executemany(
        "insert into ledger (job_id, program_id, stream_id, message_id, contact_id, outcome, reason, attempts, doubts,"
        " created, ended, bounced_late) values ($1, $2, $3, $4, $5, $6::text::outcome, '', 1, 0, $7, $7, $8)",
        [
            (
                job[contact, n],
                receipts if came.transactional else program,
                stream,
                message if came.has_pixel else unseen,
                contact,
                came.outcome,
                came.at,
                came.bounced_late,
            )
            for contact, one in numbered
            for n, came in enumerate(one.mails)
        ],
    )
    await conn.executemany(
        "insert into answer (job_id, kind, contact_id, stream_id, at, event_id, points)"
        " values ($1, $2::text::sign_kind, $3, $4, $5, $6, 5)",
        [
            (job[contact, n], kind, contact, stream, one.mails[n].at, event_id(0))
            for contact, one in numbered
            for n, kind in one.answered
        ],
    )
    signs = [(contact, *sign) for contact, one in numbered for sign in one.signs]
    return [
        Taken(event_id(number), job[contact, n], kind, click if kind == "click" else 0, at, stream, contact, None)
        for number, (contact, n, kind, at) in enumerate(signs, 1)
    ]


async def comes_to(conn: Connection, stream: int, first: int) -> list[tuple[Any, ...]]:
    """Rows, answers and transitions of a stream."""
    rows = await conn.fetch(
        f"select contact_id, version, {', '.join(COLUMNS)} from engagement where stream_id = $1 order by 1", stream
    )
    answers = await conn.fetch(
        "select job_id - $2, kind::text, contact_id, link_id is null, at, event_id, points from answer"
        " where stream_id = $1 order by 1, 2",
        stream, first,
    )  # fmt: skip
    log = await conn.fetch(
        "select contact_id, from_state::text, to_state::text, why, at from transition where stream_id = $1"
        " order by contact_id, at, to_state",
        stream,
    )
    return [tuple(row) for row in (*rows, *answers, *log)]


async def test_a_plain_sign_leaves_what_the_machine_would(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    luck = random.Random(5)
    people = [drawn(luck) for _ in range(PEOPLE)]
    await world.hears(HEARD)
    streams = [await world.stream(name, policy=POLICY) for name in ("sales", "news")]
    programs = [await world.program(stream, definition(str(stream), stream=str(stream))) for stream in streams]
    await world.conn.execute(
        "with d as (insert into domain (name) values ('example.com') returning id),"
        " c as (insert into contact (address, address_key, domain_id) select n, n, d.id"
        " from generate_series(1, $1) n, d returning id)"
        " insert into gate (contact_id) select id from c",
        PEOPLE,
    )
    left: list[int] = []
    next_windows: set[int] = set()  # of whom plain signs close one window and a later mail opens the next
    plain = store.fold_plain

    async def counted(conn: Connection, signs: Any, *rest: Any) -> Any:
        gates, found = await plain(conn, signs, *rest)
        left.extend((len(signs), len(found)))
        for sign in signs:
            last = max(at for _, _, at in people[sign.contact_id - 1].signs)
            if sign not in found and any(came.at > last for came in people[sign.contact_id - 1].mails):
                next_windows.add(sign.contact_id)
        return gates, found

    async def none(conn: Connection, signs: Any, *_: Any) -> Any:
        return await store.lock_gates(conn, {sign.contact_id for sign in signs}), signs

    for stream, program, way in zip(streams, programs, (counted, none), strict=True):
        signs = await filled(world, people, stream, program, stream * 100_000)
        monkeypatch.setattr(store, "fold_plain", way)
        await in_transaction(world.pool, partial(fold.fold_signs, signs=signs))

    first, second = [await comes_to(world.conn, stream, stream * 100_000) for stream in streams]
    assert first == second
    assert left[0] // 6 < left[1] < left[0] * 5 // 6  # of both there are many
    assert len(next_windows) > 50
