"""What `mtad suspend|resume|purge|rebind` act on, for how long and why: their arguments, read and checked."""

from datetime import datetime, timedelta
from typing import Annotated

from typer import Argument, Option

from mtad.base.config import seconds
from mtad.base.db import Connection, Pool
from mtad.base.errors import InputError
from mtad.ops.answers.programs import program_by_name
from mtad.ops.waiting import domain_name, lane_names, site_by_name
from mtad.queue.suspensions import KINDS, Kind

KindArgument = Annotated[
    str, Argument(metavar="|".join(KINDS), show_default=False, help="What kind of thing KEY names.")
]
KeyArgument = Annotated[
    str,
    Argument(
        help="Its name: of a campaign the program's; of a site also a domain that goes there; of a lane SOURCE/SITE."
    ),
]
WhyOption = Annotated[str, Option("--why", help="The reason that is shown and kept.")]


def kind_of(text: str) -> Kind:
    """InputError when it is none."""
    match text:
        case "lane" | "site" | "domain" | "source" | "campaign":
            return text
    raise InputError(f"{text!r} is none of {', '.join(KINDS)}")


def length_of(text: str) -> float | None:
    """Seconds of --for, None without it; InputError."""
    try:
        return seconds(text) if text else None
    except ValueError as error:
        raise InputError(f"--for: {error}") from None


async def end_of(pool: Pool, length: float | None) -> datetime | None:
    """So many seconds from now, by the database's clock."""
    found: datetime | None = None
    if length is not None:
        async with pool.acquire() as conn:
            found = await conn.fetchval("select now() + $1", timedelta(seconds=length))
    return found


async def name_of(conn: Connection, kind: Kind, key: str) -> str:
    """The key under which suspensions are kept."""
    match kind:
        case "site":
            return (await site_by_name(conn, key))[1]
        case "lane":
            source, site = lane_names(key)
            return f"{source}/{(await site_by_name(conn, site))[1]}"
        case "campaign":
            return (await program_by_name(conn, key)).name
        case "domain":
            return domain_name(key)
        case _:
            return key
