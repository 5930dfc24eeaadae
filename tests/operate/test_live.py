"""`mtad top` and `mtad trace`: rates between two looks, and what there is to say when nobody works."""

import json
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest

from mtad.base.clock import SystemClock
from mtad.base.db import Connection
from mtad.cli.live import top_view
from mtad.cli.shell import out
from mtad.ops.line import answering
from mtad.ops.top import Rates, Top
from mtad.ops.watch import Blame, Counts, Figures, LaneCounts, LaneFigures
from mtad.queue import store
from mtad.wire.trace import Trace
from tests.operate.conftest import Mtad
from tests.operate.test_queue import NOW
from tests.queue.world import World


class Worker:
    """What a worker would say of itself."""

    def __init__(self, site: int) -> None:
        self.counts = Counts(delivered=100, deferred=10)
        self.seconds = 50.0
        self.site = site

    def passes(self, seconds: float, **more: int) -> None:
        self.seconds += seconds
        for name, n in more.items():
            setattr(self.counts, name, getattr(self.counts, name) + n)

    def figures(self) -> Figures:
        lane = LaneFigures(self.site, "mx.reader.test", "warm", 3, 7)
        blame = Blame(NOW, self.site, "SpamBlock", "source", "550 5.7.1 [red]blocked[/red] 1", "warm")
        again = msgspec.structs.replace(blame, at=NOW + timedelta(seconds=1), reply="550 5.7.1 [red]blocked[/red] 2")
        counted = [LaneCounts(self.site, "warm", self.counts)]
        return Figures(0, 1, 1, self.seconds, 3, 7, 0.012, self.counts, counted, [lane], [blame, again])


async def test_rates_are_those_between_two_looks(world: World, conn: Connection, tmp_path: Path) -> None:
    await store.register_worker(conn, "here", 0, 1)
    await store.register_worker(conn, "elsewhere", 0, 2)
    worker, looker = Worker(world.site), Top(tmp_path)
    async with answering(tmp_path, 0, Trace(SystemClock()), worker.figures):
        first = await looker.look(conn, most=5)
        worker.passes(2, delivered=40, bounced=4)
        second = await looker.look(conn, most=5)
        worker.counts = Counts(delivered=6)
        worker.passes(2)
        anew = await looker.look(conn, most=5)

    assert first.rates == Rates(delivered=2.0, deferred=0.2)
    assert second.rates == Rates(delivered=20.0, bounced=2.0)
    assert anew.rates == Rates(delivered=3.0)
    here, elsewhere = sorted(second.workers, key=lambda look: look.host.pid)
    assert (here.lag, here.claimed, here.rates) == (0.012, 7, second.rates)
    assert (elsewhere.lag, elsewhere.claimed, elsewhere.rates) == (None, None, None)
    [site] = second.active
    assert (site.site, site.source, site.sessions, site.rates) == ("mx.reader.test", "warm", 3, second.rates)


async def test_refusals_that_blame_us_are_in_sight(world: World, conn: Connection, tmp_path: Path) -> None:
    await world.job()
    worker = Worker(world.site)
    async with answering(tmp_path, 0, Trace(SystemClock()), worker.figures):
        found = await Top(tmp_path).look(conn, most=5)
    with out.capture() as captured:
        out.print(top_view(found))

    assert "SpamBlock" in captured.get()
    assert "[red]blocked[/red] 2" in captured.get()
    assert "[red]blocked[/red] 1" not in captured.get()
    assert [(blame.source, blame.number) for blame in found.blamed] == [("warm", 2)]
    assert "1 waiting" in captured.get()


async def test_a_single_look_is_one_document(world: World, mtad: Mtad) -> None:
    await world.job()

    result = await mtad("top", "--json")

    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert (found["queue"]["waiting"]["n"], found["workers"]) == (1, [])


@pytest.mark.parametrize(
    ("arguments", "said", "code"),
    [
        (["trace", "not a domain"], "domain 'not a domain'", 65),
        (["trace", "nobody.test"], "where its mail goes is not known", 65),
        (["trace", "reader.test"], "no `mtad run` works in", 69),
        (["trace"], "no `mtad run` works in", 69),
    ],
)
async def test_a_trace_that_cannot_be_is_one_line(
    world: World, mtad: Mtad, arguments: list[str], said: str, code: int
) -> None:
    await world.job()
    await world.rows.conn.execute("update domain set site_id = $1", world.site)

    result = await mtad(*arguments)

    assert said in str(result.exception)
    assert getattr(result.exception, "exit_code", 0) == code
