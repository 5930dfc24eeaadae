"""Named queries from sql/queries/*.sql.

A query begins with ``-- name: some_name``; the comment lines that follow belong to it.
One named query, one typed function in a store.py.
"""

import re
from functools import cache
from pathlib import Path

_NAME = re.compile(r"^-- name: ([a-z0-9_]+)\s*$", re.MULTILINE)


@cache
def sql_root() -> Path:
    """The folder sql/: inside the package of a wheel, beside it in a checkout."""
    package = Path(__file__).resolve().parent.parent
    inside = package / "sql"
    return inside if inside.is_dir() else package.parent / "sql"


@cache
def queries(stage: str) -> dict[str, str]:
    """The queries of sql/queries/<stage>.sql by name."""
    text = (sql_root() / "queries" / f"{stage}.sql").read_text(encoding="utf-8")
    pieces = _NAME.split(text)
    names, bodies = pieces[1::2], pieces[2::2]
    if len(set(names)) != len(names):
        raise ValueError(f"sql/queries/{stage}.sql names a query twice")
    return {name: body.strip().removesuffix(";").strip() for name, body in zip(names, bodies, strict=True)}
