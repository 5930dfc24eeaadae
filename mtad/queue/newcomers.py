"""Programs that take people in while they run: who becomes eligible later, and whose day of the year it is.

Who may have become eligible is read from what was written since the last look: permissions
that changed, states that changed, breaks and cool-downs that ended, people who were handed
over. A look costs what has happened, not what there is.
"""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from engine.programs import Yearly
from engine.service import Catalogue
from mtad.base.config import Config
from mtad.base.db import Connection, Pool, in_transaction
from mtad.queue import programs
from mtad.queue.intake import at_time, first_step, let_in
from mtad.queue.programs import Open

# The literal limit of the query newly_eligible.
BATCH = 5000

# Where nobody came, how far a look reached is written down so often: it costs little to look there again.
MARKED_EVERY = timedelta(minutes=1)


async def take_newcomers(pool: Pool, config: Config) -> int:
    """Let in who became eligible for an open program since the last look; how many. A batch for each program."""
    async with pool.acquire() as conn:
        open_ = await programs.open_programs(conn)
        if not open_:
            return 0
        before = await programs.horizon(conn)
    catalogue = Catalogue(pool)
    return sum([await _look(pool, catalogue, config, one, before) for one in open_])


async def _look(pool: Pool, catalogue: Catalogue, config: Config, one: Open, before: datetime) -> int:
    async with pool.acquire() as conn:
        program = await programs.program_by_name(conn, one.name)
    step, definition = await first_step(catalogue, config, program)

    async def work(conn: Connection) -> int:
        standing = await programs.lock_enqueue(conn, program.id)
        if standing.status != "running" or standing.version != program.version:
            return 0
        after = (standing.open_to or before, standing.open_contact)
        people = await programs.newly_eligible(
            conn,
            step,
            definition.audience.attributes,
            after,
            before,
            handing=one.handing,
            looks=definition.enrol == "current_and_future",
        )
        now = datetime.now(UTC)
        inside = await let_in(conn, catalogue, config, at_time(step, config, now), definition, people, standing)
        full = len(people) == BATCH
        if people or before - after[0] > MARKED_EVERY:
            await programs.mark_open(conn, program.id, (people[-1].at, people[-1].contact_id) if full else (before, 0))
        return len(inside) or int(full)

    return await in_transaction(pool, work)


async def begin_days(pool: Pool, now: datetime | None = None) -> int:
    """Have yearly programs whose hour has come go through their audience for today; how many."""
    now = now or datetime.now(UTC)
    begun = 0
    async with pool.acquire() as conn:
        for program_id, _, yearly, last in await programs.yearly_programs(conn):
            today = day_of(yearly, now)
            if today is not None and (last is None or last < today):
                begun += await programs.begin_day(conn, program_id, today)
    return begun


def day_of(yearly: Yearly, now: datetime) -> date | None:
    """The day whose people a program takes now; None: its hour has not come yet."""
    local = now.astimezone(ZoneInfo(yearly.zone))
    return local.date() if local.hour * 60 + local.minute >= yearly.minute else None


def birthdays(yearly: Yearly, day: date) -> list[str]:
    """What `days_of_year` says of whose day it is; born on 29 February: in other years the day before 1 March."""
    days = [f"{day:%m-%d}"]
    leap = day.year % 4 == 0 and (day.year % 100 != 0 or day.year % 400 == 0)
    if not leap and days == ["02-28"]:
        days.append("02-29")
    return [f"{yearly.on} {found}" for found in days]
