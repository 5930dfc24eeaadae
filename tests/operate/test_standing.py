"""purge --for and rebind --for: what arrives meanwhile is treated like what waited."""

import json
from collections.abc import AsyncIterator

import pytest

from mtad.base.config import Config
from mtad.base.db import Connection, Pool
from mtad.base.errors import Unavailable
from mtad.ops import standing
from mtad.ops.waiting import Done
from mtad.queue import store, suspensions
from tests.operate.conftest import Mtad
from tests.queue.world import World

CONFIG = Config(domain="example.com")


async def jobs(conn: Connection) -> list[str]:
    rows = await conn.fetch("select c.address from job j join contact c on c.id = j.contact_id order by j.id")
    return [row[0].partition("@")[0] for row in rows]


async def test_a_purge_that_goes_on_takes_what_comes_and_at_its_end_what_came_back(
    world: World, pool: Pool, conn: Connection, mtad: Mtad
) -> None:
    worker = await world.worker()
    await world.job("waits@reader.test")
    held = await world.job("held@reader.test", worker=worker)

    result = await mtad("purge", "domain", "Reader.Test", "--for", "5m", "--why", "wrong text", "--yes", "--json")
    begins = await store.begin(conn, worker, world.offers(await world.claim(worker)))
    await world.job("late@reader.test")
    await world.job("other@elsewhere.test", site_id=None)
    found = [await standing.go_on(pool, CONFIG), await standing.go_on(pool, CONFIG)]
    await conn.execute("update job set worker = null where id = $1", held)
    await conn.execute("update standing_order set until = now()")
    at_end = await standing.go_on(pool, CONFIG)

    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["purged"] == 1
    assert begins == {}
    assert (found, at_end) == ([1, 0], 1)
    assert await jobs(conn) == ["other"]
    assert await standing.orders(conn) == []
    assert await suspensions.suspensions(conn) == []


async def test_of_a_purge_that_is_broken_off_nothing_stays_behind(
    world: World, pool: Pool, conn: Connection, mtad: Mtad, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken_off(*_: object) -> AsyncIterator[Done]:
        yield Done(0, 1)
        raise Unavailable("broken off")

    monkeypatch.setattr("mtad.cli.purge.purge", broken_off)
    await world.job("waits@reader.test")

    result = await mtad("purge", "domain", "reader.test", "--for", "5m", "--yes")
    [order], [hold] = await standing.orders(conn), await suspensions.suspensions(conn)
    await conn.execute("update standing_order set until = now()")
    at_end = await standing.go_on(pool, CONFIG)

    assert result.exit_code != 0
    assert hold.until is None, "it is held until the last look is over, whenever that is"
    assert (order.verb, order.changed, at_end) == ("purge", 0, 1)
    assert await jobs(conn) == []
    assert await suspensions.suspensions(conn) == []


async def test_mail_that_comes_is_held_until_the_purge_finds_it(world: World, conn: Connection, mtad: Mtad) -> None:
    worker = await world.worker()
    await mtad("purge", "site", "reader.test", "--for", "5m", "--yes")
    await world.job("late@reader.test")

    [wait] = (await store.begin(conn, worker, world.offers(await world.claim(worker)))).values()

    assert wait
    assert wait > 300


async def test_a_rebind_that_goes_on_is_listed_and_ended(
    world: World, pool: Pool, conn: Connection, mtad: Mtad
) -> None:
    (other,) = (await store.sites_by_name(conn, {"relay:25": ["0 relay:25"]})).values()
    await world.job("waits@reader.test")

    result = await mtad("rebind", "campaign", "nudge", "--to", "relay:25", "--for", "1h", "--yes")
    await world.job("late@reader.test")
    await standing.go_on(pool, CONFIG)
    [row] = json.loads((await mtad("orders", "--json")).stdout)
    refused, ended = await mtad("orders", "--undo", "99"), await mtad("orders", "--undo", str(row["id"]))
    await world.job("after@reader.test")
    await standing.go_on(pool, CONFIG)

    assert "1 mail goes to relay:25 now, and what arrives until" in result.output
    assert (row["verb"], row["key"], row["to"], row["changed"]) == ("rebind", "nudge", "relay:25", 2)
    assert "--undo 99: there is no such order" in str(refused.exception)
    assert ended.output == "1 ended.\n"
    assert [row[0] for row in await conn.fetch("select site_id from job order by id")] == [other, other, world.site]
    assert "No purge" in (await mtad("orders")).stdout


async def test_a_purge_that_is_prolonged_by_a_second_one_is_held_until_the_second_ends(
    world: World, pool: Pool, conn: Connection, mtad: Mtad
) -> None:
    await world.job()
    for length in ("5m", "1h"):
        await mtad("purge", "campaign", "nudge", "--for", length, "--yes")

    await conn.execute("update standing_order set until = now() where id = (select min(id) from standing_order)")
    await standing.go_on(pool, CONFIG)
    [order], [_] = await standing.orders(conn), await suspensions.suspensions(conn)
    await mtad("orders", "--undo", str(order.id))

    assert await suspensions.suspensions(conn) == []


async def test_resuming_what_a_purge_holds_ends_the_purge(world: World, conn: Connection, mtad: Mtad) -> None:
    await world.job()
    await mtad("purge", "campaign", "nudge", "--for", "5m", "--yes")

    result = await mtad("resume", "campaign", "nudge")

    assert "was suspended by" in result.output
    assert await standing.orders(conn) == []


async def test_a_rebind_that_goes_on_misses_nothing_that_is_committed_after_a_later_id_and_counts_it_once(
    world: World, pool: Pool, conn: Connection, mtad: Mtad
) -> None:
    copy = (
        "insert into job (contact_id, stream_id, program_id, version, message_id, site_id, class, prio, due, not_after)"
        " select contact_id, stream_id, program_id, version, message_id, $1, class, prio, due, not_after"
        " from job order by id limit 1 returning id"
    )
    (other,) = (await store.sites_by_name(conn, {"relay:25": ["0 relay:25"]})).values()
    await world.job("first@reader.test")
    async with pool.acquire() as slow:
        async with slow.transaction():
            await slow.fetchval(copy, world.site)
            await conn.fetchval(copy, world.site)
            await mtad("rebind", "campaign", "nudge", "--to", "relay:25", "--for", "1h", "--yes")
        found = [await standing.go_on(pool, CONFIG)]
        async with slow.transaction():
            taken = await slow.fetchval(copy, world.site)
            later = await conn.fetchval(copy, world.site)
            found += [await standing.go_on(pool, CONFIG), await standing.go_on(pool, CONFIG)]
        found.append(await standing.go_on(pool, CONFIG))
        # All that was seen is old.
        for _ in range(2):
            await conn.execute("update standing_order set seen_at = '-infinity'")
            await standing.go_on(pool, CONFIG)
        [(passed, latest)] = await conn.fetch("select passed, (select max(id) from job) from standing_order")
        await slow.fetchval(copy, world.site)
        await conn.fetchval(copy, world.site)
        found.append(await standing.go_on(pool, CONFIG))
    [order] = await standing.orders(conn)

    assert taken < later
    assert passed == latest
    assert found == [1, 1, 0, 1, 2]
    assert order.changed == 7
    assert await conn.fetch("select from job where site_id <> $1", other) == []
