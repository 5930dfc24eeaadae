import json
import os
from pathlib import Path

import pytest

from benchmarks.backlog import Arrivals, Backlog, fill
from benchmarks.claim import Report as ClaimReport
from benchmarks.depth import Report
from benchmarks.gauges import thread_cpu
from mtad.base.db import Pool
from mtad.ops.audit import audit
from tests.benchmarks.program import run

QUEUES = """
select (l.closed_until > now()) as closed, count(distinct j.site_id), count(*), count(*) filter (where j.due <= now()),
       bool_and(d.site_id = j.site_id)
  from job j
  join lane l on l.site_id = j.site_id
  join contact c on c.id = j.contact_id
  join domain d on d.id = c.domain_id
 group by 1 order by 1
"""


def test_toy_depths_are_measured_alike_and_compared(tmp_path: Path) -> None:
    out = tmp_path / "depth.json"
    code, said = run(
        "depth", "--rows", "1000,3000", "--lanes", "10,40", "--contacts", "1000", "--warm", "1", "--rounds", "2",
        "--runs", "1", "--json", str(out),
    )  # fmt: skip

    assert code == 0, said
    found = json.loads(out.read_bytes())
    assert set(found) == set(Report.__struct_fields__)
    assert [(d["rows"], d["lanes"], d["closed_lanes"]) for d in found["depths"]] == [
        (1000, 10, 1), (3000, 10, 1), (1000, 40, 2), (3000, 40, 2),
    ]  # fmt: skip
    assert [(r["lanes"]) for r in found["ratios"]] == [10, 40]
    for depth in found["depths"]:
        # The same work at each depth: 500 jobs are due, whatever waits behind them.
        assert 480 <= depth["jobs_per_claim"] <= 500
        assert depth["claim"]["calls"] == 2
        assert min(depth["claim_ms"], depth["begin_ms"], depth["settle_ms"], depth["rss_mb"]) > 0
        assert set(depth["sweeps_ms"]) == {"refresh_hints", "wake_proven", "label_jobs", "finish_programs", "audit"}


def test_toy_rounds_cost_something_on_both_sides(tmp_path: Path) -> None:
    out = tmp_path / "claim.json"
    code, said = run(
        "claim", "--rows", "1000", "--contacts", "1000", "--lanes", "10", "--batches", "16,64", "--workers", "1,2",
        "--rounds", "2", "--json", str(out),
    )  # fmt: skip

    assert code == 0, said
    found = json.loads(out.read_bytes())
    assert set(found) == set(ClaimReport.__struct_fields__)
    assert [(case["workers"], case["batch"]) for case in found["cases"]] == [(1, 16), (1, 64), (2, 16), (2, 64)]
    for case in found["cases"]:
        shares = case["us_per_job"]
        assert case["jobs"] > 0
        assert set(shares) == {"claim", "begin", "settle", "all"}
        for side in ("mtad", "postgres", "wall"):
            assert min(share[side] for share in shares.values()) >= 0
            parts = sum(shares[kind][side] for kind in ("claim", "begin", "settle"))
            assert shares["all"][side] == pytest.approx(parts, abs=0.1)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["depth", "--rows", "10,20"], "--rows: 1,000 to 50,000,000 each"),
        (["depth", "--rows", "many"], "write numbers with commas between, not many"),
        (["depth", "--lanes", "1"], "--lanes: 2 to 100,000 each"),
        (["depth", "--contacts", "100"], "--contacts: even, and at least two for each lane"),
        (["claim", "--workers", "0"], "--workers: 1 to 16 each"),
    ],
)
def test_what_cannot_be_measured_is_refused_in_one_line(arguments: list[str], said: str) -> None:
    code, stderr = run(*arguments)

    assert code not in (0, 1)
    assert said in stderr.splitlines()[-1]


async def test_backlog_is_half_in_closed_lanes_and_adds_up(pool: Pool) -> None:
    backlog = Backlog(rows=3000, lanes=40, contacts=1000, due=200)
    async with pool.acquire() as conn:
        await fill(conn, backlog)
        queues = await conn.fetch(QUEUES)
        awake = await conn.fetchval("select count(*) from site where ready_at <= now()")
        sums = [await audit(conn, f"letter-{number}") for number in (1, 2, 3)]

    assert [tuple(row) for row in queues] == [(False, 38, 1500, 200, True), (True, 2, 1500, 1500, True)]
    assert awake == 38
    assert all(found.adds_up and found.enrolled == 1000 for found in sums)


async def test_arrivals_are_of_the_people_of_their_lane_and_wake_it(pool: Pool) -> None:
    backlog = Backlog(rows=1000, lanes=10, contacts=1000, due=100)
    sites = [2, 5, 5, 10]
    async with pool.acquire() as conn:
        await fill(conn, backlog)
        await conn.execute("update site set ready_at = 'infinity'")
        arrivals = Arrivals(backlog, first=7)
        for _ in range(200):  # more often than a lane has people
            await arrivals.bring(conn, sites)
        queues = await conn.fetch(QUEUES)
        per_site = await conn.fetch("select site_id, count(*) from job where id > 1000 group by 1 order by 1")
        awake = await conn.fetch("select id from site where ready_at <= now() order by id")
        sums = await audit(conn, "letter-2")

    assert [tuple(row) for row in queues] == [(False, 9, 1300, 900, True), (True, 1, 500, 500, True)]
    assert [tuple(row) for row in per_site] == [(2, 200), (5, 400), (10, 200)]
    assert [row[0] for row in awake] == [2, 5, 10]
    assert (sums.adds_up, sums.enrolled) == (True, 800)


def test_cpu_time_of_a_process_rises_with_its_work() -> None:
    before = thread_cpu(os.getpid())
    sum(range(2_000_000))

    assert thread_cpu(os.getpid()) > before
