"""Files to import, and a stream to import them to."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from engine.policy import StreamDefinition
from mtad.audience.service import Options, Summary, import_contacts
from mtad.base.db import Pool

NOW = datetime.now(UTC)
CONSENT = {"stream": "news", "basis": "consent", "source": "web form"}


class Importer:
    """Writes a file, imports it, and reads what it left."""

    def __init__(self, pool: Pool, folder: Path, stream_id: int) -> None:
        self.pool = pool
        self.path = folder / "people.csv"
        self.stream_id = stream_id
        self.stages: list[str] = []

    @property
    def rejects(self) -> Path:
        return self.path.with_name("people.rejects.csv")

    async def __call__(self, content: str | bytes, **options: Any) -> Summary:
        self.path.write_bytes(content.encode() if isinstance(content, str) else content)
        return await import_contacts(
            self.pool, self.path, Options(**options), now=NOW, progress=lambda stage, *_: self.stages.append(stage)
        )

    def rejected(self) -> list[str]:
        """The rows of the rejects file, without its header."""
        return self.rejects.read_text().splitlines()[1:] if self.rejects.exists() else []

    def files(self) -> list[str]:
        """What lies in the folder."""
        return sorted(path.name for path in self.path.parent.iterdir())

    async def contact(self, key: str) -> dict[str, Any]:
        row = await self.pool.fetchrow(
            "select c.*, g.version as gate from contact c join gate g on g.contact_id = c.id where address_key = $1",
            key,
        )
        assert row is not None, key
        return dict(row)

    async def column(self, query: str) -> list[Any]:
        return [row[0] for row in await self.pool.fetch(query)]

    async def everything(self) -> dict[str, list[Any]]:
        """All rows that an import may touch."""
        people = ("contact", "identity", "gate", "domain", "attribute")
        permission = ("subscription", "engagement", "suppression", "transition")
        return {t: await self.column(f"select to_jsonb(t) from {t} t order by 1") for t in (*people, *permission)}


@pytest.fixture
async def load(pool: Pool, tmp_path: Path) -> Importer:
    definition = StreamDefinition(name="news", from_="News <news@example.com>", tracking="hygiene")
    stream_id = await pool.fetchval("insert into stream (name, version) values ('news', 1) returning id")
    await pool.execute(
        "insert into stream_version (stream_id, version, definition, made_by) values ($1, 1, $2, 'test')",
        stream_id,
        definition.to_json(),
    )
    return Importer(pool, tmp_path, stream_id)


@pytest.fixture
def written(tmp_path: Path) -> Callable[[bytes], Path]:
    """Puts bytes into a file."""

    def write(content: bytes) -> Path:
        path = tmp_path / "file.csv"
        path.write_bytes(content)
        return path

    return write
