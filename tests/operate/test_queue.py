"""`mtad queue`: counted where that is cheap, estimated where it is not, what hurts first."""

import io
import json
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from prometheus_client import REGISTRY
from rich.console import Console

from mtad.base.db import Connection, Pool
from mtad.base.errors import InputError
from mtad.base.shape import Shaping
from mtad.cli.queue import sites_table
from mtad.ops.answers import queue
from mtad.ops.answers.delivery import rate
from mtad.ops.answers.queue import Count, Filter, queue_state
from mtad.ops.depth import Depth
from mtad.queue import store
from mtad.shape.layers import Shaper
from tests.operate.conftest import Mtad
from tests.queue.world import World

NOW = datetime.now(UTC)
NAMES = ("mtad_queue_waiting", "mtad_queue_due", "mtad_queue_deferred", "mtad_queue_late_seconds")


async def another_site(conn: Connection, name: str) -> int:
    (site,) = (await store.sites_by_name(conn, {name: [f"10 {name}:25"]})).values()
    return site


async def test_each_job_is_counted_where_it_is(world: World, conn: Connection) -> None:
    worker = await world.worker()
    await world.job("due@reader.test")
    await world.job("later@reader.test", due=NOW + timedelta(hours=1), attempt=1, prio=5, reason="451 TSS04")
    await world.job("held@reader.test", parked=True)
    await world.job("begun@reader.test", worker=worker, begun=NOW)
    await world.job("doubt@reader.test", doubts=1, attempt=1, prio=5, due=NOW + timedelta(minutes=30))
    await world.job("nowhere@reader.test", site_id=None)
    await store.close_lane(conn, world.lane.id, 60, "no answer")

    found = await queue_state(conn, Filter())
    [site] = found.sites

    assert found.sampled is None
    assert (found.unresolved, found.hidden) == (1, 0)
    assert [str(n) for n in (site.waiting, site.due, site.deferred, site.held)] == ["3", "1", "2", "1"]
    assert (site.claimed, site.begun, site.in_doubt) == (1, 1, 1)
    assert site.late > 0
    assert site.last_reply == "451 TSS04"
    [lane] = site.lanes
    assert lane.closed_why == "no answer"
    assert (lane.tokens, lane.sessions, lane.session_limit) == (950, 0, 8)


async def test_the_depth_of_the_queue_is_told_by_provider(world: World, conn: Connection, pool: Pool) -> None:
    (google,) = (await store.sites_by_name(conn, {"gmail": ["5 gmail-smtp-in.l.google.com:25"]})).values()
    await world.job("a@reader.test", site_id=google, due=NOW - timedelta(minutes=10))
    await world.job("b@reader.test", site_id=google, due=NOW + timedelta(hours=1), attempt=1, prio=5)
    await world.job("c@reader.test", site_id=None)
    depth = Depth(pool, Shaper(Shaping(), {}))

    await depth.measure()
    told = {
        labels["provider"]: [REGISTRY.get_sample_value(name, labels) for name in NAMES]
        for labels in ({"provider": name} for name in ("google", "unresolved"))
    }
    depth.end()

    *counts, late = told["google"]
    assert counts == [2, 1, 1]
    assert late
    assert late > 599
    assert told["unresolved"][:3] == [1, 1, 0]
    assert REGISTRY.get_sample_value("mtad_queue_waiting", {"provider": "google"}) is None


async def test_the_site_whose_due_mail_has_waited_longest_comes_first(world: World, conn: Connection) -> None:
    for name, late, jobs in (("calm", 1, 3), ("burning", 3600, 3), ("waiting", -3600, 9)):
        site = await another_site(conn, name)
        for n in range(jobs):
            await world.job(f"{name}{n}@reader.test", site_id=site, due=NOW - timedelta(seconds=late))

    found = await queue_state(conn, Filter(most=2))

    assert [site.site for site in found.sites] == ["burning", "calm"]
    assert found.hidden == 1
    assert found.waiting.n == 15


