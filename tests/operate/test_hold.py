"""suspend, resume, purge and rebind: what is held back, taken out, sent elsewhere, and that it all adds up."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from engine.service import Catalogue
from mtad.base.db import Connection, Pool
from mtad.ops import waiting
from mtad.ops.audit import audit
from mtad.ops.waiting import Selection
from mtad.queue import limits, store
from tests.operate.conftest import Mtad
from tests.queue.world import World

NOW = datetime.now(UTC)


async def purged(pool: Pool, chosen: Selection) -> int:
    changed = 0
    async for done in waiting.purge(pool, chosen, "wrong text (me)"):
        changed = done.changed
    return changed


async def begun(world: World, worker: int) -> list[float | None]:
    """What begin says to all that can be claimed."""
    claimed = await world.claim(worker)
    return list((await store.begin(world.rows.conn, worker, world.offers(claimed))).values())


@pytest.mark.parametrize(
    ("kind", "key"),
    [("site", "mx.reader.test"), ("site", "reader.test"), ("source", "default"), ("lane", "default/mx.reader.test")],
)
async def test_what_was_claimed_before_a_suspension_does_not_begin_after_it(
    world: World, mtad: Mtad, kind: str, key: str
) -> None:
    worker = await world.worker()
    await world.job()
    claimed = await world.claim(worker)

    result = await mtad("suspend", kind, key, "--for", "2h", "--why", "their [b]postmaster[/b] asked")
    [wait] = (await store.begin(world.rows.conn, worker, world.offers(claimed))).values()

    assert result.exit_code == 0, result.output
    assert wait
    assert 7000 < wait <= 7200
    listed = await mtad("suspensions", "--json")
    assert [(row["kind"], row["reason"]) for row in json.loads(listed.stdout)] == [
        (kind, "their [b]postmaster[/b] asked")
    ]


@pytest.mark.parametrize(("kind", "key"), [("domain", "Reader.Test"), ("campaign", "nudge")])
async def test_the_verdict_on_what_is_suspended_is_stale(
    world: World, pool: Pool, mtad: Mtad, kind: str, key: str
) -> None:
    worker = await world.worker()
    await world.job()
    claimed = await world.claim(worker)

    result = await mtad("suspend", kind, key)
    answers = await store.begin(world.rows.conn, worker, world.offers(claimed))

    assert result.exit_code == 0, result.output
    assert list(answers.values()) == [None]
    catalogue = Catalogue(pool)
    await catalogue.need((), (), claimed[0].epoch + 1)
    assert catalogue.suspended


async def test_what_is_resumed_goes_on_at_once(world: World, conn: Connection, mtad: Mtad) -> None:
    worker = await world.worker()
    await world.job()
    await mtad("suspend", "site", "reader.test")
    assert await begun(world, worker) != [0]
    await store.release(conn, worker, [store.Released(f) for f in await world.claim(worker)])
    await conn.execute("update job set worker = null")

    result = await mtad("resume", "site", "reader.test")

    assert result.exit_code == 0, result.output
    assert await begun(world, worker) == [0]


async def test_what_the_gate_had_put_off_is_due_when_it_is_resumed(world: World, conn: Connection, mtad: Mtad) -> None:
    later = NOW + timedelta(days=4)
    held = await world.job("a@reader.test", due=later, reason="suspended:domain")
    other = await world.job("b@elsewhere.test", due=later, reason="suspended:domain")
    replied = await world.job("c@reader.test", due=later, reason="451 later")
    await mtad("suspend", "domain", "reader.test")

    result = await mtad("resume", "domain", "reader.test")

    assert result.exit_code == 0, result.output
    due = {row[0] for row in await conn.fetch("select id from job where due <= now()")}
    assert (held in due, other in due, replied in due) == (True, False, False)


async def test_a_limit_of_automation_is_listed_and_taken_back(world: World, conn: Connection, mtad: Mtad) -> None:
    until = NOW + timedelta(hours=1)
    async with conn.transaction():
        await limits.set_limit(
            conn, world.lane.id, "connection_limit", "1", until=until, reason="RL0000", by="automation"
        )
    [row] = json.loads((await mtad("limits", "--json")).stdout)

    refused, undone = await mtad("limits", "--undo", "99"), await mtad("limits", "--undo", str(row["id"]))

    assert (row["lane"], row["value"], row["reason"]) == ("default/mx.reader.test", "1", "RL0000")
    assert "--undo 99: there is no such limit" in str(refused.exception)
    assert undone.exit_code == 0, undone.output
    assert await conn.fetchval("select most_sessions from lane") is None
    assert "No limit" in (await mtad("limits")).stdout


async def test_purged_mail_is_in_the_ledger_and_it_adds_up(world: World, pool: Pool, conn: Connection) -> None:
    worker = await world.worker()
    waits = await world.job("waits@reader.test", entry=True)
    tried = await world.job("tried@reader.test", entry=True, attempt=2, prio=5, due=NOW + timedelta(hours=1), slot=NOW)
    later = NOW + timedelta(days=5)
    capped = await world.job("tried@reader.test", mail=2, site_id=None, due=later, reason="cap:1/7d")
    paused = await world.job("paused@reader.test", entry=True, parked=True)
    doubtful = await world.job("doubt@reader.test", entry=True, doubts=1, attempt=1)
    busy = await world.job("busy@reader.test", entry=True, worker=worker)
    elsewhere = await world.job("other@elsewhere.test", entry=True, site_id=None)

    changed = await purged(pool, Selection(site=world.site))

    assert changed == 4
    assert await world.ledger() == [
        (waits, "skipped", "purged"), (tried, "skipped", "purged"), (paused, "skipped", "purged"),
        (doubtful, "in_doubt", "purged"),
    ]  # fmt: skip
    assert {row[0] for row in await conn.fetch("select id from job")} == {busy, elsewhere, capped}
    # The slot is free again, for the mail that waits for it.
    assert await conn.fetchval("select due <= now() from job where id = $1", capped)
    found = await audit(conn, "nudge")
    assert found.adds_up, found.holes
    assert (found.skipped, found.in_doubt) == ({"purged": 3}, 1)
    nodes = await conn.fetch("select node, due > now() + interval '2 days' from entry where due is not null")
    assert [tuple(row) for row in nodes] == [("nudge-2", True)] * 4
    counted = await conn.fetch("select key, sum(n)::int from tally group by key order by key")
    assert [tuple(row) for row in counted] == [("in_doubt", 1), ("skipped:purged", 3)]


@pytest.mark.parametrize(
    ("kind", "key", "left"),
    [
        ("site", "reader.test", {"b"}),
        ("domain", "elsewhere.test", {"a"}),
        ("campaign", "nudge", set()),
        ("source", "default", set()),
        ("lane", "default/reader.test", {"b"}),
    ],
)
async def test_a_purge_takes_what_was_named_and_nothing_else(
    world: World, conn: Connection, mtad: Mtad, kind: str, key: str, left: set[str]
) -> None:
    await world.job("a@reader.test")
    await world.job("b@elsewhere.test", site_id=None)

    result = await mtad("purge", kind, key, "--yes", "--json")

    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["purged"] == 2 - len(left)
    addresses = await conn.fetch("select c.address from job j join contact c on c.id = j.contact_id")
    assert {row[0][0] for row in addresses} == left


async def test_of_a_source_only_what_no_other_can_send_is_taken(world: World, conn: Connection, mtad: Mtad) -> None:
    await world.job("a@reader.test")
    other = await world.rows.program("other", stream="plain")
    contact = await world.rows.contact("b@reader.test", stream="plain")
    await world.rows.queued(other, contact, await world.rows.enrol(other, contact), site_id=world.site)
    await conn.execute(
        "update stream_version set definition = jsonb_set(definition, '{pool}', '\"cold\"')"
        " where stream_id = (select id from stream where name = 'plain')"
    )
    sources = '[[source]]\nname = "warm"\n[[source]]\nname = "cold"\n[[pool]]\nname = "cold"\nsources = { cold = 1 }\n'

    refused = await mtad("purge", "source", "warm", "--yes", more=sources)
    result = await mtad("purge", "source", "cold", "--yes", more=sources)

    assert "other sources of its pools can send all its mail" in str(refused.exception)
    assert result.output == "1 mail purged.\n"
    assert await conn.fetchval("select c.address from job j join contact c on c.id = j.contact_id") == "a@reader.test"


async def test_a_purge_takes_what_waits_when_it_comes_to_it_window_by_window(
    world: World, pool: Pool, conn: Connection
) -> None:
    first = await world.job("a@reader.test")
    await conn.execute("select setval('job_id', $1::bigint + 20000)", first)
    await world.job("b@reader.test")
    worker = await world.worker()
    steps = waiting.purge(pool, Selection(site=world.site), "me")
    start = await anext(steps)

    await conn.execute("update job set worker = $2 where id = $1", first, worker)
    changed = [done.changed async for done in steps][-1]

    assert start.total > 10_000
    assert changed == 1
    assert await conn.fetchval("select array_agg(id) from job") == [first]


async def test_what_was_claimed_since_the_window_was_read_is_left_to_its_worker(world: World, conn: Connection) -> None:
    busy = await world.job(worker=await world.worker())
    (relay,) = (await store.sites_by_name(conn, {"relay:25": ["0 relay:25"]})).values()

    assert await conn.fetchval(waiting.SQL["purge_jobs"], [busy], "me", ["nudge-2"], [0.0], -1) == 0
    assert await conn.fetch(waiting.SQL["rebind_jobs"], [busy], relay, False) == []
    assert await world.ledger() == []


async def test_a_purge_that_nobody_confirmed_changes_nothing(world: World, conn: Connection, mtad: Mtad) -> None:
    await world.job()

    result = await mtad("purge", "campaign", "nudge")

    assert "say --yes" in str(result.exception)
    assert await conn.fetchval("select count(*) from job") == 1


@pytest.mark.parametrize(("option", "due"), [((), {"new"}), (("--now",), {"new", "refused"})])
async def test_what_waits_after_a_refusal_keeps_its_time_at_another_site_unless_it_is_to_go_now(
    world: World, conn: Connection, mtad: Mtad, option: tuple[str, ...], due: set[str]
) -> None:
    later = NOW + timedelta(hours=1)
    await store.sites_by_name(conn, {"relay:25": ["0 relay:25"]})
    await world.job("new@reader.test")
    await world.job("refused@reader.test", due=later, attempt=1, prio=5)
    await world.job("doubt@reader.test", due=later, attempt=1, prio=5, doubts=1)
    await world.job("planned@reader.test", due=later)

    result = await mtad("rebind", "site", "reader.test", "--to", "relay", "--yes", *option)

    assert result.output == "4 mails go to relay:25 now.\n"
    rows = await conn.fetch("select c.address from job j join contact c on c.id = j.contact_id where j.due <= now()")
    assert {row[0].partition("@")[0] for row in rows} == due


async def test_rebound_mail_goes_to_the_other_site_and_wakes_it(world: World, conn: Connection, mtad: Mtad) -> None:
    (other,) = (await store.sites_by_name(conn, {"relay:25": ["0 relay:25"]})).values()
    await conn.execute("update site set ready_at = 'infinity'")
    worker = await world.worker()
    moved = await world.job("a@reader.test")
    claimed = await world.job("b@reader.test", worker=worker)

    result = await mtad("rebind", "domain", "reader.test", "--to", "relay:25", "--yes", "--json")

    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["rebound"] == 1
    sites = {row[0]: row[1] for row in await conn.fetch("select id, site_id from job")}
    assert sites == {moved: other, claimed: world.site}
    assert await conn.fetchval("select ready_at <= now() from site where id = $1", other)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["suspend", "planet", "x"], "'planet' is none of lane, site, domain, source, campaign"),
        (["suspend", "site", "nobody"], "site 'nobody' is unknown"),
        (["suspend", "site", "reader", "--for", "soon"], "--for: 'soon' is not a duration"),
        (["suspend", "lane", "default"], "lane 'default': write SOURCE/SITE"),
        (["suspend", "campaign", "x"], "program 'x' is unknown"),
        (["suspend", "domain", "no domain"], "domain 'no domain'"),
        (["resume", "site", "reader"], "is not suspended"),
        (["suspend", "source", "nosuch"], "source 'nosuch' is unknown; there are: default"),
        (["suspend", "lane", "nosuch/reader"], "source 'nosuch' is unknown"),
        (["purge", "source", "nosuch", "--yes"], "source 'nosuch' is unknown"),
        (["purge", "lane", "default", "--yes"], "lane 'default': write SOURCE/SITE"),
        (["purge", "domain", "nobody.test", "--yes"], "no contact has an address there"),
        (["rebind", "campaign", "nudge", "--to", "nowhere", "--yes"], "site 'nowhere' is unknown"),
    ],
)
async def test_what_cannot_be_done_is_one_line_and_65(
    world: World, mtad: Mtad, arguments: list[str], said: str
) -> None:
    result = await mtad(*arguments)

    assert said in str(result.exception)
    assert "\n" not in str(result.exception)
    assert getattr(result.exception, "exit_code", 0) == 65
