"""A whole installation for a test: its own Postgres, `mtad run` with two workers, the lab's sink."""

import asyncio
import contextlib
import os
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp

from mtad.base.db import AWAY, Pool, open_pool
from mtad.lab.installation import Installation, free_port
from mtad.lab.letter import Letter, read_letter
from mtad.lab.sink import Sink
from mtad.ops.postgres import Postgres
from tests.e2e.command import asked_here

DOMAIN = "example.com"

STREAM = """
name = "courses"
from = "Ines <ines@example.com>"
imprint = "Example School, Street 1, Hamburg"
tracking = "full"
[policy]
settle = "500ms"
"""

SERIES = """
name = "series"
kind = "series"
stream = "courses"
when_silent = "nothing"
[[step]]
message = "one"
[[step]]
wait = "3d"
message = "two"
[[step]]
wait = "3d"
message = "three"
"""

CAMPAIGN = """
name = "{name}"
kind = "campaign"
stream = "courses"
[[step]]
message = "one"
"""

HTML = """<html><body><p>Hello {{ first_name | default("there") }}</p>
<p><a href="https://shop.example/a?x=1&amp;y=2">A</a> <a href="https://shop.example/b">B</a></p>
<p>{{ imprint }} <a href="{{ unsubscribe_url }}">Leave</a></p></body></html>
"""

FIREFOX = {"User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:150.0) Gecko/20100101 Firefox/150.0"}


class Place:
    """What a test does with a running installation."""

    def __init__(self, installation: Installation, sink: Sink, pool: Pool, http: aiohttp.ClientSession) -> None:
        self.installation = installation
        self.sink = sink
        self.pool = pool
        self.http = http

    @property
    def postgres(self) -> Postgres:
        return Postgres(self.installation.config.state / "postgres")

    async def mtad(self, *arguments: str) -> Any:
        return await asked_here(self.installation.folder, *arguments)

    def write(self, name: str, text: str) -> str:
        path = self.installation.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return str(path)

    def read(self, name: str) -> str:
        return (self.installation.folder / name).read_text(encoding="utf-8")

    async def import_people(self, addresses: list[str]) -> None:
        path = self.write("people.csv", "email,first_name\n" + "".join(f"{a},Someone\n" for a in addresses))
        await self.mtad("contacts", "import", path, "--stream", "courses", "--basis", "consent", "--source", "fair")

    async def apply_campaign(self, name: str) -> None:
        await self.mtad("program", "apply", self.write(f"{name}.toml", CAMPAIGN.format(name=name)))

    async def until(self, done: Callable[[], Awaitable[bool]]) -> None:
        """Ask again and again, also while the database is away; the test's own time limit ends it."""
        while True:
            self.installation.require_running()
            with contextlib.suppress(*AWAY):
                if await done():
                    return
            await asyncio.sleep(0.02)

    async def until_ready(self) -> None:
        async def ready() -> bool:
            return "msg=ready" in self.installation.log_path.read_text(encoding="utf-8")

        await self.until(ready)

    async def until_count(self, query: str, number: int, *arguments: Any) -> None:
        async def enough() -> bool:
            return bool(await self.pool.fetchval(query, *arguments) == number)

        await self.until(enough)

    async def until_over(self, program: str) -> None:
        await self.until_count("select count(*) from program where name = $1 and status = 'done'", 1, program)

    async def letter(self, address: str, number: int) -> Letter:
        """The number-th mail that arrived for somebody, counted from 1."""

        async def there() -> bool:
            return len([m for m in self.sink.messages if m.recipient == address]) >= number

        await self.until(there)
        return read_letter([m.message for m in self.sink.messages if m.recipient == address][number - 1])

    async def open(self, letter: Letter) -> None:
        (pixel,) = letter.images
        async with self.http.get(pixel, headers=FIREFOX) as answer:
            assert answer.status == 200

    async def click(self, letter: Letter, number: int = 0) -> str:
        async with self.http.get(letter.links[number], headers=FIREFOX, allow_redirects=False) as answer:
            assert answer.status == 302
            return answer.headers["Location"]

    async def leave(self, letter: Letter) -> None:
        """RFC 8058 section 3.2."""
        assert letter.one_click
        async with self.http.post(letter.one_click, data={"List-Unsubscribe": "One-Click"}) as answer:
            assert answer.status == 200

    async def workers(self) -> dict[int, int]:
        """Slot → pid of those alive."""
        return {row[0]: row[1] for row in await self.pool.fetch("select slot, pid from worker where dead is null")}

    async def kill(self, pid: int) -> None:
        os.kill(pid, signal.SIGKILL)

    async def copies_and_doubts(self, program: str) -> tuple[Counter[str], dict[str, int]]:
        """Copies by recipient in the sink, and how often each delivered job was in doubt."""
        copies = Counter(m.recipient for m in self.sink.messages)
        rows = await self.pool.fetch(
            "select c.address, l.doubts from ledger l join contact c on c.id = l.contact_id"
            " join program p on p.id = l.program_id where l.outcome = 'delivered' and p.name = $1", program,
        )  # fmt: skip
        return copies, {row[0]: row[1] for row in rows}


@contextlib.asynccontextmanager
async def running_place(folder: Path, *, rate: int, shape: str = "") -> AsyncIterator[Place]:
    """Everything started, the stream and its three messages there; stopped and checked at the end.

    `shape`: further tables of the configuration.
    """
    installation = Installation(folder)
    await installation.command("init", "--domain", DOMAIN, "--dir", str(folder))
    async with Sink() as sink:
        installation.route({"*": sink.port}, tracker_port=free_port(), rate=rate)
        with installation.config_path.open("a", encoding="utf-8") as config:
            config.write(shape)
        await installation.start()
        try:
            pool = await open_pool(Postgres(installation.config.state / "postgres").url, most=3, least=0)
            async with aiohttp.ClientSession() as http:
                place = Place(installation, sink, pool, http)
                await place.until_ready()
                await place.mtad("stream", "apply", place.write("stream.toml", STREAM))
                for message in ("one", "two", "three"):
                    place.write(f"{message}/subject.txt", f"Mail {message} for {{{{ first_name }}}}")
                    place.write(f"{message}/message.html", HTML)
                yield place
                deadlocks = await pool.fetchval("select sum(deadlocks) from pg_stat_database")
                assert deadlocks == 0
            await pool.close()
        except BaseException:
            sys.stdout.write(installation.log_path.read_text(encoding="utf-8"))
            raise
        finally:
            code = await installation.stop()
    assert code == 0, installation.log_path.read_text(encoding="utf-8")[-2000:]