async def test_a_deep_queue_is_estimated_and_says_so(
    world: World, conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    await conn.execute(
        "insert into job (contact_id, stream_id, program_id, version, message_id, site_id, class, prio, due, not_after)"
        " select n, 1, $1, 1, 1, $2, 2, 4, now(), now() + interval '1 day' from generate_series(1, 30000) n",
        world.program.id, world.site,
    )  # fmt: skip
    small = await another_site(conn, "small")
    await world.job(site_id=small)
    monkeypatch.setattr(queue, "SAMPLE_PAGES", 100)

    found = await queue_state(conn, Filter())
    by_name = {site.site: site for site in found.sites}

    assert found.sampled
    assert found.sampled < 50
    assert not by_name["mx.reader.test"].waiting.exact
    assert 20_000 < by_name["mx.reader.test"].waiting.n < 40_000
    assert str(by_name["mx.reader.test"].waiting).startswith("~")
    assert by_name["small"].waiting == queue.Count(1)


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        (Filter(), {"mx.reader.test", "other"}),
        (Filter(site="reader"), {"mx.reader.test"}),
        (Filter(site="reader.test"), {"mx.reader.test"}),
        (Filter(program="nudge"), {"mx.reader.test", "other"}),
        (Filter(closed=True), {"mx.reader.test"}),
        (Filter(site="other", closed=True), set()),
    ],
)
async def test_filters_name_sites_domains_programs_and_what_is_closed(
    world: World, conn: Connection, wanted: Filter, names: set[str]
) -> None:
    await world.job("a@reader.test")
    await world.job("b@reader.test", site_id=await another_site(conn, "other"))
    await store.close_lane(conn, world.lane.id, 60, "no answer")

    found = await queue_state(conn, wanted)

    assert {site.site for site in found.sites} == names
    assert found.waiting.n == len(names)


@pytest.mark.parametrize("wanted", [Filter(site="nobody"), Filter(program="nothing")])
async def test_a_filter_that_names_nothing_is_refused(world: World, conn: Connection, wanted: Filter) -> None:
    with pytest.raises(InputError, match=r"nobody|nothing"):
        await queue_state(conn, wanted)


async def test_the_command_shows_why_a_lane_is_closed(world: World, conn: Connection, mtad: Mtad) -> None:
    await world.job(attempt=1, prio=5, reason="421 4.7.0 [TSS04] later")
    await store.close_lane(conn, world.lane.id, 60, "no [bold]answer")

    text, written = await mtad("queue"), await mtad("queue", "--json")

    assert text.exit_code == written.exit_code == 0, text.output
    assert "no [bold]answer" in text.stdout
    assert "[TSS04] later" in text.stdout
    assert json.loads(written.stdout)["sites"][0]["waiting"] == {"n": 1, "exact": True}


async def test_domains_whose_site_is_not_known_are_named_with_the_trouble(
    world: World, conn: Connection, mtad: Mtad
) -> None:
    await world.job("a@lost.test", site_id=None)
    await world.job("b@lost.test", site_id=None)
    await conn.execute("update domain set trouble = 'nobody answered' where name = 'lost.test'")

    result = await mtad("queue")

    assert "lost.test 2 wait to be told where to go: nobody answered" in result.stdout


async def test_no_number_is_cut_on_a_narrow_terminal(world: World, conn: Connection) -> None:
    for n in range(11):
        await world.job(f"p{n}@reader.test")
    found = await queue_state(conn, Filter())
    [site] = found.sites
    many = msgspec.structs.replace(site, waiting=Count(12_345_678, exact=False), site="mx." * 30 + "test")
    narrow = io.StringIO()

    Console(width=80, file=narrow).print(sites_table((many,)))

    assert "~12,345,678" in narrow.getvalue()
    assert "…" not in narrow.getvalue()


async def test_an_empty_queue_is_an_answer(mtad: Mtad) -> None:
    result = await mtad("queue")

    assert result.exit_code == 0
    assert "0 waiting" in result.stdout


@pytest.mark.parametrize(
    ("per_second", "said"), [(100, "100/s"), (1.5, "1.5/s"), (1 / 60, "1/min"), (20 / 3600, "20/h"), (2 / 86400, "2/d")]
)
def test_rates_are_written_as_in_the_configuration(per_second: float, said: str) -> None:
    assert rate(per_second) == said
