"""Mails that were really sent, so that they can be opened: what the benchmarks of hits begin with."""

import random
from pathlib import Path

from benchmarks.hits import hit_paths, write_paths
from benchmarks.mailing import CAMPAIGN, write_campaign, write_people
from benchmarks.place import Place
from benchmarks.run import import_people, say, send_all
from benchmarks.sinks import receiving
from mtad.base.db import Pool
from mtad.compose.preview import tracking_keys


async def mails_to_open(
    place: Place, pool: Pool, *, contacts: int, sink: str, draw: random.Random, database: str = ""
) -> tuple[Path, int]:
    """Have every contact hold a mail with a pixel and links; the file of their addresses, two a mail, and how many.

    The workers go on running. `database` as of Place.configure.
    """
    async with receiving(sink, 1) as receiver:
        place.configure([("*", receiver.addresses[0])], sessions=60, database=database)
        people = place.folder / "people.csv"
        write_people(people, contacts, ["d0.example.net"], draw)
        say(f"importing and sending {contacts:,} mails, to have them opened")
        await import_people(place, people, write_campaign(place.folder, 0, draw))
        await place.resolve(pool)
        await place.installation.command("program", "start", CAMPAIGN)
        await send_all(place, pool, receiver, contacts, signed=True)
    addresses = await hit_paths(pool, tracking_keys(place.installation.config), mails=contacts, draw=draw)
    paths = place.folder / "paths"
    write_paths(paths, addresses)
    return paths, len(addresses)


async def set_window(place: Place, settle: float) -> None:
    """Have the stream of those mails wait so many seconds before their hits are judged."""
    file = place.folder / "stream.toml"
    file.write_text(file.read_text(encoding="utf-8") + f'\n[policy]\nsettle = "{settle:g}s"\n', encoding="utf-8")
    await place.installation.command("stream", "apply", str(file))
