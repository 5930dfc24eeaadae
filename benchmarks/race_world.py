"""A full queue, people who will be ineligible spread all over it, and what is noted of each transaction."""

import random
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.mailing import DOMAIN as SENDER
from benchmarks.place import Place
from benchmarks.race_sink import GONE
from benchmarks.race_ways import DOMAIN, WAYS, Person
from mtad.audience.service import Options, import_contacts
from mtad.base.db import Pool
from mtad.compose.apply import apply_program, apply_stream
from mtad.queue.enqueue import enqueue, schedule

# Everybody else's way.
NONE = "none"

SERIES = "letter"

_STREAM = f"""
name = "news"
from = "Example <news@{SENDER}>"
imprint = "Example GmbH, Street 1, 20457 Hamburg"
tracking = "full"
[policy]
threshold = 15
caps = [{{ most = 1, window = "7d", used_up = "skip" }}]
"""
_SERIES = """
name = "{name}"
kind = "series"
stream = "news"
when_silent = "nothing"
leave_on = ["engaged", "click"]
[audience]
attributes = {{ way = {ways} }}
[[step]]
message = "letter"
"""
_CAMPAIGN = """
name = "{name}"
kind = "campaign"
stream = "news"
priority = {priority}
[audience]
attributes = {{ way = ["{way}"] }}
[[step]]
message = "letter"
"""
_CAMPAIGNS = (
    ("paused", "paused", 5),
    ("cancelled", "cancelled", 5),
    ("notice", "capped", 1),
    ("receipt", "bounced", 1),
)
_HTML = (
    '<p>Hello {{ way }}, <a href="https://shop.example/">here</a>.</p><p>{{ imprint }}</p>'
    '<p><a href="{{ unsubscribe_url }}">Leave</a></p>'
)

_SQL = Path(__file__).with_name("race.sql").read_text(encoding="utf-8")

# The queue is shuffled: programs, domains and ways lie evenly in it.
_SHUFFLE = """
update job set due = now() - n * interval '1 ms'
  from (select id, row_number() over (order by random()) as n from (select id from job order by contact_id) j) s
 where s.id = job.id
"""
# An earlier mail that can be answered: of the series itself, or of another program.
_EARLIER = """
insert into ledger (job_id, program_id, stream_id, message_id, contact_id, entry_id, outcome, reason, attempts,
                    doubts, created, ended)
select nextval('job_id'), p.id, p.stream_id, m.id, c.id, n.id, 'delivered', '', 1, 0, now(), now()
  from contact c
  join program p on p.name = case c.attributes ->> 'way' when 'left' then $1 else 'notice' end
  join message m on m.program_id = p.id
  left join entry n on n.program_id = p.id and n.contact_id = c.id
 where c.attributes ->> 'way' in ('left', 'engaged')
"""
_FIRST_SENT = """
update engagement e set first_sent = now() from contact c
 where c.id = e.contact_id and c.attributes ->> 'way' in ('left', 'engaged')
"""
# They are enqueued one by one: the queue's own door for it, there is no file that says so. A receipt is transactional.
_ONE_BY_ONE = """
update program
   set status = 'running', enqueued = now(), starts = now(), class = case name when 'receipt' then 0 else class end
 where name in ('notice', 'receipt')
"""
_KEYS = """
insert into race_key (key, contact_id, way)
select unnest(array['contact ' || c.id, c.address_key, '@' || d.name]
              || case when p.id is null then '{}' else array['program ' || p.id] end), c.id, c.attributes ->> 'way'
  from contact c
  join domain d on d.id = c.domain_id
  left join program p on p.name = c.attributes ->> 'way' and p.name in ('paused', 'cancelled')
 where c.attributes ->> 'way' <> $1
"""
_PEOPLE = """
select c.id, c.attributes ->> 'way', c.address_key, (rank() over (order by j.due) - 1)::float8 / count(*) over ()
  from job j join contact c on c.id = j.contact_id
 order by j.due
"""


async def set_up(
    place: Place, pool: Pool, *, contacts: int, ineligible: int, domains: Sequence[str], draw: random.Random
) -> tuple[int, list[Person]]:
    """Everything up to the full queue; the id of the series, and who will be ineligible, in the order of the queue."""
    folder, config = place.folder, place.installation.config
    _write(folder, contacts, ineligible, domains, draw)
    await apply_stream(pool, folder / "news.toml", "race")
    options = Options(stream="news", basis="consent", source="race")
    await import_contacts(
        pool, folder / "people.csv", options, now=datetime.now(UTC), progress=lambda *_: None, config=config
    )
    for name in (SERIES, *(name for name, _, _ in _CAMPAIGNS)):
        await apply_program(pool, folder / f"{name}.toml", "race")
    await place.resolve(pool)
    for name in (SERIES, "paused", "cancelled"):
        await schedule(pool, name)
        async for _ in enqueue(pool, config, name):
            pass
    async with pool.acquire() as conn:
        await conn.execute("select setseed($1)", draw.random())
        await conn.execute(_SHUFFLE)
        await conn.execute(_EARLIER, SERIES)
        await conn.execute(_FIRST_SENT)
        await conn.execute(_ONE_BY_ONE)
        await conn.execute(_SQL)
        await conn.execute(_KEYS, NONE)
        await conn.execute("analyze")
        people = [Person(*row.values()) for row in await conn.fetch(_PEOPLE)]
        series = await conn.fetchval("select id from program where name = $1", SERIES)
    return series, [person for person in people if person.way != NONE]


def _write(folder: Path, contacts: int, ineligible: int, domains: Sequence[str], draw: random.Random) -> None:
    """Files of stream, people and programs."""
    ways = [WAYS[n % len(WAYS)] for n in range(ineligible)] + [NONE] * (contacts - ineligible)
    draw.shuffle(ways)
    lines = ["email,way"]
    for n, way in enumerate(ways):
        domain = DOMAIN if way == "domain" else domains[n % len(domains)]
        lines.append(f"{GONE if way == 'bounced' else 'p'}{n}@{domain},{way}")
    (folder / "people.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "news.toml").write_text(_STREAM, encoding="utf-8")
    letter = folder / "letter"
    letter.mkdir()
    (letter / "subject.txt").write_text("News", encoding="utf-8")
    (letter / "message.html").write_text(_HTML, encoding="utf-8")
    addressed = [way for way in (*WAYS, NONE) if way not in ("paused", "cancelled")]
    programs = {SERIES: _SERIES.format(name=SERIES, ways=addressed)}
    for name, way, priority in _CAMPAIGNS:
        programs[name] = _CAMPAIGN.format(name=name, way=way, priority=priority)
    for name, text in programs.items():
        (folder / f"{name}.toml").write_text(text, encoding="utf-8")
