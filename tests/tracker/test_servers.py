"""What servers tell: durable before it is answered, counted once, refused item by item."""

import asyncio
import io
import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from engine import service as engine
from engine.history import HAPPENED
from mtad.base.db import Connection, Pool, open_pool
from mtad.base.errors import ConfigError
from mtad.compose.apply import apply_stream
from tests.tracker.made import NOON, World
from tests.tracker.test_tracker import serving
from tracker.bearer import EventKeys
from tracker.intake import MOST_ITEMS, OURS, REPORTS
from tracker.occurrences import Occurrence

TOKEN = "s" * 40
KEYS = EventKeys.parse(f"# ours\nshop:{TOKEN}\ncrm:{'c' * 40}")


def test_what_moves_people_between_states_no_server_says_unless_as_a_report() -> None:
    assert HAPPENED.keys() - REPORTS <= OURS


class Place:
    """A tracker that listens to servers, and what it offered to the engine."""

    def __init__(self, http: aiohttp.ClientSession, pool: Pool) -> None:
        self._http = http
        self.pool = pool
        self.offered: list[Occurrence] = []

    async def post(self, body: object, token: str = TOKEN) -> tuple[int, dict[str, Any]]:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        async with self._http.post(
            "/events", data=io.BytesIO(data), headers={"Authorization": f"Bearer {token}"}
        ) as answer:
            return answer.status, json.loads(await answer.read())

    async def kinds(self) -> list[str]:
        return [row[0] for row in await self.pool.fetch("select kind from event order by id")]


@pytest.fixture
async def place(pool: Pool, tmp_path: Path) -> AsyncIterator[Place]:
    world = await World(pool).seed()
    await pool.execute("insert into identity values ('email', 'a@y.test', $1)", world.contact)
    offered: list[Occurrence] = []

    async def offer(_conn: Connection, occurrences: Sequence[Occurrence]) -> None:
        offered.extend(occurrences)

    async with serving(pool, tmp_path, event_keys=KEYS, offer=offer) as (http, _):
        made = Place(http, pool)
        made.offered = offered
        yield made


def item(key: str = "1", **more: object) -> dict[str, object]:
    return {"id": key, "event": "purchase", "email": "A@y.test", "properties": {"value": 12.5}, **more}


async def test_what_is_told_is_written_and_offered_once(place: Place) -> None:
    assert await place.post({"events": [item(), item("2", event="login")]}) == (
        200, {"accepted": 2, "repeated": 0, "errors": []},
    )  # fmt: skip
    assert await place.post(item()) == (200, {"accepted": 0, "repeated": 1, "errors": []})
    assert await place.post({"events": [item("3"), item("3")]}) == (200, {"accepted": 1, "repeated": 1, "errors": []})
    assert await place.post(item(), token="c" * 40) == (200, {"accepted": 1, "repeated": 0, "errors": []})

    assert sorted(await place.kinds()) == ["login", "purchase", "purchase", "purchase"]
    assert [(one.event, one.properties) for one in place.offered][:2] == [
        ("purchase", {"value": 12.5}),
        ("login", {"value": 12.5}),
    ]
    data = await place.pool.fetchval("select data from event where kind = 'login'")
    assert (data["source"], data["properties"]) == ("shop", {"value": 12.5})


async def test_the_same_batch_ten_times_at_once_counts_once(place: Place) -> None:
    batch = {"events": [item(str(n)) for n in range(50)]}

    answers = await asyncio.gather(*(place.post(batch) for _ in range(10)))

    assert sum(answer["accepted"] for _, answer in answers) == 50
    assert len(place.offered) == len(await place.kinds()) == 50


def nested(depth: int) -> list[Any]:
    found: list[Any] = []
    for _ in range(depth):
        found = [found]
    return found


