"""Who came first: the commits of begins and of what disqualifies, and when each DATA came."""

from collections.abc import Mapping, Sequence

import msgspec

from benchmarks.race_sink import Data
from mtad.base.db import Pool
from mtad.base.errors import Problem
from mtad.pipeline.beginner import VALID
from tracker.tokens import Keys, read_return_path

# Of two begins of one job the later one counts for its DATA.
_BEGUN = "select job_id, begun, pg_xact_commit_timestamp(xid) from race_begin order by begun"
# A begin that is a fact itself disqualifies all others of that contact, those of the same transaction too.
_FOUND = """
with begin as (
  select *, pg_xact_commit_timestamp(xid) as at from race_begin
), fact as (
  select *, pg_xact_commit_timestamp(xid) as at from race_fact
), person as (
  select distinct contact_id, way from race_key
), meant as (
  select b.* from begin b join program p on p.id = b.program_id where p.name not in ('notice', 'receipt')
), pair as (
  select b.contact_id, b.job_id, b.at - f.at as after, b.at > f.at or b.xid = f.xid as violates
    from begin b
    join fact f on f.contact_id = b.contact_id and f.job_id is distinct from b.job_id
)
select p.way, count(*)::int as people,
       count(*) filter (where f.happened and m.contact_id is null)::int as disqualified,
       count(*) filter (where m.contact_id is not null)::int as sent,
       count(*) filter (where f.in_hand)::int as in_hand,
       coalesce(sum(v.violations), 0)::int as violations,
       round(1000 * extract(epoch from min(v.nearest)), 1)::float8 as nearest_ms
  from person p
  left join lateral (select contact_id from meant where contact_id = p.contact_id limit 1) m on true
  left join lateral (
    select true as happened, bool_or(in_hand) as in_hand from fact where contact_id = p.contact_id having count(*) > 0
  ) f on true
  left join lateral (
    select count(distinct job_id) filter (where violates) as violations, min(greatest(after, -after)) as nearest
      from pair where contact_id = p.contact_id) v on true
 group by p.way
"""


class Found(msgspec.Struct, frozen=True):
    """What became of those who became ineligible in one way."""

    people: int
    disqualified: int  # and never sent the mail in question
    sent: int  # it had begun before
    in_hand: int  # a worker held mail for them at that moment, not begun yet
    violations: int  # begins that committed after that moment
    nearest_ms: float | None  # least time between the two commits, in either order


class Round(msgspec.Struct, frozen=True):
    """One queue, emptied."""

    ways: Mapping[str, Found]
    data: int  # DATA commands
    late: int  # of them, later after their begin than it is good for
    early: int  # before the commit of their begin
    begin_to_data_max_ms: float
    seconds: float
    rate: float  # mails a second, acts beside them


async def told(pool: Pool, keys: Keys, came: Sequence[Data]) -> Round:
    """What became of one queue; Problem when something came that had never begun."""
    ways = {row["way"]: Found(*list(row.values())[1:]) for row in await pool.fetch(_FOUND)}
    begun = {row[0]: (row[1].timestamp(), row[2].timestamp()) for row in await pool.fetch(_BEGUN)}
    waits, late, early = [], 0, 0
    for data in came:
        job = read_return_path(keys, data.sender.partition("@")[0])
        if job not in begun:
            raise Problem(f"a mail of {data.sender} came that nobody had begun")
        at, committed = begun[job]
        waits.append(data.at - at)
        late += data.at - at > VALID
        early += data.at < committed
    seconds = came[-1].at - came[0].at
    return Round(
        ways=ways,
        data=len(came),
        late=late,
        early=early,
        begin_to_data_max_ms=round(1000 * max(waits), 1),
        seconds=round(seconds, 2),
        rate=round(len(came) / max(seconds, 1e-9), 1),
    )


def together(rounds: Sequence[Found]) -> Found:
    """Sums, and the nearest of all."""
    sums = {
        name: sum(getattr(one, name) for one in rounds)
        for name in ("people", "disqualified", "sent", "in_hand", "violations")
    }
    return Found(**sums, nearest_ms=min((one.nearest_ms for one in rounds if one.nearest_ms is not None), default=None))
