"""Tracking keys and their rotation: old ones verify, the last one of the file signs.

A key must verify on every host before it signs on one, or links would be bad where it is not
known yet. So a new one is put first in the file, where it verifies only, and moved to the end later.
"""

import os
import secrets
from pathlib import Path

import msgspec

from mtad.base.errors import InputError, Problem
from mtad.ops.keyfiles import read_tracking_keys

MOST = 16


class TrackingKey(msgspec.Struct, frozen=True):
    """One line of the file, without its secret."""

    id: int
    signs: bool


def standings(path: Path) -> list[TrackingKey]:
    """The keys in the order of the file; ConfigError when it cannot be read."""
    ids = [_id_of(line) for line in _key_lines(path)]
    return [TrackingKey(one, one == ids[-1]) for one in ids]


def add(path: Path, *, signs: bool) -> TrackingKey:
    """Put a new key into the file: first, where it verifies, or last, where it signs; InputError when it is full."""
    lines, there = _lines(path), {key.id for key in standings(path)}
    free = next((number for number in range(MOST) if number and number not in there), 0)
    if free in there:
        raise InputError(f"{path}: has {MOST} keys; take away one that no link in a mailbox needs any more")
    fresh = f"{free}:{secrets.token_hex(32)}"
    _write(path, [*lines, fresh] if signs else [fresh, *lines])
    return TrackingKey(free, signs)


def sign_with(path: Path, key_id: int) -> TrackingKey:
    """Move a key to the end of the file, so that it signs; InputError when it is not there."""
    lines = _lines(path)
    chosen = [line for line in _key_lines(path) if _id_of(line) == key_id]
    if not chosen:
        raise InputError(f"{path}: has no key {key_id} (it has: {', '.join(str(key.id) for key in standings(path))})")
    _write(path, [line for line in lines if line not in chosen] + chosen)
    return TrackingKey(key_id, signs=True)


def _lines(path: Path) -> list[str]:
    read_tracking_keys(path)  # or what is wrong with it
    return path.read_text(encoding="ascii").splitlines()


def _key_lines(path: Path) -> list[str]:
    return [line for line in _lines(path) if line.strip() and not line.strip().startswith("#")]


def _id_of(line: str) -> int:
    return int(line.strip().partition(":")[0])


def _write(path: Path, lines: list[str]) -> None:
    """Replace the file as a whole, on disk when this returns, readable to its owner alone."""
    fresh = path.with_name(f".{path.name}.new")
    try:
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "w") as file:
            file.write("\n".join(lines) + "\n")
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    except OSError as error:
        raise Problem(f"{path}: cannot be written: {error.strerror}") from None
    read_tracking_keys(path)