WRONG: list[tuple[dict[str, object], str]] = [
    (item(id=""), "id: 1 to 200"),
    (item(email="nobody"), "email: 'nobody': no @"),
    (item(email="b@y.test"), "email 'b@y.test': nobody is known by that"),
    ({"id": "1", "event": "x"}, "email or external_id is needed"),
    (item(event="Bought it"), "event: lower case"),
    (item(event="open"), "event: 'open' is for the tracker"),
    (item(at="2020-01-01T00:00:00Z"), "not within the last 30 days"),
    (item(at="yesterday"), "at: invalid RFC3339"),
    (item(colour="red"), "unknown key `colour`"),
    (item(properties={"x": "y" * 5000}), "properties: at most 4096"),
    (item(properties={"x": ["a\0b"]}), "properties: U+0000"),
    (item(properties={"x\0": 1}), "properties: U+0000"),
    (item(properties={"x": nested(20)}), "properties: are nested deeper than 16"),
    ({"id": "1", "type": "identify", "email": "a@y.test", "attributes": {"plan": "\0"}}, "attributes: U+0000"),
    ({"id": "1", "type": "identify", "email": "a@y.test", "attributes": {"a": "y" * 5000}}, "attributes: at most 4096"),
    ({"id": "1", "type": "identify", "email": "a@y.test", "attributes": {"plan": "pro"}}, "attributes.plan: nobody"),
    ({"id": "1", "type": "identify", "email": "a@y.test", "attributes": {"age": "old"}}, "attributes.age: is a number"),
]


async def test_a_wrong_item_is_named_and_the_others_are_taken(place: Place) -> None:
    await place.pool.execute("insert into attribute values ('age', 'number')")

    status, answer = await place.post({"events": [*(wrong for wrong, _ in WRONG), item("good")]})

    assert (status, answer["accepted"]) == (200, 1)
    assert [error["index"] for error in answer["errors"]] == list(range(len(WRONG)))
    for error, (_, said) in zip(answer["errors"], WRONG, strict=True):
        assert said in error["error"]
    assert await place.post(item("1")) == (200, {"accepted": 1, "repeated": 0, "errors": []})  # a refused id is free


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (b"{", 400, "the body"),
        (b"[1]", 400, "expected `object`, got `array`"),
        (b"\xff", 400, "JSON is malformed"),
        (b'{"\xff": 1}', 400, "utf-8"),
        (b'{"id":"' + b'\xff"}', 200, "utf-8"),
        (b'{"a":' + b"[" * 100_000, 400, "nested too deeply"),
        ({"events": [{}] * (MOST_ITEMS + 1)}, 400, "at most 1,000"),
        (b" " * (3 << 20), 413, "at most"),
    ],
)
async def test_a_body_that_is_none_is_refused(place: Place, body: object, status: int, said: str) -> None:
    found, answer = await place.post(body)

    assert found == status
    assert said in str(answer.get("error") or answer["errors"][0]["error"])
    assert await place.kinds() == []


async def test_one_item_alone_may_have_properties_of_any_name(place: Place) -> None:
    told = item(properties={"events": ["x\\u0000", "\\"]})

    assert await place.post(told) == (200, {"accepted": 1, "repeated": 0, "errors": []})


async def test_nobody_tells_without_a_token(place: Place) -> None:
    for token in ("", "s" * 39, "S" * 40, "s" * 41, "\u00fc" * 20):
        assert (await place.post(item(), token=token))[0] == 401


async def test_identify_ties_an_external_id_and_sets_attributes(place: Place) -> None:
    await place.pool.execute("insert into attribute values ('age', 'number'), ('plan', 'text')")
    version = await place.pool.fetchval("select version from gate")
    who = {"type": "identify", "email": "a@y.test", "external_id": "42"}
    await place.post({"id": "1", **who, "attributes": {"age": 7, "plan": "pro"}})

    status, answer = await place.post({"events": [
        {"id": "2", "type": "identify", "external_id": "42", "attributes": {"plan": None}},
        {"id": "3", "event": "login", "external_id": "42"},
    ]})  # fmt: skip

    assert (status, answer["accepted"]) == (200, 2)
    assert await place.pool.fetchval("select attributes from contact") == {"age": 7}
    assert await place.pool.fetchval("select version from gate") == version + 2
    assert [one.event for one in place.offered] == ["login"]


async def test_who_is_erased_while_something_is_told_of_them_is_nobody(place: Place) -> None:
    """Neither an external id nor an attribute is left with what was a contact."""
    await place.pool.execute("insert into attribute (name, type) values ('city', 'text')")
    told = {"id": "1", "type": "identify", "email": "a@y.test", "external_id": "k-1", "attributes": {"city": "Ulm"}}
    async with place.pool.acquire() as conn:
        async with conn.transaction():
            await conn.execute("select from gate for update")
            asked = asyncio.create_task(place.post(told))
            while not await place.pool.fetchval("select count(*) > 0 from pg_locks where not granted"):
                pass
            await conn.execute("update contact set erased = true")
            await conn.execute("delete from identity")
        _, said = await asked

    assert said["errors"] == [
        {"index": 0, "id": "1", "error": "email 'a@y.test' and external 'k-1': nobody is known by that"}
    ]
    assert await place.pool.fetchval("select count(*) from identity") == 0
    assert await place.pool.fetchval("select bool_and(attributes = '{}') from contact")


SHOP = """
name = "shop"
from = "Ines <ines@example.com>"
imprint = "Example School, Street 1, Hamburg"
tracking = "full"
[policy]
events = [{ event = "purchase", where = { plan = ["pro"] }, points = 5 }, { event = "login", points = 2 }]
"""


async def test_what_servers_tell_scores_once_however_often_they_tell_it(pool: Pool, tmp_path: Path) -> None:
    world = await World(pool).seed()
    await pool.execute("insert into identity values ('email', 'a@y.test', $1)", world.contact)
    (tmp_path / "shop.toml").write_text(SHOP)
    await apply_stream(pool, tmp_path / "shop.toml", "me")
    stream = await pool.fetchval("update subscription set stream_id = 2 where stream_id = 1 returning stream_id")
    await pool.execute(
        "insert into engagement (stream_id, contact_id, since, round_from, first_sent, told)"
        " values ($1, $2, $3, $3, $3, $3)", stream, world.contact, NOON,
    )  # fmt: skip
    batch = {"events": [item(), item("2", properties={"plan": "pro"}), item("3", event="login")]}

    async with serving(pool, tmp_path, event_keys=KEYS, offer=engine.offer) as (http, _):
        place = Place(http, pool)
        for accepted, repeated in ((3, 0), (0, 3)):
            assert await place.post(batch) == (200, {"accepted": accepted, "repeated": repeated, "errors": []})
            assert [row[0] for row in await pool.fetch("select score from engagement")] == [7]
        assert (await place.post({"events": [item(str(n)) for n in range(MOST_ITEMS + 1)]}))[0] == 400
        assert await place.post(item("4", event="login"), token="x" * 40) == (
            401,
            {"error": "a bearer token is needed"},
        )

    assert await pool.fetchval("select count(*) from event") == 3


async def test_with_the_database_away_nothing_is_acknowledged(pool: Pool, database_url: str, tmp_path: Path) -> None:
    await World(pool).seed()
    own = await open_pool(database_url, most=2)
    async with serving(own, tmp_path, event_keys=KEYS) as (http, _):
        await own.close()

        assert (await Place(http, own).post(item()))[0] == 503


@pytest.mark.parametrize("text", ["", "shop", "shop:short", f"Shop:{TOKEN}", f"a:{TOKEN}\na:{TOKEN}"])
def test_a_bad_file_of_tokens_is_refused_without_showing_them(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        EventKeys.parse(text, "events.keys")

    assert TOKEN not in str(caught.value)
